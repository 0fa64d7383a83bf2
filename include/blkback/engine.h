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

/*
 * Memory that most transfers go to and from: buffers of `buffer_bytes`, a power of two, one after
 * the other. What lies in one of them can be registered with the kernel. It stays until the engine
 * is destroyed.
 */
struct engine_memory {
    void *start; /* page-aligned */
    uint64_t bytes;
    uint64_t buffer_bytes;
};

struct engine_ops {
    /* "uring", "aio", "inline": also the value in the configuration; or "slow". */
    const char *name;
    /* `depth`: I/Os that can be in flight at once. `memory`: NULL, or what may be registered.
     * Returns 0; -ENOSYS, -EPERM where the kernel does not have or allow it. */
    int (*create)(unsigned depth, const struct engine_memory *memory, struct engine **out);
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
    unsigned by_thread; /* of them, those that threads of the kernel carry out; engine_uring's */
};

extern const struct engine_ops engine_uring;
extern const struct engine_ops engine_aio;
extern const struct engine_ops engine_inline;

/* Whether an instance of engine_uring can be used for nothing but what it is made for (Linux 5.10).
 */
bool engine_uring_restricted(const struct engine *engine);

/*
 * Buffers of the memory it was made with: registers those that are used often, so that their pages
 * are not pinned for each I/O but once. Returns 0 while it does; -EINVAL where the kernel can't
 * (before Linux 5.19) or there is no such memory; what the kernel refused to register more with,
 * until they are forgotten. Everything works without.
 */
int engine_uring_registers(const struct engine *engine);

/* Forgets which of these buffers were registered, so that the pages can be given back; no I/O on
 * them may be in flight. It begins anew with what is used from here on. */
void engine_uring_forget(struct engine *engine, const void *start, uint64_t bytes);

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
