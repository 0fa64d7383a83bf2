/* SPDX-License-Identifier: BSD-2-Clause */
/* Another store takes the place of the one in use: what was started on the old one ends on the old
 * one, however long that takes. */
#include "worker_rig.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/io/blkif.h>

#define VBD 3U

static void change_store(void)
{
    struct worker_message message = worker_message(WORKER_CHANGE_STORE, VBD);

    message.u.open_store = (struct worker_open_store){
        .domid = RIG_DOMID, .devid = RIG_DEVID, .kind = WORKER_STORE_NULL, .size = FAKE_DISK_BYTES};
    rig_send(&message, NULL, 0);
    rig_expect_silence(2);
}

static void close_store(int event)
{
    (void)close(event);
    rig_close(VBD);
}

static void what_is_in_flight_ends_on_the_old_store(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    struct fake_store *old = rig_store;
    rig_request(event, BLKIF_OP_WRITE, 0);
    change_store();
    assert_ptr_not_equal(rig_store, old);
    /* What comes meanwhile is the new one's. */
    rig_request(event, BLKIF_OP_WRITE, 64);
    assert_int_equal(old->held_count, 1);
    assert_int_equal(rig_store->held_count, 0);
    fake_store_finish_all(old);
    (void)rig_expect(WORKER_STORE_CHANGED, VBD);
    rig_run(2);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    rig_run(2);
    assert_int_equal(rig_shared()->rsp_prod, 2);
    close_store(event);
}

static void what_a_busy_store_had_no_room_for_goes_to_the_old_one(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    struct fake_store *old = rig_store;
    /* The engine is full of other disks' I/O. */
    old->room = 0;
    rig_request(event, BLKIF_OP_WRITE, 0);
    assert_int_equal(old->refused, 1);
    change_store();
    assert_int_equal(rig_store->held_count, 0);
    old->room = 1;
    rig_worker.threads[0].turn.freed = true;
    rig_request(event, BLKIF_OP_WRITE, 64);
    assert_int_equal(old->held_count, 1);
    assert_int_equal(old->held[0]->offset, 0);
    assert_int_equal(rig_store->held_count, 0);
    fake_store_finish_all(old);
    (void)rig_expect(WORKER_STORE_CHANGED, VBD);
    rig_run(2);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    close_store(event);
}

static void a_merged_io_that_failed_is_tried_again_on_the_old_store(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    struct fake_store *old = rig_store;
    /* Two neighbours found in one pass. */
    assert_int_equal(eventfd_write(event, 1), 0);
    rig_put(BLKIF_OP_WRITE, 0);
    rig_put(BLKIF_OP_WRITE, 8);
    rig_run(2);
    assert_int_equal(old->held_count, 1);
    assert_int_equal(old->held[0]->length, 8192);
    change_store();
    fake_store_finish(old, 0, -EIO);
    rig_expect_silence(2);
    assert_int_equal(old->held_count, 2);
    fake_store_finish_all(old);
    (void)rig_expect(WORKER_STORE_CHANGED, VBD);
    assert_int_equal(rig_shared()->rsp_prod, 2);
    assert_int_equal(rig_store->trace_length, 0);
    close_store(event);
}

/* It is carried out again on the store it was started on, when all rings are there. */
static void what_a_predecessor_started_keeps_the_old_store(void **state)
{
    struct worker_message message = rig_connect_message(VBD);
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)state;

    rig_open(VBD);
    struct fake_store *old = rig_store;
    message.u.connect_queue.queue_count = 2;
    message.u.connect_queue.recover = 1;
    rig_send(&message, &event, 1);
    (void)rig_expect(WORKER_QUEUE_CONNECTED, VBD);
    message = worker_message(WORKER_CHANGE_STORE, VBD);
    message.u.open_store =
        (struct worker_open_store){.kind = WORKER_STORE_NULL, .size = FAKE_DISK_BYTES};
    rig_send(&message, NULL, 0);
    assert_int_equal(rig_expect(WORKER_STORE_FAILED, VBD).error, -EBUSY);
    assert_ptr_equal(rig_store, old);
    rig_request(event, BLKIF_OP_WRITE, 0);
    assert_int_equal(old->held_count, 0);
    close_store(event);
}

/* The flush is tried again on the store it failed on: that can't be taken away from it. */
static void a_flush_that_fails_meanwhile_keeps_the_old_store(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    struct fake_store *old = rig_store;
    rig_request(event, BLKIF_OP_FLUSH_DISKCACHE, 0);
    change_store();
    fake_store_finish(old, 0, -EIO);
    (void)rig_expect(WORKER_STORE_ALERT, VBD);
    assert_int_equal(rig_expect(WORKER_STORE_FAILED, VBD).error, -EBUSY);
    assert_null(rig_store); /* the new one is closed */
    rig_run(1100);
    assert_int_equal(old->held_count, 1);
    fake_store_finish_all(old);
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    rig_request(event, BLKIF_OP_WRITE, 0);
    assert_int_equal(old->held_count, 1);
    fake_store_finish_all(old);
    close_store(event);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(what_is_in_flight_ends_on_the_old_store),
        WITH_RIG(what_a_busy_store_had_no_room_for_goes_to_the_old_one),
        WITH_RIG(a_merged_io_that_failed_is_tried_again_on_the_old_store),
        WITH_RIG(what_a_predecessor_started_keeps_the_old_store),
        WITH_RIG(a_flush_that_fails_meanwhile_keeps_the_old_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
