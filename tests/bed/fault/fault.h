/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libbedfault: preloaded beneath a backend, it makes the image's storage bad or slow, and writes
 * down what reaches it.
 *
 *   BLKBACKD_FAULT_FILE     the image: only I/O on this file is touched (told by device and inode)
 *   BLKBACKD_FAULT_CONTROL  a file of struct fault_control, mapped: the test changes it while the
 * backend runs BLKBACKD_FAULT_LOG      lines "S number kind offset length" when an operation is
 * handed over and "C number kind offset length result" when its completion is seen by the backend
 *
 * What can be reached: preadv(2), pwritev(2), their relatives, fsync and fdatasync; libaio's
 * io_submit and io_getevents; liburing's io_uring_submit and io_uring_peek_batch_cqe. An
 * asynchronous operation that is to be late, short or failed is taken out and done by a thread of
 * this library; the others reach the kernel as they are.
 */
#ifndef BED_FAULT_H
#define BED_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define FAULT_IOV_MAX 1024

enum fault_kind { FAULT_READ, FAULT_WRITE, FAULT_FLUSH, FAULT_KINDS };

/* Repeated in bedlib/fault.py. */
struct fault_control {
    _Atomic uint32_t error[FAULT_KINDS]; /* errno to fail with, 0: none */
    _Atomic uint32_t failures;           /* so many more operations fail; UINT32_MAX: all */
    _Atomic uint32_t short_one_in; /* every n-th read or write transfers only a part; 0: none */
    _Atomic uint32_t delay_one_in; /* every n-th operation is late; 0: none */
    _Atomic uint32_t delay_us;     /* by a random time up to this */
    _Atomic uint32_t hold[FAULT_KINDS]; /* operations of this kind wait until it is 0 again */
    _Atomic uint32_t outlive;  /* 1: writes and flushes that are late or held go on without the
                                  process, holding its file description */
    _Atomic uint64_t from, to; /* error: only operations that touch these bytes; to = 0: all */
    _Atomic uint32_t seen[FAULT_KINDS]; /* operations handed over */
    _Atomic uint32_t failed, shortened, delayed, held;
};

struct fault_op {
    enum fault_kind kind;
    int fd;
    int iovcnt;
    uint64_t offset, length, number;
    struct iovec *iov; /* malloc'ed by fault_op_new() */
};

struct fault_verdict {
    int error;         /* fail with this errno */
    uint64_t length;   /* transfer this much at most */
    uint32_t delay_us; /* not before */
    bool plain;        /* nothing to be done to it */
};

/* Whether there is anything to be done in this process. */
bool fault_active(void);
/* Eventfds that were made when the library was loaded. */
int fault_take_event(void);
void fault_give_event(int event);
void fault_nap(const struct timespec *nap);
/* Whether operations on fd are ours. */
bool fault_watches(int fd);
/* Fills an operation; false when out of memory. */
bool fault_op_init(struct fault_op *op, enum fault_kind kind, int fd, const struct iovec *iov,
                   int iovcnt, uint64_t offset);
void fault_op_free(struct fault_op *op);
struct fault_verdict fault_decide(const struct fault_op *op);
bool fault_is_held(const struct fault_op *op);

/* Tells the test of it, if it is held. */
void fault_count_held(const struct fault_op *op);
bool fault_outlives(const struct fault_op *op, const struct fault_verdict *verdict);
/* Numbers it and logs that it was handed over. */
void fault_log_start(struct fault_op *op);
void fault_log_end(const struct fault_op *op, ssize_t result);
/* Does it in the calling thread as the verdict says, holding and delays aside. Bytes or -errno. */
ssize_t fault_execute(const struct fault_op *op, const struct fault_verdict *verdict);
/* The same with holding and delays. */
ssize_t fault_execute_in_place(struct fault_op *op);

/* later.c: done(context, result) is called in the library's thread when the operation is over; op
 * is copied. */
void fault_later(const struct fault_op *op, const struct fault_verdict *verdict,
                 void (*done)(void *context, ssize_t result), void *context);

/* outlive.c: hands it to a process of its own; the descriptor to read its outcome from, in the end
 * with fault_outlive_result(). */
int fault_outlive(const struct fault_op *op, const struct fault_verdict *verdict, pid_t *pid);
ssize_t fault_outlive_result(int fd, pid_t pid);

/* The next definition of a function, for wrappers: FAULT_NEXT(fsync)(fd). */
typedef void (*fault_function)(void);
fault_function fault_next(const char *name);
#define FAULT_NEXT(name) ((__typeof__(&(name)))fault_next(#name))

#endif
