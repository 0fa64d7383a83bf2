/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The multi-block extension of FreeBSD's backend of 2010, which libxen's headers lack: a request
 * with more than 11 segments goes on in the slots that follow it, each of them a bare array of
 * segments. Up to 255 segments, for nr_segments has 8 bits.
 */
#ifndef BLKBACK_BLKIF_MULTI_BLOCK_H
#define BLKBACK_BLKIF_MULTI_BLOCK_H

#include <stdint.h>

#define BLKIF_SEGMENTS_IN_HEADER 11U /* of the first slot */
#define BLKIF_SEGMENTS_IN_BLOCK  14U /* of each that follows */
#define BLKIF_MULTI_BLOCK_MAX    255U
#define BLKIF_SLOTS_MAX          19U /* 1 + ceil((255 - 11) / 14) */

/*
 * In the x86_32 layout a slot has 108 bytes and a block of 14 segments 112: the last one's sectors
 * would lie in the next slot, where something else is. So requests that reach a block's 14th
 * segment can't be carried out.
 */
#define BLKIF_MULTI_BLOCK_MAX_X86_32 24U

#define BLKIF_SLOTS_OF_PAGE 32U /* the smallest ring */

_Static_assert(BLKIF_SLOTS_MAX == 1U + (BLKIF_MULTI_BLOCK_MAX - BLKIF_SEGMENTS_IN_HEADER +
                                        BLKIF_SEGMENTS_IN_BLOCK - 1U) /
                                           BLKIF_SEGMENTS_IN_BLOCK,
               "slots of the largest request");
_Static_assert(BLKIF_SLOTS_MAX <= BLKIF_SLOTS_OF_PAGE, "any request fits any ring");

/* Slots of a request with that many segments: 1 to BLKIF_SLOTS_MAX. */
static inline uint32_t multi_block_slots(uint32_t segments)
{
    if (segments <= BLKIF_SEGMENTS_IN_HEADER)
        return 1;
    return 1 + (segments - BLKIF_SEGMENTS_IN_HEADER + BLKIF_SEGMENTS_IN_BLOCK - 1) /
                   BLKIF_SEGMENTS_IN_BLOCK;
}

#endif
