/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges of writes in flight: see overlap.h. */
#include "overlap.h"

#include <stddef.h>

#define BLOCK_SHIFT 16U

static uint32_t bucket_of(uint64_t block)
{
    /* Fibonacci hashing: neighbouring blocks, and blocks a power of two apart, fall into different
     * buckets. */
    return (uint32_t)((block * UINT64_C(0x9e3779b97f4a7c15)) >> 56) % OVERLAP_BUCKETS;
}

/* A range over so many blocks counts once in every bucket. */
static bool spans_all(uint64_t first, uint64_t last)
{
    return last - first >= OVERLAP_BUCKETS;
}

static bool anything_near(const struct overlap_table *table, uint64_t first, uint64_t last)
{
    if (spans_all(first, last))
        return table->ranges != NULL;
    for (uint64_t block = first; block <= last; block++)
        if (table->near[bucket_of(block)])
            return true;
    return false;
}

static bool overlaps(const struct overlap_table *table, uint64_t start, uint64_t end)
{
    for (const struct overlap_range *range = table->ranges; range; range = range->next)
        if (start < range->end && range->start < end)
            return true;
    return false;
}

static void count(struct overlap_table *table, const struct overlap_range *range, int by)
{
    const uint64_t first = range->start >> BLOCK_SHIFT;
    const uint64_t last = (range->end - 1) >> BLOCK_SHIFT;
    const bool all = spans_all(first, last);

    for (uint64_t i = 0; i < (all ? OVERLAP_BUCKETS : last - first + 1); i++) {
        uint16_t *near = &table->near[all ? i : bucket_of(first + i)];

        *near = (uint16_t)(*near + by);
    }
}

static void lock(struct overlap_table *table)
{
    if (table->shared)
        (void)pthread_mutex_lock(&table->lock);
}

static void unlock(struct overlap_table *table)
{
    if (table->shared)
        (void)pthread_mutex_unlock(&table->lock);
}

static void stop_waiting(struct overlap_table *table, struct overlap_waiter *waiter)
{
    struct overlap_waiter **at = &table->waiters;

    if (!waiter->waits)
        return;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    waiter->waits = false;
}

static void start_waiting(struct overlap_table *table, struct overlap_waiter *waiter,
                          uint64_t start, uint64_t end)
{
    waiter->start = start;
    waiter->end = end;
    waiter->next = table->waiters;
    waiter->waits = true;
    table->waiters = waiter;
}

static void wake_waiters(struct overlap_table *table, uint64_t start, uint64_t end)
{
    struct overlap_waiter **at = &table->waiters;

    while (*at) {
        struct overlap_waiter *waiter = *at;

        if (start < waiter->end && waiter->start < end) {
            *at = waiter->next;
            waiter->waits = false;
            waiter->wake(waiter);
        } else {
            at = &waiter->next;
        }
    }
}

/* With the table locked. */
static bool take(struct overlap_table *table, struct overlap_range *range)
{
    if (anything_near(table, range->start >> BLOCK_SHIFT, (range->end - 1) >> BLOCK_SHIFT) &&
        overlaps(table, range->start, range->end))
        return false;
    count(table, range, 1);
    range->previous = NULL;
    range->next = table->ranges;
    if (table->ranges)
        table->ranges->previous = range;
    table->ranges = range;
    return true;
}

bool overlap_acquire(struct overlap_table *table, struct overlap_range *range, uint64_t start,
                     uint64_t length, struct overlap_waiter *waiter)
{
    range->start = start;
    range->end = start + length;
    if (length == 0)
        return true;
    lock(table);
    if (table->shared)
        stop_waiting(table, waiter);
    const bool taken = take(table, range);

    if (!taken && table->shared)
        start_waiting(table, waiter, start, range->end);
    unlock(table);
    if (!taken)
        range->end = start;
    return taken;
}

void overlap_release(struct overlap_table *table, struct overlap_range *range)
{
    if (range->end == range->start)
        return;
    lock(table);
    count(table, range, -1);
    if (range->previous)
        range->previous->next = range->next;
    else
        table->ranges = range->next;
    if (range->next)
        range->next->previous = range->previous;
    if (table->shared)
        wake_waiters(table, range->start, range->end);
    unlock(table);
    range->end = range->start;
}

void overlap_forget(struct overlap_table *table, struct overlap_waiter *waiter)
{
    if (!table->shared)
        return;
    lock(table);
    stop_waiting(table, waiter);
    unlock(table);
}
