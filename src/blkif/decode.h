/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the private copy of a slot to a checked request: a pure function. What it lets through is
 * relied upon by everything behind it: segment counts are in range, every segment lies in its page,
 * sectors lie within the disk and are aligned to its sector size.
 */
#ifndef BLKBACK_BLKIF_DECODE_H
#define BLKBACK_BLKIF_DECODE_H

#include "blkback/abi.h"
#include "blkback/state_files.h"
#include "ring.h"

#include <stdbool.h>
#include <stdint.h>

#define BLKIF_MAX_DIRECT_SEGMENTS 11U /* in a slot: blkif.h BLKIF_MAX_SEGMENTS_PER_REQUEST */

/* What holds for a connected disk. */
struct decode_limits {
    uint64_t sectors;      /* size of the disk, in 512-byte units */
    uint32_t sector_units; /* 512-byte units in a logical sector: 1 or 8 */
    uint32_t max_segments;
    bool read_only;
};

struct decoded_request {
    uint64_t id;
    uint64_t sector;            /* 512-byte units */
    uint8_t operation;          /* BLKIF_OP_* */
    uint8_t response_operation; /* what the response echoes */
    uint16_t segments;          /* data segments; 0 where there is no data */
    uint32_t bytes;             /* of data */
    int16_t status;             /* BLKIF_RSP_OKAY: go on; else this is the answer */
    struct slab_segment segment[BLKIF_MAX_DIRECT_SEGMENTS];
};

void decode_request(const struct ring_slot *slot, enum blkif_abi abi,
                    const struct decode_limits *limits, struct decoded_request *out);

#endif
