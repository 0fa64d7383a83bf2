/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests of several slots that are refused: counts that can't be, operations that may not, errors
 * on the way. All their slots are consumed and answered, or what follows would be lost. */
#include "multi_block.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

/* Refused with as many slots as it claims, so that what follows is still found. */
static void too_many_segments_are_refused_with_all_their_slots(void **state)
{
    (void)state;
    for (unsigned most = 12; most < 255; most += 27)
        for (unsigned claimed = most + 1; claimed <= 255; claimed += 31) {
            struct rig *rig = rig_create(&(struct rig_options){.max_segments = most, .order = 1});
            const uint8_t operation = claimed % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE_BARRIER;

            put(rig, transfer(operation, 1, (uint8_t)claimed));
            put(rig, transfer(BLKIF_OP_READ, 2, (uint8_t)most));
            rig_run_to_the_end(rig);
            rig_expect(rig, 1, operation, BLKIF_RSP_ERROR);
            rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
            assert_string_equal(rig->store.trace, "rR");
            rig_expect_rest(rig);
            rig_destroy(rig);
        }
}

static void where_it_is_not_spoken_a_large_count_is_one_slot(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){0});
    (void)state;

    put(rig, transfer(BLKIF_OP_READ, 1, 255));
    put(rig, transfer(BLKIF_OP_WRITE, 2, 12));
    put(rig, transfer(BLKIF_OP_READ, 3, 11));
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_ERROR);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_ERROR);
    rig_expect(rig, 3, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* The 14th segment of a block would end in the next slot. */
static void x86_32_has_24_segments_at_most(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.abi = BLKIF_ABI_X86_32, .max_segments = 255});
    (void)state;

    put(rig, transfer(BLKIF_OP_READ, 1, 25));
    put(rig, transfer(BLKIF_OP_READ, 2, 24));
    put(rig, transfer(BLKIF_OP_READ, 3, 255));
    put(rig, transfer(BLKIF_OP_READ, 4, 1));
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_ERROR);
    rig_expect(rig, 3, BLKIF_OP_READ, BLKIF_RSP_ERROR);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect(rig, 4, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* Byte 1 of a flush may be anything, of a discard it is a flag; and so with operations that are
 * none. */
static void other_operations_take_one_slot_whatever_byte_1_says(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255, .discard = true});
    (void)state;

    put(rig, transfer(BLKIF_OP_FLUSH_DISKCACHE, 1, 255));
    put(rig, transfer(BLKIF_OP_FLUSH_DISKCACHE, 2, 12));
    put(rig, (struct rig_request){
                 .operation = BLKIF_OP_DISCARD, .segments = 254, .id = 3, .discard_sectors = 8});
    put(rig, transfer(99, 4, 200));
    put(rig, transfer(BLKIF_OP_READ, 5, 1));
    rig_run_to_the_end(rig);
    rig_expect(rig, 4, 99, BLKIF_RSP_EOPNOTSUPP);
    rig_expect(rig, 1, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
    rig_expect(rig, 3, BLKIF_OP_DISCARD, BLKIF_RSP_OKAY);
    rig_expect(rig, 5, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_string_equal(rig->store.trace, "ffdrFFDR");
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* One wrong count of slots, and everything behind it would be found at the wrong place. */
static void every_error_takes_and_answers_all_slots(void **state)
{
    struct rig *rig = rig_create(&wide);
    struct slab_segment list[255];
    struct rig_request request;
    (void)state;

    for (unsigned i = 0; i < 255; i++)
        list[i] = (struct slab_segment){.gref = READ_PAGES + i, .last_sector = 7};
    put(rig, transfer(BLKIF_OP_READ, 1, 128));
    request = transfer(BLKIF_OP_WRITE, 2, 40);
    request.sector = UINT64_MAX - 3;
    put(rig, request);
    request = transfer(BLKIF_OP_READ, 3, 100);
    list[99].gref = NOT_GRANTED;
    request.list = list;
    put(rig, request);
    request = transfer(BLKIF_OP_WRITE, 4, 12);
    request.gref = NOT_GRANTED;
    put(rig, request);
    rig_run(rig);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_ERROR);
    rig_expect(rig, 4, BLKIF_OP_WRITE, BLKIF_RSP_ERROR);
    assert_int_equal(rig->store.held_count, 2);
    fake_store_finish(&rig->store, 0, -EIO);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_ERROR);
    rig_expect(rig, 3, BLKIF_OP_READ, BLKIF_RSP_ERROR);
    assert_int_equal(rig->io_failed, 1);
    list[99] = (struct slab_segment){.gref = 0, .first_sector = 3, .last_sector = 2};
    request = transfer(BLKIF_OP_READ, 5, 255);
    request.list = list;
    put(rig, request);
    put(rig, transfer(BLKIF_OP_READ, 6, 2));
    rig_run_to_the_end(rig);
    rig_expect(rig, 5, BLKIF_OP_READ, BLKIF_RSP_ERROR);
    rig_expect(rig, 6, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

static void a_read_only_disk_refuses_large_writes(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255, .read_only = true});
    (void)state;

    put(rig, transfer(BLKIF_OP_WRITE, 1, 128));
    put(rig, transfer(BLKIF_OP_WRITE_BARRIER, 2, 12));
    put(rig, transfer(BLKIF_OP_READ, 3, 26));
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_ERROR);
    rig_expect(rig, 2, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_ERROR);
    rig_expect(rig, 3, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_string_equal(rig->store.trace, "rR");
    rig_expect_rest(rig);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_many_segments_are_refused_with_all_their_slots),
        cmocka_unit_test(where_it_is_not_spoken_a_large_count_is_one_slot),
        cmocka_unit_test(x86_32_has_24_segments_at_most),
        cmocka_unit_test(other_operations_take_one_slot_whatever_byte_1_says),
        cmocka_unit_test(every_error_takes_and_answers_all_slots),
        cmocka_unit_test(a_read_only_disk_refuses_large_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
