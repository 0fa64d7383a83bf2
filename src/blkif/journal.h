/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The in-flight requests of one queue, kept in the vbd's slab file so that they outlive the
 * process. The private copy of a request IS its journal entry; surviving costs no second one.
 *
 * The order of stores lets a successor tell, after a kill between any two of them, what was taken,
 * what may have reached the store and what was answered:
 *
 *   take      entry written → state TAKEN (release) → req_cons
 *   start     state STARTED (release) → the I/O is submitted
 *   done      status → state DONE (release)
 *   publish   publishing[] of every slot → ring slots → barrier → the ring's rsp_prod (commit
 *             point) → entries FREE → rsp_prod
 *
 * Against SIGKILL program order is enough: stores that retired are visible to the successor. The
 * release order keeps the compiler to it.
 */
#ifndef BLKBACK_BLKIF_JOURNAL_H
#define BLKBACK_BLKIF_JOURNAL_H

#include "blkback/slab.h"
#include "decode.h"
#include "ring.h"

#include <stdint.h>

struct journal {
    struct slab *slab;
    struct slab_queue *queue; /* in the slab */
    struct slab_entry *entries;
    uint32_t capacity; /* number of entries: requests that can be in flight */
    uint32_t segments_per_entry;
    uint32_t extents; /* offset of the first entry's segments in the file */
    uint32_t free_count;
    uint16_t *free_stack; /* private: last-in first-out, so that few pages are touched */
};

/* What a queue's journal is made for. */
struct journal_shape {
    uint32_t slots;    /* of the ring */
    uint32_t start;    /* the ring's counter when it was attached */
    uint32_t requests; /* in flight at once */
    uint32_t segments; /* of one request, at most */
};

/* What a queue has of the slab: entries, and right behind them their segments. Bytes, of both a
 * multiple of 64. */
static inline uint32_t journal_entries_bytes(const struct journal_shape *shape)
{
    return shape->requests * (uint32_t)sizeof(struct slab_entry);
}

static inline uint32_t journal_extents_bytes(const struct journal_shape *shape)
{
    const uint32_t bytes =
        shape->requests * shape->segments * (uint32_t)sizeof(struct slab_segment);

    return (bytes + 63U) & ~63U;
}

/* Allocates and lays out queue `index` of the slab. Returns 0, -ENOSPC, -ENOMEM. */
int journal_create(struct slab *slab, uint32_t index, const struct journal_shape *shape,
                   struct journal *out);
void journal_destroy(struct journal *journal);

static inline uint32_t journal_free_entries(const struct journal *journal)
{
    return journal->free_count;
}

/* Sets an entry aside and returns its tag; nothing is recorded yet. There must be a free one. */
uint32_t journal_reserve(struct journal *journal);

/* Where the entry's segments go, as many as a request may have, before it is taken. */
static inline struct slab_segment *journal_extent(const struct journal *journal, uint32_t tag)
{
    return slab_at(journal->slab, journal->extents + tag * journal->segments_per_entry *
                                                         (uint32_t)sizeof(struct slab_segment));
}

/* Records a request whose slots were consumed, in the order of the ring. */
void journal_take(struct journal *journal, uint32_t tag, const struct decoded_request *request);

static inline struct slab_entry *journal_entry(const struct journal *journal, uint32_t tag)
{
    return &journal->entries[tag];
}

/* Before its first I/O is submitted. */
void journal_start(struct journal *journal, uint32_t tag);

/* When its outcome is known and its data, if any, has been copied to the guest. */
void journal_done(struct journal *journal, uint32_t tag, int16_t status);

/*
 * Answers `count` requests that are DONE: writes their responses and lets the frontend see them all
 * at once, then frees the entries.
 */
void journal_publish(struct journal *journal, struct ring *ring, const uint16_t *tags,
                     uint32_t count);

/* What a predecessor left: entries that are not free, by their tags. */
struct journal_recovered {
    uint16_t *tags; /* DONE, then STARTED, then TAKEN ones, each in the order of the ring; to be
                       freed */
    uint32_t count;
    uint32_t done;     /* that many are DONE: to be answered */
    uint32_t started;  /* that many are STARTED: to be carried out again, before any that is not */
    uint32_t req_cons; /* where the ring is to be read on */
};

/*
 * Takes up queue `index` of a slab as a predecessor left it, wherever it was killed:
 *
 *   entries whose answer is in the ring → FREE → rsp_prod → req_cons, raised to the last entry
 *
 * `shape->start` is the ring's rsp_prod as the frontend's page says. Nothing that is found is
 * trusted: what can't be after a kill is refused before anything is changed. The contents of an
 * entry, its operation, sectors and segments, are left to decode_recheck(). Returns 0, -EPROTO or
 * -ENOMEM. May itself be killed at any time and be called again.
 */
int journal_recover(struct slab *slab, uint32_t index, const struct journal_shape *shape,
                    struct journal *journal_out, struct journal_recovered *out);

#endif
