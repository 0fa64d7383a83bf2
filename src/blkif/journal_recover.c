/* SPDX-License-Identifier: BSD-2-Clause */
/* Taking up the journal of a predecessor that was killed: see journal.h. The steps are those of the
 * model in tests/model. */
#include "journal.h"

#include "blkback/parse.h"

#include <errno.h>
#include <stdlib.h>

/* What is looked at, before anything is changed: it is what somebody else wrote, and a guest that
 * took the predecessor over may have written anything. */
struct survey {
    uint32_t slots; /* of the ring */
    uint64_t req_cons;
    uint64_t rsp_prod; /* with what the ring shows as published */
    bool *published;   /* by tag: the answer is in the ring */
    uint32_t live_slots;
    bool one_ahead; /* an entry was taken and req_cons not stored yet */
};

static uint32_t state_of(const struct slab_entry *entry)
{
    return atomic_load_explicit(&entry->state, memory_order_acquire);
}

/* The responses between the header's rsp_prod and the ring's: their entries are over. */
static int survey_published(const struct journal *journal, uint32_t ring_rsp_prod,
                            struct survey *survey)
{
    const uint64_t start = atomic_load_explicit(&journal->queue->rsp_prod, memory_order_relaxed);
    const uint32_t count = ring_rsp_prod - (uint32_t)start;

    if (count > survey->slots)
        return -EPROTO;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t tag = journal->queue->publishing[(start + i) & (survey->slots - 1)] - 1U;

        if (tag >= journal->capacity)
            return -EPROTO;
        const uint32_t state = state_of(&journal->entries[tag]);

        if (state != SLAB_DONE && state != SLAB_FREE)
            return -EPROTO;
        survey->published[tag] = true;
    }
    survey->rsp_prod = start + count;
    return 0;
}

static int survey_live(const struct journal *journal, uint32_t tag, struct survey *survey)
{
    const struct slab_entry *entry = &journal->entries[tag];
    const uint64_t header = atomic_load_explicit(&journal->queue->req_cons, memory_order_relaxed);
    const uint64_t seq = entry->seq;
    const uint32_t slots = entry->slots;

    if (slots == 0 || slots > BLKIF_SLOTS_MAX || entry->segments > journal->segments_per_entry)
        return -EPROTO;
    if (seq == header && state_of(entry) == SLAB_TAKEN && !survey->one_ahead) {
        /* Killed between the entry and req_cons. */
        survey->one_ahead = true;
        survey->req_cons = header + slots;
    } else if (seq >= header || header - seq < slots) {
        return -EPROTO;
    }
    survey->live_slots += slots;
    return 0;
}

/* Every slot that was taken and not answered must belong to one live entry. */
static int survey_all(const struct journal *journal, uint32_t ring_rsp_prod, struct survey *survey)
{
    int error = survey_published(journal, ring_rsp_prod, survey);

    survey->req_cons = atomic_load_explicit(&journal->queue->req_cons, memory_order_relaxed);
    for (uint32_t tag = 0; !error && tag < journal->capacity; tag++) {
        const uint32_t state = state_of(&journal->entries[tag]);

        if (state > SLAB_DONE)
            error = -EPROTO;
        else if (state != SLAB_FREE && !survey->published[tag])
            error = survey_live(journal, tag, survey);
    }
    if (error)
        return error;
    const uint64_t unanswered = survey->req_cons - survey->rsp_prod;

    return unanswered <= survey->slots && unanswered == survey->live_slots ? 0 : -EPROTO;
}

/* In this order, for it may be killed in its turn: entries whose answer the frontend has may be
 * used again only when rsp_prod says so too. */
static void retire(const struct journal *journal, const struct survey *survey)
{
    for (uint32_t tag = 0; tag < journal->capacity; tag++)
        if (survey->published[tag])
            atomic_store_explicit(&journal->entries[tag].state, SLAB_FREE, memory_order_release);
    atomic_store_explicit(&journal->queue->rsp_prod, survey->rsp_prod, memory_order_release);
    atomic_store_explicit(&journal->queue->req_cons, survey->req_cons, memory_order_release);
}

