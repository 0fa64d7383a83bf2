/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads of a worker, which are all made alike. */
#ifndef BLKBACK_THREAD_H
#define BLKBACK_THREAD_H

#include <pthread.h>

/*
 * Starts a thread with every signal blocked, for signals are the main thread's, and with a stack of
 * 256 KiB: none has large variables, and the default would be reserved, and locked with mlockall.
 * Returns 0 or -errno.
 */
int thread_start(void *(*run)(void *context), void *context, pthread_t *out);

#endif
