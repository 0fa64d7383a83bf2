/* SPDX-License-Identifier: BSD-2-Clause */
/* Discards: what is refused, what reaches the store, and what must not overtake them. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define DISK_SECTORS ((uint64_t)FAKE_DISK_BYTES / 512)

static const struct rig_options offered = {.discard = true};
static const struct rig_options secure = {.discard = true, .discard_secure = true};

static struct rig_request discard(uint64_t id, uint64_t sector, uint64_t sectors)
{
    return (struct rig_request){
        .operation = BLKIF_OP_DISCARD, .id = id, .sector = sector, .discard_sectors = sectors};
}

static void put(struct rig *rig, struct rig_request request)
{
    front_put(&rig->front[0], &request);
    front_push(&rig->front[0]);
}

static void run(struct rig *rig)
{
    rig_event(rig, 0);
    (void)rig_settle(rig);
}

static void finish(struct rig *rig)
{
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
}

/* One discard alone: its answer. */
static int16_t status_of(struct rig *rig, struct rig_request request)
{
    struct rig_response response;

    put(rig, request);
    run(rig);
    finish(rig);
    assert_true(front_take(&rig->front[0], &response));
    assert_int_equal(response.id, request.id);
    assert_int_equal(response.operation, BLKIF_OP_DISCARD);
    rig_expect_none(rig);
    return response.status;
}

static void its_range_reaches_the_store_in_every_abi(void **state)
{
    (void)state;
    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++) {
        struct rig *rig =
            rig_create(&(struct rig_options){.abi = (enum blkif_abi)abi, .discard = true});

        assert_int_equal(status_of(rig, discard(UINT64_MAX, 3, 1000)), BLKIF_RSP_OKAY);
        assert_string_equal(rig->store.trace, "dD");
        assert_int_equal(rig->store.discard_offset, 3 * 512);
        assert_int_equal(rig->store.discard_length, 1000 * 512);
        assert_int_equal(rig->slab.header->queues[0].statistics.discards, 1);
        assert_int_equal(rig->slab.header->queues[0].statistics.written_bytes, 0);
        rig_destroy(rig);
    }
}

static void the_whole_disk_and_nothing_of_it(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    assert_int_equal(status_of(rig, discard(1, 0, DISK_SECTORS)), BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.discard_length, FAKE_DISK_BYTES);
    assert_int_equal(status_of(rig, discard(2, 0, 0)), BLKIF_RSP_OKAY);
    assert_int_equal(status_of(rig, discard(3, DISK_SECTORS, 0)), BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.discard_length, 0);
    rig_destroy(rig);
}

static void what_lies_beyond_the_end_is_refused(void **state)
{
    static const struct {
        uint64_t sector, sectors;
    } bad[] = {
        {0, DISK_SECTORS + 1},
        {1, DISK_SECTORS},
        {DISK_SECTORS, 1},
        {DISK_SECTORS + 1, 0},
        {UINT64_MAX, 1},
        {1, UINT64_MAX},
        {UINT64_MAX, UINT64_MAX},
        {UINT64_C(1) << 55, 8},
        {8, UINT64_C(1) << 55},
        {UINT64_MAX - 7, 16},
        {0, (UINT64_C(1) << 55) + 8},
    };
    struct rig *rig = rig_create(&offered);
    (void)state;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(status_of(rig, discard(i, bad[i].sector, bad[i].sectors)),
                         BLKIF_RSP_ERROR);
    assert_int_equal(rig->store.trace_length, 0);
    rig_destroy(rig);
}

static void a_read_only_disk_refuses_them(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.discard = true, .read_only = true});
    (void)state;

    assert_int_equal(status_of(rig, discard(1, 0, 8)), BLKIF_RSP_ERROR);
    assert_int_equal(rig->store.trace_length, 0);
    rig_destroy(rig);
}

