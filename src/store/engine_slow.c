/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The slow engine: a thread that makes blocking system calls, so that the loop's need not.
 * Submission collects, commit hands over under a lock, completions are announced through an
 * eventfd, which is readable exactly while there are some.
 */
#include "blkback/engine.h"
#include "blkback/thread.h"
#include "discard.h"
#include "progress.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

struct list {
    struct io *first;
    struct io **end; /* where the next is to be linked */
};

struct slow {
    struct engine base;
    unsigned depth;
    int event;
    struct list collected; /* since the last commit; the loop's alone */
    pthread_t thread;
    pthread_cond_t changed;
    pthread_mutex_t lock; /* of everything below, and of the eventfd's value */
    bool running;
    struct list todo; /* in turns: after each system call an I/O goes to the end */
    struct list over;
    bool stop;
};

static struct slow *slow_of(struct engine *engine)
{
    return (struct slow *)engine;
}

static void list_init(struct list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_push(struct list *list, struct io *io)
{
    io->engine.next = NULL;
    *list->end = io;
    list->end = &io->engine.next;
}

static struct io *list_pop(struct list *list)
{
    struct io *io = list->first;

    list->first = io->engine.next;
    if (!list->first)
        list->end = &list->first;
    return io;
}

static void list_move(struct list *from, struct list *to)
{
    *to->end = from->first;
    to->end = from->end;
    list_init(from);
}

/* With the lock held. The eventfd counts to 1: it is written when the list gets its first, and read
 * when the list is taken. */
static void report(struct slow *slow, struct io *io)
{
    if (!slow->over.first)
        (void)eventfd_write(slow->event, 1);
    list_push(&slow->over, io);
}

static void *run(void *context)
{
    struct slow *slow = context;

    /* A thread's own, and the process may give up its privileges only after this one was made. */
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    pthread_mutex_lock(&slow->lock);
    slow->running = true;
    pthread_cond_signal(&slow->changed);
    while (!slow->stop) {
        struct io *io = NULL;
        bool over = false;

        if (!slow->todo.first) {
            pthread_cond_wait(&slow->changed, &slow->lock);
            continue;
        }
        io = list_pop(&slow->todo);
        pthread_mutex_unlock(&slow->lock);
        over = progress_over(io, discard_attempt(io));
        pthread_mutex_lock(&slow->lock);
        if (over)
            report(slow, io);
        else
            list_push(&slow->todo, io);
    }
    pthread_mutex_unlock(&slow->lock);
    return NULL;
}

/*
 * It is waited for until what it does at its start is over, since the process may be confined next
 * to calls that that is not among.
 */
static int start_thread(struct slow *slow)
{
    const int error = thread_start(run, slow, &slow->thread);

    if (error)
        return error;
    pthread_mutex_lock(&slow->lock);
    while (!slow->running)
        pthread_cond_wait(&slow->changed, &slow->lock);
    pthread_mutex_unlock(&slow->lock);
    return 0;
}

static void release(struct slow *slow)
{
    (void)close(slow->event);
    (void)pthread_cond_destroy(&slow->changed);
    (void)pthread_mutex_destroy(&slow->lock);
    free(slow);
}

static int slow_create(unsigned depth, const struct engine_memory *memory, struct engine **out)
{
    (void)memory;
    struct slow *slow = NULL;
    int error = 0;
    int event = -1;

    if (depth == 0)
        return -EINVAL;
    event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0)
        return -errno;
    slow = calloc(1, sizeof(*slow));
    if (!slow) {
        (void)close(event);
        return -ENOMEM;
    }
    slow->base.ops = &engine_slow;
    slow->depth = depth;
    slow->event = event;
    list_init(&slow->collected);
    list_init(&slow->todo);
    list_init(&slow->over);
    (void)pthread_mutex_init(&slow->lock, NULL);
    (void)pthread_cond_init(&slow->changed, NULL);
    error = start_thread(slow);
    if (error) {
        release(slow);
        return error;
    }
    *out = &slow->base;
    return 0;
}

static enum io_submit slow_submit(struct engine *engine, int fd, struct io *io)
{
    struct slow *slow = slow_of(engine);

    if (io->operation != IO_DISCARD) {
        io->result = -ENOTSUP;
        return IO_DONE;
    }
    if (engine->in_flight >= slow->depth)
        return IO_BUSY;
    progress_start(io, fd);
    list_push(&slow->collected, io);
    engine->in_flight++;
    return IO_QUEUED;
}

static int slow_commit(struct engine *engine)
{
    struct slow *slow = slow_of(engine);

    if (!slow->collected.first)
        return 0;
    pthread_mutex_lock(&slow->lock);
    list_move(&slow->collected, &slow->todo);
    pthread_cond_signal(&slow->changed);
    pthread_mutex_unlock(&slow->lock);
    return 0;
}

static unsigned slow_reap(struct engine *engine)
{
    struct slow *slow = slow_of(engine);
    struct io *io = NULL;
    eventfd_t signals = 0;
    unsigned done = 0;

    if (engine->in_flight == 0)
        return 0;
    pthread_mutex_lock(&slow->lock);
    io = slow->over.first;
    list_init(&slow->over);
    if (io)
        (void)eventfd_read(slow->event, &signals);
    pthread_mutex_unlock(&slow->lock);
    while (io) {
        struct io *next = io->engine.next;

        engine->in_flight--;
        done++;
        io->done(io);
        io = next;
    }
    return done;
}

static int slow_event_fd(const struct engine *engine)
{
    return ((const struct slow *)engine)->event;
}

static void slow_destroy(struct engine *engine)
{
    struct slow *slow = slow_of(engine);

    pthread_mutex_lock(&slow->lock);
    slow->stop = true;
    pthread_cond_signal(&slow->changed);
    pthread_mutex_unlock(&slow->lock);
    (void)pthread_join(slow->thread, NULL);
    release(slow);
}

const struct engine_ops engine_slow = {
    .name = "slow",
    .create = slow_create,
    .submit = slow_submit,
    .commit = slow_commit,
    .reap = slow_reap,
    .event_fd = slow_event_fd,
    .destroy = slow_destroy,
};
