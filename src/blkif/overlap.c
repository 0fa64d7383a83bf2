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

bool overlap_acquire(struct overlap_table *table, struct overlap_range *range, uint64_t start,
                     uint64_t length)
{
    range->start = start;
    range->end = start + length;
    if (length == 0)
        return true;
    if (anything_near(table, start >> BLOCK_SHIFT, (range->end - 1) >> BLOCK_SHIFT) &&
        overlaps(table, start, range->end)) {
        range->end = start;
        return false;
    }
    count(table, range, 1);
    range->previous = NULL;
    range->next = table->ranges;
    if (table->ranges)
        table->ranges->previous = range;
    table->ranges = range;
    return true;
}

void overlap_release(struct overlap_table *table, struct overlap_range *range)
{
    if (range->end == range->start)
        return;
    count(table, range, -1);
    if (range->previous)
        range->previous->next = range->next;
    else
        table->ranges = range->next;
    if (range->next)
        range->next->previous = range->previous;
    range->end = range->start;
}
