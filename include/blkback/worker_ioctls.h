/* SPDX-License-Identifier: BSD-2-Clause */
/* The ioctl requests of the Xen devices that a worker makes once it is confined. */
#ifndef BLKBACK_WORKER_IOCTLS_H
#define BLKBACK_WORKER_IOCTLS_H

extern const unsigned long worker_ioctls[];
extern const unsigned worker_ioctl_count;

#endif
