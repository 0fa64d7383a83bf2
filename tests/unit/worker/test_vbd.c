/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk in its worker, by the messages that the broker would send and receive. */
#include "worker_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define VBD 3U

static void close_store(void)
{
    rig_close(VBD);
    rig_expect_silence(1);
}

static void a_disk_is_opened_connected_served_and_closed(void **state)
{
    int event;
    (void)state;

    rig_open(VBD);
    event = rig_connect(VBD);
    rig_request(event, BLKIF_OP_READ, 0);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    rig_run(2);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    assert_int_equal(fake_notifies, 1);
    rig_send_plain(WORKER_DISCONNECT, VBD);
    (void)rig_expect(WORKER_DISCONNECTED, VBD);
    (void)rig_expect(WORKER_DRAINED, VBD);
    assert_int_equal(fake_evtchns_open, 0);
    assert_int_equal(fake_gnttab.mapped, 0);
    (void)close(event);
    close_store();
}

static void what_cannot_be_opened_is_said_and_forgotten(void **state)
{
    struct worker_message message = worker_message(WORKER_OPEN_STORE, VBD);
    const int slab = memfd_create("slab", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const int pair[] = {slab, slab};
    (void)state;

    /* No slab; no size; an image without a slab; a slab that can't be written to. */
    message.u.open_store.kind = WORKER_STORE_NULL;
    message.u.open_store.size = FAKE_DISK_BYTES;
    rig_send(&message, NULL, 0);
    assert_int_equal(rig_expect(WORKER_STORE_FAILED, VBD).error, -EBADF);
    message.u.open_store.size = 0;
    rig_send(&message, &slab, 1);
    const struct worker_message failed = rig_expect(WORKER_STORE_FAILED, VBD);
    assert_int_equal(failed.error, -EINVAL);
    assert_string_equal(failed.u.text, "no size");
    message.u.open_store.kind = WORKER_STORE_FILE;
    rig_send(&message, &slab, 1);
    assert_int_equal(rig_expect(WORKER_STORE_FAILED, VBD).error, -EBADF);
    assert_int_equal(fcntl(slab, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE), 0);
    rig_send(&message, pair, 2);
    assert_true(rig_expect(WORKER_STORE_FAILED, VBD).error < 0);
    (void)close(slab);
    rig_open(VBD); /* the number is free again */
    close_store();
}

/* An image whose fence somebody holds, and the message that opens it. */
static struct worker_message fenced_image(int *holder, int *fds)
{
    struct worker_message message = worker_message(WORKER_OPEN_STORE, VBD);
    char path[64];

    fds[0] = memfd_create("image", MFD_CLOEXEC);
    fds[1] = memfd_create("slab", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fds[0], 1 << 20), 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
    *holder = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(image_lock(*holder, image_fence_offset(RIG_DOMID, RIG_DEVID), true), 0);
    message.u.open_store = (struct worker_open_store){
        .domid = RIG_DOMID, .devid = RIG_DEVID, .kind = WORKER_STORE_FILE, .fence = 1};
    return message;
}

static void the_fence_is_waited_for_and_held(void **state)
{
    int holder, fds[2];
    const struct worker_message message = fenced_image(&holder, fds);
    const int64_t fence = image_fence_offset(RIG_DOMID, RIG_DEVID);
    (void)state;

    rig_send(&message, fds, 2);
    (void)close(fds[0]);
    (void)close(fds[1]);
    rig_expect_silence(50);
    /* Other disks are served meanwhile. */
    rig_open(VBD + 1);
    rig_send_plain(WORKER_CLOSE_STORE, VBD + 1);
    (void)rig_expect(WORKER_STORE_CLOSED, VBD + 1);
    assert_int_equal(image_unlock(holder, fence), 0);
    rig_run(40);
    const struct worker_message opened = rig_expect(WORKER_STORE_OPENED, VBD);
    assert_int_equal(opened.u.store_opened.size, 1 << 20);
    assert_int_equal(image_lock(holder, fence, true), -EAGAIN);
    close_store();
    assert_int_equal(image_lock(holder, fence, true), 0);
    (void)close(holder);
}

static void it_can_be_closed_while_it_waits_for_the_fence(void **state)
{
    int holder, fds[2];
    const struct worker_message message = fenced_image(&holder, fds);
    (void)state;

    rig_send(&message, fds, 2);
    (void)close(fds[0]);
    (void)close(fds[1]);
    rig_expect_silence(5);
    /* It is not open: it can't be connected to. */
    const struct worker_message connect = rig_connect_message(VBD);
    rig_send(&connect, NULL, 0);
    (void)rig_expect(WORKER_QUEUE_FAILED, VBD);
    close_store();
    (void)close(holder);
    rig_expect_silence(40); /* the timer went with it */
}

static void refuse(const struct worker_message *message, bool with_channel)
{
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    rig_send(message, &event, with_channel ? 1 : 0);
    (void)close(event);
    assert_true(rig_expect(WORKER_QUEUE_FAILED, VBD).error < 0);
    assert_int_equal(fake_gnttab.mapped, 0);
    assert_int_equal(fake_evtchns_open, 0);
}

static void what_cannot_be_connected_is_refused_and_nothing_is_kept(void **state)
{
    static const uint32_t orders[] = {6, 31, 32, 33, 37, 64, UINT32_MAX};
    const struct worker_message good = rig_connect_message(VBD);
    struct worker_message bad;
    (void)state;

    rig_open(VBD);
    for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        bad = good;
        bad.u.connect_queue.ring_order = orders[i];
        refuse(&bad, true);
    }
    bad = good;
    bad.u.connect_queue.queue = STATE_MAX_QUEUES;
    refuse(&bad, true);
    bad = good;
    bad.u.connect_queue.abi = BLKIF_ABIS;
    refuse(&bad, true);
    bad = good;
    bad.u.connect_queue.max_requests = 0;
    refuse(&bad, true);
    bad = good;
    bad.u.connect_queue.max_segments = 256;
    refuse(&bad, true);
    bad = good;
    bad.u.connect_queue.local_port = 0;
    refuse(&bad, true);
    refuse(&good, false);
    fake_gnttab.map_error = -EFAULT;
    refuse(&good, true);
    fake_gnttab.map_error = 0;
    rig_shared()->req_prod = 33;
    refuse(&good, true);
    rig_shared()->req_prod = 0;
    (void)close(rig_connect(VBD));
    /* A second time on the same queue. */
    const int event = eventfd(0, EFD_CLOEXEC);
    rig_send(&good, &event, 1);
    (void)close(event);
    assert_int_equal(rig_expect(WORKER_QUEUE_FAILED, VBD).error, -EINVAL);
    assert_int_equal(fake_evtchns_open, 1);
    close_store();
}

