/* SPDX-License-Identifier: BSD-2-Clause */
/* A run of random requests: what its two halves share, choosing requests and checking answers. */
#ifndef BED_EXERCISE_H
#define BED_EXERCISE_H

#include "front.h"
#include "hv.h"

#define SECTORS_PER_PAGE (HV_PAGE / FRONT_SECTOR)
#define POISON           0xa5u

struct slot {
    bool busy, indirect;
    uint8_t op; /* of an indirect request: the inner one */
    uint64_t id, sector;
    uint32_t sectors, segments;
    uint64_t order;
    uint32_t indirect_page;
    struct front_segment segment[FRONT_MAX_SEGMENTS];
    uint32_t page[FRONT_MAX_SEGMENTS]; /* of the pool */
};

struct run {
    struct front_queue *q;
    struct front_exercise *e;
    struct front_pool *pool;
    struct slot *slots;
    uint64_t random, issued, done, last_order;
    uint32_t busy;
};

/* choose.c: puts a random request into an idle slot and on the ring. False: not now. */
bool exercise_issue(struct run *r, uint32_t index);
/* Where a sector of the disk lies in the model. */
uint8_t *exercise_model_at(const struct run *r, uint64_t sector);
/* The model takes what a write or a discard does. */
void exercise_write_model(const struct run *r, const struct slot *s);

#endif
