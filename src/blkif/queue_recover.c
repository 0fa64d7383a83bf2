/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A queue that goes on where a predecessor was killed: what it had answered is published, what it
 * had started is carried out again before anything else, what it had taken is started then.
 */
#include "queue_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define SECTOR_BYTES 512U

/* What an entry says, as decoding would have said it; checked anew, for it is not to be trusted. */
static struct decoded_request recheck(struct queue *queue, struct slab_entry *entry, uint32_t tag)
{
    struct decoded_request decoded = {
        .id = entry->id,
        .sector = entry->sector,
        .discard_sectors = entry->discard_sectors,
        .segments = entry->segments,
        .operation = entry->operation,
        .response_operation = entry->response_operation,
        .slots = entry->slots,
        .secure = (entry->flags & SLAB_ENTRY_SECURE) != 0,
    };

    decode_recheck(&queue->limits, journal_extent(&queue->journal, tag), &decoded);
    entry->segments = decoded.segments;
    entry->bytes = decoded.bytes;
    entry->discard_sectors = decoded.discard_sectors;
    return decoded;
}

static void answer(struct queue *queue, struct request *request, int16_t status)
{
    queue->started++;
    queue_finish(queue, request, status);
}

/* Writes that were under way hold their ranges again before any other queue starts something. */
static int go_on_with_started(struct queue *queue, struct request *request)
{
    struct slab_entry *entry = request->entry;
    const struct decoded_request decoded = recheck(queue, entry, request->tag);

    if (decoded.status != BLKIF_RSP_OKAY) { /* the disk is not what it was */
        answer(queue, request, decoded.status);
        return 0;
    }
    if (!overlap_acquire(queue->overlaps, &request->range, entry->sector * SECTOR_BYTES,
                         request_changes(entry), &queue->overlap_waiter))
        return -EPROTO; /* none of ours starts two that overlap */
    request->replayed = true;
    request_list_push(&queue->waiting, request);
    return 0;
}

static void go_on_with_taken(struct queue *queue, struct request *request)
{
    const int16_t refused = request->entry->status;

    if (refused != BLKIF_RSP_OKAY) {
        answer(queue, request, refused);
        return;
    }
    const struct decoded_request decoded = recheck(queue, request->entry, request->tag);

    if (decoded.status != BLKIF_RSP_OKAY)
        answer(queue, request, decoded.status);
    else
        request_list_push(&queue->waiting, request);
}

int queue_recover(struct queue *queue, const struct journal_recovered *recovered)
{
    uint64_t bytes = 0;
    int error = 0;

    for (uint32_t i = 0; !error && i < recovered->count; i++) {
        struct request *request = &queue->requests[recovered->tags[i]];

        if (i < recovered->done)
            queue->answers[queue->answer_count++] = request->tag;
        else if (i < recovered->done + recovered->started)
            error = go_on_with_started(queue, request);
        else
            go_on_with_taken(queue, request);
        bytes += request->entry->bytes;
    }
    if (error) {
        struct request *request;

        overlap_forget(queue->overlaps, &queue->overlap_waiter);
        while ((request = request_list_pop(&queue->waiting)))
            queue_release(queue, request);
        return error;
    }
    queue->statistics->bytes_in_flight = bytes;
    /* The frontend may have been notified through the channel that went down with the predecessor.
     */
    queue->must_notify = true;
    return 0;
}
