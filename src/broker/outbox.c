/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages on their way to a worker: see outbox.h. */
#include "outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct letter {
    STAILQ_ENTRY(letter) entry;
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];
    unsigned fd_count;
};

static void discard(struct letter *letter)
{
    for (unsigned i = 0; i < letter->fd_count; i++)
        close(letter->fds[i]);
    free(letter);
}

static void stop(struct outbox *outbox)
{
    ev_io_stop(outbox->loop, &outbox->writable);
    ev_timer_stop(outbox->loop, &outbox->patience);
}

/* Sends what it can. Returns 0 when nothing waits any more, -EAGAIN or -errno. */
static int deliver(struct outbox *outbox)
{
    struct letter *letter;

    while ((letter = STAILQ_FIRST(&outbox->letters)) != NULL) {
        int error =
            worker_message_send(outbox->socket, &letter->message, letter->fds, letter->fd_count);
        if (error != 0)
            return error;
        STAILQ_REMOVE_HEAD(&outbox->letters, entry);
        outbox->count--;
        discard(letter);
        ev_timer_again(outbox->loop, &outbox->patience); /* it takes something */
    }
    return 0;
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct outbox *outbox = watcher->data;
    (void)loop;
    (void)events;

    int error = deliver(outbox);
    if (error == -EAGAIN)
        return;
    stop(outbox);
    if (error != 0)
        outbox->failed(outbox->context);
}

static void on_patience_end(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct outbox *outbox = timer->data;
    (void)loop;
    (void)events;
    stop(outbox);
    outbox->failed(outbox->context);
}

void outbox_init(struct outbox *outbox, struct ev_loop *loop, int socket,
                 void (*failed)(void *context), void *context)
{
    *outbox = (struct outbox){.loop = loop, .socket = socket, .failed = failed, .context = context};
    STAILQ_INIT(&outbox->letters);
    ev_io_init(&outbox->writable, on_writable, socket, EV_WRITE);
    ev_timer_init(&outbox->patience, on_patience_end, 0., OUTBOX_PATIENCE);
    /* Where we were held up for so long, it may have made room: that comes first. */
    ev_set_priority(&outbox->patience, EV_MINPRI);
    outbox->writable.data = outbox;
    outbox->patience.data = outbox;
}

static int wait(struct outbox *outbox, const struct worker_message *message, const int *fds,
                unsigned fd_count)
{
    if (outbox->count >= OUTBOX_MESSAGES_MAX)
        return -EAGAIN;
    struct letter *letter = malloc(sizeof(*letter));
    if (letter == NULL)
        return -ENOMEM;
    letter->message = *message;
    for (letter->fd_count = 0; letter->fd_count < fd_count; letter->fd_count++) {
        int fd = fcntl(fds[letter->fd_count], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            int error = -errno;
            discard(letter);
            return error;
        }
        letter->fds[letter->fd_count] = fd;
    }
    if (STAILQ_EMPTY(&outbox->letters)) {
        ev_io_start(outbox->loop, &outbox->writable);
        ev_timer_again(outbox->loop, &outbox->patience);
    }
    STAILQ_INSERT_TAIL(&outbox->letters, letter, entry);
    outbox->count++;
    return 0;
}

int outbox_send(struct outbox *outbox, const struct worker_message *message, const int *fds,
                unsigned fd_count)
{
    if (fd_count > WORKER_MESSAGE_MAX_FDS)
        return -EINVAL;
    if (!STAILQ_EMPTY(&outbox->letters))
        return wait(outbox, message, fds, fd_count);
    int error = worker_message_send(outbox->socket, message, fds, fd_count);
    return error == -EAGAIN ? wait(outbox, message, fds, fd_count) : error;
}

void outbox_clear(struct outbox *outbox)
{
    struct letter *letter;

    stop(outbox);
    while ((letter = STAILQ_FIRST(&outbox->letters)) != NULL) {
        STAILQ_REMOVE_HEAD(&outbox->letters, entry);
        discard(letter);
    }
    outbox->count = 0;
}
