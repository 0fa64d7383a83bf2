/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests of several slots, as the tests of them put them. */
#ifndef BLKBACK_TEST_MULTI_BLOCK_H
#define BLKBACK_TEST_MULTI_BLOCK_H

#include "rig.h"

#include <xen/io/blkif.h>

#define PAGE_SECTORS 8U
#define WRITE_PAGES  0U   /* granted pages that writes take data from */
#define READ_PAGES   256U /* and that reads bring it to */
#define NOT_GRANTED  FAKE_PAGES

static const struct rig_options wide = {.max_segments = 255};

/* Whole pages, from the start of the disk. */
static inline struct rig_request transfer(uint8_t operation, uint64_t id, uint8_t segments)
{
    return (struct rig_request){
        .operation = operation,
        .segments = segments,
        .id = id,
        .gref = operation == BLKIF_OP_READ ? READ_PAGES : WRITE_PAGES,
        .last_sector = 7,
    };
}

static inline void put(struct rig *rig, struct rig_request request)
{
    front_put(&rig->front[0], &request);
}

#endif
