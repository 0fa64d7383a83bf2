/* SPDX-License-Identifier: BSD-2-Clause */
/* Making a thread: see thread.h. */
#include "blkback/thread.h"

#include <signal.h>
#include <stddef.h>

#define STACK_BYTES ((size_t)256 << 10)

int thread_start(void *(*run)(void *context), void *context, pthread_t *out)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int error = pthread_attr_init(&attributes);

    if (error)
        return -error;
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(out, &attributes, run, context);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return -error;
}
