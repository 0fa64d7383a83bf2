/* SPDX-License-Identifier: BSD-2-Clause */
/* Token buckets as points in time: see rate_limit.h. */
#include "blkback/rate_limit.h"

/* A tick is a sixteenth of a nanosecond: a sector at the highest rate takes 119 of them, so that
 * rounding is below a hundredth; a clock of 64 bits lasts for 36 years. */
#define TICKS_PER_NS     UINT64_C(16)
#define TICKS_PER_SECOND (UINT64_C(1000000000) * TICKS_PER_NS)

/* About a year: no cost and no depth is more, so that sums with the time can't overflow. */
#define TICKS_MAX (UINT64_C(1) << 59)

/* How late a queue may be without losing what its bucket could not hold: a thread sleeps for whole
 * milliseconds, and is not always woken at once. */
#define LATE (TICKS_PER_SECOND / 100)

#define DEPTH_STANDARD (TICKS_PER_SECOND / 10)

/* TICKS_PER_SECOND = HIGH * 2^SPLIT + LOW, so that products with a rate fit 64 bits. */
#define SPLIT 27U
#define HIGH  (TICKS_PER_SECOND >> SPLIT)
#define LOW   (TICKS_PER_SECOND & ((UINT64_C(1) << SPLIT) - 1))

/* How long `count` takes at that rate, not 0: rounded up, and at most TICKS_MAX. */
static uint64_t ticks_for(uint64_t count, uint64_t rate)
{
    const uint64_t seconds = count / rate;
    const uint64_t rest = count % rate;

    if (seconds >= TICKS_MAX / TICKS_PER_SECOND)
        return TICKS_MAX;
    /* Below the rate, so 36 bits at most; HIGH has 7. */
    const uint64_t upper = rest * HIGH;
    const uint64_t lower = ((upper % rate) << SPLIT) + rest * LOW;

    return seconds * TICKS_PER_SECOND + ((upper / rate) << SPLIT) + lower / rate +
           (lower % rate != 0);
}

static uint64_t depth_for(uint64_t burst, uint64_t rate)
{
    const uint64_t one = ticks_for(1, rate);
    const uint64_t least = one + LATE;
    /* On top of one, or a host that is late by more than LATE would not reach low rates. */
    const uint64_t depth = burst ? ticks_for(burst, rate) : one + DEPTH_STANDARD;

    return depth < least ? least : depth;
}

/* Returns whether it is another. */
static bool set_bucket(struct rate_bucket *bucket, uint64_t rate, uint64_t burst)
{
    if (rate > RATE_LIMIT_MAX)
        rate = RATE_LIMIT_MAX;
    const uint64_t depth = rate ? depth_for(burst, rate) : 0;

    if (atomic_load_explicit(&bucket->rate, memory_order_relaxed) == rate &&
        atomic_load_explicit(&bucket->depth, memory_order_relaxed) == depth)
        return false;
    atomic_store_explicit(&bucket->depth, depth, memory_order_relaxed);
    atomic_store_explicit(&bucket->rate, rate, memory_order_relaxed);
    return true;
}

unsigned rate_limit_set(struct rate_limit *limit, const struct rate_settings *settings)
{
    const bool requests =
        set_bucket(&limit->requests, settings->requests, settings->requests_burst);
    const bool bytes = set_bucket(&limit->bytes, settings->bytes, settings->bytes_burst);

    return (requests ? RATE_LIMIT_REQUESTS : 0U) | (bytes ? RATE_LIMIT_BYTES : 0U);
}

static void empty_bucket(struct rate_bucket *bucket, uint64_t now)
{
    const uint64_t depth = atomic_load_explicit(&bucket->depth, memory_order_relaxed);

    atomic_store_explicit(&bucket->full_at, now * TICKS_PER_NS + depth, memory_order_relaxed);
}

void rate_limit_empty(struct rate_limit *limit, unsigned buckets, uint64_t now)
{
    if (buckets & RATE_LIMIT_REQUESTS)
        empty_bucket(&limit->requests, now);
    if (buckets & RATE_LIMIT_BYTES)
        empty_bucket(&limit->bytes, now);
}

/* When there will be so much in it, in ticks. */
static uint64_t filled_at(const struct rate_bucket *bucket, uint64_t count)
{
    const uint64_t rate = atomic_load_explicit(&bucket->rate, memory_order_relaxed);

    if (rate == 0)
        return 0;
    const uint64_t depth = atomic_load_explicit(&bucket->depth, memory_order_relaxed);
    const uint64_t full = atomic_load_explicit(&bucket->full_at, memory_order_relaxed);
    const uint64_t needed = full + ticks_for(count, rate);

    return needed > depth ? needed - depth : 0;
}

uint64_t rate_limit_ready_at(const struct rate_limit *limit, uint64_t now)
{
    const uint64_t requests = filled_at(&limit->requests, 1);
    const uint64_t bytes = filled_at(&limit->bytes, 1);
    const uint64_t at = requests > bytes ? requests : bytes;

    if (at <= now * TICKS_PER_NS)
        return now;
    return at / TICKS_PER_NS + (at % TICKS_PER_NS != 0);
}

static void take(struct rate_bucket *bucket, uint64_t now, uint64_t count)
{
    const uint64_t rate = atomic_load_explicit(&bucket->rate, memory_order_relaxed);

    if (rate == 0 || count == 0)
        return;
    const uint64_t cost = ticks_for(count, rate);
    const uint64_t ticks = now * TICKS_PER_NS;
    uint64_t full = atomic_load_explicit(&bucket->full_at, memory_order_relaxed);
    uint64_t next;

    do {
        next = (full > ticks ? full : ticks) + cost;
        if (next > ticks + 2 * TICKS_MAX) /* nobody lives to see that debt paid */
            next = ticks + 2 * TICKS_MAX;
    } while (!atomic_compare_exchange_weak_explicit(&bucket->full_at, &full, next,
                                                    memory_order_relaxed, memory_order_relaxed));
}

void rate_limit_charge(struct rate_limit *limit, uint64_t now, uint32_t bytes)
{
    take(&limit->requests, now, 1);
    take(&limit->bytes, now, bytes);
}

void rate_limit_refund(struct rate_limit *limit, uint64_t bytes)
{
    const uint64_t rate = atomic_load_explicit(&limit->bytes.rate, memory_order_relaxed);

    if (rate == 0 || bytes == 0)
        return;
    const uint64_t cost = ticks_for(bytes, rate);
    uint64_t full = atomic_load_explicit(&limit->bytes.full_at, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(&limit->bytes.full_at, &full,
                                                  full > cost ? full - cost : 0,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}
