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
    uint32_t fresh; /* buffers from this one on were never used since the last trim */
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
    pool->arena = mmap(NULL, count * BUFFER_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool->arena == MAP_FAILED) {
        free(pool);
        return -ENOMEM;
    }
    pool->count = (uint32_t)count;
    pool->free_count = 0;
    pool->fresh = 0;
    *out = pool;
    return 0;
}

uint8_t *buffer_pool_get(struct buffer_pool *pool)
{
    uint32_t index;

    if (pool->free_count)
        index = pool->free_stack[--pool->free_count];
    else if (pool->fresh < pool->count)
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

bool buffer_pool_trim(struct buffer_pool *pool)
{
    if (pool->free_count != pool->fresh || pool->fresh == 0)
        return false;
    /* Nothing is in use: one call gives everything back. */
    (void)madvise(pool->arena, (uint64_t)pool->fresh * BUFFER_BYTES, MADV_DONTNEED);
    pool->fresh = 0;
    pool->free_count = 0;
    return true;
}

void buffer_pool_destroy(struct buffer_pool *pool)
{
    if (!pool)
        return;
    (void)munmap(pool->arena, (uint64_t)pool->count * BUFFER_BYTES);
    free(pool);
}
