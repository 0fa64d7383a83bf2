/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How data crosses between the guest's pages and our buffers: by grant copy, all segments of a pass
 * over the ring in one ioctl. One for each worker thread.
 */
#ifndef BLKBACK_GUEST_MEMORY_H
#define BLKBACK_GUEST_MEMORY_H

#include "blkback/gnttab.h"
#include "blkback/state_files.h"

#include <stdbool.h>
#include <stdint.h>

struct request;
struct guest_memory;

/* `gnttab` stays the caller's. Returns 0 or -ENOMEM. */
int guest_memory_create(struct gnttab *gnttab, uint32_t domid, struct guest_memory **out);
void guest_memory_destroy(struct guest_memory *memory);

/*
 * Adds all segments of a request to the batch, in the direction of its operation. Returns false
 * when the batch has no room left: run it and add again.
 */
bool guest_memory_add(struct guest_memory *memory, struct request *request);

/*
 * Adds the beginning of one granted page to be copied to `local`: the segments of an indirect
 * request. `bytes`: at most a page. Returns as guest_memory_add().
 */
bool guest_memory_add_page(struct guest_memory *memory, struct request *request, uint32_t gref,
                           void *local, uint32_t bytes);

/*
 * Copies the batch and empties it; sets `copied` of each request: true only if every segment was.
 * When the ioctl itself fails nothing counts, and it is tried again request by request, so that one
 * request's bad gref can't fail its neighbours'.
 */
void guest_memory_run(struct guest_memory *memory, struct slab_statistics *statistics);

#endif
