/* SPDX-License-Identifier: BSD-2-Clause */
/* A kernel that does less than it is asked for: see faulty_kernel.h. */
#include "faulty_kernel.h"

#include <errno.h>
#include <libaio.h>
#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

struct faulty_kernel kernel;

static bool submission_fails(void)
{
    kernel.submissions++;
    if (kernel.submit_errors == 0)
        return false;
    if (kernel.good_submissions > 0) {
        kernel.good_submissions--;
        return false;
    }
    kernel.submit_errors--;
    return true;
}

/* The names are the linker's. */
/* NOLINTBEGIN(bugprone-reserved-identifier) */
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
ssize_t __real_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t __real_pwrite(int fd, const void *buffer, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buffer, size_t length, off_t offset);
ssize_t __real_preadv(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_preadv(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset);
int __real_io_setup(int depth, io_context_t *context);
int __wrap_io_setup(int depth, io_context_t *context);
int __real_io_submit(io_context_t context, long count, struct iocb *iocbs[]);
int __wrap_io_submit(io_context_t context, long count, struct iocb *iocbs[]);
int __real_io_getevents(io_context_t context, long least, long most, struct io_event *events,
                        struct timespec *timeout);
int __wrap_io_getevents(io_context_t context, long least, long most, struct io_event *events,
                        struct timespec *timeout);
int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
struct io_uring_probe *__real_io_uring_get_probe_ring(struct io_uring *ring);
struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
unsigned __real_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
                                        unsigned most);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
                                        unsigned most);
int __real_uring_register(int ring_fd, unsigned what, const void *array, unsigned count);
int __wrap_uring_register(int ring_fd, unsigned what, const void *array, unsigned count);

static bool attempt_fails(void)
{
    kernel.attempts++;
    if (kernel.errors == 0)
        return false;
    kernel.errors--;
    return true;
}

static size_t shortened(size_t length)
{
    return kernel.at_most && kernel.at_most < length ? kernel.at_most : length;
}

/* A copy of a vector as long as an attempt may be, ending within an entry if need be. Kernels take
 * their own when it is submitted, so it has to last no longer. */
static struct iovec *shortened_vector(const struct iovec *iov, unsigned *count)
{
    static struct iovec room[8192];
    static unsigned used;
    struct iovec *copy = NULL;
    size_t left = kernel.at_most;
    unsigned taken = 0;

    if (used + *count > sizeof(room) / sizeof(room[0]))
        used = 0;
    copy = room + used;
    while (taken < *count && left > 0) {
        copy[taken] = iov[taken];
        if (copy[taken].iov_len > left)
            copy[taken].iov_len = left;
        left -= copy[taken++].iov_len;
    }
    used += taken;
    *count = taken;
    return copy;
}

int __wrap_fdatasync(int fd)
{
    kernel.syncs++;
    if (attempt_fails()) {
        errno = -kernel.error;
        return -1;
    }
    return __real_fdatasync(fd);
}

ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset)
{
    if (attempt_fails()) {
        errno = -kernel.error;
        return -1;
    }
    return __real_pread(fd, buffer, shortened(length), offset);
}

ssize_t __wrap_pwrite(int fd, const void *buffer, size_t length, off_t offset)
{
    if (attempt_fails()) {
        errno = -kernel.error;
        return -1;
    }
    return __real_pwrite(fd, buffer, shortened(length), offset);
}

ssize_t __wrap_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (attempt_fails()) {
        errno = -kernel.error;
        return -1;
    }
    if (kernel.at_most) {
        unsigned entries = (unsigned)count;

        iov = shortened_vector(iov, &entries);
        count = (int)entries;
    }
    return __real_preadv(fd, iov, count, offset);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (attempt_fails()) {
        errno = -kernel.error;
        return -1;
    }
    if (kernel.at_most) {
        unsigned entries = (unsigned)count;

        iov = shortened_vector(iov, &entries);
        count = (int)entries;
    }
    return __real_pwritev(fd, iov, count, offset);
}

