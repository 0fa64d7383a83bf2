/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue from ring to store and back: data, answers, notifications. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static const struct rig_options plain = {0};

static struct ring_shared *shared(struct rig *rig)
{
    return (struct ring_shared *)rig->front[0].pages;
}

static void a_read_brings_the_disk_to_the_guest(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    for (unsigned i = 0; i < 3 * GNTTAB_PAGE_SIZE; i++)
        rig->store.disk[i + 512] = (uint8_t)(i * 7 + i / 256);
    front_put(&rig->front[0], &(struct rig_request){.operation = BLKIF_OP_READ,
                                                    .segments = 3,
                                                    .id = 0x1122334455667788,
                                                    .sector = 1,
                                                    .gref = 5,
                                                    .last_sector = 7});
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_expect_none(rig);
    assert_int_equal(rig->store.held_count, 1);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 0x1122334455667788, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    assert_memory_equal(fake_gnttab.pages[5], rig->store.disk + 512, 3 * GNTTAB_PAGE_SIZE);
    assert_int_equal(rig->front[0].evtchn->notifies, 1);
    rig_destroy(rig);
}

static void a_write_brings_the_guest_to_the_disk(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    memset(fake_gnttab.pages[9], 0x5c, 2 * GNTTAB_PAGE_SIZE);
    /* Two segments of one and a half kilobytes each: only that much of each page. */
    front_put(&rig->front[0], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                    .segments = 2,
                                                    .id = 1,
                                                    .sector = 8,
                                                    .gref = 9,
                                                    .last_sector = 2});
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    /* What the guest does to its pages after the copy does not matter. */
    memset(fake_gnttab.pages[9], 0xff, 2 * GNTTAB_PAGE_SIZE);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    for (unsigned i = 0; i < 6 * 512; i++)
        assert_int_equal(rig->store.disk[8 * 512 + i], 0x5c);
    assert_int_equal(rig->store.disk[14 * 512], 0);
    assert_int_equal(rig->store.disk[8 * 512 - 1], 0);
    rig_destroy(rig);
}

static void completions_out_of_order_keep_their_ids(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    for (uint32_t i = 0; i < 4; i++)
        rig_transfer(rig, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, 100 + i, i * 16U, i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 4);
    fake_store_finish(&rig->store, 2, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 102, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    fake_store_finish(&rig->store, 2, -EIO);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 103, BLKIF_OP_READ, BLKIF_RSP_ERROR);
    rig_expect(rig, 100, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 101, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    assert_int_equal(rig->io_failed, 1);
    rig_destroy(rig);
}

static void a_pass_notifies_once(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    for (uint32_t i = 0; i < 8; i++)
        rig_transfer(rig, BLKIF_OP_READ, i, i * 16U, i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->front[0].evtchn->notifies, 0);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(rig->front[0].evtchn->notifies, 1);
    /* One ioctl for the data of all eight. */
    assert_int_equal(fake_gnttab.calls, 1);
    rig_destroy(rig);
}

static void a_frontend_that_asked_for_no_event_gets_none(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.at_once = true;
    shared(rig)->rsp_event = 3; /* at the third response */
    for (uint32_t i = 0; i < 2; i++)
        rig_transfer(rig, BLKIF_OP_READ, i, i * 16U, i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(shared(rig)->rsp_prod, 2);
    assert_int_equal(rig->front[0].evtchn->notifies, 0);
    rig_transfer(rig, BLKIF_OP_READ, 2, 0, 2);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->front[0].evtchn->notifies, 1);
    rig_destroy(rig);
}

static void before_it_sleeps_it_asks_for_an_event(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    assert_int_equal(shared(rig)->req_event, 1);
    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_READ, 2, 8, 1);
    rig_event(rig, 0);
    assert_int_equal(rig->front[0].evtchn->unmasks, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->front[0].evtchn->unmasks, 1);
    assert_int_equal(shared(rig)->req_event, 3);
    rig_destroy(rig);
}

static void requests_found_by_the_last_look_are_served_without_an_event(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.at_once = true;
    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 0);
    /* Not an event of this ring's: the queue only becomes ready. */
    turn_mark_ready(rig->queue[0]);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(rig->front[0].evtchn->unmasks, 0);
    rig_destroy(rig);
}

static void what_is_over_at_once_is_answered_in_the_same_pass(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.at_once = true;
    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 2);
    rig_event(rig, 0);
    turn_run(&rig->turn);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->front[0].evtchn->notifies, 1);
    assert_null(rig->turn.ready);
    rig_destroy(rig);
}

