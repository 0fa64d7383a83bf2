/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Engines: how a file descriptor's I/O reaches the kernel. One instance per loop thread, shared by
 * all its vbds, so that one system call submits the I/O of a whole turn.
 *
 * Every engine loops over short transfers (no progress within the advertised size is -EIO, never
 * zero-filled) and retries EINTR and EAGAIN itself. A discard, readied by the store, is taken by
 * the uring engine for files and by the slow one; the others answer -ENOTSUP.
 */
#ifndef BLKBACK_ENGINE_H
#define BLKBACK_ENGINE_H

#include "blkback/io.h"

struct engine;

/*
 * Asynchronous engines hand over so many I/Os as soon as they are there, and don't wait for the
 * commit: the storage works while the others are prepared. Without it a queue and its storage take
 * turns, each idle while the other is busy. Measured on a virtio disk at depth 32: 4 and 8 gave 10
 * to 15 % more than 32, 16 gave nothing.
 */
#define ENGINE_BATCH 8U

struct engine;

struct engine_ops {
    /* "uring", "aio", "inline": also the value in the configuration; or "slow". */
    const char *name;
    /* `depth`: I/Os that can be in flight at once. Returns 0; -ENOSYS, -EPERM where the kernel does
     * not have or allow it. */
    int (*create)(unsigned depth, struct engine **out);
    enum io_submit (*submit)(struct engine *engine, int fd, struct io *io);
    /*
     * Hands everything submitted and not handed over yet to the kernel: one system call, none if
     * there is nothing; more only when the kernel stops half-way. Returns 0; -EAGAIN when it could
     * not take all of it yet (the rest is kept: commit again soon); another -errno when the engine
     * is unusable.
     */
    int (*commit)(struct engine *engine);
    /* Calls `done` of what has completed and returns how many; never blocks. `done` may submit, but
     * neither commit nor reap. */
    unsigned (*reap)(struct engine *engine);
    /*
     * Becomes readable when there is something to reap; -1 where submit never returns IO_QUEUED.
     * Completions of an io_uring are finished on the thread that waits and end its wait with EINTR:
     * that is a wake-up like any other, after which to reap.
     */
    int (*event_fd)(const struct engine *engine);
    void (*destroy)(struct engine *engine); /* nothing may be in flight, but see engine_slow */
};

/* Every engine begins with this. */
struct engine {
    const struct engine_ops *ops;
    unsigned in_flight; /* queued and not done */
};

extern const struct engine_ops engine_uring;
extern const struct engine_ops engine_aio;
extern const struct engine_ops engine_inline;

/* Whether an instance of engine_uring can be used for nothing but what it is made for (Linux 5.10).
 */
bool engine_uring_restricted(const struct engine *engine);

/*
 * For what only blocking system calls can do: discards, where io_uring can't. A thread of its own,
 * which `create` starts with all signals blocked, makes the calls one after the other, in turns
 * between the I/Os in flight; `done` is called from reap like any other's. Takes IO_DISCARD only.
 *
 * `destroy` waits for the system call that is going on and no longer: I/Os still in flight are
 * dropped, and their `done` is not called.
 */
extern const struct engine_ops engine_slow;

static inline void engine_destroy(struct engine *engine)
{
    if (engine)
        engine->ops->destroy(engine);
}

#endif
