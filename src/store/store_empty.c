/* SPDX-License-Identifier: BSD-2-Clause */
/* The empty store: a removable drive without a medium. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

static int empty_open(const struct store_params *params, char *why, unsigned why_size,
                      struct store **out)
{
    uint32_t sector = params->sector_size ? params->sector_size : STORE_SECTOR_MIN;
    struct store *store = NULL;

    if (params->fd >= 0)
        return store_refuse(why, why_size, -EINVAL, "an empty drive has no image");
    if (!store_sector_size_valid(sector))
        return store_refuse(why, why_size, -EINVAL, "%u is not a sector size", sector);
    store = calloc(1, sizeof(*store));
    if (!store)
        return store_refuse(why, why_size, -ENOMEM, "out of memory");
    store->driver = &store_empty;
    store->caps = (struct store_caps){
        .sector_size = sector,
        .physical_sector_size = sector,
        .memory_alignment = 1,
        .read_only = params->read_only,
        .flush = true,
        .engine = store_empty.name,
    };
    *out = store;
    return 0;
}

static enum io_submit empty_submit(struct store *store, struct io *io)
{
    (void)store;
    /* There is nothing that could be lost, and a failed flush is never reported to a guest. */
    io->result = io->operation == IO_FLUSH ? 0 : -ENOMEDIUM;
    return IO_DONE;
}

static void empty_close(struct store *store)
{
    free(store);
}

const struct store_driver store_empty = {
    .name = "empty",
    .open = empty_open,
    .submit = empty_submit,
    .close = empty_close,
};
