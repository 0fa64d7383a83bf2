/* SPDX-License-Identifier: BSD-2-Clause */
/* Wrappers of the synchronous calls: what inline engines and thread pools use. */
#include "fault.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t answer(ssize_t result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

static ssize_t transfer(enum fault_kind kind, int fd, const struct iovec *iov, int count,
                        off_t offset)
{
    struct fault_op op;
    ssize_t result;

    if (!fault_op_init(&op, kind, fd, iov, count, (uint64_t)offset))
        return answer(-ENOMEM);
    result = fault_execute_in_place(&op);
    fault_op_free(&op);
    return answer(result);
}

static int flush(int fd)
{
    struct fault_op op = {.kind = FAULT_FLUSH, .fd = fd};

    return (int)answer(fault_execute_in_place(&op));
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    return fault_watches(fd) ? transfer(FAULT_READ, fd, iov, count, offset)
                             : FAULT_NEXT(preadv)(fd, iov, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    return fault_watches(fd) ? transfer(FAULT_WRITE, fd, iov, count, offset)
                             : FAULT_NEXT(pwritev)(fd, iov, count, offset);
}

/* RWF_NOWAIT is a question for the page cache: answered by the kernel, with nothing done to it. */
ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    return fault_watches(fd) && !(flags & RWF_NOWAIT)
               ? transfer(FAULT_READ, fd, iov, count, offset)
               : FAULT_NEXT(preadv2)(fd, iov, count, offset, flags);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    return fault_watches(fd) ? transfer(FAULT_WRITE, fd, iov, count, offset)
                             : FAULT_NEXT(pwritev2)(fd, iov, count, offset, flags);
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    struct iovec iov = {.iov_base = buffer, .iov_len = size};

    return fault_watches(fd) ? transfer(FAULT_READ, fd, &iov, 1, offset)
                             : FAULT_NEXT(pread)(fd, buffer, size, offset);
}

ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    union {
        const void *from;
        void *base;
    } u = {.from = buffer};
    struct iovec iov = {.iov_base = u.base, .iov_len = size};

    return fault_watches(fd) ? transfer(FAULT_WRITE, fd, &iov, 1, offset)
                             : FAULT_NEXT(pwrite)(fd, buffer, size, offset);
}

int fdatasync(int fd)
{
    return fault_watches(fd) ? flush(fd) : FAULT_NEXT(fdatasync)(fd);
}

int fsync(int fd)
{
    return fault_watches(fd) ? flush(fd) : FAULT_NEXT(fsync)(fd);
}

/* The names that programs with _FILE_OFFSET_BITS=64 call; off_t and off64_t are the same here. */
ssize_t preadv64(int fd, const struct iovec *iov, int count, off64_t offset)
    __attribute__((alias("preadv")));
ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset)
    __attribute__((alias("pwritev")));
ssize_t preadv64v2(int fd, const struct iovec *iov, int count, off64_t offset, int flags)
    __attribute__((alias("preadv2")));
ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off64_t offset, int flags)
    __attribute__((alias("pwritev2")));
ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset) __attribute__((alias("pread")));
ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
    __attribute__((alias("pwrite")));
