/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that the store failed and that are kept until it does them: flushes always, others where
 * the policy says so. A parked request is as one that a predecessor had started: STARTED in the
 * journal, its range held, its buffers given back, so that other disks of the domain have them; its
 * data is taken from the guest again.
 */
#include "queue_internal.h"

#include <errno.h>

static bool is_no_space(const struct io *io)
{
    return io->operation != IO_READ && (io->result == -ENOSPC || io->result == -EDQUOT);
}

/* What says something about the request and not about the store's health stays so. */
static bool is_permanent(int error)
{
    return error == -ENOMEDIUM || error == -ENOTSUP || error == -EINVAL;
}

bool queue_must_park(const struct queue *queue, const struct io *io)
{
    const struct store_faults *faults = &queue->store->faults;

    /* Never answered as failed: Linux's blkfront would report success and stop flushing. */
    if (io->operation == IO_FLUSH)
        return true;
    return is_no_space(io) ? faults->pause_no_space
                           : faults->pause_error && !is_permanent(io->result);
}

bool queue_blocked(const struct queue *queue)
{
    return queue->store->faults.parked_flushes != 0;
}

void queue_note_loss(struct queue *queue)
{
    if (queue->store->caps.direct)
        return;
    queue->store->faults.data_lost = true;
    queue->journal.slab->header->data_lost = 1;
}

/* Behind those that are parked already, so that neighbours are tried again as one I/O; before all
 * others, for what was taken before a barrier has to be answered before it. */
static void put_back(struct queue *queue, struct request *request)
{
    struct request *last = queue->waiting.first;

    if (!last || last->parked == REQUEST_NOT_PARKED) {
        request_list_push_front(&queue->waiting, request);
        return;
    }
    while (last->next && last->next->parked != REQUEST_NOT_PARKED)
        last = last->next;
    request->next = last->next;
    last->next = request;
    if (queue->waiting.last == last)
        queue->waiting.last = request;
}

void queue_park(struct queue *queue, struct request *request, int error)
{
    struct store_faults *faults = &queue->store->faults;
    const enum io_operation operation = request->io.operation;

    if (operation == IO_FLUSH) {
        queue->statistics->flushes_parked++;
        queue_note_loss(queue);
    }
    /* The counters first: whoever sees that nothing is in flight any more sees them too. */
    if (request->parked == REQUEST_NOT_PARKED) {
        faults->parked++;
        queue->journal.slab->header->store_paused++;
    }
    if (operation == IO_FLUSH && !request->parked_flush)
        faults->parked_flushes++;
    else if (operation != IO_FLUSH && request->parked_flush)
        faults->parked_flushes--;
    request->parked_flush = operation == IO_FLUSH;
    request->parked = REQUEST_PARKED;
    request->replayed = true;
    queue_release_data(queue, request);
    if (queue->barrier == request)
        queue->barrier = NULL;
    queue->started--;
    put_back(queue, request);
    queue->events->parked(queue->context, operation, request->entry->sector, error);
}

bool queue_unpark(struct queue *queue, struct request *request)
{
    struct store_faults *faults = &queue->store->faults;

    if (request->parked == REQUEST_NOT_PARKED)
        return false;
    request->parked = REQUEST_NOT_PARKED;
    if (request->parked_flush)
        faults->parked_flushes--;
    request->parked_flush = false;
    queue->journal.slab->header->store_paused--;
    return --faults->parked == 0;
}

void queue_retry(struct queue *queue)
{
    for (struct request *request = queue->waiting.first; request; request = request->next)
        if (request->parked == REQUEST_PARKED)
            request->parked = REQUEST_TRIED_AGAIN;
    turn_mark_ready(queue);
}
