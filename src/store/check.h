/* SPDX-License-Identifier: BSD-2-Clause */
/* What every driver checks and says in the same way. */
#ifndef BLKBACK_STORE_CHECK_H
#define BLKBACK_STORE_CHECK_H

#include "blkback/store.h"

#include <stdio.h>

#define STORE_SECTOR_MIN 512U
#define STORE_SECTOR_MAX 4096U /* a guest's page: a larger sector would not fit into a segment */

/*
 * Whether a driver with `caps` can carry out `io`: 0, -EROFS for a write to or a discard on a
 * read-only store, -ENOTSUP for a discard where there is none, -EINVAL when it is not aligned, runs
 * past the end, or its vector does not add up. The data path
 * asks for nothing of the kind; this is what keeps a mistake there from becoming an access outside
 * the disk.
 */
int store_check_io(const struct store_caps *caps, const struct io *io);

/* Puts the reason for people, a format with its arguments, into `why`; its value is `error`. */
#define store_refuse(why, why_size, error, ...) \
    ((void)snprintf((why), (why_size), __VA_ARGS__), (error))

/* A power of two from STORE_SECTOR_MIN to STORE_SECTOR_MAX. */
bool store_sector_size_valid(uint32_t size);

#endif
