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

/* Zero-initialised is empty. */
struct overlap_table {
    uint16_t near[OVERLAP_BUCKETS];
    struct overlap_range *ranges;
};

/* Takes the range unless one that overlaps is held. An empty range is always had. */
bool overlap_acquire(struct overlap_table *table, struct overlap_range *range, uint64_t start,
                     uint64_t length);

/* Gives it back; nothing if it holds nothing. */
void overlap_release(struct overlap_table *table, struct overlap_range *range);

#endif
