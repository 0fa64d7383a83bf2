/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages on their way to a worker. Its socket takes some dozens; what a worker with many disks is
 * told when it starts, or at once by all of them, is more. The rest waits here, in order.
 */
#ifndef BLKBACK_BROKER_OUTBOX_H
#define BLKBACK_BROKER_OUTBOX_H

#include "blkback/worker_protocol.h"

#include <ev.h>
#include <sys/queue.h>

/* How long a worker may take nothing while something waits for it, seconds. */
#define OUTBOX_PATIENCE 5.0

/* No honest use comes near it: a worker has some messages for each disk and ring. */
#define OUTBOX_MESSAGES_MAX 65536U

struct letter;

struct outbox {
    struct ev_loop *loop;
    int socket; /* the owner's */
    void *context;
    void (*failed)(void *context); /* what waits will not arrive: from the loop, never from within
                                      outbox_send() */
    STAILQ_HEAD(, letter) letters;
    unsigned count;
    ev_io writable;    /* while something waits */
    ev_timer patience; /* the same */
};

/* An empty one for a non-blocking `socket`. */
void outbox_init(struct outbox *outbox, struct ev_loop *loop, int socket,
                 void (*failed)(void *context), void *context);

/*
 * Sends after everything that waits, or has it wait. Descriptors stay the caller's: of those that
 * wait there are duplicates, which are closed when they have been sent. Returns 0; -EAGAIN when too
 * much waits; or -errno.
 */
int outbox_send(struct outbox *outbox, const struct worker_message *message, const int *fds,
                unsigned fd_count);

/* Drops what waits. The socket may be closed afterwards. */
void outbox_clear(struct outbox *outbox);

#endif