static void disconnecting_does_not_wait_for_slow_io(void **state)
{
    int event;
    (void)state;

    rig_open(VBD);
    event = rig_connect(VBD);
    rig_request(event, BLKIF_OP_WRITE, 0);
    rig_send_plain(WORKER_DISCONNECT, VBD);
    (void)rig_expect(WORKER_DISCONNECTED, VBD);
    assert_int_equal(fake_gnttab.mapped, 0);
    assert_int_equal(fake_evtchns_open, 0);
    rig_expect_silence(5);
    /* Not before the last of it is over. */
    const struct worker_message connect = rig_connect_message(VBD);
    rig_send(&connect, NULL, 0);
    (void)rig_expect(WORKER_QUEUE_FAILED, VBD);
    fake_store_finish_all(rig_store);
    (void)rig_expect(WORKER_DRAINED, VBD);
    (void)close(event);
    event = rig_connect(VBD);
    rig_request(event, BLKIF_OP_WRITE, 0);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    rig_run(2);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    (void)close(event);
    close_store();
}

static void closing_waits_for_slow_io(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    rig_request(event, BLKIF_OP_WRITE, 0);
    rig_request(event, BLKIF_OP_WRITE, 64);
    rig_send_plain(WORKER_CLOSE_STORE, VBD);
    rig_expect_silence(5);
    assert_int_equal(fake_gnttab.mapped, 0);
    fake_store_finish(rig_store, 1, -EIO);
    rig_expect_silence(2);
    rig_send_plain(WORKER_DISCONNECT, VBD); /* no answer any more */
    rig_expect_silence(2);
    fake_store_finish(rig_store, 0, 0);
    (void)rig_expect(WORKER_STORE_CLOSED, VBD);
    assert_null(rig_store);
    (void)close(event);
    rig_expect_silence(1);
}

/* The last I/O came back, and before anybody looked at it the disk is to be closed. */
static void closing_between_a_completion_and_its_turn(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    rig_request(event, BLKIF_OP_WRITE, 0);
    rig_send_plain(WORKER_DISCONNECT, VBD);
    (void)rig_expect(WORKER_DISCONNECTED, VBD);
    rig_send_plain(WORKER_CLOSE_STORE, VBD);
    fake_store_finish_all(rig_store);
    (void)rig_expect(WORKER_STORE_CLOSED, VBD);
    (void)close(event);
    rig_expect_silence(2);
}

