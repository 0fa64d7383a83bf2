/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent grants of a queue: see persistent.h. */
#include "persistent.h"

#include "blkback/buffer_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNKS       PERSISTENT_MAX /* they may have one page each */
#define TABLE        4096U          /* places, a power of two, at most a quarter full */
#define NONE         UINT16_MAX
#define SECTOR_BYTES 512U

/* A chunk is unmapped when it was not used for so many trims. */
#define IDLE_TRIMS 3U

/* A frontend whose grants can't be mapped so often is copied from then on. */
#define FAILURES_MAX 8U

struct chunk {
    uint8_t *pages; /* NULL: free */
    uint32_t count; /* of pages */
    uint32_t grefs[PERSISTENT_CHUNK];
    uint32_t users; /* segments of requests under way */
    uint32_t age;   /* trims since it was used */
};

struct persistent {
    struct gnttab *gnttab;
    struct grant_budget *budget;
    struct slab_statistics *statistics; /* of the queue */
    uint32_t domid;
    uint32_t failures;
    uint32_t pages; /* mapped */
    bool full;      /* nothing could give way since the last trim */
    struct chunk chunks[CHUNKS];
    uint16_t table[TABLE]; /* open addressing: chunk * PERSISTENT_CHUNK + page */
};

int persistent_create(struct gnttab *gnttab, uint32_t domid, struct grant_budget *budget,
                      struct slab_statistics *statistics, struct persistent **out)
{
    struct persistent *persistent = calloc(1, sizeof(*persistent));

    if (!persistent)
        return -ENOMEM;
    persistent->gnttab = gnttab;
    persistent->domid = domid;
    persistent->budget = budget;
    persistent->statistics = statistics;
    for (unsigned i = 0; i < TABLE; i++)
        persistent->table[i] = NONE;
    *out = persistent;
    return 0;
}

static uint32_t place_of(uint32_t gref)
{
    return (gref * UINT32_C(0x9e3779b1)) >> 20; /* the upper 12 bits */
}

static uint32_t gref_of(const struct persistent *persistent, uint16_t page)
{
    return persistent->chunks[page / PERSISTENT_CHUNK].grefs[page % PERSISTENT_CHUNK];
}

/* The mapped page of a grant, or NONE. */
static uint16_t find(const struct persistent *persistent, uint32_t gref)
{
    for (uint32_t place = place_of(gref); persistent->table[place] != NONE;
         place = (place + 1) % TABLE)
        if (gref_of(persistent, persistent->table[place]) == gref)
            return persistent->table[place];
    return NONE;
}

static void insert(struct persistent *persistent, uint16_t page)
{
    uint32_t place = place_of(gref_of(persistent, page));

    while (persistent->table[place] != NONE)
        place = (place + 1) % TABLE;
    persistent->table[place] = page;
}

/* Open addressing has no holes: after an eviction, which is rare, the table is filled anew. */
static void fill_table(struct persistent *persistent)
{
    for (unsigned i = 0; i < TABLE; i++)
        persistent->table[i] = NONE;
    for (unsigned i = 0; i < CHUNKS; i++)
        for (uint32_t page = 0; persistent->chunks[i].pages && page < persistent->chunks[i].count;
             page++)
            insert(persistent, (uint16_t)(i * PERSISTENT_CHUNK + page));
}

static void give_budget(struct grant_budget *budget, uint32_t count)
{
    atomic_fetch_sub_explicit(&budget->used, count, memory_order_relaxed);
}

static void unmap(struct persistent *persistent, struct chunk *chunk)
{
    gnttab_unmap(persistent->gnttab, chunk->pages, chunk->count);
    chunk->pages = NULL;
    persistent->pages -= chunk->count;
    persistent->statistics->mapped_grants = persistent->pages;
    give_budget(persistent->budget, chunk->count);
}

/* The chunk that was used longest ago and can be unmapped; NULL: none. */
static struct chunk *oldest(struct persistent *persistent)
{
    struct chunk *found = NULL;

    for (unsigned i = 0; i < CHUNKS; i++) {
        struct chunk *chunk = &persistent->chunks[i];

        if (chunk->pages && chunk->users == 0 && (!found || chunk->age > found->age))
            found = chunk;
    }
    return found;
}

/* Room for so many pages, within the limit of the queue and the budget of all: false when there is
 * none. */
static bool take_room(const struct persistent *persistent, uint32_t count)
{
    struct grant_budget *budget = persistent->budget;

    if (persistent->pages + count > PERSISTENT_MAX)
        return false;
    const uint32_t used = atomic_fetch_add_explicit(&budget->used, count, memory_order_relaxed);

    if (used + count <= atomic_load_explicit(&budget->limit, memory_order_relaxed))
        return true;
    give_budget(budget, count);
    return false;
}

/* The same; chunks that are out of use give way. */
static bool make_room(struct persistent *persistent, uint32_t count)
{
    bool any = false;

    while (!take_room(persistent, count)) {
        struct chunk *stale = persistent->full ? NULL : oldest(persistent);

        /* What was used lately is worth more than what is new. */
        if (!stale || stale->age == 0) {
            persistent->full = true;
            if (any)
                fill_table(persistent);
            return false;
        }
        unmap(persistent, stale);
        any = true;
    }
    if (any)
        fill_table(persistent);
    return true;
}

/* There is one: each has a page at least, and there was room for more pages. */
static struct chunk *free_chunk(struct persistent *persistent)
{
    struct chunk *chunk = persistent->chunks;

    while (chunk->pages)
        chunk++;
    return chunk;
}

