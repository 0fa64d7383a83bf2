/* SPDX-License-Identifier: BSD-2-Clause */
/* Merging requests that are neighbours: see merge.h. */
#include "merge.h"

#include "lazy_memory.h"
#include "queue_internal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Large enough to take the cost of an I/O off small requests, small enough not to serialise a
 * store. */
#define MERGED_BYTES_MAX (UINT64_C(256) * 1024)
#define MERGED_IOV_MAX   64U

struct merged_io {
    struct io io; /* first: its completion casts back */
    struct merger *merger;
    struct merged_io *next_free;
    struct request_list members;
    unsigned count;
    struct iovec iov[MERGED_IOV_MAX];
};

struct merger {
    struct queue *queue;
    struct merged_io *free;
    uint32_t fresh; /* from here on they were never used, and take no memory of an idle disk */
    uint32_t count;
    /* What is being collected: requests that can go together. */
    struct request_list open;
    unsigned open_count;
    unsigned open_iovs;
    uint64_t open_bytes;
    struct request *last;
    struct merged_io pool[];
};

static size_t size_of(uint32_t count)
{
    const struct merger *merger = NULL;

    return sizeof(*merger) + count * sizeof(merger->pool[0]);
}

int merger_create(struct queue *queue, uint32_t requests, struct merger **out)
{
    const uint32_t count = requests / 2; /* a merged I/O has at least two */
    struct merger *merger = lazy_memory_get(size_of(count));

    if (!merger)
        return -ENOMEM;
    merger->queue = queue;
    merger->count = count;
    *out = merger;
    return 0;
}

void merger_destroy(struct merger *merger)
{
    if (merger)
        lazy_memory_put(merger, size_of(merger->count));
}

/* The outcome of all is the outcome of each; of a failure nobody knows whose it was: one by one
 * then. */
static void spread(struct merged_io *merged, int result)
{
    struct queue *queue = merged->merger->queue;
    const bool again = result < 0 && !queue->disconnected;
    struct request *request;

    while ((request = request_list_pop(&merged->members))) {
        request->io.result = result;
        if (again)
            queue->submitted--;
        request_list_push(again ? &queue->unsubmitted : &queue->returned, request);
    }
    if (result >= 0)
        queue->statistics->merged += merged->count - 1;
    merged->next_free = merged->merger->free;
    merged->merger->free = merged;
    turn_mark_ready(queue);
}

static void merged_done(struct io *io)
{
    spread((struct merged_io *)io, io->result);
}

static void submit_singly(struct merger *merger, struct request_list *requests)
{
    struct request *request;

    while ((request = request_list_pop(requests)))
        queue_submit_prepared(merger->queue, request);
}

static void fill(struct merged_io *merged, struct request_list *requests, unsigned count,
                 uint64_t bytes)
{
    const struct request *first = requests->first;
    unsigned iovs = 0;

    for (const struct request *request = first; request; request = request->next) {
        memcpy(&merged->iov[iovs], request->io.iov,
               request->io.iov_count * sizeof(*request->io.iov));
        iovs += request->io.iov_count;
    }
    merged->io = (struct io){
        .operation = first->io.operation,
        .iov_count = iovs,
        .offset = first->io.offset,
        .length = bytes,
        .iov = merged->iov,
        .done = merged_done,
        .engines = first->io.engines,
    };
    merged->members = *requests;
    merged->count = count;
    *requests = (struct request_list){0};
}

/* NULL when all are in flight. */
static struct merged_io *take_one(struct merger *merger)
{
    struct merged_io *merged = merger->free;

    if (merged) {
        merger->free = merged->next_free;
    } else if (merger->fresh < merger->count) {
        merged = &merger->pool[merger->fresh++];
        merged->merger = merger;
    }
    return merged;
}

static void submit_merged(struct merger *merger, struct merged_io *merged)
{
    struct queue *queue = merger->queue;

    fill(merged, &merger->open, merger->open_count, merger->open_bytes);
    queue->submitted += merged->count;
    switch (store_submit(queue->store, &merged->io)) {
    case IO_QUEUED:
        break;
    case IO_DONE:
        spread(merged, merged->io.result);
        break;
    case IO_BUSY:
        /* They wait like any others that the engine had no room for. */
        spread(merged, -EBUSY);
        turn_mark_stalled(queue);
        break;
    }
}

void merger_flush(struct merger *merger)
{
    struct merged_io *merged =
        merger->open.first && merger->open_count > 1 ? take_one(merger) : NULL;

    if (merged)
        submit_merged(merger, merged);
    else
        submit_singly(merger, &merger->open);
    merger->open_count = 0;
    merger->open_iovs = 0;
    merger->open_bytes = 0;
    merger->last = NULL;
}

static bool joins(const struct merger *merger, const struct request *request)
{
    const struct request *last = merger->last;

    return last && request->io.operation == last->io.operation &&
           request->io.offset == last->io.offset + last->io.length &&
           merger->open_bytes + request->io.length <= MERGED_BYTES_MAX &&
           merger->open_iovs + request->io.iov_count <= MERGED_IOV_MAX;
}

/* Only what is one transfer and nothing else: a barrier's write comes between its flushes. */
static bool can_merge(const struct request *request)
{
    return request_plan(request->entry)->count == 1 &&
           (request->io.operation == IO_READ || request->io.operation == IO_WRITE);
}

void merger_add(struct merger *merger, struct request *request)
{
    const bool mergeable = can_merge(request);

    if (merger->open_count && (!mergeable || !joins(merger, request)))
        merger_flush(merger);
    request_list_push(&merger->open, request);
    merger->open_count++;
    merger->open_iovs += request->io.iov_count;
    merger->open_bytes += request->io.length;
    merger->last = mergeable ? request : NULL;
    if (!mergeable)
        merger_flush(merger);
}
