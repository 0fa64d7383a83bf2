/* SPDX-License-Identifier: BSD-2-Clause */
/* Data buffers: within the budget, distinct, given back when idle. */
#include "blkback/buffer_pool.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

#define COUNT 5U

static void the_budget_is_the_limit(void **state)
{
    struct buffer_pool *pool = NULL;
    uint8_t *buffers[COUNT];
    (void)state;

    /* A remainder is no buffer. */
    assert_int_equal(buffer_pool_create(COUNT * BUFFER_BYTES + BUFFER_BYTES / 2, &pool), 0);
    assert_int_equal(buffer_pool_count(pool), COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(buffer_pool_free(pool), COUNT - i);
        buffers[i] = buffer_pool_get(pool);
        assert_non_null(buffers[i]);
        assert_int_equal((uintptr_t)buffers[i] % 4096, 0);
        memset(buffers[i], (int)i, BUFFER_BYTES);
    }
    assert_null(buffer_pool_get(pool));
    assert_int_equal(buffer_pool_free(pool), 0);
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned at = 0; at < BUFFER_BYTES; at += 4096)
            assert_int_equal(buffers[i][at], i);
    /* The one that was given back last is the next. */
    buffer_pool_put(pool, buffers[3]);
    buffer_pool_put(pool, buffers[1]);
    assert_ptr_equal(buffer_pool_get(pool), buffers[1]);
    assert_ptr_equal(buffer_pool_get(pool), buffers[3]);
    assert_null(buffer_pool_get(pool));
    buffer_pool_destroy(pool);
}

static void less_than_one_buffer_is_refused(void **state)
{
    struct buffer_pool *pool = NULL;
    (void)state;

    assert_int_equal(buffer_pool_create(BUFFER_BYTES - 1, &pool), -EINVAL);
    assert_int_equal(buffer_pool_create(UINT64_MAX, &pool), -EINVAL);
    assert_null(pool);
    buffer_pool_destroy(NULL);
}

static void idle_memory_is_given_back_and_only_that(void **state)
{
    struct buffer_pool *pool = NULL;
    uint8_t *first, *second;
    (void)state;

    assert_int_equal(buffer_pool_create(COUNT * BUFFER_BYTES, &pool), 0);
    first = buffer_pool_get(pool);
    second = buffer_pool_get(pool);
    memset(first, 1, BUFFER_BYTES);
    memset(second, 2, BUFFER_BYTES);
    buffer_pool_put(pool, first);
    assert_false(buffer_pool_trim(pool)); /* one is in use: nothing is touched */
    assert_int_equal(second[0], 2);
    buffer_pool_put(pool, second);
    assert_true(buffer_pool_trim(pool));
    assert_false(buffer_pool_trim(pool)); /* there is nothing more */
    assert_int_equal(buffer_pool_free(pool), COUNT);
    assert_int_equal(first[0], 0);
    assert_int_equal(second[BUFFER_BYTES - 1], 0);
    for (unsigned i = 0; i < COUNT; i++)
        assert_non_null(buffer_pool_get(pool));
    assert_null(buffer_pool_get(pool));
    buffer_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_is_the_limit),
        cmocka_unit_test(less_than_one_buffer_is_refused),
        cmocka_unit_test(idle_memory_is_given_back_and_only_that),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
