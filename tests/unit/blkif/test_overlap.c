/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges of writes in flight against the plainest model: all pairs compared. */
#include "overlap.h"
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#define RANGES 64U
#define KIB    UINT64_C(1024)

static struct overlap_table table;

static void empty_ranges_hold_nothing(void **state)
{
    struct overlap_range held = {0}, empty = {0};
    (void)state;

    memset(&table, 0, sizeof(table));
    assert_true(overlap_acquire(&table, &held, 0, 100, NULL));
    assert_true(overlap_acquire(&table, &empty, 50, 0, NULL));
    overlap_release(&table, &empty);
    overlap_release(&table, &held);
    overlap_release(&table, &held); /* again: nothing */
    assert_null(table.ranges);
}

static void the_edges_are_exact(void **state)
{
    struct overlap_range middle = {0}, other = {0};
    (void)state;

    memset(&table, 0, sizeof(table));
    assert_true(overlap_acquire(&table, &middle, 64 * KIB, 64 * KIB, NULL));
    assert_false(overlap_acquire(&table, &other, 64 * KIB - 512, 513, NULL));
    assert_true(overlap_acquire(&table, &other, 64 * KIB - 512, 512, NULL));
    overlap_release(&table, &other);
    assert_false(overlap_acquire(&table, &other, 128 * KIB - 1, 1, NULL));
    assert_true(overlap_acquire(&table, &other, 128 * KIB, 1, NULL));
    overlap_release(&table, &other);
    assert_false(overlap_acquire(&table, &other, 0, 1024 * KIB, NULL));
    /* The far end of the address space. */
    assert_true(overlap_acquire(&table, &other, UINT64_MAX - 512, 512, NULL));
    overlap_release(&table, &other);
    overlap_release(&table, &middle);
}

static bool model_free(const struct overlap_range *held, const bool *is_held, uint64_t start,
                       uint64_t length)
{
    for (unsigned i = 0; i < RANGES; i++)
        if (is_held[i] && start < held[i].end && held[i].start < start + length)
            return false;
    return true;
}

static void it_agrees_with_the_model(void **state)
{
    static struct overlap_range ranges[RANGES];
    bool held[RANGES] = {false};
    (void)state;

    memset(&table, 0, sizeof(table));
    srand(7);
    for (unsigned step = 0; step < 200000; step++) {
        const unsigned i = (unsigned)rand() % RANGES;

        if (held[i]) {
            overlap_release(&table, &ranges[i]);
            held[i] = false;
            continue;
        }
        /* Dense at two places a long way apart, so that conflicts and shared buckets happen. */
        const uint64_t start =
            ((uint64_t)rand() % 2048) * 512 + (rand() % 2 ? UINT64_C(1) << 40 : 0);
        const uint64_t length = (uint64_t)(rand() % 200) * 512;
        const bool expected = length == 0 || model_free(ranges, held, start, length);

        assert_int_equal(overlap_acquire(&table, &ranges[i], start, length, NULL), expected);
        held[i] = expected && length;
    }
    for (unsigned i = 0; i < RANGES; i++)
        if (held[i])
            overlap_release(&table, &ranges[i]);
    assert_null(table.ranges);
    for (unsigned i = 0; i < OVERLAP_BUCKETS; i++)
        assert_int_equal(table.near[i], 0);
}

/* A discard of a whole disk of any size costs as little as a write. */
static void huge_ranges_are_cheap_and_exact(void **state)
{
    struct overlap_range huge = {0}, low = {0}, high = {0}, other = {0};
    const uint64_t pib = UINT64_C(1) << 50;
    (void)state;

    memset(&table, 0, sizeof(table));
    for (unsigned i = 0; i < 100000; i++) {
        assert_true(overlap_acquire(&table, &huge, 512, UINT64_C(1) << 62, NULL));
        assert_false(overlap_acquire(&table, &other, pib, 512, NULL));
        assert_false(overlap_acquire(&table, &other, 0, 513, NULL));
        assert_true(overlap_acquire(&table, &low, 0, 512, NULL));
        assert_true(
            overlap_acquire(&table, &high, (UINT64_C(1) << 62) + 512, UINT64_C(1) << 61, NULL));
        assert_false(overlap_acquire(&table, &other, 0, UINT64_MAX, NULL));
        overlap_release(&table, &low);
        overlap_release(&table, &high);
        overlap_release(&table, &huge);
    }
    assert_null(table.ranges);
    for (unsigned i = 0; i < OVERLAP_BUCKETS; i++)
        assert_int_equal(table.near[i], 0);
}

/* Up to 256 blocks are counted one by one, more of them in every bucket: on both sides of it. */
static void ranges_around_the_tables_size(void **state)
{
    (void)state;
    for (uint64_t blocks = 254; blocks <= 258; blocks++)
        for (uint64_t start = 0; start <= 64 * KIB; start += 32 * KIB) {
            struct overlap_range range = {0}, other = {0};
            const uint64_t length = blocks * 64 * KIB;

            memset(&table, 0, sizeof(table));
            assert_true(overlap_acquire(&table, &range, start, length, NULL));
            for (uint64_t at = 0; at < length; at += 32 * KIB)
                assert_false(overlap_acquire(&table, &other, start + at, 512, NULL));
            assert_true(overlap_acquire(&table, &other, start + length, 512, NULL));
            overlap_release(&table, &range);
            assert_false(overlap_acquire(&table, &range, start, UINT64_C(1) << 40, NULL));
            overlap_release(&table, &other);
            for (unsigned i = 0; i < OVERLAP_BUCKETS; i++)
                assert_int_equal(table.near[i], 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_ranges_hold_nothing),
        cmocka_unit_test(the_edges_are_exact),
        cmocka_unit_test(it_agrees_with_the_model),
        cmocka_unit_test(huge_ranges_are_cheap_and_exact),
        cmocka_unit_test(ranges_around_the_tables_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
