/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request on its way: what belongs to it beyond its journal entry and does not outlive the
 * process. One for each entry, allocated when the queue connects.
 */
#ifndef BLKBACK_BLKIF_REQUEST_H
#define BLKBACK_BLKIF_REQUEST_H

#include "blkback/io.h"
#include "journal.h"
#include "overlap.h"

#include <stdbool.h>
#include <stdint.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define REQUEST_SECTOR_BYTES 512U

struct queue;

/* A request that the store failed and that is not answered. */
enum request_parked {
    REQUEST_NOT_PARKED,
    REQUEST_PARKED,     /* waits to be tried again */
    REQUEST_TRIED_AGAIN /* may start, or has */
};

struct request {
    struct io io;
    struct iovec *iov; /* the engine changes them, each step fills them anew */
    struct overlap_range range;
    struct request *next; /* in one list at a time */
    struct queue *queue;
    struct slab_entry *entry;
    const struct slab_segment *segments;
    uint8_t **buffers; /* of the pool, while there is data under way; full but for the last */
    uint16_t buffer_count;
    bool mapped;   /* the guest's pages that its data lies in are mapped */
    bool in_place; /* and I/O is done on them: no buffers, no copies */
    uint16_t tag;
    bool replayed; /* it was started once, by us or a predecessor: it keeps its range until it is
                      finished */
    enum request_parked parked;
    bool parked_flush; /* it was a flush of it that failed */
    uint8_t step;      /* of its plan, the one under way */
    bool copied;       /* set by guest_memory_run() */
};

/* First in, first out. */
struct request_list {
    struct request *first;
    struct request *last;
};

static inline void request_list_push(struct request_list *list, struct request *request)
{
    request->next = NULL;
    if (list->last)
        list->last->next = request;
    else
        list->first = request;
    list->last = request;
}

static inline void request_list_push_front(struct request_list *list, struct request *request)
{
    request->next = list->first;
    list->first = request;
    if (!list->last)
        list->last = request;
}

/* NULL when empty. */
static inline struct request *request_list_pop(struct request_list *list)
{
    struct request *request = list->first;

    if (request) {
        list->first = request->next;
        if (!list->first)
            list->last = NULL;
        request->next = NULL;
    }
    return request;
}

/*
 * The I/O that carries out an operation, in order:
 *   READ: read. WRITE: write. DISCARD: discard. FLUSH: flush, then its data if it has any.
 *   BARRIER: flush, write, flush: what came before it is stable before its own data can be, and its
 * data before the answer.
 */
struct request_plan {
    uint8_t count;
    enum io_operation step[3];
};

const struct request_plan *request_plan(const struct slab_entry *entry);

/* Whether the request brings data from the guest, and whether it takes data to it. */
static inline bool request_has_data_in(const struct slab_entry *entry)
{
    return entry->bytes && entry->operation != BLKIF_OP_READ;
}

static inline bool request_has_data_out(const struct slab_entry *entry)
{
    return entry->operation == BLKIF_OP_READ;
}

/* Bytes of the store that it changes, from its sector on; 0: none. */
static inline uint64_t request_changes(const struct slab_entry *entry)
{
    if (entry->operation == BLKIF_OP_DISCARD)
        return entry->discard_sectors * REQUEST_SECTOR_BYTES;
    return request_has_data_in(entry) ? entry->bytes : 0;
}

/* Buffers of the pool that hold `bytes` of data. */
uint32_t request_buffers(uint64_t bytes);

/* Sets up `request->io` for its current step; the iov of one in place is left to the caller. */
void request_prepare_io(struct request *request);

#endif