/* Maps grants as a chunk. */
static bool map(struct persistent *persistent, const uint32_t *grefs, uint32_t count)
{
    void *pages;

    if (persistent->failures >= FAILURES_MAX || !make_room(persistent, count))
        return false;
    if (gnttab_map(persistent->gnttab, persistent->domid, grefs, count, &pages) < 0) {
        persistent->failures++;
        persistent->statistics->maps_failed++;
        give_budget(persistent->budget, count);
        return false;
    }
    struct chunk *chunk = free_chunk(persistent);
    const uint16_t first = (uint16_t)((chunk - persistent->chunks) * PERSISTENT_CHUNK);

    *chunk = (struct chunk){.pages = pages, .count = count};
    persistent->pages += count;
    persistent->statistics->mapped_grants = persistent->pages;
    for (uint32_t i = 0; i < count; i++) {
        chunk->grefs[i] = grefs[i];
        insert(persistent, (uint16_t)(first + i));
    }
    return true;
}

static bool listed(const uint32_t *grefs, uint32_t count, uint32_t gref)
{
    for (uint32_t i = 0; i < count; i++)
        if (grefs[i] == gref)
            return true;
    return false;
}

/* Maps those of the request's grants that are not. The frontend may end a grant that is not mapped
 * as soon as its request is answered, and give another device the same reference: so this is done
 * for grants of a request under way, never for those of former ones. */
static bool map_missing(struct persistent *persistent, const struct request *request)
{
    uint32_t grefs[PERSISTENT_CHUNK];
    uint32_t count = 0;

    for (unsigned i = 0; i < request->entry->segments; i++) {
        const uint32_t gref = request->segments[i].gref;

        if (find(persistent, gref) != NONE || listed(grefs, count, gref))
            continue;
        grefs[count++] = gref;
        if (count == PERSISTENT_CHUNK) {
            if (!map(persistent, grefs, count))
                return false;
            count = 0;
        }
    }
    return count == 0 || map(persistent, grefs, count);
}

bool persistent_get(struct persistent *persistent, const struct request *request)
{
    const unsigned count = request->entry->segments;

    /* So that what this request has mapped already does not give way for the rest of it. */
    for (unsigned i = 0; i < count; i++) {
        const uint16_t page = find(persistent, request->segments[i].gref);

        if (page != NONE)
            persistent->chunks[page / PERSISTENT_CHUNK].age = 0;
    }
    if (!map_missing(persistent, request))
        return false;
    for (unsigned i = 0; i < count; i++)
        persistent->chunks[find(persistent, request->segments[i].gref) / PERSISTENT_CHUNK].users++;
    return true;
}

void persistent_put(struct persistent *persistent, const struct request *request)
{
    for (unsigned i = 0; i < request->entry->segments; i++)
        persistent->chunks[find(persistent, request->segments[i].gref) / PERSISTENT_CHUNK].users--;
}

/* Where a segment of a request is mapped. */
static struct iovec mapped_segment(const struct persistent *persistent,
                                   const struct slab_segment *segment)
{
    const uint16_t page = find(persistent, segment->gref);
    uint8_t *base = persistent->chunks[page / PERSISTENT_CHUNK].pages +
                    (size_t)(page % PERSISTENT_CHUNK) * GNTTAB_PAGE_SIZE;

    return (struct iovec){.iov_base = base + (size_t)segment->first_sector * SECTOR_BYTES,
                          .iov_len = (size_t)(segment->last_sector - segment->first_sector + 1) *
                                     SECTOR_BYTES};
}

unsigned persistent_fill(const struct persistent *persistent, const struct request *request,
                         struct iovec *iov)
{
    unsigned count = 0;

    for (unsigned i = 0; i < request->entry->segments; i++) {
        const struct iovec segment = mapped_segment(persistent, &request->segments[i]);

        if (count &&
            (uint8_t *)iov[count - 1].iov_base + iov[count - 1].iov_len == segment.iov_base)
            iov[count - 1].iov_len += segment.iov_len;
        else
            iov[count++] = segment;
    }
    return count;
}

void persistent_copy(const struct persistent *persistent, const struct request *request)
{
    const bool to_guest = request_has_data_out(request->entry);
    size_t position = 0;

    for (unsigned i = 0; i < request->entry->segments; i++) {
        struct iovec segment = mapped_segment(persistent, &request->segments[i]);

        while (segment.iov_len > 0) {
            uint8_t *at = request->buffers[position / BUFFER_BYTES] + position % BUFFER_BYTES;
            const size_t room = BUFFER_BYTES - position % BUFFER_BYTES;
            const size_t length = segment.iov_len < room ? segment.iov_len : room;

            memcpy(to_guest ? segment.iov_base : at, to_guest ? at : segment.iov_base, length);
            segment.iov_base = (uint8_t *)segment.iov_base + length;
            segment.iov_len -= length;
            position += length;
        }
    }
}

static bool over_budget(const struct grant_budget *budget)
{
    return atomic_load_explicit(&budget->used, memory_order_relaxed) >
           atomic_load_explicit(&budget->limit, memory_order_relaxed);
}

bool persistent_trim(struct persistent *persistent)
{
    struct chunk *chunk;
    bool any = false;

    persistent->full = false;
    while ((chunk = oldest(persistent)) &&
           (chunk->age >= IDLE_TRIMS || over_budget(persistent->budget)))
        unmap(persistent, chunk);
    for (unsigned i = 0; i < CHUNKS; i++) {
        persistent->chunks[i].age++;
        any |= persistent->chunks[i].pages != NULL;
    }
    fill_table(persistent);
    return any;
}

void persistent_release(struct persistent *persistent)
{
    struct chunk *chunk;

    while ((chunk = oldest(persistent)))
        unmap(persistent, chunk);
    fill_table(persistent);
}

void persistent_destroy(struct persistent *persistent)
{
    if (!persistent)
        return;
    persistent_release(persistent);
    free(persistent);
}