/* DONE, then STARTED, then TAKEN, each in the order of the ring. */
static int rank_of(uint32_t state)
{
    return state == SLAB_DONE ? 0 : state == SLAB_STARTED ? 1 : 2;
}

static int compare(const void *a, const void *b, void *context)
{
    const struct slab_entry *entries = context;
    const struct slab_entry *one = &entries[*(const uint16_t *)a];
    const struct slab_entry *other = &entries[*(const uint16_t *)b];
    const int ranks = rank_of(state_of(one)) - rank_of(state_of(other));

    if (ranks)
        return ranks;
    return one->seq < other->seq ? -1 : one->seq > other->seq;
}

static void sort_live(struct journal *journal, struct journal_recovered *out)
{
    journal->free_count = 0;
    for (uint32_t tag = journal->capacity; tag-- > 0;) {
        if (state_of(&journal->entries[tag]) == SLAB_FREE)
            journal->free_stack[journal->free_count++] = (uint16_t)tag;
        else
            out->tags[out->count++] = (uint16_t)tag;
    }
    qsort_r(out->tags, out->count, sizeof(*out->tags), compare, journal->entries);
    for (uint32_t i = 0; i < out->count; i++) {
        const uint32_t state = state_of(&journal->entries[out->tags[i]]);

        out->done += state == SLAB_DONE;
        out->started += state == SLAB_STARTED;
    }
    journal->queue->in_flight = out->count;
}

/*
 * Whether another queue has a part of these bytes: each would write over what the other has
 * checked. `segments` is the same for all queues of a disk.
 */
static bool shared_with_another(const struct slab *slab, uint32_t index, uint32_t segments,
                                uint64_t begin, uint64_t end)
{
    for (uint32_t i = 0; i < STATE_MAX_QUEUES; i++) {
        const struct slab_queue *other = &slab->header->queues[i];
        const struct journal_shape theirs = {.requests = other->entries, .segments = segments};
        const uint64_t first = other->entries_offset;

        if (i == index || other->slots == 0)
            continue;
        if (first < end &&
            begin < first + journal_entries_bytes(&theirs) + journal_extents_bytes(&theirs))
            return true;
    }
    return false;
}

/* Where the predecessor put its entries; they and their segments must lie in the file, and be this
 * queue's alone. */
static int locate(struct slab *slab, uint32_t index, const struct journal_shape *shape,
                  struct journal *journal)
{
    struct slab_queue *queue = &slab->header->queues[index];
    const uint32_t entries = queue->entries_offset;
    const uint64_t extents = (uint64_t)entries + journal_entries_bytes(shape);

    if (queue->slots != shape->slots || queue->entries != shape->requests)
        return -EPROTO;
    if (entries < sizeof(struct slab_header) || entries % 64 ||
        !range_within(extents, journal_extents_bytes(shape), slab->allocated) ||
        shared_with_another(slab, index, shape->segments, entries,
                            extents + journal_extents_bytes(shape)))
        return -EPROTO;
    *journal = (struct journal){
        .slab = slab,
        .queue = queue,
        .entries = slab_at(slab, entries),
        .capacity = shape->requests,
        .segments_per_entry = shape->segments,
        .extents = (uint32_t)extents,
    };
    return 0;
}

int journal_recover(struct slab *slab, uint32_t index, const struct journal_shape *shape,
                    struct journal *journal_out, struct journal_recovered *out)
{
    struct journal journal = {0};
    struct survey survey = {.slots = shape->slots};
    struct journal_recovered recovered = {0};
    int error = locate(slab, index, shape, &journal);

    if (error)
        return error;
    survey.published = calloc(shape->requests, sizeof(*survey.published));
    recovered.tags = calloc(shape->requests, sizeof(*recovered.tags));
    journal.free_stack = calloc(shape->requests, sizeof(*journal.free_stack));
    error = survey.published && recovered.tags && journal.free_stack
                ? survey_all(&journal, shape->start, &survey)
                : -ENOMEM;
    if (!error) {
        retire(&journal, &survey);
        sort_live(&journal, &recovered);
        recovered.req_cons = (uint32_t)survey.req_cons;
        *journal_out = journal;
        *out = recovered;
    } else {
        free(journal.free_stack);
        free(recovered.tags);
    }
    free(survey.published);
    return error;
}
