/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transfers of several registered buffers. An entry of an io_uring takes one of those, so such a
 * transfer goes as parts, one for each, and is over when they are. The block layer puts them
 * together again; what they cost is less than pinning the pages of a vector.
 */
#ifndef BLKBACK_STORE_URING_PARTS_H
#define BLKBACK_STORE_URING_PARTS_H

#include "blkback/io.h"
#include "uring_buffers.h"

#include <stdbool.h>

struct uring_part {
    struct io io; /* first: its completion casts back */
    struct iovec iov;
    struct io *whole;
    struct uring_parts *owner;
    struct uring_part *next_free;
};

struct uring_parts {
    struct uring_part *all;
    struct uring_part *free;
    unsigned fresh;     /* from here on they were never used, and take no memory */
    unsigned available; /* free ones and fresh ones */
};

/* For at most `count` at once; returns 0 or -ENOMEM. */
int uring_parts_create(unsigned count, struct uring_parts *out);
void uring_parts_destroy(struct uring_parts *parts);

/* Into how many parts `io` is to be taken apart, at most `room`; 0: it goes as a vector. Counts as
 * a use of its buffers, which may have them registered. */
unsigned uring_parts_wanted(const struct uring_parts *parts, struct uring_buffers *buffers,
                            const struct io *io, unsigned room);

/* Takes it apart, into as many as were wanted: io->iov_count calls, each for one that is to be
 * submitted. The last one that is done is what `io` is done by. */
void uring_parts_begin(struct io *io);
struct io *uring_parts_take(struct uring_parts *parts, struct io *io, unsigned index);

#endif
