/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Data buffers that are registered with an io_uring: the kernel pins their pages once, not for each
 * I/O, which is a good part of what direct I/O of a page costs. Registered is what is used often,
 * buffer by buffer; what is not, or where the kernel refuses, is read and written like any memory.
 */
#ifndef BLKBACK_STORE_URING_BUFFERS_H
#define BLKBACK_STORE_URING_BUFFERS_H

#include "blkback/engine.h"

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

/* What is known of a buffer: so many times it was used since it was last forgotten, or one of the
 * others. */
#define URING_BUFFER_REFUSED    0xfeU
#define URING_BUFFER_REGISTERED 0xffU

struct uring_buffers {
    int ring_fd;
    int error; /* why the kernel registers no more, -errno; 0: it does */
    uint64_t start;
    uint64_t bytes; /* 0: none can be registered */
    unsigned shift; /* a buffer is of 1 << shift bytes */
    unsigned ends;  /* none from this one on is registered */
    uint8_t *known; /* of each */
};

/*
 * Makes the ring's table for `memory`, or for the part of it that a table may have, with nothing in
 * it. For a ring that is not enabled yet; `out` is valid in any case. Returns 0; -EINVAL where the
 * kernel has no such tables (before Linux 5.19) or `memory` is none; -ENOMEM.
 */
int uring_buffers_create(const struct io_uring *ring, const struct engine_memory *memory,
                         struct uring_buffers *out);

/* Frees what is ours; the table goes with the ring. */
void uring_buffers_destroy(struct uring_buffers *buffers);

/* Counts a use, and registers the buffer when that pays. Returns whether it is registered now. */
bool uring_buffers_use(struct uring_buffers *buffers, unsigned index);

/*
 * Takes all of them out of the table: their pages are the kernel's to reuse once they are unmapped,
 * at the latest when it has cleaned up (a second, on Linux 6.1). No I/O on them may be in flight.
 */
void uring_buffers_forget(struct uring_buffers *buffers);

/* The place in the table of the buffer that `length` bytes from `at` lie in, registered; -1: they
 * don't. Takes no time to speak of. */
static inline int uring_buffers_find(struct uring_buffers *buffers, const void *at, uint64_t length)
{
    const uint64_t from = (uintptr_t)at - buffers->start;

    if (from >= buffers->bytes)
        return -1;
    const unsigned index = (unsigned)(from >> buffers->shift);

    if (((from + length - 1) >> buffers->shift) != index)
        return -1;
    return buffers->known[index] == URING_BUFFER_REGISTERED || uring_buffers_use(buffers, index)
               ? (int)index
               : -1;
}

#endif
