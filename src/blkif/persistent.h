/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Persistent grants of a queue: a frontend that negotiated them uses the same grants again and
 * again, so they stay mapped, and data goes straight between the store and the guest's pages, or is
 * copied by the processor.
 *
 * The grants of a request that are not mapped yet are mapped when it starts, in chunks, for gntdev
 * searches a list of maps and unmaps a map as a whole: a chunk is the unit of eviction. They are
 * not gathered over several requests: Linux ends a grant that was not mapped when the request is
 * answered, and the reference may be another device's then. What the budget has no room for, or
 * can't be mapped, is copied like any other.
 */
#ifndef BLKBACK_BLKIF_PERSISTENT_H
#define BLKBACK_BLKIF_PERSISTENT_H

#include "blkback/gnttab.h"
#include "blkback/queue.h"
#include "request.h"

#include <stdbool.h>
#include <stdint.h>

/* Pages of a chunk at most. */
#define PERSISTENT_CHUNK 32U

/* Pages of a queue at most, as in Linux's xen-blkback (1056), rounded to chunks. */
#define PERSISTENT_MAX (33U * PERSISTENT_CHUNK)

struct persistent;

/* Counts in `statistics`, which, as `gnttab` and `budget`, stays the caller's. Returns 0 or
 * -ENOMEM.
 */
int persistent_create(struct gnttab *gnttab, uint32_t domid, struct grant_budget *budget,
                      struct slab_statistics *statistics, struct persistent **out);

/*
 * Maps what is not mapped yet. Whether every segment of the request, which must not be answered
 * yet, lies in a mapped page then; if so the pages stay mapped until persistent_put().
 */
bool persistent_get(struct persistent *persistent, const struct request *request);
void persistent_put(struct persistent *persistent, const struct request *request);

/*
 * Fills `iov` with the request's mapped pages, neighbours in memory joined, and returns how many
 * there are: at most as many as segments.
 */
unsigned persistent_fill(const struct persistent *persistent, const struct request *request,
                         struct iovec *iov);

/* Copies the data of a request between its mapped pages and its buffers, to the guest what was read
 * for it. */
void persistent_copy(const struct persistent *persistent, const struct request *request);

/* Unmaps what has not been used since several trims ago, and more while the budget is exceeded.
 * Returns whether anything stays mapped. */
bool persistent_trim(struct persistent *persistent);

/* Unmaps all that no request uses. */
void persistent_release(struct persistent *persistent);

/* No request may use any. Accepts NULL. */
void persistent_destroy(struct persistent *persistent);

#endif