static void where_they_are_not_offered_they_are_not_supported(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.discard_secure = true});
    struct rig_request request = discard(2, 0, 8);
    (void)state;

    assert_int_equal(status_of(rig, discard(1, 0, 8)), BLKIF_RSP_EOPNOTSUPP);
    request.segments = BLKIF_DISCARD_SECURE;
    assert_int_equal(status_of(rig, request), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(rig->store.trace_length, 0);
    rig_destroy(rig);
}

/* Where it was not offered the flag means nothing, whatever the frontend hopes. */
static void the_secure_flag_counts_where_it_was_offered(void **state)
{
    struct rig *rig = rig_create(&secure);
    struct rig_request request = discard(1, 8, 8);
    (void)state;

    request.segments = BLKIF_DISCARD_SECURE;
    assert_int_equal(status_of(rig, request), BLKIF_RSP_OKAY);
    assert_true(rig->store.secure);
    request.segments = 0xfe; /* every flag but that one */
    assert_int_equal(status_of(rig, request), BLKIF_RSP_OKAY);
    assert_false(rig->store.secure);
    rig_destroy(rig);

    rig = rig_create(&offered);
    request.segments = 0xff;
    assert_int_equal(status_of(rig, request), BLKIF_RSP_OKAY);
    assert_false(rig->store.secure);
    rig_destroy(rig);
}

/* A hint is rounded by the store; a promise can't be, and is no fault of the storage. */
static void a_secure_one_must_be_of_whole_sectors(void **state)
{
    struct rig *rig = rig_create(
        &(struct rig_options){.discard = true, .discard_secure = true, .sector_size = 4096});
    struct rig_request request = discard(1, 3, 10);
    (void)state;

    assert_int_equal(status_of(rig, request), BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.discard_offset, 3 * 512);
    request.segments = BLKIF_DISCARD_SECURE;
    assert_int_equal(status_of(rig, request), BLKIF_RSP_ERROR);
    request.sector = 8;
    assert_int_equal(status_of(rig, request), BLKIF_RSP_ERROR);
    request.discard_sectors = 16;
    assert_int_equal(status_of(rig, request), BLKIF_RSP_OKAY);
    assert_int_equal(rig->io_failed, 0);
    assert_string_equal(rig->store.trace, "dDdD");
    rig_destroy(rig);
}

static void a_store_that_cannot_after_all_says_so_to_the_frontend(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    put(rig, discard(1, 0, 8));
    put(rig, discard(2, 8, 8));
    run(rig);
    fake_store_finish(&rig->store, 0, -ENOTSUP);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_DISCARD, BLKIF_RSP_EOPNOTSUPP);
    rig_expect(rig, 2, BLKIF_OP_DISCARD, BLKIF_RSP_ERROR);
    assert_int_equal(rig->io_failed, 1); /* the operator hears of the fault only */
    rig_destroy(rig);
}

static void a_write(struct rig *rig, uint64_t id, uint64_t sector)
{
    rig_transfer(rig, BLKIF_OP_WRITE, id, sector, (uint32_t)id);
}

/* In any order of the two, what comes later in the ring is what stays. */
static void a_write_and_a_discard_of_the_same_sectors_keep_their_order(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    memset(fake_gnttab.pages[1], 0x31, GNTTAB_PAGE_SIZE);
    memset(fake_gnttab.pages[3], 0x33, GNTTAB_PAGE_SIZE);
    a_write(rig, 1, 8);
    put(rig, discard(2, 0, DISK_SECTORS));
    a_write(rig, 3, 80);
    run(rig);
    assert_string_equal(rig->store.trace, "w");
    finish(rig);
    assert_string_equal(rig->store.trace, "wWd");
    finish(rig);
    assert_string_equal(rig->store.trace, "wWdDw");
    finish(rig);
    for (uint64_t id = 1; id <= 3; id++)
        rig_expect(rig, id, id == 2 ? BLKIF_OP_DISCARD : BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[8 * 512], FAKE_DISCARDED);
    assert_int_equal(rig->store.disk[80 * 512], 0x33);
    rig_destroy(rig);
}

