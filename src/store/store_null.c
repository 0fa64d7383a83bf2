/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The null store: reads zeros, forgets writes. For measuring everything else, and the least that a
 * driver has to be: its own struct beginning with a struct store, capabilities filled in by open, a
 * submit that answers IO_DONE at once.
 */
#include "store_null.h"

#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct null_store {
    struct store base;
    uint64_t size;
};

static int null_open(const struct store_params *params, char *why, unsigned why_size,
                     struct store **out)
{
    uint32_t sector = params->sector_size ? params->sector_size : STORE_SECTOR_MIN;
    struct null_store *null = NULL;

    if (params->fd >= 0)
        return store_refuse(why, why_size, -EINVAL, "a null disk has no image");
    if (!store_sector_size_valid(sector))
        return store_refuse(why, why_size, -EINVAL, "%u is not a sector size", sector);
    if (params->size < sector)
        return store_refuse(why, why_size, -EINVAL, "the disk is smaller than a sector of %u bytes",
                            sector);

    null = calloc(1, sizeof(*null));
    if (!null)
        return store_refuse(why, why_size, -ENOMEM, "out of memory");
    null->base.driver = &store_null;
    null->base.caps = (struct store_caps){
        .size = params->size - params->size % sector,
        .sector_size = sector,
        .physical_sector_size = sector,
        .memory_alignment = 1,
        .read_only = params->read_only,
        .flush = true,
        .direct = false,
        .engine = store_null.name,
        .discard = !params->read_only,
        .discard_granularity = sector,
    };
    null->size = params->size;
    *out = &null->base;
    return 0;
}

static enum io_submit null_submit(struct store *store, struct io *io)
{
    io->result = store_check_io(&store->caps, io);
    if (io->result == 0 && io->operation == IO_READ && io->length > 0) {
        for (unsigned i = 0; i < io->iov_count; i++)
            memset(io->iov[i].iov_base, 0, io->iov[i].iov_len);
    }
    return IO_DONE;
}

static void null_close(struct store *store)
{
    free(store);
}

static int null_size(struct store *store, uint64_t *out)
{
    *out = ((const struct null_store *)store)->size;
    return 0;
}

void store_null_set_size(struct store *store, uint64_t size)
{
    ((struct null_store *)store)->size = size;
}

const struct store_driver store_null = {
    .name = "null",
    .open = null_open,
    .submit = null_submit,
    .close = null_close,
    .size = null_size,
};
