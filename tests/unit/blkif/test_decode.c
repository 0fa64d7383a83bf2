/* SPDX-License-Identifier: BSD-2-Clause */
/* Decoding: every operation in every ABI, and what a hostile guest puts into a slot. */
#include "decode.h"
#include "testing.h"

#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define DISK_SECTORS UINT64_C(1000)
#define ID           UINT64_C(0xfedcba9876543210)

struct input {
    uint8_t operation;
    uint8_t segments;
    uint64_t sector;
    uint8_t first, last; /* of every segment */
};

static struct decode_limits limits(void)
{
    return (struct decode_limits){.sectors = DISK_SECTORS, .sector_units = 1, .max_segments = 11};
}

static struct ring_slot slot_of(const struct input *input, enum blkif_abi abi)
{
    const bool packed = abi == BLKIF_ABI_X86_32;
    const uint64_t id = ID;
    struct ring_slot slot;

    memset(&slot, 0xa5, sizeof(slot));
    slot.bytes[0] = input->operation;
    slot.bytes[1] = input->segments;
    memcpy(slot.bytes + (packed ? 4 : 8), &id, sizeof(id));
    memcpy(slot.bytes + (packed ? 12 : 16), &input->sector, sizeof(input->sector));
    for (uint32_t i = 0; i < 11; i++) {
        uint8_t *segment = slot.bytes + (packed ? 20 : 24) + (size_t)i * 8;
        const uint32_t gref = 0x1000 + i;

        memcpy(segment, &gref, sizeof(gref));
        segment[4] = input->first;
        segment[5] = input->last;
    }
    return slot;
}

static struct slab_segment decoded_segments[BLKIF_MAX_INDIRECT_SEGMENTS];

static struct decoded_request decode(struct input input, enum blkif_abi abi,
                                     const struct decode_limits *with)
{
    const struct ring_slot slot = slot_of(&input, abi);
    struct decode_limits limits_of_abi = *with;
    struct decoded_request request;

    memset(&request, 0xcc, sizeof(request));
    limits_of_abi.abi = abi;
    assert_int_equal(decode_slots(&slot, &limits_of_abi), 1);
    decode_request(&slot, &limits_of_abi, decoded_segments, &request);
    assert_int_equal(request.slots, 1);
    /* Whatever else, the answer can be addressed. */
    assert_int_equal(request.id, ID);
    /* Of an indirect request the inner one is echoed: some frontends crash on the outer. */
    const uint8_t echoed = input.operation == BLKIF_OP_INDIRECT ? input.segments : input.operation;

    assert_int_equal(request.operation, echoed);
    assert_int_equal(request.response_operation, echoed);
    if (request.status != BLKIF_RSP_OKAY) {
        assert_int_equal(request.segments, 0);
        assert_int_equal(request.bytes, 0);
    }
    return request;
}

static int16_t status(struct input input, const struct decode_limits *with)
{
    const int16_t native = decode(input, BLKIF_ABI_NATIVE, with).status;

    for (unsigned abi = 1; abi < BLKIF_ABIS; abi++)
        assert_int_equal(decode(input, (enum blkif_abi)abi, with).status, native);
    return native;
}

static void transfers_come_out_whole_in_every_abi(void **state)
{
    static const uint8_t operations[] = {BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER,
                                         BLKIF_OP_FLUSH_DISKCACHE};
    const struct decode_limits all = limits();
    (void)state;

    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++) {
        for (unsigned op = 0; op < sizeof(operations); op++) {
            for (uint8_t segments = 1; segments <= 11; segments++) {
                const struct decoded_request request = decode(
                    (struct input){operations[op], segments, 77, 2, 5}, (enum blkif_abi)abi, &all);

                assert_int_equal(request.status, BLKIF_RSP_OKAY);
                assert_int_equal(request.sector, 77);
                assert_int_equal(request.segments, segments);
                assert_int_equal(request.bytes, segments * 4U * 512U);
                for (uint32_t i = 0; i < segments; i++) {
                    assert_int_equal(decoded_segments[i].gref, 0x1000 + i);
                    assert_int_equal(decoded_segments[i].first_sector, 2);
                    assert_int_equal(decoded_segments[i].last_sector, 5);
                    assert_int_equal(decoded_segments[i].pad, 0);
                }
            }
        }
    }
}

