/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent grants of a queue: see persistent.h. */
#include "persistent.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNKS       (PERSISTENT_MAX / PERSISTENT_CHUNK)
#define TABLE        4096U /* places, a power of two, at most a quarter full */
#define NONE         UINT16_MAX
#define SECTOR_BYTES 512U

/* A chunk is unmapped when it was not used for so many trims. */
#define IDLE_TRIMS 3U

/* A frontend whose grants can't be mapped so often is copied from then on. */
#define FAILURES_MAX 8U

struct chunk {
    uint8_t *pages; /* NULL: free */
    uint32_t grefs[PERSISTENT_CHUNK];
    uint32_t users; /* segments of requests under way */
    uint32_t age;   /* trims since it was used */
};

struct persistent {
    struct gnttab *gnttab;
    struct grant_budget *budget;
    uint32_t domid;
    uint32_t failures;
    uint32_t waiting_count;
    uint32_t waiting[PERSISTENT_CHUNK]; /* grefs that were seen and are not mapped */
    struct chunk chunks[CHUNKS];
    uint16_t table[TABLE]; /* open addressing: chunk * PERSISTENT_CHUNK + page */
};

int persistent_create(struct gnttab *gnttab, uint32_t domid, struct grant_budget *budget,
                      struct persistent **out)
{
    struct persistent *persistent = calloc(1, sizeof(*persistent));

    if (!persistent)
        return -ENOMEM;
    persistent->gnttab = gnttab;
    persistent->domid = domid;
    persistent->budget = budget;
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
    for (uint16_t page = 0; page < PERSISTENT_MAX; page++)
        if (persistent->chunks[page / PERSISTENT_CHUNK].pages)
            insert(persistent, page);
}

static void unmap(struct persistent *persistent, struct chunk *chunk)
{
    gnttab_unmap(persistent->gnttab, chunk->pages, PERSISTENT_CHUNK);
    chunk->pages = NULL;
    atomic_fetch_sub_explicit(&persistent->budget->used, PERSISTENT_CHUNK, memory_order_relaxed);
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

/* Room for a chunk, within the budget of all queues: false when there is none. */
static bool take_budget(struct grant_budget *budget)
{
    const uint32_t used =
        atomic_fetch_add_explicit(&budget->used, PERSISTENT_CHUNK, memory_order_relaxed);

    if (used + PERSISTENT_CHUNK <= atomic_load_explicit(&budget->limit, memory_order_relaxed))
        return true;
    atomic_fetch_sub_explicit(&budget->used, PERSISTENT_CHUNK, memory_order_relaxed);
    return false;
}

/* A free chunk with its share of the budget taken, if need be by unmapping one that is out of use.
 */
static struct chunk *get_chunk(struct persistent *persistent)
{
    struct chunk *stale = oldest(persistent);
    const bool within_budget = take_budget(persistent->budget);

    if (within_budget)
        for (unsigned i = 0; i < CHUNKS; i++)
            if (!persistent->chunks[i].pages)
                return &persistent->chunks[i];
    /* What was used lately is worth more than what is new. */
    if (stale && stale->age > 0) {
        unmap(persistent, stale);
        fill_table(persistent);
        if (within_budget || take_budget(persistent->budget))
            return stale;
    }
    if (within_budget)
        atomic_fetch_sub_explicit(&persistent->budget->used, PERSISTENT_CHUNK,
                                  memory_order_relaxed);
    return NULL;
}

static void map_waiting(struct persistent *persistent)
{
    struct chunk *chunk = get_chunk(persistent);
    void *pages;

    persistent->waiting_count = 0; /* those that can't be mapped now will be seen again */
    if (!chunk)
        return;
    if (gnttab_map(persistent->gnttab, persistent->domid, persistent->waiting, PERSISTENT_CHUNK,
                   &pages) < 0) {
        persistent->failures++;
        atomic_fetch_sub_explicit(&persistent->budget->used, PERSISTENT_CHUNK,
                                  memory_order_relaxed);
        return;
    }
    const uint16_t first = (uint16_t)((chunk - persistent->chunks) * PERSISTENT_CHUNK);

    *chunk = (struct chunk){.pages = pages};
    for (uint16_t i = 0; i < PERSISTENT_CHUNK; i++) {
        chunk->grefs[i] = persistent->waiting[i];
        insert(persistent, (uint16_t)(first + i));
    }
}

static void remember(struct persistent *persistent, uint32_t gref)
{
    if (persistent->failures >= FAILURES_MAX)
        return;
    for (uint32_t i = 0; i < persistent->waiting_count; i++)
        if (persistent->waiting[i] == gref)
            return;
    persistent->waiting[persistent->waiting_count++] = gref;
    if (persistent->waiting_count == PERSISTENT_CHUNK)
        map_waiting(persistent);
}

bool persistent_get(struct persistent *persistent, const struct request *request)
{
    const unsigned count = request->entry->segments;
    bool all = true;

    for (unsigned i = 0; i < count; i++)
        if (find(persistent, request->segments[i].gref) == NONE) {
            all = false;
            remember(persistent, request->segments[i].gref);
        }
    if (!all)
        return false;
    for (unsigned i = 0; i < count; i++) {
        struct chunk *chunk =
            &persistent->chunks[find(persistent, request->segments[i].gref) / PERSISTENT_CHUNK];

        chunk->users++;
        chunk->age = 0;
    }
    return true;
}

void persistent_put(struct persistent *persistent, const struct request *request)
{
    for (unsigned i = 0; i < request->entry->segments; i++)
        persistent->chunks[find(persistent, request->segments[i].gref) / PERSISTENT_CHUNK].users--;
}

unsigned persistent_fill(const struct persistent *persistent, const struct request *request,
                         struct iovec *iov)
{
    unsigned count = 0;

    for (unsigned i = 0; i < request->entry->segments; i++) {
        const struct slab_segment *segment = &request->segments[i];
        const uint16_t page = find(persistent, segment->gref);
        uint8_t *base = persistent->chunks[page / PERSISTENT_CHUNK].pages +
                        (size_t)(page % PERSISTENT_CHUNK) * GNTTAB_PAGE_SIZE +
                        (size_t)segment->first_sector * SECTOR_BYTES;
        const size_t length =
            (size_t)(segment->last_sector - segment->first_sector + 1) * SECTOR_BYTES;

        if (count && (uint8_t *)iov[count - 1].iov_base + iov[count - 1].iov_len == base)
            iov[count - 1].iov_len += length;
        else
            iov[count++] = (struct iovec){.iov_base = base, .iov_len = length};
    }
    return count;
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
