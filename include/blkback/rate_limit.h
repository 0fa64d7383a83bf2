/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vbd may do per second: token buckets, one for requests and one for bytes of data. They are
 * the vbd's, shared by its queues on whatever threads, without a lock: a bucket is the time at
 * which it will be full again, in one word. Nothing waits here: what may not pass stays in the
 * ring.
 *
 * A bucket fills at the limit's rate up to the burst. A request may pass while there is something
 * in both buckets, and then takes all it costs, if need be into debt: so one larger than the burst
 * passes, too, and the next one waits for longer. Over time the rate is kept exactly.
 */
#ifndef BLKBACK_RATE_LIMIT_H
#define BLKBACK_RATE_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The largest that there is; greater values are taken for it. */
#define RATE_LIMIT_MAX (UINT64_C(1) << 36)

/* Of zeroes, it is no limit. */
struct rate_bucket {
    _Atomic uint64_t rate;    /* per second; 0: no limit */
    _Atomic uint64_t depth;   /* how long it takes to fill, in ticks (rate_limit.c) */
    _Atomic uint64_t full_at; /* when it is full, in ticks; in the past: it is */
};

struct rate_limit {
    struct rate_bucket requests;
    struct rate_bucket bytes;
};

/* As in the configuration; 0 as a rate: no limit; 0 as a burst: one, and a
 * tenth of a second's worth. */
struct rate_settings {
    uint64_t requests, requests_burst; /* per second; at once */
    uint64_t bytes, bytes_burst;
};

/* The time, in nanoseconds: CLOCK_MONOTONIC. */
uint64_t rate_clock(void);

/*
 * Sets rates and bursts. A burst is at least one and what passes in 10 ms, for a queue can't be
 * sure to be woken more often. A bucket whose settings are others than before is `changed`
 * (RATE_LIMIT_*): it is to be given to rate_limit_empty() when no thread reckons with the old
 * settings any more, or their debt would be waited for. Returns what has changed.
 */
unsigned rate_limit_set(struct rate_limit *limit, const struct rate_settings *settings);

#define RATE_LIMIT_REQUESTS 1U
#define RATE_LIMIT_BYTES    2U

/* Empties these buckets: neither credit nor debt. A new limit begins full instead. */
void rate_limit_empty(struct rate_limit *limit, unsigned buckets, uint64_t now);

/* Whether there is a limit: else nothing below needs to be called. */
static inline bool rate_limit_is_set(const struct rate_limit *limit)
{
    return atomic_load_explicit(&limit->requests.rate, memory_order_relaxed) != 0 ||
           atomic_load_explicit(&limit->bytes.rate, memory_order_relaxed) != 0;
}

/* When a request may pass: now or earlier, or a time in nanoseconds. Several threads that ask at
 * once may be let through together; what they take is reckoned with all the same. */
uint64_t rate_limit_ready_at(const struct rate_limit *limit, uint64_t now);

/* Takes a request with so many bytes of data out of the buckets. */
void rate_limit_charge(struct rate_limit *limit, uint64_t now, uint32_t bytes);

/* Gives bytes back that were taken and not needed. */
void rate_limit_refund(struct rate_limit *limit, uint64_t bytes);

#endif
