/* SPDX-License-Identifier: BSD-2-Clause */
/* A system call that Debian 12's liburing declares a function for, and does not export. */
#include "uring_register.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int uring_register(int ring_fd, unsigned what, const void *array, unsigned count)
{
    return syscall(SYS_io_uring_register, ring_fd, what, array, count) < 0 ? -errno : 0;
}
