/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges of writes that several threads take, give back and wait for. */
#include "overlap.h"
#include "testing.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 4U
#define BLOCKS  64U /* of the disk that they fight for */
#define ROUNDS  20000U
#define BLOCK   UINT64_C(16384)

static struct overlap_table table;
static _Atomic unsigned held[BLOCKS];
static _Atomic unsigned both;    /* blocks that were found held by two */
static _Atomic unsigned refused; /* so that it is known that they did fight */
static _Atomic unsigned not_woken;

struct fighter {
    struct overlap_waiter waiter;
    sem_t woken;
    pthread_t thread;
    unsigned seed;
};

static void wake(struct overlap_waiter *waiter)
{
    (void)sem_post(&((struct fighter *)waiter)->woken);
}

static void hold(unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        if (atomic_fetch_add(&held[i], 1U) != 0)
            both++;
    (void)sched_yield(); /* so that they meet with one CPU, too */
    for (unsigned i = first; i < first + count; i++)
        atomic_fetch_sub(&held[i], 1U);
}

static void wait_for(struct fighter *fighter)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    if (sem_timedwait(&fighter->woken, &until) < 0)
        not_woken++;
}

static void *fight(void *context)
{
    struct fighter *fighter = context;
    struct overlap_range range = {0};

    for (unsigned round = 0; round < ROUNDS && !not_woken; round++) {
        const unsigned first = (unsigned)rand_r(&fighter->seed) % BLOCKS;
        const unsigned count = 1 + (unsigned)rand_r(&fighter->seed) % (BLOCKS - first);

        while (!overlap_acquire(&table, &range, first * BLOCK, count * BLOCK, &fighter->waiter) &&
               !not_woken) {
            refused++;
            wait_for(fighter);
        }
        if (not_woken)
            break;
        hold(first, count);
        overlap_release(&table, &range);
    }
    return NULL;
}

static void no_range_is_held_twice_and_everybody_is_woken(void **state)
{
    static struct fighter fighters[THREADS];
    (void)state;

    memset(&table, 0, sizeof(table));
    table.shared = true;
    assert_int_equal(pthread_mutex_init(&table.lock, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        fighters[i] = (struct fighter){.waiter.wake = wake, .seed = i + 1};
        assert_int_equal(sem_init(&fighters[i].woken, 0, 0), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&fighters[i].thread, NULL, fight, &fighters[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(fighters[i].thread, NULL), 0);
    assert_int_equal(both, 0);
    assert_int_equal(not_woken, 0);
    assert_true(refused > 0);
    assert_null(table.ranges);
    assert_null(table.waiters);
    (void)pthread_mutex_destroy(&table.lock);
}

static unsigned wakes;

static void count_wake(struct overlap_waiter *waiter)
{
    (void)waiter;
    wakes++;
}

static void only_what_was_in_the_way_wakes_and_only_who_waits(void **state)
{
    struct overlap_waiter waiter = {.wake = count_wake};
    struct overlap_range one = {0}, two = {0}, wanted = {0};
    (void)state;

    memset(&table, 0, sizeof(table));
    table.shared = true;
    assert_int_equal(pthread_mutex_init(&table.lock, NULL), 0);
    assert_true(overlap_acquire(&table, &one, 0, 4096, &waiter));
    assert_true(overlap_acquire(&table, &two, 8192, 4096, &waiter));
    assert_false(overlap_acquire(&table, &wanted, 512, 512, &waiter));
    overlap_release(&table, &two);
    assert_int_equal(wakes, 0);
    overlap_release(&table, &one);
    assert_int_equal(wakes, 1);
    assert_true(overlap_acquire(&table, &one, 0, 4096, &waiter));
    overlap_release(&table, &one);
    assert_int_equal(wakes, 1); /* woken once */
    assert_true(overlap_acquire(&table, &one, 0, 4096, &waiter));
    assert_false(overlap_acquire(&table, &wanted, 512, 512, &waiter));
    overlap_forget(&table, &waiter);
    overlap_release(&table, &one);
    assert_int_equal(wakes, 1);
    (void)pthread_mutex_destroy(&table.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_range_is_held_twice_and_everybody_is_woken),
        cmocka_unit_test(only_what_was_in_the_way_wakes_and_only_who_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
