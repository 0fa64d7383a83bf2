/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a block device can discard. Only sysfs says it, which is read by path: so the process that
 * opens images asks, and passes the answer on to the one that serves them.
 */
#ifndef BLKBACK_DISCARD_LIMITS_H
#define BLKBACK_DISCARD_LIMITS_H

#include <stdint.h>

struct discard_limits {
    uint64_t max_bytes;   /* of one discard; 0: the device does not discard */
    uint32_t granularity; /* bytes: the device's unit of allocation; 0: it does not say */
    uint32_t alignment;   /* bytes: where in the device its first whole granule begins */
};

/*
 * Asks for the limits of the block device open as `fd`, a whole one or a partition. Returns 0, with
 * max_bytes 0 where the device does not discard or sysfs has nothing on it; -ENOTBLK if it is no
 * block device; or another -errno. (Linux: Documentation/ABI/stable/sysfs-block.)
 */
int discard_limits_read(int fd, struct discard_limits *out);

#endif