/* With one entry each request is a round of its own; a pass has only a few. */
static void a_pass_that_ends_early_is_followed_by_another(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_requests = 1});
    (void)state;

    rig->store.at_once = true;
    for (uint32_t i = 0; i < 32; i++)
        rig_transfer(rig, BLKIF_OP_READ, i, 0, i);
    rig_event(rig, 0);
    assert_true(rig_settle(rig) > 1);
    for (uint32_t i = 0; i < 32; i++)
        rig_expect(rig, i, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void an_unknown_operation_is_echoed_as_not_supported(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, 200, UINT64_MAX, 0, 0);
    rig_transfer(rig, BLKIF_OP_INDIRECT, 7, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_expect(rig, UINT64_MAX, 200, BLKIF_RSP_EOPNOTSUPP);
    rig_expect(rig, 7, 1, BLKIF_RSP_EOPNOTSUPP); /* the inner one */
    assert_int_equal(rig->store.trace_length, 0);
    rig_destroy(rig);
}

static void equal_ids_are_each_answered(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.at_once = true;
    for (unsigned i = 0; i < 3; i++)
        rig_transfer(rig, BLKIF_OP_READ, 42, 0, i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < 3; i++)
        rig_expect(rig, 42, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    rig_destroy(rig);
}

static void a_bad_gref_fails_its_own_request_only(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.at_once = true;
    memset(rig->store.disk, 0x11, 64 * 512);
    memset(fake_gnttab.pages[0], 0x22, GNTTAB_PAGE_SIZE);
    fake_gnttab.read_only[2] = true;
    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 8, FAKE_PAGES); /* not granted */
    /* The last of three segments is not granted. */
    front_put(&rig->front[0], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                    .segments = 3,
                                                    .id = 3,
                                                    .sector = 16,
                                                    .gref = FAKE_PAGES - 2,
                                                    .last_sector = 7});
    rig_transfer(rig, BLKIF_OP_READ, 4, 8, 2); /* granted read-only */
    rig_transfer(rig, BLKIF_OP_READ, 5, 8, 3);
    rig_event(rig, 0);
    (void)rig_settle(rig);

    struct rig_response response;
    int16_t status[6] = {1, 1, 1, 1, 1, 1};
    while (front_take(&rig->front[0], &response))
        status[response.id] = response.status;
    assert_int_equal(status[1], BLKIF_RSP_OKAY);
    assert_int_equal(status[2], BLKIF_RSP_ERROR);
    assert_int_equal(status[3], BLKIF_RSP_ERROR);
    assert_int_equal(status[4], BLKIF_RSP_ERROR);
    assert_int_equal(status[5], BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[0], 0x22);
    for (unsigned i = 8 * 512; i < 64 * 512; i++)
        assert_int_equal(rig->store.disk[i], 0x11);
    assert_int_equal(fake_gnttab.pages[2][0], 0);
    assert_int_equal(fake_gnttab.pages[3][0], 0x11);
    rig_destroy(rig);
}

static void more_requests_than_entries_wait_in_the_ring(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_requests = 4});
    (void)state;

    for (uint32_t i = 0; i < 32; i++)
        rig_transfer(rig, BLKIF_OP_READ, i, i * 16U, i);
    rig_event(rig, 0);
    for (uint32_t i = 0; i < 32; i++) {
        (void)rig_settle(rig);
        assert_in_range(rig->store.held_count, 1, 4);
        fake_store_finish(&rig->store, 0, 0);
    }
    (void)rig_settle(rig);
    for (uint32_t i = 0; i < 32; i++)
        rig_expect(rig, i, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    /* And it sleeps armed. */
    assert_int_equal(shared(rig)->req_event, 33);
    assert_int_equal(rig->front[0].evtchn->unmasks, 1);
    rig_destroy(rig);
}

/* Every ABI and ring order, across the wrap of the 32-bit counters. */
static void every_layout_serves_across_the_wrap(void **state)
{
    (void)state;
    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++) {
        for (uint32_t order = 0; order <= BLKIF_MAX_RING_ORDER; order++) {
            struct rig *rig = rig_create(&(struct rig_options){
                .abi = (enum blkif_abi)abi, .order = order, .start = UINT32_MAX - 5});

            rig->store.at_once = true;
            for (uint32_t i = 0; i < 3 * rig->front[0].count; i++) {
                memset(fake_gnttab.pages[1], (int)(i & 0x7f), GNTTAB_PAGE_SIZE);
                rig_transfer(rig, BLKIF_OP_WRITE, i, 8 * (i % 16), 1);
                rig_event(rig, 0);
                (void)rig_settle(rig);
                rig_expect(rig, i, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
                assert_int_equal(rig->store.disk[8 * 512 * (i % 16)], i & 0x7f);
            }
            rig_expect_none(rig);
            rig_destroy(rig);
        }
    }
}

static void statistics_count_what_was_answered(void **state)
{
    struct rig *rig = rig_create(&plain);
    const struct slab_statistics *statistics = &rig->slab.header->queues[0].statistics;
    (void)state;

    rig->store.at_once = true;
    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 0, 0);
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 3);
    rig_bare(rig, BLKIF_OP_READ, 4); /* no segments */
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(statistics->reads, 1);
    assert_int_equal(statistics->read_bytes, 4096);
    assert_int_equal(statistics->writes, 1);
    assert_int_equal(statistics->written_bytes, 4096);
    assert_int_equal(statistics->flushes, 1);
    assert_int_equal(statistics->errors, 1);
    assert_int_equal(statistics->wakeups, 1);
    assert_int_equal(rig->slab.header->queues[0].in_flight, 0);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_brings_the_disk_to_the_guest),
        cmocka_unit_test(a_write_brings_the_guest_to_the_disk),
        cmocka_unit_test(completions_out_of_order_keep_their_ids),
        cmocka_unit_test(a_pass_notifies_once),
        cmocka_unit_test(a_frontend_that_asked_for_no_event_gets_none),
        cmocka_unit_test(before_it_sleeps_it_asks_for_an_event),
        cmocka_unit_test(requests_found_by_the_last_look_are_served_without_an_event),
        cmocka_unit_test(what_is_over_at_once_is_answered_in_the_same_pass),
        cmocka_unit_test(a_pass_that_ends_early_is_followed_by_another),
        cmocka_unit_test(an_unknown_operation_is_echoed_as_not_supported),
        cmocka_unit_test(equal_ids_are_each_answered),
        cmocka_unit_test(a_bad_gref_fails_its_own_request_only),
        cmocka_unit_test(more_requests_than_entries_wait_in_the_ring),
        cmocka_unit_test(every_layout_serves_across_the_wrap),
        cmocka_unit_test(statistics_count_what_was_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
