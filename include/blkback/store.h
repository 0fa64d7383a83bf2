/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores: where the bytes of a disk live. A driver is a table of functions; the data path submits
 * I/O to a store and never asks which one it is. No Xen header is included here.
 */
#ifndef BLKBACK_STORE_H
#define BLKBACK_STORE_H

#include "blkback/discard_limits.h"
#include "blkback/engine.h"
#include "blkback/io.h"

#include <stdbool.h>
#include <stdint.h>

/* Asked once when a store is opened, then advertised to the frontend and relied upon; of them only
 * `size` ever changes, in store_refresh_size(). */
struct store_caps {
    uint64_t size;                 /* bytes, rounded down to a multiple of sector_size */
    uint32_t sector_size;          /* logical, bytes: alignment of every offset and length */
    uint32_t physical_sector_size; /* bytes */
    uint32_t memory_alignment;     /* of iov bases, bytes */
    bool read_only;
    bool flush;         /* IO_FLUSH makes everything that completed before it stable */
    bool direct;        /* page cache is bypassed */
    const char *engine; /* name of the engine in use, or of the driver where it has none */
    /*
     * IO_DISCARD does something. What is discarded are the granules that lie whole within its
     * range: from one byte position p with p % granularity == alignment to the next. A multiple of
     * sector_size, or a divisor of it.
     */
    bool discard;
    bool discard_secure; /* with `secure` too: whole device sectors, not rounded */
    uint32_t discard_granularity;
    uint32_t discard_alignment;
};

/* The engines of a loop thread; a member is NULL where it could not be made. Threads that submit to
 * the same store have the same members. */
struct engine_set {
    struct engine *uring;
    struct engine *aio;
    struct engine *inline_;
    struct engine *slow; /* engine_slow: watched and reaped like the others */
};

struct store_params {
    int fd; /* of the image, read-write unless read_only; owned by the store once open succeeds; -1:
               none */
    bool read_only;
    bool direct;          /* use O_DIRECT where the file can and its alignment fits sector_size */
    uint32_t sector_size; /* wanted; 0: the device's own, 512 for a file */
    uint64_t size;        /* null store: bytes */
    const struct engine_ops *engine;  /* NULL: the store chooses by probing */
    const struct engine_set *engines; /* copied: what an I/O without engines of its own uses */
    /* Block devices only: from discard_limits_read(), since a sealed process can't ask; all 0: the
     * device does not discard. */
    struct discard_limits discard_limits;
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
    /* The size as it is now, in bytes, not rounded. NULL: it never changes. Returns 0 or -errno. */
    int (*size)(struct store *store, uint64_t *out);
};

/*
 * What becomes of failures, and which requests wait because of one: parked ones are tried again
 * until they succeed, and meanwhile nothing else that changes the disk is started, on whatever
 * ring. Kept by the queues, on any thread; the policy by whoever opened the store.
 */
struct store_faults {
    _Atomic bool pause_no_space; /* else what fails for want of space is answered with an error */
    _Atomic bool pause_error;    /* the same for other errors of the store */
    _Atomic unsigned parked;
    _Atomic unsigned parked_flushes; /* of them: nothing at all is started meanwhile */
    /* A flush through the page cache failed, which lost data and is reported once: no later success
     * means anything. */
    _Atomic bool data_lost;
};

/* Every store begins with this. */
struct store {
    const struct store_driver *driver;
    struct store_caps caps;
    unsigned
        in_flight; /* I/Os queued through store_submit() and not done, kept by the caller of done */
    struct store_faults faults;
};

extern const struct store_driver store_file; /* regular files and block devices */
extern const struct store_driver store_null; /* reads zeros, forgets writes */
/* A drive without a medium: size 0, of `sector_size` or 512; transfers and discards fail with
 * -ENOMEDIUM, a flush succeeds. Takes no descriptor. */
extern const struct store_driver store_empty;

static inline enum io_submit store_submit(struct store *store, struct io *io)
{
    return store->driver->submit(store, io);
}

static inline void store_close(struct store *store)
{
    if (store)
        store->driver->close(store);
}

/*
 * Looks whether the image has grown by a sector or more, and takes its new size into caps.size
 * then. Returns 0 and whether caps.size changed in `changed`; -ERANGE when the image is smaller
 * than caps.size, which stays, so that I/O past its end fails with -EIO; or what the kernel says.
 * To be called by the thread that opened the store, while others may submit. I/O in flight is not
 * affected: it was checked against the size it was submitted under, which has only grown.
 */
int store_refresh_size(struct store *store, bool *changed);

/* Makes every engine the kernel allows, each for `depth` I/Os in flight; at least the inline one.
 * `memory`: NULL, or where data lies. Starts the thread of the slow one. Returns 0 or -ENOMEM. */
int engine_set_create(unsigned depth, const struct engine_memory *memory, struct engine_set *out);
/* The engine of that kind, or NULL. */
struct engine *engine_set_find(const struct engine_set *engines, const struct engine_ops *ops);

/*
 * One system call per engine that has something to hand over. Returns 0; -EAGAIN when the kernel
 * could not take all of it yet: call again within milliseconds, for nothing else may wake the loop;
 * any other error will not pass.
 */
int engine_set_commit(const struct engine_set *engines);
/* Nothing may be in flight but in the slow engine: see there. */
void engine_set_destroy(struct engine_set *engines);

#endif
