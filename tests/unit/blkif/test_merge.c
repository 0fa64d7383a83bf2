/* SPDX-License-Identifier: BSD-2-Clause */
/* Neighbouring requests go to the store as one I/O, and each has its own answer. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static const struct rig_options plain = {0};

static uint64_t merged(const struct rig *rig)
{
    return rig->slab.header->queues[0].statistics.merged;
}

/* Writes of a page each to consecutive places, the page of grant i filled with i + 1. */
static void put_writes(struct rig *rig, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        memset(fake_gnttab.pages[i], (int)i + 1, GNTTAB_PAGE_SIZE);
        rig_transfer(rig, BLKIF_OP_WRITE, i, i * 8U, i);
    }
    rig_event(rig, 0);
    (void)rig_settle(rig);
}

static void neighbours_are_one_io(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    put_writes(rig, 8);
    assert_string_equal(rig->store.trace, "w");
    assert_int_equal(rig->store.held[0]->length, 8 * 4096);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    for (uint32_t i = 0; i < 8; i++) {
        rig_expect(rig, i, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
        assert_int_equal(rig->store.disk[i * 4096], i + 1);
        assert_int_equal(rig->store.disk[i * 4096 + 4095], i + 1);
    }
    rig_expect_none(rig);
    assert_int_equal(merged(rig), 7);
    rig_destroy(rig);
}

static void reads_find_their_own_pages(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    for (unsigned i = 0; i < 4 * 4096; i++)
        rig->store.disk[i] = (uint8_t)(i / 4096 + 0x40);
    for (uint32_t i = 0; i < 4; i++)
        rig_transfer(rig, BLKIF_OP_READ, i, i * 8U, 10 - i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "r");
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    for (uint32_t i = 0; i < 4; i++) {
        rig_expect(rig, i, BLKIF_OP_READ, BLKIF_RSP_OKAY);
        assert_int_equal(fake_gnttab.pages[10 - i][0], 0x40 + i);
        assert_int_equal(fake_gnttab.pages[10 - i][4095], 0x40 + i);
    }
    rig_destroy(rig);
}

static void what_is_no_neighbour_stays_alone(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_READ, 2, 8, 1);   /* another operation */
    rig_transfer(rig, BLKIF_OP_WRITE, 3, 16, 2); /* a read lies between */
    rig_transfer(rig, BLKIF_OP_WRITE, 4, 32, 3); /* a gap */
    rig_transfer(rig, BLKIF_OP_WRITE, 5, 24, 4); /* backwards */
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wrwww");
    assert_int_equal(merged(rig), 0);
    rig_destroy(rig);
}

static void a_barrier_is_never_merged(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 8, 1);
    rig_event(rig, 0);
    for (unsigned i = 0; i < 4; i++) {
        (void)rig_settle(rig);
        fake_store_finish_all(&rig->store);
    }
    assert_string_equal(rig->store.trace, "fFwWfFwW");
    assert_int_equal(merged(rig), 0);
    rig_destroy(rig);
}

static void a_merged_io_has_an_end(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.order = 2});
    (void)state;

    put_writes(rig, 100);
    for (unsigned i = 0; i < rig->store.held_count; i++)
        assert_in_range(rig->store.held[i]->length, 4096, 256 * 1024);
    assert_true(rig->store.held_count >= 2);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(rig->store.disk[i * 4096], i + 1);
    rig_destroy(rig);
}

/* Which of them failed nobody knows from the merged result: each is tried alone. */
static void a_failure_is_only_the_one_that_failed(void **state)
{
    struct rig *rig = rig_create(&plain);
    struct rig_response response;
    (void)state;

    put_writes(rig, 4);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    rig_expect_none(rig);
    assert_int_equal(rig->store.held_count, 4);
    fake_store_finish(&rig->store, 2, -EIO);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(front_take(&rig->front[0], &response));
        assert_int_equal(response.status, response.id == 2 ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
    }
    assert_int_equal(rig->io_failed, 1);
    assert_int_equal(merged(rig), 0);
    rig_destroy(rig);
}

static void a_busy_engine_takes_them_later(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_READ, 100, 1024, 50);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig->store.room = 1;
    put_writes(rig, 4);
    assert_int_equal(rig->store.held_count, 1);
    rig->store.room = FAKE_HELD_MAX;
    fake_store_finish_all(&rig->store);
    rig->turn.freed = true;
    (void)rig_settle(rig);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 100, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    for (uint32_t i = 0; i < 4; i++)
        rig_expect(rig, i, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(merged(rig), 0);
    rig_destroy(rig);
}

static void a_merged_io_outlives_its_ring(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    put_writes(rig, 4);
    queue_disconnect(rig->queue[0]);
    assert_int_equal(queue_in_flight(rig->queue[0]), 4);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    assert_int_equal(rig->drained, 1);
    assert_int_equal(rig->store.held_count, 0);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_are_one_io),
        cmocka_unit_test(reads_find_their_own_pages),
        cmocka_unit_test(what_is_no_neighbour_stays_alone),
        cmocka_unit_test(a_barrier_is_never_merged),
        cmocka_unit_test(a_merged_io_has_an_end),
        cmocka_unit_test(a_failure_is_only_the_one_that_failed),
        cmocka_unit_test(a_busy_engine_takes_them_later),
        cmocka_unit_test(a_merged_io_outlives_its_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
