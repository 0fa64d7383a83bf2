/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From private copies of a request's slots to a checked request: pure functions. What they let
 * through is relied upon by everything behind them: segment counts are in range, every segment lies
 * in its page, sectors lie within the disk and are aligned to its sector size.
 */
#ifndef BLKBACK_BLKIF_DECODE_H
#define BLKBACK_BLKIF_DECODE_H

#include "blkback/abi.h"
#include "blkback/state_files.h"
#include "multi_block.h"
#include "ring.h"

#include <stdbool.h>
#include <stdint.h>

#define BLKIF_MAX_INDIRECT_SEGMENTS 256U
/* 512 segments of 8 bytes fit a page, so one page has all that we offer. */
#define BLKIF_INDIRECT_PAGES_MAX 1U

/* What holds for a connected disk. */
struct decode_limits {
    enum blkif_abi abi;
    uint64_t sectors;               /* size of the disk, in 512-byte units */
    uint32_t sector_units;          /* 512-byte units in a logical sector: 1 or 8 */
    uint32_t max_segments;          /* in slots; over 11: multi-block requests are spoken */
    uint32_t max_indirect_segments; /* 0: INDIRECT is not offered */
    bool read_only;
    bool discard; /* DISCARD is offered */
    bool discard_secure;
};

struct decoded_request {
    uint64_t id;
    uint64_t sector;            /* 512-byte units */
    uint64_t discard_sectors;   /* DISCARD: 512-byte units */
    uint32_t bytes;             /* of data */
    uint32_t indirect_ref;      /* INDIRECT: the page with the segments; 0 otherwise */
    uint16_t segments;          /* data segments; 0 where there is no data */
    int16_t status;             /* BLKIF_RSP_OKAY: go on; else this is the answer */
    uint8_t operation;          /* BLKIF_OP_*, of an indirect request the inner one */
    uint8_t response_operation; /* what the response echoes */
    uint8_t slots;              /* that it was taken from */
    bool indirect;              /* its segments are still to be copied: see decode_indirect() */
    bool secure;                /* DISCARD */
};

/* How many slots the request takes that begins in this one: 1 to BLKIF_SLOTS_MAX. */
uint32_t decode_slots(const struct ring_slot *first, const struct decode_limits *limits);

/*
 * Decodes the request in `slots`, as many as decode_slots() said. Its segments go to `segments`,
 * which has room for limits->max_segments.
 */
void decode_request(const struct ring_slot *slots, const struct decode_limits *limits,
                    struct slab_segment *segments, struct decoded_request *out);

/* Checks the segments of an indirect request when they have been copied to `segments`. */
void decode_indirect(const struct decode_limits *limits, struct slab_segment *segments,
                     struct decoded_request *request);

/*
 * Checks what a predecessor recorded of a request that it let through, as if it had come from the
 * guest: what is behind decoding relies on the same. `recorded` is as the entry says but for
 * `status`, `bytes` and `segments`, which are settled anew. Its segments must be there.
 */
void decode_recheck(const struct decode_limits *limits, struct slab_segment *segments,
                    struct decoded_request *recorded);

/* The request is answered with `status`, a BLKIF_RSP_* other than OKAY: it has no data any more. */
void decode_refuse(struct decoded_request *request, int16_t status);

#endif
