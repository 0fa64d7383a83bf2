/* SPDX-License-Identifier: BSD-2-Clause */
/* The in-flight requests of one queue: see journal.h. */
#include "journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static void fill_free_stack(struct journal *journal)
{
    /* The lowest tags are used first. */
    for (uint32_t i = 0; i < journal->capacity; i++)
        journal->free_stack[i] = (uint16_t)(journal->capacity - 1 - i);
    journal->free_count = journal->capacity;
}

/* The queue's part of the slab's header; `slots` last, for it says that the rest holds. */
static void describe_queue(struct slab *slab, uint32_t index, const struct journal_shape *shape,
                           uint32_t entries)
{
    struct slab_queue *queue = &slab->header->queues[index];

    memset(queue->publishing, 0, sizeof(queue->publishing));
    queue->entries_offset = entries;
    queue->entries = shape->requests;
    queue->in_flight = 0;
    queue->statistics.bytes_in_flight = 0;
    atomic_store_explicit(&queue->req_cons, shape->start, memory_order_relaxed);
    atomic_store_explicit(&queue->rsp_prod, shape->start, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    queue->slots = shape->slots;
    if (slab->header->queue_count <= index)
        slab->header->queue_count = index + 1;
}

int journal_create(struct slab *slab, uint32_t index, const struct journal_shape *shape,
                   struct journal *out)
{
    uint32_t entries;
    const int error =
        slab_reserve(slab, journal_entries_bytes(shape) + journal_extents_bytes(shape), &entries);

    if (error)
        return error;
    const uint32_t extents = entries + journal_entries_bytes(shape);
    struct journal journal = {
        .slab = slab,
        .queue = &slab->header->queues[index],
        .entries = slab_at(slab, entries),
        .capacity = shape->requests,
        .segments_per_entry = shape->segments,
        .extents = extents,
        .free_stack = calloc(shape->requests, sizeof(*journal.free_stack)),
    };

    if (!journal.free_stack)
        return -ENOMEM;
    fill_free_stack(&journal);
    describe_queue(slab, index, shape, entries);
    slab->header->entries_end = extents;
    *out = journal;
    return 0;
}

void journal_destroy(struct journal *journal)
{
    free(journal->free_stack);
    *journal = (struct journal){0};
}

uint32_t journal_reserve(struct journal *journal)
{
    return journal->free_stack[--journal->free_count];
}

void journal_take(struct journal *journal, uint32_t tag, const struct decoded_request *request)
{
    struct slab_entry *entry = &journal->entries[tag];
    const uint64_t seq = atomic_load_explicit(&journal->queue->req_cons, memory_order_relaxed);

    entry->epoch = journal->slab->header->epoch;
    entry->seq = seq;
    entry->id = request->id;
    entry->sector = request->sector;
    entry->operation = request->operation;
    entry->response_operation = request->response_operation;
    entry->status = request->status;
    entry->segments = request->segments;
    entry->slots = request->slots;
    entry->flags = request->secure ? SLAB_ENTRY_SECURE : 0;
    entry->bytes = request->bytes;
    entry->discard_sectors = request->discard_sectors;
    entry->extent = journal->extents +
                    tag * journal->segments_per_entry * (uint32_t)sizeof(struct slab_segment);
    atomic_store_explicit(&entry->state, SLAB_TAKEN, memory_order_release);
    atomic_store_explicit(&journal->queue->req_cons, seq + request->slots, memory_order_release);
    journal->queue->in_flight = journal->capacity - journal->free_count;
    journal->queue->statistics.bytes_in_flight += request->bytes;
}

void journal_start(struct journal *journal, uint32_t tag)
{
    atomic_store_explicit(&journal->entries[tag].state, SLAB_STARTED, memory_order_release);
}

void journal_done(struct journal *journal, uint32_t tag, int16_t status)
{
    journal->entries[tag].status = status;
    atomic_store_explicit(&journal->entries[tag].state, SLAB_DONE, memory_order_release);
}

static void free_entry(struct journal *journal, uint32_t tag)
{
    atomic_store_explicit(&journal->entries[tag].state, SLAB_FREE, memory_order_release);
}

void journal_publish(struct journal *journal, struct ring *ring, const uint16_t *tags,
                     uint32_t count)
{
    struct slab_queue *queue = journal->queue;
    const uint64_t start = atomic_load_explicit(&queue->rsp_prod, memory_order_relaxed);
    uint64_t end = start;

    for (uint32_t i = 0; i < count; i++)
        for (uint32_t slot = 0; slot < journal->entries[tags[i]].slots; slot++)
            queue->publishing[end++ & (ring->count - 1)] = (uint16_t)(tags[i] + 1);
    /* Nothing may be in the ring that publishing[] does not name yet. */
    atomic_thread_fence(memory_order_release);
    for (uint32_t i = 0; i < count; i++) {
        const struct slab_entry *entry = &journal->entries[tags[i]];

        ring_put_response(ring, entry->id, entry->response_operation, entry->status, entry->slots);
    }
    ring_publish(ring);
    atomic_signal_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < count; i++) {
        queue->statistics.bytes_in_flight -= journal->entries[tags[i]].bytes;
        free_entry(journal, tags[i]);
    }
    atomic_store_explicit(&queue->rsp_prod, end, memory_order_release);
    /* Only from here on may the entries be used again. */
    for (uint32_t i = 0; i < count; i++)
        journal->free_stack[journal->free_count++] = tags[i];
    queue->in_flight = journal->capacity - journal->free_count;
}
