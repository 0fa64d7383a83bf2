/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue's way back: from the store through guest memory and journal to the ring. */
#include "queue_internal.h"

#include <errno.h>
#include <stddef.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

void queue_release_data(struct queue *queue, struct request *request)
{
    if (request->mapped) {
        persistent_put(queue->persistent, request);
        request->mapped = false;
        request->in_place = false;
    }
    if (request->buffer_count) {
        /* The first one is the next to be used again: it is the one that is full, and warm. */
        for (unsigned i = request->buffer_count; i-- > 0;)
            buffer_pool_put(queue->turn->buffers, request->buffers[i]);
        queue->buffers -= request->buffer_count;
        request->buffer_count = 0;
        queue->turn->freed = true;
    }
}

void queue_release(struct queue *queue, struct request *request)
{
    (void)queue_unpark(queue, request);
    if (request->range.end != request->range.start) {
        overlap_release(queue->overlaps, &request->range);
        queue->turn->freed = true;
    }
    queue_release_data(queue, request);
}

static void count(struct slab_statistics *statistics, const struct slab_entry *entry,
                  int16_t status)
{
    if (status != BLKIF_RSP_OKAY) {
        statistics->errors++;
        return;
    }
    switch (entry->operation) {
    case BLKIF_OP_READ:
        statistics->reads++;
        statistics->read_bytes += entry->bytes;
        return;
    case BLKIF_OP_WRITE:
        statistics->writes++;
        break;
    case BLKIF_OP_WRITE_BARRIER:
        statistics->barriers++;
        break;
    case BLKIF_OP_DISCARD:
        statistics->discards++;
        break;
    default:
        statistics->flushes++;
        break;
    }
    statistics->written_bytes += entry->bytes;
}

void queue_finish(struct queue *queue, struct request *request, int16_t status)
{
    /* DONE is stored before the range is given up: what overlaps must not start earlier (see
     * journal.h). */
    journal_done(&queue->journal, request->tag, status);
    const bool last = queue_unpark(queue, request);

    queue_release(queue, request);
    if (queue->barrier == request)
        queue->barrier = NULL;
    queue->started--;
    count(queue->statistics, request->entry, status);
    queue->answers[queue->answer_count++] = request->tag;
    if (last)
        queue->events->continued(queue->context);
}

/*
 * Whether a flush that went well says nothing: one that failed before it, on whatever ring of the
 * disk, had the page cache report what it lost and forget it.
 */
static bool proves_nothing(const struct queue *queue)
{
    return queue->store->faults.data_lost;
}

/* A step went well: on to the next, or the end. Reads are collected in `reads` for one copy. */
static void advance(struct queue *queue, struct request *request, struct request_list *reads)
{
    if (request->step + 1U < request_plan(request->entry)->count) {
        request->step++;
        queue_submit_step(queue, request);
    } else if (request_has_data_out(request->entry) && !request->in_place) {
        queue_copied(queue, request->entry->bytes);
        request_list_push(reads, request);
    } else {
        queue_finish(queue, request, BLKIF_RSP_OKAY);
    }
}

static void copy_out(struct queue *queue, struct request_list *reads)
{
    struct request *request;

    for (request = reads->first; request; request = request->next)
        queue_copy(queue, request);
    guest_memory_run(queue->turn->memory, queue->statistics);
    while ((request = request_list_pop(reads)))
        queue_finish(queue, request, request->copied ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR);
}

void queue_handle_returned(struct queue *queue)
{
    /* Steps that are done at once join the list anew and are looked at in the next round. */
    struct request_list returned = queue->returned;
    struct request_list reads = {0};
    struct request *request;

    queue->returned = (struct request_list){0};
    while (queue_has_time(queue) && (request = request_list_pop(&returned))) {
        const struct io *io = &request->io;

        queue->submitted--;
        queue->statistics->registered += io->registered;
        queue_worked(queue, 0);
        if (io->result >= 0 && io->operation == IO_FLUSH && proves_nothing(queue)) {
            queue_park(queue, request, -EIO);
        } else if (io->result >= 0) {
            advance(queue, request, &reads);
        } else if (queue_must_park(queue, io)) {
            queue_park(queue, request, io->result);
        } else if (io->operation == IO_DISCARD && io->result == -ENOTSUP) {
            /* The frontend stops asking; there is nothing to tell anybody. */
            queue_finish(queue, request, BLKIF_RSP_EOPNOTSUPP);
        } else {
            queue->events->io_failed(queue->context, io->operation, request->entry->sector,
                                     io->result);
            queue_finish(queue, request, BLKIF_RSP_ERROR);
        }
    }
    while ((request = request_list_pop(&returned)))
        request_list_push(&queue->returned, request);
    if (reads.first)
        copy_out(queue, &reads);
}

void queue_publish(struct queue *queue)
{
    if (queue->answer_count == 0)
        return;
    /* A broken ring gets no answers any more: they stay DONE in the journal. */
    if (!queue->broken)
        journal_publish(&queue->journal, &queue->ring, queue->answers, queue->answer_count);
    queue->answer_count = 0;
}
