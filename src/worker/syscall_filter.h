/* SPDX-License-Identifier: BSD-2-Clause */
/* The system calls of a confined worker. */
#ifndef BLKBACK_WORKER_SYSCALL_FILTER_H
#define BLKBACK_WORKER_SYSCALL_FILTER_H

#include "sandbox.h"

/*
 * Has the kernel kill the process, from now on and in all threads that there are, at any system
 * call that the profile does not list. Returns 0 or -errno: the kernel has no filters, or does not
 * allow them.
 */
int syscall_filter_install(enum sandbox_profile profile);

#endif
