/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Merging: requests of one pass that follow each other in the ring and on the disk go to the store
 * as one I/O. Each keeps its own journal entry and has its own answer. A merged I/O that fails is
 * carried out again one by one, so that each request has the outcome of its own sectors.
 */
#ifndef BLKBACK_BLKIF_MERGE_H
#define BLKBACK_BLKIF_MERGE_H

#include "request.h"

#include <stdint.h>

struct queue;
struct merger;

/* For a queue with `requests` in flight at most. Returns 0 or -ENOMEM. */
int merger_create(struct queue *queue, uint32_t requests, struct merger **out);

/* No merged I/O may be in flight. Accepts NULL. */
void merger_destroy(struct merger *merger);

/*
 * Takes a request that is prepared (request_prepare_io()) and started: it joins those before it, or
 * they are submitted and it is the first of the next.
 */
void merger_add(struct merger *merger, struct request *request);

/* Submits what was added. */
void merger_flush(struct merger *merger);

#endif
