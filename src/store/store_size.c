/* SPDX-License-Identifier: BSD-2-Clause */
/* Taking up a disk's new size, the same for every driver: see store.h. */
#include "blkback/store.h"

#include <errno.h>

int store_refresh_size(struct store *store, bool *changed)
{
    uint64_t size = store->caps.size;
    int error = store->driver->size ? store->driver->size(store, &size) : 0;

    if (error)
        return error;
    size -= size % store->caps.sector_size;
    if (size < store->caps.size)
        return -ERANGE;
    *changed = size > store->caps.size;
    /* Those that submit look at it, on their threads. */
    __atomic_store_n(&store->caps.size, size, __ATOMIC_RELAXED);
    return 0;
}
