/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread's mailbox, for the file that makes up the rest of it: io_thread.c. */
#ifndef BLKBACK_WORKER_IO_MAILBOX_H
#define BLKBACK_WORKER_IO_MAILBOX_H

#include "io_thread.h"

/* With the thread's loop made. Lets queues that wait for another thread's write be woken, too.
 * Returns 0 or -errno. */
int io_mailbox_create(struct io_thread *thread);

/* The last that a thread does: lets io_mailbox_wait_for_end() go on. */
void io_mailbox_end(struct io_thread *thread);

/* Waits for that, by a clock that does not jump. Returns whether it came in time. */
bool io_mailbox_wait_for_end(struct io_thread *thread, unsigned seconds);

/* Accepts a thread without one. */
void io_mailbox_destroy(struct io_thread *thread);

#endif
