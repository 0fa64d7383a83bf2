/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes that overlap a write in flight wait: a successor replays what was in flight in any order,
 * and two writes to the same sector in one order only (crash recovery). Per vbd: a table of
 * counters hashed by 64 KiB block says in most cases that nothing is near; where a counter is set,
 * the ranges in flight are compared exactly, so that neighbouring writes do not wait for each
 * other.
 */
#ifndef BLKBACK_BLKIF_OVERLAP_H
#define BLKBACK_BLKIF_OVERLAP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define OVERLAP_BUCKETS 256U

/* Held by a request while it writes; intrusive. */
struct overlap_range {
    struct overlap_range *next;
    struct overlap_range *previous;
    uint64_t start; /* bytes */
    uint64_t end;   /* exclusive; equal to start: holds nothing */
};

/*
 * One that waits for a range, where the table is shared by threads: `wake` is called when a range
 * is given back that was in its way, on the thread that gives it back and with the table locked.
 * Intrusive; zero-initialised but for `wake`.
 */
struct overlap_waiter {
    void (*wake)(struct overlap_waiter *waiter);
    struct overlap_waiter *next;
    uint64_t start; /* of the range that it was refused */
    uint64_t end;
    bool waits;
};

/* Zero-initialised is empty, and one thread's. */
struct overlap_table {
    uint16_t near[OVERLAP_BUCKETS];
    struct overlap_range *ranges;
    bool shared;          /* by queues of several threads: set before the first range */
    pthread_mutex_t lock; /* of everything here and of what is linked in, where it is shared */
    struct overlap_waiter *waiters;
};

/*
 * Takes the range unless one that overlaps is held. An empty range is always had. If it is refused
 * and the table is shared, `waiter` is woken once when it may be had; one that is asking again does
 * not wait any more. NULL where the table is one thread's.
 */
bool overlap_acquire(struct overlap_table *table, struct overlap_range *range, uint64_t start,
                     uint64_t length, struct overlap_waiter *waiter);

/* Gives it back; nothing if it holds nothing. */
void overlap_release(struct overlap_table *table, struct overlap_range *range);

/* The waiter is woken no more from here on. */
void overlap_forget(struct overlap_table *table, struct overlap_waiter *waiter);

#endif