int __wrap_io_setup(int depth, io_context_t *context)
{
    return kernel.create_error ? kernel.create_error : __real_io_setup(depth, context);
}

static void shorten_iocb(struct iocb *iocb)
{
    unsigned count = (unsigned)iocb->u.c.nbytes;

    if (iocb->aio_lio_opcode != IO_CMD_PREADV && iocb->aio_lio_opcode != IO_CMD_PWRITEV)
        return;
    iocb->u.c.buf = shortened_vector(iocb->u.c.buf, &count);
    iocb->u.c.nbytes = count;
}

int __wrap_io_submit(io_context_t context, long count, struct iocb *iocbs[])
{
    if (submission_fails())
        return kernel.submit_error;
    for (long i = 0; i < count; i++) {
        if (kernel.no_fdsync && iocbs[i]->aio_lio_opcode == IO_CMD_FDSYNC)
            return i == 0 ? -EINVAL : __real_io_submit(context, i, iocbs);
        if (kernel.at_most)
            shorten_iocb(iocbs[i]);
    }
    if (kernel.taken_at_most && count > (long)kernel.taken_at_most)
        count = (long)kernel.taken_at_most;
    return __real_io_submit(context, count, iocbs);
}

int __wrap_io_getevents(io_context_t context, long least, long most, struct io_event *events,
                        struct timespec *timeout)
{
    static bool pause;
    int count = 0;

    if (pause) {
        pause = false;
        return 0;
    }
    if (kernel.events_at_first > 0) {
        most = (long)kernel.events_at_first;
        kernel.events_at_first = 0;
        pause = true;
    }
    count = __real_io_getevents(context, least, most, events, timeout);
    for (int i = 0; i < count; i++) {
        if (attempt_fails())
            events[i].res = (unsigned long)(long)kernel.error;
    }
    return count;
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    if (kernel.create_error)
        return kernel.create_error;
    if (params->flags & kernel.refused_flags)
        return -EINVAL;
    return __real_io_uring_queue_init_params(entries, ring, params);
}

struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring)
{
    struct io_uring_probe *probe = __real_io_uring_get_probe_ring(ring);

    if (kernel.no_opcodes)
        probe->ops[IORING_OP_READ].flags = 0;
    return probe;
}

static void shorten_sqe(struct io_uring_sqe *sqe)
{
    if (sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV) {
        unsigned count = sqe->len;

        sqe->addr = (uintptr_t)shortened_vector((const struct iovec *)(uintptr_t)sqe->addr, &count);
        sqe->len = count;
    }
    if (sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_WRITE ||
        sqe->opcode == IORING_OP_READ_FIXED || sqe->opcode == IORING_OP_WRITE_FIXED)
        sqe->len = (unsigned)shortened(sqe->len);
}

int __wrap_uring_register(int ring_fd, unsigned what, const void *array, unsigned count)
{
    if (what == IORING_REGISTER_BUFFERS2 && kernel.no_table)
        return kernel.no_table;
    kernel.registrations += what == IORING_REGISTER_BUFFERS_UPDATE;
    if (what == IORING_REGISTER_BUFFERS_UPDATE && kernel.register_error)
        return kernel.register_error;
    return __real_uring_register(ring_fd, what, array, count);
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    if (submission_fails())
        return kernel.submit_error;
    for (unsigned i = ring->sq.sqe_head; kernel.at_most && i != ring->sq.sqe_tail; i++)
        shorten_sqe(&ring->sq.sqes[i & ring->sq.ring_mask]);
    return __real_io_uring_submit(ring);
}

unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
                                        unsigned most)
{
    unsigned count = __real_io_uring_peek_batch_cqe(ring, cqes, most);

    for (unsigned i = 0; i < count; i++) {
        if (attempt_fails())
            cqes[i]->res = kernel.error;
    }
    return count;
}
/* NOLINTEND(bugprone-reserved-identifier) */