static void a_transfer_needs_segments_and_not_too_many(void **state)
{
    struct decode_limits with = limits();
    (void)state;

    for (unsigned count = 0; count < 256; count++) {
        const int16_t expected = count >= 1 && count <= 11 ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;

        assert_int_equal(status((struct input){BLKIF_OP_READ, (uint8_t)count, 0, 0, 7}, &with),
                         expected);
        assert_int_equal(status((struct input){BLKIF_OP_WRITE, (uint8_t)count, 0, 0, 7}, &with),
                         expected);
    }
    with.max_segments = 4;
    assert_int_equal(status((struct input){BLKIF_OP_READ, 4, 0, 0, 7}, &with), BLKIF_RSP_OKAY);
    assert_int_equal(status((struct input){BLKIF_OP_READ, 5, 0, 0, 7}, &with), BLKIF_RSP_ERROR);
}

static void a_segment_lies_within_its_page(void **state)
{
    const struct decode_limits all = limits();
    (void)state;

    for (unsigned first = 0; first < 256; first++) {
        for (unsigned last = 0; last < 256; last++) {
            const int16_t expected = first <= last && last <= 7 ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;

            assert_int_equal(
                status((struct input){BLKIF_OP_WRITE, 1, 0, (uint8_t)first, (uint8_t)last}, &all),
                expected);
        }
    }
}

static void only_the_last_segment_may_be_the_bad_one(void **state)
{
    const struct decode_limits all = limits();
    struct ring_slot slot = slot_of(&(struct input){BLKIF_OP_WRITE, 11, 0, 0, 7}, BLKIF_ABI_NATIVE);
    struct decoded_request request;
    (void)state;

    slot.bytes[24 + 10 * 8 + 5] = 8;
    decode_request(&slot, &all, decoded_segments, &request);
    assert_int_equal(request.status, BLKIF_RSP_ERROR);
    slot.bytes[1] = 10; /* then it is not looked at */
    decode_request(&slot, &all, decoded_segments, &request);
    assert_int_equal(request.status, BLKIF_RSP_OKAY);
}

static void large_sectors_are_kept_whole(void **state)
{
    struct decode_limits with = limits();
    (void)state;

    with.sector_units = 8;
    assert_int_equal(status((struct input){BLKIF_OP_READ, 2, 8, 0, 7}, &with), BLKIF_RSP_OKAY);
    assert_int_equal(status((struct input){BLKIF_OP_READ, 2, 4, 0, 7}, &with), BLKIF_RSP_ERROR);
    assert_int_equal(status((struct input){BLKIF_OP_READ, 2, 8, 0, 3}, &with), BLKIF_RSP_ERROR);
    assert_int_equal(status((struct input){BLKIF_OP_READ, 2, 8, 4, 7}, &with), BLKIF_RSP_ERROR);
    assert_int_equal(status((struct input){BLKIF_OP_READ, 2, 8, 1, 7}, &with), BLKIF_RSP_ERROR);
}

static void no_sector_past_the_end(void **state)
{
    static const uint64_t beyond[] = {DISK_SECTORS - 7,  DISK_SECTORS,      UINT64_C(1) << 55,
                                      UINT64_C(1) << 62, UINT64_C(1) << 63, UINT64_MAX - 7,
                                      UINT64_MAX - 8,    UINT64_MAX};
    struct decode_limits with = limits();
    (void)state;

    assert_int_equal(status((struct input){BLKIF_OP_READ, 1, DISK_SECTORS - 8, 0, 7}, &with),
                     BLKIF_RSP_OKAY);
    for (unsigned i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        assert_int_equal(status((struct input){BLKIF_OP_READ, 1, beyond[i], 0, 7}, &with),
                         BLKIF_RSP_ERROR);
        assert_int_equal(status((struct input){BLKIF_OP_WRITE, 1, beyond[i], 0, 7}, &with),
                         BLKIF_RSP_ERROR);
        assert_int_equal(status((struct input){BLKIF_OP_WRITE_BARRIER, 1, beyond[i], 0, 7}, &with),
                         BLKIF_RSP_ERROR);
    }
    with.sectors = 4; /* smaller than the request */
    assert_int_equal(status((struct input){BLKIF_OP_READ, 1, 0, 0, 7}, &with), BLKIF_RSP_ERROR);
}

