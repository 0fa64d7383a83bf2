/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue and what must not overtake: barriers, flushes that fail, writes that overlap. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static const struct rig_options plain = {0};

static void a_barrier_drains_flushes_writes_and_flushes(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_READ, 2, 64, 1);
    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 3, 8, 2);
    rig_transfer(rig, BLKIF_OP_WRITE, 4, 16, 3);
    rig_transfer(rig, BLKIF_OP_READ, 5, 24, 4);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wr");
    fake_store_finish(&rig->store, 1, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wrR");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wrRWf");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wrRWfFw");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wrRWfFwWf");
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wrRWfFwWfFwr");
    rig_expect(rig, 3, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_OKAY);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 4, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 5, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void an_empty_barrier_drains_and_flushes(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_bare(rig, BLKIF_OP_WRITE_BARRIER, 2);
    rig_transfer(rig, BLKIF_OP_WRITE, 3, 16, 3);
    rig_event(rig, 0);
    for (unsigned i = 0; i < 3; i++) {
        (void)rig_settle(rig);
        assert_int_equal(rig->store.held_count, 1);
        fake_store_finish(&rig->store, 0, 0);
    }
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wWfFwW");
    rig_destroy(rig);
}

static void a_barrier_whose_data_cannot_be_had_lets_the_next_go_on(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 1, 0, FAKE_PAGES);
    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 2, 0, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_ERROR);
    assert_string_equal(rig->store.trace, "f");
    rig_destroy(rig);
}

/* A malformed one is answered at once; the one under way must hold back the others all the same. */
static void a_malformed_barrier_does_not_end_another(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 1, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "f");
    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 2, UINT64_MAX, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 3, 64, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_ERROR);
    assert_string_equal(rig->store.trace, "f");
    rig_destroy(rig);
}

static void a_failed_write_ends_its_barrier_with_an_error(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_READ, 2, 0, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_ERROR);
    assert_string_equal(rig->store.trace, "fFwWr");
    rig_destroy(rig);
}

static void overlapping_writes_go_one_after_the_other(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    memset(fake_gnttab.pages[0], 1, GNTTAB_PAGE_SIZE);
    memset(fake_gnttab.pages[1], 2, GNTTAB_PAGE_SIZE);
    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 7, 1); /* one sector in common */
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "w");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wWw");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[7 * 512 - 1], 1);
    assert_int_equal(rig->store.disk[7 * 512], 2);
    rig_destroy(rig);
}

static void neighbouring_writes_and_overlapping_reads_do_not_wait(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_READ, 3, 4, 2);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 8, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wrw");
    rig_destroy(rig);
}

/* The queue that waits is not the one whose completion ends the wait. */
static void a_write_waiting_for_another_queue_is_woken(void **state)
{
    struct rig *rig = rig_create(&plain);
    struct rig_response response;
    (void)state;

    rig_connect(rig, 1);
    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    front_put(&rig->front[1], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                    .segments = 1,
                                                    .id = 2,
                                                    .sector = 0,
                                                    .gref = 1,
                                                    .last_sector = 7});
    front_push(&rig->front[1]);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "w");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wWw");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_true(front_take(&rig->front[1], &response));
    assert_int_equal(response.id, 2);
    rig_destroy(rig);
}

static void a_failed_flush_is_held_back_and_the_ring_waits(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 1);
    rig_transfer(rig, BLKIF_OP_READ, 2, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "fr");
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    assert_int_equal(rig->flush_failed, 1);
    assert_int_equal(rig->slab.header->store_paused, 1);
    rig_expect_none(rig);
    /* What was under way is answered; what comes now waits, and nothing spins meanwhile. */
    fake_store_finish(&rig->store, 0, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 3, 0, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.held_count, 0);
    /* It stays in the ring: only the flush is taken and not answered. */
    assert_int_equal(rig->slab.header->queues[0].in_flight, 1);

    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    assert_int_equal(rig->flush_failed, 2);
    rig_expect_none(rig);

    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->slab.header->store_paused, 0);
    assert_string_equal(rig->store.trace, "frFRfFfFw");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 3, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void what_was_taken_before_a_flush_failed_waits_too(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 2);
    rig_transfer(rig, BLKIF_OP_WRITE, 3, 0, 0); /* waits for the first */
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 1, -EIO);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wfFW");
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wfFWfFw");
    rig_destroy(rig);
}