static void a_failed_flush_is_reported_and_tried_again(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    rig_request(event, BLKIF_OP_FLUSH_DISKCACHE, 0);
    fake_store_finish(rig_store, 0, -EIO);
    assert_int_equal(rig_expect(WORKER_STORE_ALERT, VBD).error, -EIO);
    assert_int_equal(rig_shared()->rsp_prod, 0);
    rig_expect_silence(200);
    assert_int_equal(rig_store->held_count, 0);
    rig_run(1000);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    /* Closed while one is held back. */
    rig_request(event, BLKIF_OP_FLUSH_DISKCACHE, 0);
    fake_store_finish(rig_store, 0, -EIO);
    (void)rig_expect(WORKER_STORE_ALERT, VBD);
    (void)close(event);
    close_store();
}

static void a_page_cache_is_not_believed_after_it_lost_data(void **state)
{
    (void)state;
    rig_open(VBD);
    rig_store->base.caps.direct = false;
    const int event = rig_connect(VBD);
    rig_request(event, BLKIF_OP_FLUSH_DISKCACHE, 0);
    fake_store_finish(rig_store, 0, -EIO);
    (void)rig_expect(WORKER_STORE_ALERT, VBD);
    rig_expect_silence(1100);
    assert_int_equal(rig_store->held_count, 0);
    (void)close(event);
    close_store();
}

static void a_broken_ring_is_reported_once(void **state)
{
    (void)state;
    rig_open(VBD);
    const int event = rig_connect(VBD);
    rig_shared()->req_prod = 1000;
    assert_int_equal(eventfd_write(event, 1), 0);
    assert_int_equal(rig_expect(WORKER_RING_BROKEN, VBD).error, -EPROTO);
    assert_int_equal(eventfd_write(event, 1), 0);
    rig_expect_silence(2);
    (void)close(event);
    close_store();
}

static void messages_that_make_no_sense_change_nothing(void **state)
{
    const int stray[] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
    (void)state;

    rig_open(VBD);
    for (unsigned type = WORKER_READY; type < WORKER_MESSAGE_TYPES; type++) {
        const struct worker_message unknown_vbd =
            worker_message((enum worker_message_type)type, VBD + 1);

        if (type != WORKER_OPEN_STORE)
            rig_send(&unknown_vbd, stray, 2);
    }
    const struct worker_message again = worker_message(WORKER_OPEN_STORE, VBD);
    rig_send(&again, stray, 2);
    (void)close(stray[0]);
    (void)close(stray[1]);
    rig_expect_silence(10);
    (void)close(rig_connect(VBD));
    close_store();
}

static void a_message_of_another_make_ends_the_worker(void **state)
{
    struct worker_message message = worker_message(WORKER_DISCONNECT, VBD);
    struct worker_message answer;
    int fds[WORKER_MESSAGE_MAX_FDS];
    (void)state;

    message.version++;
    rig_send(&message, NULL, 0);
    /* Of these it would only hear the first. */
    rig_send_plain(WORKER_DISCONNECT, VBD);
    /* Stopped already, as rig_run() left it. */
    assert_int_equal(loop_run(&rig_worker.threads[0].loop), 0);
    rig_worker.threads[0].loop.stopped = false;
    assert_int_equal(loop_run(&rig_worker.threads[0].loop), 0);
    assert_int_equal(worker_message_receive(rig_socket, &answer, fds), -EAGAIN);
}

static void it_leaves_when_the_broker_hangs_up(void **state)
{
    (void)state;
    assert_int_equal(shutdown(rig_socket, SHUT_RDWR), 0);
    rig_worker.threads[0].loop.stopped = false;
    assert_int_equal(loop_run(&rig_worker.threads[0].loop), 0);
    assert_true(rig_worker.threads[0].loop.stopped);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(a_disk_is_opened_connected_served_and_closed),
        WITH_RIG(what_cannot_be_opened_is_said_and_forgotten),
        WITH_RIG(the_fence_is_waited_for_and_held),
        WITH_RIG(it_can_be_closed_while_it_waits_for_the_fence),
        WITH_RIG(what_cannot_be_connected_is_refused_and_nothing_is_kept),
        WITH_RIG(disconnecting_does_not_wait_for_slow_io),
        WITH_RIG(closing_waits_for_slow_io),
        WITH_RIG(closing_between_a_completion_and_its_turn),
        WITH_RIG(a_failed_flush_is_reported_and_tried_again),
        WITH_RIG(a_page_cache_is_not_believed_after_it_lost_data),
        WITH_RIG(a_broken_ring_is_reported_once),
        WITH_RIG(messages_that_make_no_sense_change_nothing),
        WITH_RIG(a_message_of_another_make_ends_the_worker),
        WITH_RIG(it_leaves_when_the_broker_hangs_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
