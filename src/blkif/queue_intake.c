/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue's way in: from the ring through decoding, journal and guest memory to the store. */
#include "queue_internal.h"

#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define SECTOR_BYTES 512U

/* So many slots are on their way from the frontend's CPU while one is looked at. */
#define SLOTS_AHEAD 8U

static void break_ring(struct queue *queue)
{
    queue->broken = true;
    queue->events->ring_broken(queue->context);
}

/*
 * Takes the next request off the ring and sets it aside. Returns its slots, or 0 when it is not all
 * there yet, or never can be: then it stays where it is.
 */
static uint32_t stage_one(struct queue *queue, uint32_t available, struct staged *staged)
{
    struct ring_slot slots[BLKIF_SLOTS_MAX];

    ring_copy_slot(&queue->ring, 0, &slots[0]);
    const uint32_t count = decode_slots(&slots[0], &queue->limits);

    if (count > queue->ring.count)
        break_ring(queue);
    if (count > available)
        return 0;
    for (uint32_t i = 1; i < count; i++)
        ring_copy_slot(&queue->ring, i, &slots[i]);
    /* Before anything is answered: answers overwrite slots that were consumed. */
    ring_consume(&queue->ring, count);
    if (available - count >= SLOTS_AHEAD)
        ring_prefetch(&queue->ring, SLOTS_AHEAD - 1);
    queue_worked(queue, 0);
    staged->tag = journal_reserve(&queue->journal);
    decode_request(slots, &queue->limits, journal_extent(&queue->journal, staged->tag),
                   &staged->decoded);
    return count;
}

/* Copies the segments of all indirect requests that were staged, in one ioctl, once. */
static void copy_indirect(struct queue *queue, uint32_t staged_count)
{
    struct guest_memory *memory = queue->turn->memory;

    for (uint32_t i = 0; i < staged_count; i++) {
        const struct staged *staged = &queue->staged[i];
        struct request *request = &queue->requests[staged->tag];
        struct slab_segment *segments = journal_extent(&queue->journal, staged->tag);
        const uint32_t bytes = staged->decoded.segments * (uint32_t)sizeof(*segments);

        if (!staged->decoded.indirect)
            continue;
        if (!guest_memory_add_page(memory, request, staged->decoded.indirect_ref, segments,
                                   bytes)) {
            guest_memory_run(memory, queue->statistics);
            (void)guest_memory_add_page(memory, request, staged->decoded.indirect_ref, segments,
                                        bytes);
        }
    }
    guest_memory_run(memory, queue->statistics);
}

/* Into the journal, and to those that wait to start, or to those that have their answer already. */
static void take_staged(struct queue *queue, struct staged *staged)
{
    struct decoded_request *decoded = &staged->decoded;
    struct request *request = &queue->requests[staged->tag];

    if (decoded->indirect && request->copied)
        decode_indirect(&queue->limits, journal_extent(&queue->journal, staged->tag), decoded);
    else if (decoded->indirect)
        decode_refuse(decoded, BLKIF_RSP_ERROR);
    journal_take(&queue->journal, staged->tag, decoded);
    request->step = 0;
    request->replayed = false;
    if (decoded->status == BLKIF_RSP_OKAY) {
        request_list_push(&queue->waiting, request);
    } else {
        queue->started++;
        queue_finish(queue, request, decoded->status);
    }
}

/* Stages all that the ring has. Returns how many requests. */
static uint32_t stage_all(struct queue *queue, uint32_t available)
{
    uint32_t slots, count = 0;

    for (; available && journal_free_entries(&queue->journal) && queue_has_time(queue);
         available -= slots, count++) {
        slots = stage_one(queue, available, &queue->staged[count]);
        if (slots == 0) {
            queue->incomplete = available;
            break;
        }
    }
    return count;
}

/* The same as far as the limit allows. */
static uint32_t stage_limited(struct queue *queue, uint32_t available)
{
    uint32_t slots, count = 0;
    bool refused = false;

    for (; available && journal_free_entries(&queue->journal) && queue_has_time(queue);
         available -= slots, count++) {
        refused = !queue_may_take(queue);
        if (refused)
            break;
        slots = stage_one(queue, available, &queue->staged[count]);
        if (slots == 0) {
            queue->incomplete = available;
            break;
        }
        queue_charge(queue, &queue->staged[count].decoded);
    }
    queue->limited = refused;
    return count;
}

void queue_take(struct queue *queue)
{
    uint32_t available, count;

    if (queue->broken || queue_blocked(queue) || queue->held)
        return;
    if (ring_available(&queue->ring, &available) < 0) {
        break_ring(queue);
        return;
    }
    /* Entries are the limit of what is in flight: the rest stays in the ring, which holds the
     * frontend back. */
    queue->incomplete = 0;
    const bool has_limit = queue->limit && rate_limit_is_set(queue->limit);

    for (uint32_t ahead = 0; ahead < SLOTS_AHEAD && ahead < available; ahead++)
        ring_prefetch(&queue->ring, ahead);
    count = has_limit ? stage_limited(queue, available) : stage_all(queue, available);
    queue->fruitful |= count > 0;
    copy_indirect(queue, count);
    for (uint32_t i = 0; i < count; i++)
        take_staged(queue, &queue->staged[i]);
    if (has_limit)
        queue_refund(queue, count);
}

