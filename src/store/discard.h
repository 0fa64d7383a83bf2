/* SPDX-License-Identifier: BSD-2-Clause */
/* How an image's bytes are discarded: by a hole in a file, by an ioctl of a block device. */
#ifndef BLKBACK_STORE_DISCARD_H
#define BLKBACK_STORE_DISCARD_H

#include "blkback/discard_limits.h"
#include "blkback/io.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

/* Of fallocate(), for a hole in a file. */
#define DISCARD_FALLOCATE_MODE (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* How an open image discards. All zero: not at all. */
struct discard_rules {
    bool possible;
    bool secure;          /* also so that nothing is left on the medium */
    bool device;          /* by ioctl, not by punching a hole */
    uint32_t granularity; /* bytes: see struct store_caps */
    uint32_t alignment;
    uint64_t chunk; /* bytes: the most that one system call discards; a multiple of granularity */
};

/*
 * Asks how `fd`, which is open for writing, discards, without discarding anything: a file by a hole
 * far beyond its end at `size`, a device by a range that it has to refuse. `limits` are of a
 * device; `sector` is the least granularity.
 */
struct discard_rules discard_probe_file(int fd, uint64_t size, uint32_t sector);
struct discard_rules discard_probe_device(int fd, const struct discard_limits *limits,
                                          uint32_t sector);

/*
 * Readies the engine's part of `io` for discarding its range: rounded inwards to whole granules, or
 * as it is if it is to be secure. Returns false when nothing is left of it.
 */
bool discard_prepare(const struct discard_rules *rules, struct io *io);

/* Bytes of the next attempt at `io`, from engine.position on. */
uint64_t discard_span(const struct io *io);

/* Makes that attempt, blocking. Returns 0 or -errno; -ENOTSUP where the image can't, whatever the
 * kernel calls it. */
int discard_attempt(const struct io *io);

#endif
