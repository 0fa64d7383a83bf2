/* SPDX-License-Identifier: BSD-2-Clause */
/* Data buffers: within the budget, distinct, given back when idle or not needed any more. */
#include "blkback/buffer_pool.h"
#include "testing.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

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

/* ---- what is given back ---- */

#define MANY (2U * BUFFER_TRIM_MOST + 10U)

static struct {
    struct buffer_pool *pool;
    uint8_t *buffers[MANY]; /* in use */
    unsigned in_use;
    unsigned told;  /* calls */
    uint64_t bytes; /* of all of them */
} rig;

static int set_up(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    return buffer_pool_create(MANY * BUFFER_BYTES, &rig.pool);
}

static int tear_down(void **state)
{
    (void)state;
    buffer_pool_destroy(rig.pool);
    return 0;
}

/* Takes so many more, and uses a page of each. */
static void take(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint8_t *buffer = buffer_pool_get(rig.pool);

        assert_non_null(buffer);
        memset(buffer, 0x5a, 4096);
        rig.buffers[rig.in_use++] = buffer;
    }
}

/* In an order as completions come in: the older ones first, every other one. */
static void put_all_but(unsigned rest)
{
    for (unsigned odd = 0; odd < 2; odd++)
        for (unsigned i = rest + odd; i < rig.in_use; i += 2)
            buffer_pool_put(rig.pool, rig.buffers[i]);
    rig.in_use = rest;
}

static void told(void *context, const void *start, uint64_t bytes)
{
    assert_ptr_equal(context, &rig);
    for (unsigned i = 0; i < rig.in_use; i++)
        assert_false(rig.buffers[i] >= (const uint8_t *)start &&
                     rig.buffers[i] < (const uint8_t *)start + bytes);
    rig.told++;
    rig.bytes += bytes;
}

static enum buffer_trim trim(void)
{
    rig.told = 0;
    rig.bytes = 0;
    return buffer_pool_trim(rig.pool, told, &rig);
}

/* Buffers that have memory: none has more than its first page. */
static unsigned with_memory(void)
{
    static unsigned char pages[MANY * BUFFER_BYTES / 4096];
    unsigned sum = 0;

    assert_int_equal(mincore(buffer_pool_memory(rig.pool).start, MANY * BUFFER_BYTES, pages), 0);
    for (size_t i = 0; i < sizeof(pages); i++)
        sum += pages[i] & 1U;
    return sum;
}

static void check_those_in_use(void)
{
    for (unsigned i = 0; i < rig.in_use; i++)
        assert_true(rig.buffers[i][0] == 0x5a && rig.buffers[i][4095] == 0x5a);
}

static void idle_memory_is_given_back_at_once(void **state)
{
    (void)state;
    take(MANY);
    put_all_but(0);
    assert_int_equal(trim(), BUFFER_TRIM_DONE);
    assert_int_equal(rig.told, 1);
    assert_int_equal(rig.bytes, MANY * BUFFER_BYTES);
    assert_int_equal(with_memory(), 0);
    assert_int_equal(trim(), BUFFER_TRIM_DONE);
    assert_int_equal(rig.told, 0); /* there is nothing more */
    assert_int_equal(buffer_pool_free(rig.pool), MANY);
    take(MANY);
    assert_null(buffer_pool_get(rig.pool));
}

/* A burst, and from then on two at a time, one of which is always in use. */
static void what_a_burst_needed_is_given_back(void **state)
{
    (void)state;
    take(BUFFER_TRIM_MOST);
    put_all_but(1);
    assert_int_equal(trim(), BUFFER_TRIM_LATER); /* all were needed lately */
    assert_int_equal(rig.told, 0);
    assert_int_equal(with_memory(), BUFFER_TRIM_MOST);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 10; i++) {
            take(1);
            put_all_but(1);
        }
        assert_int_equal(trim(), BUFFER_TRIM_LATER);
        assert_int_equal(rig.bytes, round == 0 ? (BUFFER_TRIM_MOST - 2) * BUFFER_BYTES : 0);
        assert_true(rig.told <= 2); /* neighbours go together */
        assert_int_equal(with_memory(), 2);
        check_those_in_use();
    }
    /* The next burst finds them all, and is seen as one. */
    take(99);
    assert_int_equal(with_memory(), 100);
    check_those_in_use();
    put_all_but(1);
    assert_int_equal(trim(), BUFFER_TRIM_LATER);
    assert_int_equal(rig.told, 0);
    assert_int_equal(trim(), BUFFER_TRIM_DONE); /* nothing was needed since */
    assert_int_equal(with_memory(), 1);
    assert_int_equal(rig.bytes, 99 * BUFFER_BYTES);
    check_those_in_use();
    assert_int_equal(trim(), BUFFER_TRIM_DONE);
    assert_int_equal(rig.told, 0);
}

static void it_is_done_in_parts(void **state)
{
    (void)state;
    take(MANY);
    put_all_but(1);
    assert_int_equal(trim(), BUFFER_TRIM_LATER);
    assert_int_equal(trim(), BUFFER_TRIM_MORE);
    assert_int_equal(with_memory(), MANY - BUFFER_TRIM_MOST);
    /* One is needed meanwhile, and none that has no memory any more. */
    take(1);
    assert_int_equal(with_memory(), MANY - BUFFER_TRIM_MOST);
    assert_int_equal(trim(), BUFFER_TRIM_MORE);
    put_all_but(1);
    assert_int_equal(trim(), BUFFER_TRIM_LATER);
    assert_int_equal(with_memory(), 2);
    assert_int_equal(trim(), BUFFER_TRIM_DONE);
    assert_int_equal(with_memory(), 1);
    check_those_in_use();
    /* All are there, each once. */
    take(MANY - 1);
    assert_null(buffer_pool_get(rig.pool));
    assert_int_equal(with_memory(), MANY);
    for (unsigned i = 0; i < MANY; i++)
        memset(rig.buffers[i], (int)(i % 251), 4096);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(rig.buffers[i][4095], i % 251);
}

/* A burst while memory of the one before is being given back. */
static void a_burst_in_between(void **state)
{
    (void)state;
    take(MANY);
    put_all_but(1);
    (void)trim();
    assert_int_equal(trim(), BUFFER_TRIM_MORE);
    take(MANY - 1);
    check_those_in_use();
    put_all_but(1);
    assert_int_equal(trim(), BUFFER_TRIM_LATER);
    assert_int_equal(rig.told, 0);
    while (trim() != BUFFER_TRIM_DONE) {
    }
    assert_int_equal(with_memory(), 1);
    put_all_but(0);
    assert_int_equal(trim(), BUFFER_TRIM_DONE);
    assert_int_equal(with_memory(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_is_the_limit),
        cmocka_unit_test(less_than_one_buffer_is_refused),
        cmocka_unit_test_setup_teardown(idle_memory_is_given_back_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_burst_needed_is_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_is_done_in_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_burst_in_between, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
