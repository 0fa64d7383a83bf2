/* SPDX-License-Identifier: BSD-2-Clause */
/* What is registered with an io_uring, by system call. */
#ifndef BLKBACK_STORE_URING_REGISTER_H
#define BLKBACK_STORE_URING_REGISTER_H

/* io_uring_register() of the kernel. Returns 0 or -errno. */
int uring_register(int ring_fd, unsigned what, const void *array, unsigned count);

#endif
