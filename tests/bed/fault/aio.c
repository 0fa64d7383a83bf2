/* SPDX-License-Identifier: BSD-2-Clause */
/* Wrappers of libaio. Operations that are taken out complete through a list of our own and the
 * iocb's eventfd. */
#include "fault.h"

#include <libaio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tracked {
    struct tracked *next;
    struct iocb *iocb;
    io_context_t context;
    struct fault_op op;
    bool finished; /* ours, with result */
    ssize_t result;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tracked *all;

static bool describe(struct iocb *iocb, struct fault_op *op)
{
    struct iovec one = {.iov_base = iocb->u.c.buf, .iov_len = iocb->u.c.nbytes};
    const struct iovec *iov = &one;
    int count = 1;
    enum fault_kind kind = FAULT_FLUSH;

    switch ((int)iocb->aio_lio_opcode) {
    case IO_CMD_PREAD:
        kind = FAULT_READ;
        break;
    case IO_CMD_PWRITE:
        kind = FAULT_WRITE;
        break;
    case IO_CMD_PREADV:
    case IO_CMD_PWRITEV:
        kind = iocb->aio_lio_opcode == IO_CMD_PREADV ? FAULT_READ : FAULT_WRITE;
        iov = iocb->u.v.vec;
        count = (int)iocb->u.v.nr;
        break;
    case IO_CMD_FSYNC:
    case IO_CMD_FDSYNC:
        count = 0;
        break;
    default:
        return false;
    }
    return fault_op_init(op, kind, iocb->aio_fildes, iov, count,
                         count ? (uint64_t)iocb->u.c.offset : 0);
}

static void finish(void *context, ssize_t result)
{
    struct tracked *t = context;
    uint64_t one = 1;
    int fd = t->iocb->u.c.flags & 1 ? (int)t->iocb->u.c.resfd : -1; /* IOCB_FLAG_RESFD */

    pthread_mutex_lock(&lock);
    t->result = result;
    t->finished = true;
    pthread_mutex_unlock(&lock);
    if (fd >= 0 && write(fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

static struct tracked *track(io_context_t context, struct iocb *iocb, const struct fault_op *op)
{
    struct tracked *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    *t = (struct tracked){.iocb = iocb, .context = context, .op = *op};
    pthread_mutex_lock(&lock);
    t->next = all;
    all = t;
    pthread_mutex_unlock(&lock);
    return t;
}

/* Takes one iocb out, or notes it and lets it pass: then true. */
static bool passes(io_context_t context, struct iocb *iocb)
{
    struct fault_verdict verdict;
    struct fault_op op;
    struct tracked *t;

    if (!fault_watches(iocb->aio_fildes) || !describe(iocb, &op))
        return true;
    verdict = fault_decide(&op);
    fault_log_start(&op);
    t = track(context, iocb, &op);
    if (verdict.plain)
        return true;
    fault_later(&op, &verdict, finish, t);
    return false;
}

/* One by one, so that the order of the log is that of submission. */
int io_submit(io_context_t context, long count, struct iocb **iocbs)
{
    for (long i = 0; i < count; i++) {
        int result = 1;

        if (passes(context, iocbs[i]))
            result = FAULT_NEXT(io_submit)(context, 1, &iocbs[i]);
        if (result != 1)
            return i ? (int)i : result;
    }
    return (int)count;
}

/* Removes what is known of an iocb. */
static struct tracked *forget(const struct iocb *iocb)
{
    struct tracked **p, *t;

    pthread_mutex_lock(&lock);
    for (p = &all; *p && (*p)->iocb != iocb; p = &(*p)->next)
        ;
    t = *p;
    if (t)
        *p = t->next;
    pthread_mutex_unlock(&lock);
    return t;
}

static struct tracked *take_finished(io_context_t context)
{
    struct tracked **p, *t;

    pthread_mutex_lock(&lock);
    for (p = &all; *p && !((*p)->finished && (*p)->context == context); p = &(*p)->next)
        ;
    t = *p;
    if (t)
        *p = t->next;
    pthread_mutex_unlock(&lock);
    return t;
}

static void log_and_free(struct tracked *t, ssize_t result)
{
    fault_log_end(&t->op, result);
    fault_op_free(&t->op);
    free(t);
}

int io_getevents(io_context_t context, long min, long max, struct io_event *events,
                 struct timespec *timeout)
{
    long n = 0;
    int real;

    for (struct tracked *t; n < max && (t = take_finished(context)); n++) {
        events[n] = (struct io_event){
            .data = t->iocb->data, .obj = t->iocb, .res = (unsigned long)t->result};
        log_and_free(t, t->result);
    }
    if (n == max)
        return (int)n;
    real = FAULT_NEXT(io_getevents)(context, n < min ? min - n : 0, max - n, events + n, timeout);
    for (int i = 0; i < real; i++) {
        struct tracked *t = forget(events[n + i].obj);

        if (t)
            log_and_free(t, (ssize_t)events[n + i].res);
    }
    return real < 0 && n == 0 ? real : (int)n + (real > 0 ? real : 0);
}
