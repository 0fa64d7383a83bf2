/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores: where the bytes of a disk live. A driver is a table of functions; the data path submits
 * I/O to a store and never asks which one it is. No Xen header is included here.
 */
#ifndef BLKBACK_STORE_H
#define BLKBACK_STORE_H

#include "blkback/engine.h"
#include "blkback/io.h"

#include <stdbool.h>
#include <stdint.h>

/* Asked once when a store is opened, then advertised to the frontend and relied upon. */
struct store_caps {
    uint64_t size;                 /* bytes, rounded down to a multiple of sector_size */
    uint32_t sector_size;          /* logical, bytes: alignment of every offset and length */
    uint32_t physical_sector_size; /* bytes */
    uint32_t memory_alignment;     /* of iov bases, bytes */
    bool read_only;
    bool flush;         /* IO_FLUSH makes everything that completed before it stable */
    bool direct;        /* page cache is bypassed */
    const char *engine; /* name of the engine in use, or of the driver where it has none */
};

/* The engines of a loop thread; a member is NULL where it could not be made. */
struct engine_set {
    struct engine *uring;
    struct engine *aio;
    struct engine *inline_;
};

struct store_params {
    int fd; /* of the image, read-write unless read_only; owned by the store once open succeeds; -1:
               none */
    bool read_only;
    bool direct;          /* use O_DIRECT where the file can and its alignment fits sector_size */
    uint32_t sector_size; /* wanted; 0: the device's own, 512 for a file */
    uint64_t size;        /* null store: bytes */
    const struct engine_ops *engine; /* NULL: the store chooses by probing */
    const struct engine_set *engines;
};

struct store;

struct store_driver {
    const char *name;
    /*
     * Returns 0, or -errno with a reason for people in `why` (`why_size` bytes, terminated). On
     * failure the descriptor stays the caller's.
     */
    int (*open)(const struct store_params *params, char *why, unsigned why_size,
                struct store **out);
    enum io_submit (*submit)(struct store *store, struct io *io);
    void (*close)(struct store *store); /* nothing may be in flight; closes the descriptor */
};

/* Every store begins with this. */
struct store {
    const struct store_driver *driver;
    struct store_caps caps;
    unsigned
        in_flight; /* I/Os queued through store_submit() and not done, kept by the caller of done */
};

extern const struct store_driver store_file; /* regular files and block devices */
extern const struct store_driver store_null; /* reads zeros, forgets writes */

static inline enum io_submit store_submit(struct store *store, struct io *io)
{
    return store->driver->submit(store, io);
}

static inline void store_close(struct store *store)
{
    if (store)
        store->driver->close(store);
}

/* Makes every engine the kernel allows, each for `depth` I/Os in flight; at least the inline one.
 * Returns 0 or -ENOMEM. */
int engine_set_create(unsigned depth, struct engine_set *out);
/*
 * One system call per engine that has something to hand over. Returns 0; -EAGAIN when the kernel could not take all of it yet: call
 * again within milliseconds, for nothing else may wake the loop; any other error will not pass.
 */
int engine_set_commit(const struct engine_set *engines);
void engine_set_destroy(struct engine_set *engines);

#endif
