/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A queue over the unit tests' rig, driven by a fuzz input: what both the target of living rings
 * and that of slabs left behind need.
 */
#ifndef BLKBACK_FUZZ_RING_INPUT_H
#define BLKBACK_FUZZ_RING_INPUT_H

#include "../unit/blkif/rig.h"
#include "fuzz.h"

/* A rig with queue 0 connected, with whatever features the input chooses. */
struct rig *ring_rig(struct input *input);

/* Writes a request, right or wrong, at the frontend's producer; nothing where there is no room.
 * Pages of the requests and their segments are among the first RING_PAGES. */
#define RING_PAGES 16U
void ring_put(struct rig *rig, unsigned queue, struct input *input);

/* The frontend shows what it put, and the backend looks at all rings. */
void ring_push(struct rig *rig, unsigned queue);

/* Takes responses, so that there is room again. */
void ring_take(struct rig *rig, unsigned queue);

/* What always holds between two turns. */
void ring_check(const struct rig *rig);

/* All I/O is finished, well, and all that follows from it. */
void ring_run_out(struct rig *rig);

#endif