static void what_does_not_overlap_does_not_wait(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    a_write(rig, 1, 0);
    put(rig, discard(2, 8, 8));
    put(rig, discard(3, 24, DISK_SECTORS - 24));
    a_write(rig, 4, 16);
    put(rig, discard(5, 4, 0)); /* nothing of the first one's range */
    rig_transfer(rig, BLKIF_OP_READ, 6, 8, 20);
    run(rig);
    assert_string_equal(rig->store.trace, "wddwdr");
    finish(rig);
    rig_destroy(rig);
}

static void another_queues_discard_is_waited_for(void **state)
{
    struct rig *rig = rig_create(&offered);
    struct rig_request request = discard(1, 0, DISK_SECTORS);
    (void)state;

    rig_connect(rig, 1);
    front_put(&rig->front[1], &request);
    front_push(&rig->front[1]);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    a_write(rig, 2, 100);
    run(rig);
    assert_string_equal(rig->store.trace, "d");
    finish(rig);
    assert_string_equal(rig->store.trace, "dDw");
    finish(rig);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void a_barrier_waits_for_discards(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    put(rig, discard(1, 0, 8));
    rig_bare(rig, BLKIF_OP_WRITE_BARRIER, 2);
    put(rig, discard(3, 8, 8));
    run(rig);
    assert_string_equal(rig->store.trace, "d");
    finish(rig);
    assert_string_equal(rig->store.trace, "dDf");
    finish(rig);
    assert_string_equal(rig->store.trace, "dDfFd");
    finish(rig);
    rig_destroy(rig);
}

/* A discard has no data: it takes none of the buffers, and none of what a batch copies. */
static void they_need_no_buffers(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.discard = true, .buffers = 1});
    (void)state;

    for (uint64_t id = 0; id < 16; id++)
        put(rig, discard(id, id * 8, 8));
    run(rig);
    assert_int_equal(rig->store.held_count, 16);
    assert_int_equal(fake_gnttab.calls, 0);
    assert_int_equal(buffer_pool_free(rig->turn.buffers), 1);
    finish(rig);
    rig_destroy(rig);
}

static void the_journal_knows_the_range_and_the_promise(void **state)
{
    struct rig *rig = rig_create(&secure);
    struct rig_request request = discard(77, 5, 11);
    const struct slab_entry *entry = rig->queue[0]->journal.entries;
    (void)state;

    request.segments = BLKIF_DISCARD_SECURE;
    put(rig, request);
    run(rig);
    assert_int_equal(entry->state, SLAB_STARTED);
    assert_int_equal(entry->operation, BLKIF_OP_DISCARD);
    assert_int_equal(entry->sector, 5);
    assert_int_equal(entry->discard_sectors, 11);
    assert_int_equal(entry->flags, SLAB_ENTRY_SECURE);
    assert_int_equal(entry->segments, 0);
    assert_int_equal(entry->bytes, 0);
    finish(rig);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_range_reaches_the_store_in_every_abi),
        cmocka_unit_test(the_whole_disk_and_nothing_of_it),
        cmocka_unit_test(what_lies_beyond_the_end_is_refused),
        cmocka_unit_test(a_read_only_disk_refuses_them),
        cmocka_unit_test(where_they_are_not_offered_they_are_not_supported),
        cmocka_unit_test(the_secure_flag_counts_where_it_was_offered),
        cmocka_unit_test(a_secure_one_must_be_of_whole_sectors),
        cmocka_unit_test(a_store_that_cannot_after_all_says_so_to_the_frontend),
        cmocka_unit_test(a_write_and_a_discard_of_the_same_sectors_keep_their_order),
        cmocka_unit_test(what_does_not_overlap_does_not_wait),
        cmocka_unit_test(another_queues_discard_is_waited_for),
        cmocka_unit_test(a_barrier_waits_for_discards),
        cmocka_unit_test(they_need_no_buffers),
        cmocka_unit_test(the_journal_knows_the_range_and_the_promise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
