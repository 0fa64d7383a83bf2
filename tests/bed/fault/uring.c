/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Wrappers of liburing. An operation that is taken out is replaced in its submission entry by a
 * read from an eventfd that our thread writes to when it has done the operation; its completion
 * gets the operation's result when it is looked at. A read is what a confined ring takes.
 */
#include "fault.h"

#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tracked {
    struct tracked *next;
    uint64_t user_data;
    const struct io_uring *ring;
    struct fault_op op;
    int event;     /* -1: passed to the kernel as it is */
    uint64_t read; /* from it */
    _Atomic ssize_t result;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tracked *all;

static bool describe(const struct io_uring_sqe *sqe, struct fault_op *op)
{
    struct iovec one = {.iov_base = (void *)(uintptr_t)sqe->addr, .iov_len = sqe->len};
    const struct iovec *iov = &one;
    int count = 1;
    enum fault_kind kind = FAULT_FLUSH;

    switch (sqe->opcode) {
    case IORING_OP_READ:
    case IORING_OP_READ_FIXED:
        kind = FAULT_READ;
        break;
    case IORING_OP_WRITE:
    case IORING_OP_WRITE_FIXED:
        kind = FAULT_WRITE;
        break;
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
        kind = sqe->opcode == IORING_OP_READV ? FAULT_READ : FAULT_WRITE;
        iov = (const struct iovec *)(uintptr_t)sqe->addr;
        count = (int)sqe->len;
        break;
    case IORING_OP_FSYNC:
        count = 0;
        break;
    default:
        return false;
    }
    return fault_op_init(op, kind, sqe->fd, iov, count, count ? sqe->off : 0);
}

static void finish(void *context, ssize_t result)
{
    struct tracked *t = context;
    uint64_t one = 1;

    t->result = result;
    if (write(t->event, &one, sizeof(one)) != sizeof(one))
        abort();
}

static void inspect(struct io_uring *ring, struct io_uring_sqe *sqe)
{
    struct fault_verdict verdict;
    struct fault_op op;
    struct tracked *t;

    if (sqe->flags & IOSQE_FIXED_FILE || !fault_watches(sqe->fd) || !describe(sqe, &op))
        return;
    verdict = fault_decide(&op);
    fault_log_start(&op);
    t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    *t = (struct tracked){.user_data = sqe->user_data, .ring = ring, .op = op, .event = -1};
    if (!verdict.plain) {
        t->event = fault_take_event();
        io_uring_prep_read(sqe, t->event, &t->read, sizeof(t->read), 0);
        sqe->user_data = t->user_data;
    }
    pthread_mutex_lock(&lock);
    t->next = all;
    all = t;
    pthread_mutex_unlock(&lock);
    if (!verdict.plain)
        fault_later(&t->op, &verdict, finish, t);
}

int io_uring_submit(struct io_uring *ring)
{
    struct io_uring_sq *sq = &ring->sq;

    for (unsigned int i = sq->sqe_head; i != sq->sqe_tail; i++)
        inspect(ring, &sq->sqes[i & *sq->kring_mask]);
    return FAULT_NEXT(io_uring_submit)(ring);
}

static void amend(const struct io_uring *ring, struct io_uring_cqe *cqe)
{
    struct tracked **p, *t;

    pthread_mutex_lock(&lock);
    for (p = &all; *p && !((*p)->ring == ring && (*p)->user_data == cqe->user_data);
         p = &(*p)->next)
        ;
    t = *p;
    if (t)
        *p = t->next;
    pthread_mutex_unlock(&lock);
    if (!t)
        return;
    if (t->event >= 0) {
        cqe->res = (int)t->result;
        fault_give_event(t->event);
    }
    fault_log_end(&t->op, cqe->res);
    fault_op_free(&t->op);
    free(t);
}

unsigned io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count)
{
    unsigned n = FAULT_NEXT(io_uring_peek_batch_cqe)(ring, cqes, count);

    for (unsigned i = 0; i < n; i++)
        amend(ring, cqes[i]);
    return n;
}
