/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding things by their numbers. */
#include "blkback/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ENTRIES 5000U

static struct table table;
static struct table_link links[ENTRIES];

/* As domain and device numbers are put together. */
static uint64_t key_of(unsigned i)
{
    return (uint64_t)(i % 50) << 32 | (UINT32_C(1) << 28 | (i / 50) << 8);
}

static int add_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i++)
        table_add(&table, key_of(i), &links[i]);
    return 0;
}

static int remove_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i++)
        table_remove(&links[i]);
    return 0;
}

static void everything_is_found(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i++)
        assert_ptr_equal(table_find(&table, key_of(i)), &links[i]);
    assert_null(table_find(&table, key_of(ENTRIES)));
    assert_null(table_find(&table, 0));
}

static void what_was_removed_is_not(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i += 2)
        table_remove(&links[i]);
    table_remove(&links[0]); /* once more changes nothing */
    for (unsigned i = 0; i < ENTRIES; i++)
        assert_ptr_equal(table_find(&table, key_of(i)), i % 2 ? &links[i] : NULL);
}

static void equals_are_found_one_after_the_other(void **state)
{
    struct table_link twins[3] = {0};
    unsigned seen = 0;
    (void)state;

    for (unsigned i = 0; i < 3; i++)
        table_add(&table, key_of(7), &twins[i]);
    for (const struct table_link *at = table_find(&table, key_of(7)); at; at = table_find_next(at))
        seen += at == &links[7] ? 8 : 1U << (at - twins);
    assert_int_equal(seen, 15);
    table_remove(&twins[1]);
    table_remove(&twins[2]);
    table_remove(&twins[0]);
    assert_ptr_equal(table_find(&table, key_of(7)), &links[7]);
}

/* Else finding takes longer the more there are. */
static void chains_are_short(void **state)
{
    unsigned longest = 0;
    (void)state;

    for (unsigned i = 0; i < TABLE_BUCKETS; i++) {
        unsigned length = 0;

        for (const struct table_link *at = table.buckets[i]; at; at = at->next)
            length++;
        longest = length > longest ? length : longest;
    }
    assert_in_range(longest, 1, 4 * ENTRIES / TABLE_BUCKETS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_is_found, add_all, remove_all),
        cmocka_unit_test_setup_teardown(what_was_removed_is_not, add_all, remove_all),
        cmocka_unit_test_setup_teardown(equals_are_found_one_after_the_other, add_all, remove_all),
        cmocka_unit_test_setup_teardown(chains_are_short, add_all, remove_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
