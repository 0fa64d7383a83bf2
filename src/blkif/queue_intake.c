/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue's way in: from the ring through decoding, journal and guest memory to the store. */
#include "queue_internal.h"

#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define SECTOR_BYTES 512U

static void take_one(struct queue *queue)
{
    struct ring_slot slot;
    struct decoded_request decoded;

    ring_take(&queue->ring, &slot);
    decode_request(&slot, queue->abi, &queue->limits, &decoded);
    const uint32_t tag = journal_take(&queue->journal, &decoded, 1);
    struct request *request = &queue->requests[tag];

    request->step = 0;
    if (decoded.status == BLKIF_RSP_OKAY) {
        request_list_push(&queue->waiting, request);
    } else {
        queue->started++;
        queue_finish(queue, request, decoded.status);
    }
}

void queue_take(struct queue *queue)
{
    uint32_t available;

    if (queue->broken || queue->paused)
        return;
    if (ring_available(&queue->ring, &available) < 0) {
        queue->broken = true;
        queue->events->ring_broken(queue->context);
        return;
    }
    /* Entries are the limit of what is in flight: the rest stays in the ring, which holds the
     * frontend back. */
    while (available-- && journal_free_entries(&queue->journal))
        take_one(queue);
}

/* Takes what the request needs to start. On false it holds nothing and stays where it is. */
static bool acquire(struct queue *queue, struct request *request)
{
    const struct slab_entry *entry = request->entry;

    if (entry->operation == BLKIF_OP_WRITE_BARRIER && queue->started > 0)
        return false;
    if (request_has_data_in(entry) &&
        !overlap_acquire(queue->overlaps, &request->range, entry->sector * SECTOR_BYTES,
                         entry->bytes)) {
        /* Another queue's write may be in the way: its end wakes this one. */
        turn_mark_stalled(queue);
        return false;
    }
    if (entry->bytes) {
        request->buffer = turn_get_buffer(queue);
        if (!request->buffer) {
            overlap_release(queue->overlaps, &request->range);
            return false;
        }
    }
    return true;
}

/* Whatever may start now, in the order of the ring. */
static struct request_list select_batch(struct queue *queue)
{
    struct request_list batch = {0};

    while (queue->waiting.first && !queue->barrier && !queue->paused &&
           acquire(queue, queue->waiting.first)) {
        struct request *request = request_list_pop(&queue->waiting);

        queue->started++;
        if (request->entry->operation == BLKIF_OP_WRITE_BARRIER)
            queue->barrier = request;
        request_list_push(&batch, request);
    }
    return batch;
}

static void copy_in(struct queue *queue, const struct request_list *batch)
{
    struct guest_memory *memory = queue->turn->memory;

    for (struct request *request = batch->first; request; request = request->next) {
        if (!request_has_data_in(request->entry))
            continue;
        if (!guest_memory_add(memory, request)) {
            guest_memory_run(memory, queue->statistics);
            (void)guest_memory_add(memory, request);
        }
    }
    guest_memory_run(memory, queue->statistics);
}

void queue_submit_step(struct queue *queue, struct request *request)
{
    request_prepare_io(request);
    queue->submitted++;
    switch (store_submit(queue->store, &request->io)) {
    case IO_QUEUED:
        break;
    case IO_DONE:
        request_list_push(&queue->returned, request);
        break;
    case IO_BUSY:
        queue->submitted--;
        request_list_push(&queue->unsubmitted, request);
        turn_mark_stalled(queue);
        break;
    }
}

void queue_resubmit(struct queue *queue)
{
    struct request_list again = queue->unsubmitted;
    struct request *request;

    queue->unsubmitted = (struct request_list){0};
    while ((request = request_list_pop(&again)))
        queue_submit_step(queue, request);
}

void queue_dispatch(struct queue *queue)
{
    struct request_list batch = select_batch(queue);
    struct request *request;

    if (!batch.first)
        return;
    copy_in(queue, &batch);
    while ((request = request_list_pop(&batch))) {
        if (request_has_data_in(request->entry) && !request->copied) {
            queue_finish(queue, request, BLKIF_RSP_ERROR);
            continue;
        }
        journal_start(&queue->journal, request->tag);
        queue_submit_step(queue, request);
    }
    queue->statistics->submissions++;
}