/* Where the data of a request is: in our buffers, in the guest's pages, or copied between them. */
static bool acquire_memory(struct queue *queue, struct request *request)
{
    /* Buffers first: of them there may be none. */
    if (queue->copy_mapped && !turn_get_buffers(queue, request))
        return false;
    request->mapped = queue->persistent && persistent_get(queue->persistent, request);
    request->in_place = request->mapped && !queue->copy_mapped;
    return request->in_place || queue->copy_mapped || turn_get_buffers(queue, request);
}

/* Takes what the request needs to start. On false it holds nothing and stays where it is. */
static bool acquire(struct queue *queue, struct request *request)
{
    const struct slab_entry *entry = request->entry;

    if (entry->operation == BLKIF_OP_WRITE_BARRIER && queue->started > 0)
        return false;
    if (!request->replayed &&
        !overlap_acquire(queue->overlaps, &request->range, entry->sector * SECTOR_BYTES,
                         request_changes(entry), &queue->overlap_waiter)) {
        /* Another queue's write may be in the way: its end wakes this one, on this thread by
         * turn->freed. */
        turn_mark_stalled(queue);
        return false;
    }
    if (entry->bytes && !acquire_memory(queue, request)) {
        if (!request->replayed)
            overlap_release(queue->overlaps, &request->range);
        return false;
    }
    return true;
}

static void begin(struct queue *queue, struct request *request, struct request_list *batch)
{
    queue->started++;
    if (request->entry->operation == BLKIF_OP_WRITE_BARRIER)
        queue->barrier = request;
    request_list_push(batch, request);
    queue_worked(queue, request->entry->bytes);
    if (request_has_data_in(request->entry) && !request->in_place)
        queue_copied(queue, request->entry->bytes);
    if (queue->persistent && request->entry->bytes && !request->mapped)
        queue->statistics->requests_unmapped++;
}

/* Whatever may start now, in the order of the ring. */
static struct request_list select_batch(struct queue *queue)
{
    struct request_list batch = {0};

    /* One at least, whatever else the pass had to do. */
    while (queue->waiting.first && !queue->barrier && (queue_has_time(queue) || !batch.first) &&
           acquire(queue, queue->waiting.first))
        begin(queue, request_list_pop(&queue->waiting), &batch);
    return batch;
}

/* While the store is paused: what is to be tried again, and what needs only to be read. */
static bool may_start_paused(const struct queue *queue, const struct request *request)
{
    if (request->parked != REQUEST_NOT_PARKED)
        return request->parked == REQUEST_TRIED_AGAIN;
    return request->entry->operation == BLKIF_OP_READ && !queue_blocked(queue);
}

/* The same out of the ring's order, but nothing overtakes a barrier. */
static struct request_list select_paused(struct queue *queue)
{
    struct request_list batch = {0}, rest = {0};
    struct request *request;
    bool more = !queue->barrier;

    while ((request = request_list_pop(&queue->waiting))) {
        const bool wanted =
            more && (queue_has_time(queue) || !batch.first) && may_start_paused(queue, request);

        if (wanted && acquire(queue, request)) {
            begin(queue, request, &batch);
        } else {
            request_list_push(&rest, request);
            more = more && !wanted;
        }
        more = more && request->entry->operation != BLKIF_OP_WRITE_BARRIER;
    }
    queue->waiting = rest;
    return batch;
}

void queue_copy(struct queue *queue, struct request *request)
{
    struct guest_memory *memory = queue->turn->memory;

    if (request->mapped) {
        persistent_copy(queue->persistent, request);
        request->copied = true;
    } else if (!guest_memory_add(memory, request)) {
        guest_memory_run(memory, queue->statistics);
        (void)guest_memory_add(memory, request);
    }
}

static void copy_in(struct queue *queue, const struct request_list *batch)
{
    for (struct request *request = batch->first; request; request = request->next)
        if (!request->in_place && request_has_data_in(request->entry))
            queue_copy(queue, request);
    guest_memory_run(queue->turn->memory, queue->statistics);
}

static void prepare(struct queue *queue, struct request *request)
{
    request_prepare_io(request);
    if (request->in_place && request->io.length > 0)
        request->io.iov_count = persistent_fill(queue->persistent, request, request->iov);
}

void queue_submit_step(struct queue *queue, struct request *request)
{
    prepare(queue, request);
    queue_submit_prepared(queue, request);
}

void queue_submit_prepared(struct queue *queue, struct request *request)
{
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
    struct request_list batch = {0};
    struct request *request;

    if (!queue->held)
        batch = queue->store->faults.parked ? select_paused(queue) : select_batch(queue);
    if (!batch.first)
        return;
    copy_in(queue, &batch);
    while ((request = request_list_pop(&batch))) {
        if (request_has_data_in(request->entry) && !request->in_place && !request->copied) {
            queue_finish(queue, request, BLKIF_RSP_ERROR);
            continue;
        }
        journal_start(&queue->journal, request->tag);
        prepare(queue, request);
        merger_add(queue->merger, request);
    }
    merger_flush(queue->merger);
    queue->statistics->submissions++;
}
