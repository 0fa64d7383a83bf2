/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages that are granted once and used for many requests, as persistent grants are. */
#include "pool.h"

#include "front.h"
#include "hv.h"

#include <errno.h>
#include <stdlib.h>

struct front_pool {
    uint32_t domid, pages, first, free_count;
    uint32_t *alias; /* read-only references, or NULL */
    uint32_t *free;  /* pages that no request uses */
};

static int grant_aliases(struct front_pool *pool, uint32_t backend)
{
    pool->alias = calloc(pool->pages, sizeof(*pool->alias));
    if (!pool->alias)
        return -ENOMEM;
    for (uint32_t i = 0; i < pool->pages; i++) {
        int64_t ref = bed_grant_alias(pool->domid, backend, pool->first + i, true);

        if (ref < 0)
            return (int)ref;
        pool->alias[i] = (uint32_t)ref;
    }
    return 0;
}

struct front_pool *front_pool_new(uint32_t domid, uint32_t backend, uint32_t pages, bool aliases)
{
    struct front_pool *pool = calloc(1, sizeof(*pool));
    int64_t first = pool ? bed_grant(domid, backend, pages, false) : -ENOMEM;
    int err = first < 0 ? (int)first : 0;

    if (!err) {
        *pool = (struct front_pool){.domid = domid, .pages = pages, .first = (uint32_t)first};
        pool->free = calloc(pages, sizeof(*pool->free));
        err = pool->free ? 0 : -ENOMEM;
    }
    if (!err && aliases)
        err = grant_aliases(pool, backend);
    if (err) {
        front_pool_free(pool);
        errno = -err;
        return NULL;
    }
    for (uint32_t i = 0; i < pages; i++)
        pool->free[i] = pages - 1 - i;
    pool->free_count = pages;
    return pool;
}

int front_pool_free(struct front_pool *pool)
{
    int mapped = 0;

    if (!pool)
        return 0;
    for (uint32_t i = 0; i < pool->pages; i++) {
        if (pool->alias && pool->alias[i])
            mapped += bed_grant_end(pool->domid, pool->alias[i]) > 0;
        mapped += bed_grant_end(pool->domid, pool->first + i) > 0;
    }
    free(pool->alias);
    free(pool->free);
    free(pool);
    return mapped;
}

uint32_t front_pool_pages(const struct front_pool *pool)
{
    return pool->pages;
}

uint32_t front_pool_ref(const struct front_pool *pool, uint32_t page, bool readonly)
{
    return readonly && pool->alias ? pool->alias[page] : pool->first + page;
}

uint8_t *pool_memory(const struct front_pool *pool, uint32_t page)
{
    return bed_page(pool->domid, pool->first + page);
}

uint32_t pool_available(const struct front_pool *pool)
{
    return pool->free_count;
}

uint32_t pool_take(struct front_pool *pool, uint32_t which)
{
    uint32_t at = pool->free_count - 1 - which % pool->free_count, page = pool->free[at];

    pool->free[at] = pool->free[--pool->free_count];
    return page;
}

void pool_give(struct front_pool *pool, uint32_t page)
{
    pool->free[pool->free_count++] = page;
}
