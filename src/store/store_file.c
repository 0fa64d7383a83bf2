/* SPDX-License-Identifier: BSD-2-Clause */
/* The file store: a regular file or a block device, reached through one of the engines. */
#include "check.h"
#include "discard.h"
#include "image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file_store {
    struct store base;
    struct engine_set engines; /* for an I/O that names none */
    const struct engine_ops *engine;
    const struct engine_ops *discard_engine; /* NULL: it can't discard */
    struct discard_rules discard;
    int fd;
};

/* The engine that was asked for, or the best for this image of those that could be made. */
static struct engine *choose_engine(const struct store_params *params, const struct image *image)
{
    const struct engine_set *engines = params->engines;
    /* A file in memory is done sooner than handed over: io_uring passes tmpfs reads to another
     * thread. */
    struct engine *const order[] = {image->in_memory ? engines->inline_ : NULL, engines->uring,
                                    engines->aio, engines->inline_};

    for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (order[i] && (!params->engine || order[i]->ops == params->engine))
            return order[i];
    }
    return NULL;
}

/* Whether and in which sectors `image` can be served. */
static int settle_sectors(const struct store_params *params, const struct image *image, char *why,
                          unsigned why_size, uint32_t *out)
{
    uint32_t sector = params->sector_size ? params->sector_size : image->logical_sector;

    if (!store_sector_size_valid(sector))
        return store_refuse(why, why_size, -EINVAL, "%u is not a sector size", sector);
    if (sector < image->logical_sector)
        return store_refuse(why, why_size, -EINVAL,
                            "the device has sectors of %u bytes, %u were asked for",
                            image->logical_sector, sector);
    if (image->size < sector)
        return store_refuse(why, why_size, -EINVAL,
                            "the image is smaller than a sector of %u bytes", sector);
    *out = sector;
    return 0;
}

static void fill_caps(const struct store_params *params, const struct image *image, uint32_t sector,
                      struct file_store *file)
{
    uint64_t size = image->size - image->size % sector;
    uint32_t memory_alignment = 0;

    if (params->direct && !image->in_memory)
        memory_alignment = image_enable_direct(file->fd, sector, size);
    else
        (void)image_disable_direct(file->fd);

    file->base.caps = (struct store_caps){
        .size = size,
        .sector_size = sector,
        .physical_sector_size = image->physical_sector > sector ? image->physical_sector : sector,
        .memory_alignment = memory_alignment ? memory_alignment : 1,
        .read_only = params->read_only || !image->writable,
        .flush = true,
        .direct = memory_alignment != 0,
        .engine = file->engine->name,
    };
}

/* What the image discards, and by which engine: one that does not do it on the loop's thread. */
static void settle_discard(const struct store_params *params, const struct image *image,
                           struct file_store *file)
{
    struct store_caps *caps = &file->base.caps;
    const struct discard_rules *rules = &file->discard;

    if (caps->read_only)
        return;
    file->discard = image->is_device
                        ? discard_probe_device(file->fd, &params->discard_limits, caps->sector_size)
                        : discard_probe_file(file->fd, image->size, caps->sector_size);
    if (!image->is_device && file->engine == &engine_uring)
        file->discard_engine = file->engine;
    else if (params->engines->slow)
        file->discard_engine = &engine_slow;
    caps->discard = rules->possible && file->discard_engine;
    caps->discard_secure = caps->discard && rules->secure;
    if (caps->discard) {
        caps->discard_granularity = rules->granularity;
        caps->discard_alignment = rules->alignment;
    }
}

static int file_open(const struct store_params *params, char *why, unsigned why_size,
                     struct store **out)
{
    struct image image = {0};
    struct file_store *file = NULL;
    struct engine *engine = NULL;
    uint32_t sector = 0;
    int error = image_probe(params->fd, why, why_size, &image);

    if (!error)
        error = settle_sectors(params, &image, why, why_size, &sector);
    if (error)
        return error;
    if (!params->read_only && !image.writable)
        return store_refuse(why, why_size, -EROFS, "the image is read-only");
    engine = choose_engine(params, &image);
    if (!engine)
        return store_refuse(why, why_size, -ENOTSUP,
                            "the kernel does not have or does not allow the engine %s",
                            params->engine ? params->engine->name : engine_inline.name);

    file = calloc(1, sizeof(*file));
    if (!file)
        return store_refuse(why, why_size, -ENOMEM, "out of memory");
    file->base.driver = &store_file;
    file->engines = *params->engines;
    file->engine = engine->ops;
    file->fd = params->fd;
    fill_caps(params, &image, sector, file);
    settle_discard(params, &image, file);
    *out = &file->base;
    return 0;
}

static enum io_submit hand_over(const struct file_store *file, const struct engine_ops *ops,
                                struct io *io)
{
    return ops->submit(engine_set_find(io->engines ? io->engines : &file->engines, ops), file->fd,
                       io);
}

static enum io_submit file_submit(struct store *store, struct io *io)
{
    struct file_store *file = (struct file_store *)store;
    int error = store_check_io(&store->caps, io);

    if (error || (io->operation != IO_FLUSH && io->length == 0)) {
        io->result = error;
        return IO_DONE;
    }
    io->direct = store->caps.direct;
    /* Most file systems can't write to the page cache without perhaps waiting. */
    io->by_thread = io->operation == IO_WRITE && !store->caps.direct;
    if (io->operation == IO_DISCARD) {
        if (discard_prepare(&file->discard, io))
            return hand_over(file, file->discard_engine, io);
        io->result = 0;
        return IO_DONE;
    }
    return hand_over(file, file->engine, io);
}

static void file_close(struct store *store)
{
    struct file_store *file = (struct file_store *)store;

    close(file->fd);
    free(file);
}

static int file_size(struct store *store, uint64_t *out)
{
    return image_size(((const struct file_store *)store)->fd, out);
}

const struct store_driver store_file = {
    .name = "file",
    .open = file_open,
    .submit = file_submit,
    .close = file_close,
    .size = file_size,
};