static void a_read_only_disk_is_not_written(void **state)
{
    struct decode_limits with = limits();
    (void)state;

    with.read_only = true;
    assert_int_equal(status((struct input){BLKIF_OP_READ, 1, 0, 0, 7}, &with), BLKIF_RSP_OKAY);
    assert_int_equal(status((struct input){BLKIF_OP_WRITE, 1, 0, 0, 7}, &with), BLKIF_RSP_ERROR);
    assert_int_equal(status((struct input){BLKIF_OP_WRITE_BARRIER, 1, 0, 0, 7}, &with),
                     BLKIF_RSP_ERROR);
    assert_int_equal(status((struct input){BLKIF_OP_WRITE_BARRIER, 0, 0, 0, 7}, &with),
                     BLKIF_RSP_ERROR);
    assert_int_equal(status((struct input){BLKIF_OP_FLUSH_DISKCACHE, 1, 0, 0, 7}, &with),
                     BLKIF_RSP_ERROR);
    assert_int_equal(status((struct input){BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0, 7}, &with),
                     BLKIF_RSP_OKAY);
}

static void what_was_not_offered_is_not_supported(void **state)
{
    const struct decode_limits all = limits();
    (void)state;

    for (unsigned op = 0; op < 256; op++) {
        if (op == BLKIF_OP_READ || op == BLKIF_OP_WRITE || op == BLKIF_OP_WRITE_BARRIER ||
            op == BLKIF_OP_FLUSH_DISKCACHE)
            continue;
        assert_int_equal(status((struct input){(uint8_t)op, 200, UINT64_MAX, 9, 0}, &all),
                         BLKIF_RSP_EOPNOTSUPP);
    }
}

static void flush_and_barrier_need_no_data(void **state)
{
    const struct decode_limits all = limits();
    (void)state;

    /* Linux: the sector is -1. NetBSD: the count is what was there before. */
    assert_int_equal(status((struct input){BLKIF_OP_FLUSH_DISKCACHE, 0, UINT64_MAX, 9, 0}, &all),
                     BLKIF_RSP_OKAY);
    for (unsigned count = 12; count < 256; count++) {
        const struct decoded_request request =
            decode((struct input){BLKIF_OP_FLUSH_DISKCACHE, (uint8_t)count, UINT64_MAX, 9, 0},
                   BLKIF_ABI_NATIVE, &all);

        assert_int_equal(request.status, BLKIF_RSP_OKAY);
        assert_int_equal(request.segments, 0);
        assert_int_equal(request.bytes, 0);
    }
    assert_int_equal(status((struct input){BLKIF_OP_WRITE_BARRIER, 0, UINT64_MAX, 9, 0}, &all),
                     BLKIF_RSP_OKAY);
    assert_int_equal(status((struct input){BLKIF_OP_WRITE_BARRIER, 12, 0, 0, 7}, &all),
                     BLKIF_RSP_ERROR);
}

/* Fewer segments than a slot has may be settled on: the journal has room for no more. */
static void a_small_limit_holds_for_every_operation(void **state)
{
    const struct decode_limits small = {
        .sectors = DISK_SECTORS, .sector_units = 1, .max_segments = 4};
    (void)state;

    for (unsigned operation = 0; operation <= BLKIF_OP_FLUSH_DISKCACHE; operation++)
        for (unsigned count = 1; count <= 11; count++) {
            const struct decoded_request request =
                decode((struct input){(uint8_t)operation, (uint8_t)count, 0, 0, 7},
                       BLKIF_ABI_NATIVE, &small);

            assert_int_equal(request.segments, count <= 4 ? count : 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transfers_come_out_whole_in_every_abi),
        cmocka_unit_test(a_transfer_needs_segments_and_not_too_many),
        cmocka_unit_test(a_segment_lies_within_its_page),
        cmocka_unit_test(only_the_last_segment_may_be_the_bad_one),
        cmocka_unit_test(large_sectors_are_kept_whole),
        cmocka_unit_test(no_sector_past_the_end),
        cmocka_unit_test(a_read_only_disk_is_not_written),
        cmocka_unit_test(what_was_not_offered_is_not_supported),
        cmocka_unit_test(flush_and_barrier_need_no_data),
        cmocka_unit_test(a_small_limit_holds_for_every_operation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
