/* SPDX-License-Identifier: BSD-2-Clause */
/* Data buffers: see buffer_pool.h. */
#include "blkback/buffer_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct buffer_pool {
    uint8_t *arena;
    uint32_t count;
    uint32_t free_count;
    uint32_t fresh;  /* buffers from this one on were never used since all were given back */
    uint32_t lowest; /* free_count ever was since the last trim: what is below was not needed */
    uint32_t given;  /* of those at the bottom, so many had no memory at the last trim */
    bool *marked;    /* of each buffer, for sort() */
    uint32_t free_stack[];
};

int buffer_pool_create(uint64_t bytes, struct buffer_pool **out)
{
    const uint64_t count = bytes / BUFFER_BYTES;

    if (count == 0 || count > UINT32_MAX)
        return -EINVAL;
    struct buffer_pool *pool = malloc(sizeof(*pool) + count * sizeof(pool->free_stack[0]));

    if (!pool)
        return -ENOMEM;
    pool->marked = calloc(count, sizeof(pool->marked[0]));
    if (!pool->marked) {
        free(pool);
        return -ENOMEM;
    }
    pool->arena = mmap(NULL, count * BUFFER_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool->arena == MAP_FAILED) {
        free(pool->marked);
        free(pool);
        return -ENOMEM;
    }
    pool->count = (uint32_t)count;
    pool->free_count = 0;
    pool->fresh = 0;
    pool->lowest = 0;
    pool->given = 0;
    *out = pool;
    return 0;
}

uint8_t *buffer_pool_get(struct buffer_pool *pool)
{
    uint32_t index;

    if (pool->free_count) {
        index = pool->free_stack[--pool->free_count];
        if (pool->lowest > pool->free_count)
            pool->lowest = pool->free_count;
    } else if (pool->fresh < pool->count)
        index = pool->fresh++;
    else
        return NULL;
    return pool->arena + (uint64_t)index * BUFFER_BYTES;
}

void buffer_pool_put(struct buffer_pool *pool, uint8_t *buffer)
{
    pool->free_stack[pool->free_count++] =
        (uint32_t)((uint64_t)(buffer - pool->arena) / BUFFER_BYTES);
}

uint32_t buffer_pool_count(const struct buffer_pool *pool)
{
    return pool->count;
}

uint32_t buffer_pool_free(const struct buffer_pool *pool)
{
    return pool->count - pool->fresh + pool->free_count;
}

struct engine_memory buffer_pool_memory(const struct buffer_pool *pool)
{
    return (struct engine_memory){.start = pool->arena,
                                  .bytes = (uint64_t)pool->count * BUFFER_BYTES,
                                  .buffer_bytes = BUFFER_BYTES};
}

/* Of so many buffers, one after the other. */
static void give_back(struct buffer_pool *pool, uint32_t first, uint32_t count,
                      buffer_given_back *told, void *context)
{
    uint8_t *start = pool->arena + (uint64_t)first * BUFFER_BYTES;
    const uint64_t bytes = (uint64_t)count * BUFFER_BYTES;

    (void)madvise(start, bytes, MADV_DONTNEED);
    told(context, start, bytes);
}

/* Into their order in memory. Not qsort(), which asks for the size of the host's memory, and that a
 * worker's sandbox forbids. */
static void sort(struct buffer_pool *pool, uint32_t *indices, uint32_t count)
{
    uint32_t sorted = 0;

    for (uint32_t i = 0; i < count; i++)
        pool->marked[indices[i]] = true;
    for (uint32_t index = 0; sorted < count; index++) {
        if (pool->marked[index])
            indices[sorted++] = index;
        pool->marked[index] = false;
    }
}

/* Neighbours by one call; a burst leaves many. Which of those at the bottom comes first does not
 * matter. */
static void give_back_unneeded(struct buffer_pool *pool, buffer_given_back *told, void *context)
{
    uint32_t *indices = pool->free_stack + pool->given;
    const uint32_t unneeded = pool->lowest - pool->given;
    const uint32_t count = unneeded < BUFFER_TRIM_MOST ? unneeded : BUFFER_TRIM_MOST;

    sort(pool, indices, unneeded);
    for (uint32_t at = 0, run; at < count; at += run) {
        for (run = 1; at + run < count && indices[at + run] == indices[at] + run; run++) {
        }
        give_back(pool, indices[at], run, told, context);
    }
    pool->given += count;
}

enum buffer_trim buffer_pool_trim(struct buffer_pool *pool, buffer_given_back *told, void *context)
{
    if (pool->free_count == pool->fresh) { /* nothing is in use: one call for everything */
        if (pool->fresh)
            give_back(pool, 0, pool->fresh, told, context);
        pool->fresh = pool->free_count = pool->lowest = pool->given = 0;
        return BUFFER_TRIM_DONE;
    }
    if (pool->given > pool->lowest)
        pool->given = pool->lowest; /* they were taken since, and have memory again */
    give_back_unneeded(pool, told, context);
    if (pool->given < pool->lowest)
        return BUFFER_TRIM_MORE;
    pool->lowest = pool->free_count;
    return pool->given < pool->free_count ? BUFFER_TRIM_LATER : BUFFER_TRIM_DONE;
}

void buffer_pool_destroy(struct buffer_pool *pool)
{
    if (!pool)
        return;
    (void)munmap(pool->arena, (uint64_t)pool->count * BUFFER_BYTES);
    free(pool->marked);
    free(pool);
}
