/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Data buffers that are registered with an io_uring: the kernel pins their pages once, not for each
 * I/O, which is a good part of what direct I/O of a page costs. Registered is what is used, buffer
 * by buffer, as many pages of it as are used; what is not, or where the kernel refuses, is read and
 * written like any memory.
 */
#ifndef BLKBACK_STORE_URING_BUFFERS_H
#define BLKBACK_STORE_URING_BUFFERS_H

#include "blkback/engine.h"

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#define URING_BUFFERS_PAGE 4096U

/* What is known of a buffer since it was last forgotten. */
struct uring_buffer {
    uint8_t registered; /* pages from its start */
    uint8_t wanted;     /* the most pages of it that a transfer found not to be registered */
    uint8_t misses;     /* such transfers since they were */
    bool in_table;      /* some of it was to be registered, and may be */
};

struct uring_buffers {
    int ring_fd;
    int error; /* why the kernel registers no more, -errno; 0: it does */
    uint64_t start;
    uint64_t bytes; /* 0: none can be registered */
    unsigned shift; /* a buffer is of 1 << shift bytes */
    struct uring_buffer *known;
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

/* Of a transfer that ends so many bytes into a buffer, of which too little is registered: counts
 * it, and registers so much when that pays. Returns whether it did. */
bool uring_buffers_miss(struct uring_buffers *buffers, unsigned index, uint64_t end);

/*
 * Takes those that begin in this memory out of the table: their pages are the kernel's to reuse
 * once they are unmapped, at the latest when it has cleaned up (a second, on Linux 6.1, and after
 * the I/O that was in flight on others). No I/O on them may be in flight.
 */
void uring_buffers_forget(struct uring_buffers *buffers, const void *start, uint64_t bytes);

/* The place in the table of the buffer that `length` bytes from `at` lie in, all registered; -1:
 * they don't, or aren't. Takes no time to speak of. */
static inline int uring_buffers_find(struct uring_buffers *buffers, const void *at, uint64_t length)
{
    const uint64_t from = (uintptr_t)at - buffers->start;

    if (from >= buffers->bytes)
        return -1;
    const unsigned index = (unsigned)(from >> buffers->shift);
    const uint64_t end = from - ((uint64_t)index << buffers->shift) + length;

    return end <= (uint64_t)buffers->known[index].registered * URING_BUFFERS_PAGE ||
                   uring_buffers_miss(buffers, index, end)
               ? (int)index
               : -1;
}

#endif
