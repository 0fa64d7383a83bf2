/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux AIO engine, for kernels that lack or forbid io_uring. Submission collects, commit is
 * one io_submit, completions are announced through an eventfd. Without O_DIRECT the kernel does the
 * I/O within io_submit.
 */
#include "blkback/engine.h"
#include "progress.h"

#include <assert.h>
#include <errno.h>
#include <libaio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REAP_BATCH 64

static_assert(sizeof(struct iocb) <= sizeof(((struct io *)NULL)->engine.words),
              "a struct iocb fits into the engine's part of an I/O");

struct aio {
    struct engine base;
    io_context_t context;
    int event;
    unsigned depth;
    /*
     * Every completion adds 1 to the eventfd. Reaped less what was read from it; reading while this
     * is 0 would be a wasted system call, and below 0 means that the signal of an event not yet
     * reaped was consumed.
     */
    int64_t unread;
    struct io *refused; /* over already when they were submitted; reported by the next reap */
    bool again;         /* something was put back into `waiting` by reap */
    unsigned waiting_count;
    struct iocb *waiting[]; /* `depth`: not yet handed to the kernel, oldest first */
};

static struct aio *aio_of(struct engine *engine)
{
    return (struct aio *)engine;
}

static void aio_destroy(struct engine *engine)
{
    struct aio *aio = aio_of(engine);

    if (aio->context)
        io_destroy(aio->context);
    if (aio->event >= 0)
        close(aio->event);
    free(aio);
}

static int aio_create(unsigned depth, const struct engine_memory *memory, struct engine **out)
{
    (void)memory;
    struct aio *aio = NULL;
    int error = -EINVAL;

    if (depth == 0 || depth > INT32_MAX)
        return -EINVAL;
    aio = calloc(1, sizeof(*aio) + depth * sizeof(struct iocb *));
    if (!aio)
        return -ENOMEM;
    aio->base.ops = &engine_aio;
    aio->depth = depth;
    aio->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (aio->event < 0) {
        error = -errno;
        aio_destroy(&aio->base);
        return error;
    }
    error = io_setup((int)depth, &aio->context);
    if (error) {
        aio->context = NULL;
        aio_destroy(&aio->base);
        return error;
    }
    *out = &aio->base;
    return 0;
}

static void enqueue(struct aio *aio, struct io *io)
{
    struct iocb *iocb = (struct iocb *)(void *)io->engine.words;
    int fd = io->engine.fd;
    int count = progress_iov_count(io);
    long long position = (long long)io->engine.position;

    switch (io->operation) {
    case IO_READ:
        io_prep_preadv(iocb, fd, io->engine.iov, count, position);
        break;
    case IO_WRITE:
        io_prep_pwritev(iocb, fd, io->engine.iov, count, position);
        break;
    case IO_FLUSH:
    case IO_DISCARD: /* not let in by submit */
        io_prep_fdsync(iocb, fd);
        break;
    }
    io_set_eventfd(iocb, aio->event);
    iocb->data = io;
    aio->waiting[aio->waiting_count++] = iocb;
}

static int64_t sync_inline(int fd)
{
    int result = -1;

    do {
        result = fdatasync(fd);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

/* The kernel refused `io` when it was submitted. `done` is left to reap, which the eventfd is made
 * to call for. */
static void refuse(struct aio *aio, struct io *io, int64_t outcome)
{
    /* Before Linux 4.18 there is no flush here at all, and some file systems have none. */
    if (io->operation == IO_FLUSH && outcome == -EINVAL)
        outcome = sync_inline(io->engine.fd);
    if (!progress_over(io, outcome))
        io->result = -EIO;
    io->engine.next = aio->refused;
    aio->refused = io;
    if (eventfd_write(aio->event, 1) == 0)
        aio->unread++;
}

static int aio_commit(struct engine *engine)
{
    struct aio *aio = aio_of(engine);
    unsigned taken = 0;
    int error = 0;

    while (taken < aio->waiting_count) {
        struct iocb **rest = aio->waiting + taken;
        int submitted = io_submit(aio->context, (long)(aio->waiting_count - taken), rest);

        if (submitted > 0) {
            taken += (unsigned)submitted;
        } else if (submitted == 0 || submitted == -EAGAIN || submitted == -EINTR) {
            error = -EAGAIN;
            break;
        } else {
            /* An error is about the first of them; those before it were taken. */
            refuse(aio, rest[0]->data, submitted);
            taken++;
        }
    }
    aio->waiting_count -= taken;
    for (unsigned i = 0; i < aio->waiting_count; i++)
        aio->waiting[i] = aio->waiting[taken + i];
    return error;
}

static enum io_submit aio_submit(struct engine *engine, int fd, struct io *io)
{
    struct aio *aio = aio_of(engine);

    if (io->operation == IO_DISCARD) { /* the kernel's interface has none */
        io->result = -ENOTSUP;
        return IO_DONE;
    }
    if (engine->in_flight >= aio->depth)
        return IO_BUSY;
    progress_start(io, fd);
    enqueue(aio, io);
    engine->in_flight++;
    /* What goes wrong here goes wrong again at the commit. */
    if (aio->waiting_count >= ENGINE_BATCH)
        (void)aio_commit(engine);
    return IO_QUEUED;
}

static unsigned report_refused(struct aio *aio)
{
    struct io *io = aio->refused;
    unsigned done = 0;

    aio->refused = NULL;
    while (io) {
        struct io *next = io->engine.next;

        aio->base.in_flight--;
        io->done(io);
        done++;
        io = next;
    }
    return done;
}

/* Returns how many I/Os are over by it: 1 or 0. */
static unsigned complete(struct aio *aio, struct io *io, int64_t outcome)
{
    aio->unread++;
    if (!progress_over(io, outcome)) {
        enqueue(aio, io);
        aio->again = true;
        return 0;
    }
    aio->base.in_flight--;
    io->done(io);
    return 1;
}

/* Takes all events there are; libaio looks at the shared ring first and enters the kernel only if
 * it has some. */
static unsigned take_events(struct aio *aio)
{
    struct io_event events[REAP_BATCH];
    struct timespec at_once = {0};
    unsigned done = 0;
    int count = 0;

    do {
        count = io_getevents(aio->context, 0, REAP_BATCH, events, &at_once);
        for (int i = 0; i < count; i++)
            done += complete(aio, events[i].data, (int64_t)events[i].res);
    } while (count > 0);
    return done;
}

static unsigned aio_reap(struct engine *engine)
{
    struct aio *aio = aio_of(engine);
    unsigned done = report_refused(aio);
    eventfd_t signals = 0;

    done += take_events(aio);
    /* A signal that is still on its way makes the descriptor readable later, which costs a call of
     * this and nothing else. */
    while (aio->unread > 0 && eventfd_read(aio->event, &signals) == 0) {
        aio->unread -= (int64_t)signals;
        if (aio->unread < 0)
            done += take_events(aio);
        if (aio->unread < 0)
            aio->unread = 0;
    }
    /* Whether the caller commits before it sleeps is not known here. */
    if (aio->again) {
        aio->again = false;
        (void)aio_commit(engine);
    }
    return done;
}

static int aio_event_fd(const struct engine *engine)
{
    return ((const struct aio *)engine)->event;
}

const struct engine_ops engine_aio = {
    .name = "aio",
    .create = aio_create,
    .submit = aio_submit,
    .commit = aio_commit,
    .reap = aio_reap,
    .event_fd = aio_event_fd,
    .destroy = aio_destroy,
};