static void a_flush_that_fails_at_once_does_not_spin(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.at_once = true;
    rig->store.result = -EIO;
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->flush_failed, 1);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    assert_int_equal(rig->flush_failed, 2);
    rig_expect_none(rig);
    rig->store.result = 0;
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void two_failed_flushes_are_both_tried_again(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 1);
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 2);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, -EIO);
    fake_store_finish(&rig->store, 0, -ENOSPC);
    (void)rig_settle(rig);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 2);
    fake_store_finish(&rig->store, 0, 0);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    assert_int_equal(rig->slab.header->store_paused, 1);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->slab.header->store_paused, 0);
    rig_destroy(rig);
}

/* The page cache reports once what it lost: a flush that goes well afterwards, on this ring or
 * another, promises nothing. */
static void after_a_failed_flush_of_buffered_data_none_is_answered(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.base.caps.direct = false;
    rig_connect(rig, 1);
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 1);
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 2);
    front_put(&rig->front[1], &(struct rig_request){.operation = BLKIF_OP_FLUSH_DISKCACHE});
    front_push(&rig->front[1]);
    rig_event(rig, 0);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 3);
    /* That the one which failed comes back last helps the others nothing. */
    fake_store_finish(&rig->store, 0, 0);
    fake_store_finish(&rig->store, 0, 0);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    assert_int_equal(rig->slab.header->store_paused, 3);
    assert_int_equal(rig->flush_failed, 3);
    rig_expect_none(rig);
    /* With the rings let go of, the next kernel begins anew. */
    queue_disconnect(rig->queue[0]);
    queue_disconnect(rig->queue[1]);
    assert_int_equal(rig->slab.header->store_paused, 0);
    rig_destroy(rig);
}

/* Readers of the slab are told until every ring goes on. */
static void the_disk_is_paused_until_the_last_ring_goes_on(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_connect(rig, 1);
    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 1);
    front_put(&rig->front[1], &(struct rig_request){.operation = BLKIF_OP_FLUSH_DISKCACHE});
    front_push(&rig->front[1]);
    rig_event(rig, 0);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, -EIO);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_int_not_equal(rig->slab.header->store_paused, 0);
    queue_disconnect(rig->queue[1]);
    assert_int_equal(rig->slab.header->store_paused, 0);
    rig_destroy(rig);
}

static void a_barrier_whose_last_flush_fails_repeats_only_that(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 1, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < 2; i++) {
        fake_store_finish(&rig->store, 0, 0);
        (void)rig_settle(rig);
    }
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    rig_expect_none(rig);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "fFwWfFfF");
    rig_expect(rig, 1, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_OKAY);
    /* Whatever uses its entry next begins at the beginning. */
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "fFwWfFfFw");
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_barrier_drains_flushes_writes_and_flushes),
        cmocka_unit_test(an_empty_barrier_drains_and_flushes),
        cmocka_unit_test(a_barrier_whose_data_cannot_be_had_lets_the_next_go_on),
        cmocka_unit_test(a_malformed_barrier_does_not_end_another),
        cmocka_unit_test(a_failed_write_ends_its_barrier_with_an_error),
        cmocka_unit_test(overlapping_writes_go_one_after_the_other),
        cmocka_unit_test(neighbouring_writes_and_overlapping_reads_do_not_wait),
        cmocka_unit_test(a_write_waiting_for_another_queue_is_woken),
        cmocka_unit_test(a_failed_flush_is_held_back_and_the_ring_waits),
        cmocka_unit_test(what_was_taken_before_a_flush_failed_waits_too),
        cmocka_unit_test(a_flush_that_fails_at_once_does_not_spin),
        cmocka_unit_test(two_failed_flushes_are_both_tried_again),
        cmocka_unit_test(after_a_failed_flush_of_buffered_data_none_is_answered),
        cmocka_unit_test(the_disk_is_paused_until_the_last_ring_goes_on),
        cmocka_unit_test(a_barrier_whose_last_flush_fails_repeats_only_that),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
