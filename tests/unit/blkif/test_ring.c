/* SPDX-License-Identifier: BSD-2-Clause */
/* The consuming half of a ring against a frontend that forges every word of it. */
#include "ring.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

#define PAGE_BYTES 4096U

static _Alignas(4096) uint8_t pages[2 * PAGE_BYTES];

static struct ring_shared *shared(void)
{
    return (struct ring_shared *)pages;
}

static struct ring ring_at(uint32_t start, enum blkif_abi abi)
{
    struct ring ring;

    memset(pages, 0, sizeof(pages));
    shared()->req_prod = start;
    shared()->rsp_prod = start;
    assert_int_equal(ring_init(&ring, pages, abi, 0), 0);
    return ring;
}

static void take(struct ring *ring, struct ring_slot *slot)
{
    ring_copy_slot(ring, 0, slot);
    ring_consume(ring, 1);
}

static void it_begins_where_the_last_backend_ended(void **state)
{
    struct ring ring;
    uint32_t available = 99;
    (void)state;

    memset(pages, 0, sizeof(pages));
    shared()->rsp_prod = UINT32_MAX - 1;
    shared()->req_prod = 3;
    assert_int_equal(ring_init(&ring, pages, BLKIF_ABI_NATIVE, 0), 0);
    assert_int_equal(ring_available(&ring, &available), 0);
    assert_int_equal(available, 5);
}

static void a_ring_that_is_broken_is_not_attached(void **state)
{
    struct ring ring;
    (void)state;

    memset(pages, 0, sizeof(pages));
    shared()->req_prod = 33;
    assert_int_equal(ring_init(&ring, pages, BLKIF_ABI_NATIVE, 0), -EPROTO);
    shared()->req_prod = UINT32_MAX;
    assert_int_equal(ring_init(&ring, pages, BLKIF_ABI_NATIVE, 0), -EPROTO);
    shared()->req_prod = 32;
    assert_int_equal(ring_init(&ring, pages, BLKIF_ABI_NATIVE, 0), 0);
}

/* Around every start, also across the wrap: taken and answered in part, then all that can be in
 * req_prod. */
static void only_a_producer_in_range_is_believed(void **state)
{
    static const uint32_t starts[] = {0,         1, 0x7ffffff0, UINT32_MAX - 40, UINT32_MAX - 20,
                                      UINT32_MAX};
    (void)state;

    for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct ring ring = ring_at(starts[i], BLKIF_ABI_NATIVE);
        struct ring_slot slot;
        uint32_t available = 0;

        shared()->req_prod = starts[i] + 20;
        for (unsigned n = 0; n < 20; n++)
            take(&ring, &slot);
        for (unsigned n = 0; n < 5; n++)
            ring_put_response(&ring, n, 0, 0, 1);
        ring_publish(&ring);
        for (int64_t ahead = -100; ahead < 100; ahead++) {
            const int expected = ahead < 0 || ahead > 32 - 15 ? -EPROTO : 0;

            shared()->req_prod = starts[i] + 20 + (uint32_t)ahead;
            assert_int_equal(ring_available(&ring, &available), expected);
            if (!expected)
                assert_int_equal(available, ahead);
        }
        shared()->req_prod = starts[i] + 20 + 0x80000000;
        assert_int_equal(ring_available(&ring, &available), -EPROTO);
        /* What else the guest can write plays no part. */
        shared()->req_prod = starts[i] + 20 + 17;
        shared()->rsp_prod = 12345;
        shared()->req_event = 54321;
        assert_int_equal(ring_available(&ring, &available), 0);
        assert_int_equal(available, 17);
    }
}

static void a_slot_is_copied_whole_and_only_it(void **state)
{
    (void)state;
    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++) {
        const uint32_t bytes = abi == BLKIF_ABI_X86_32 ? 108 : 112;
        struct ring ring = ring_at(30, (enum blkif_abi)abi);

        for (unsigned n = 0; n < 32; n++)
            memset(pages + 64 + n * bytes, (int)n + 1, bytes);
        for (unsigned n = 0; n < 4; n++) { /* 30, 31, then around the end */
            struct ring_slot slot;

            memset(&slot, 0xee, sizeof(slot));
            take(&ring, &slot);
            for (unsigned at = 0; at < bytes; at++)
                assert_int_equal(slot.bytes[at], (30 + n) % 32 + 1);
            if (bytes < sizeof(slot.bytes))
                assert_int_equal(slot.bytes[bytes], 0xee);
        }
    }
}

static void a_response_is_seen_when_it_is_published(void **state)
{
    (void)state;
    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++) {
        const uint32_t bytes = abi == BLKIF_ABI_X86_32 ? 108 : 112;
        const uint8_t expected[] = {8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0xfe, 0xff};
        struct ring ring = ring_at(31, (enum blkif_abi)abi);

        memset(pages + 64, 0x77, sizeof(pages) - 64);
        ring_put_response(&ring, 0x0102030405060708, 9, -2, 2);
        ring_put_response(&ring, 1, 1, 0, 1);
        assert_int_equal(shared()->rsp_prod, 31);
        ring_publish(&ring);
        assert_int_equal(shared()->rsp_prod, 34);
        assert_memory_equal(pages + 64 + 31 * bytes, expected, sizeof(expected));
        /* Two slots further, around the end; nothing but the response was written. */
        assert_int_equal(pages[64 + bytes], 1);
        assert_int_equal(pages[64 + bytes + 12], 0x77);
        assert_int_equal(pages[64], 0x77);
        assert_int_equal(pages[64 + 31 * bytes + 12], 0x77);
    }
}

static void it_notifies_exactly_when_asked_for(void **state)
{
    (void)state;
    for (uint32_t from = UINT32_MAX - 8; from != 8; from++) {
        for (uint32_t count = 1; count < 5; count++) {
            struct ring ring = ring_at(from, BLKIF_ABI_NATIVE);

            for (uint32_t n = 0; n < count; n++)
                ring_put_response(&ring, n, 0, 0, 1);
            ring_publish(&ring);
            for (int32_t at = -6; at < 10; at++) {
                /* The event is wanted when the producer passes it: from < event <= from + count. */
                shared()->rsp_event = from + (uint32_t)at;
                assert_int_equal(ring_must_notify(&ring, from), at >= 1 && at <= (int32_t)count);
            }
        }
    }
}

static void arming_asks_and_looks_once_more(void **state)
{
    struct ring ring = ring_at(UINT32_MAX, BLKIF_ABI_NATIVE);
    struct ring_slot slot;
    (void)state;

    assert_false(ring_arm(&ring, 0));
    assert_int_equal(shared()->req_event, 0);
    shared()->req_prod = 1;
    assert_true(ring_arm(&ring, 0));
    take(&ring, &slot);
    assert_true(ring_arm(&ring, 0));
    take(&ring, &slot);
    assert_false(ring_arm(&ring, 0));
    assert_int_equal(shared()->req_event, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_begins_where_the_last_backend_ended),
        cmocka_unit_test(a_ring_that_is_broken_is_not_attached),
        cmocka_unit_test(only_a_producer_in_range_is_believed),
        cmocka_unit_test(a_slot_is_copied_whole_and_only_it),
        cmocka_unit_test(a_response_is_seen_when_it_is_published),
        cmocka_unit_test(it_notifies_exactly_when_asked_for),
        cmocka_unit_test(arming_asks_and_looks_once_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
