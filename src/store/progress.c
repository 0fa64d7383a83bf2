/* SPDX-License-Identifier: BSD-2-Clause */
/* How far an I/O has come: see progress.h. */
#include "progress.h"

#include "discard.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

/* A multiple of every sector size, so that an attempt cut here can go on with direct I/O. */
#define SPAN_MAX (1U << 30)

static void skip_empty(struct io *io)
{
    while (io->engine.iov_count > 0 && io->engine.iov->iov_len == 0) {
        io->engine.iov++;
        io->engine.iov_count--;
    }
}

void progress_start(struct io *io, int fd)
{
    io->engine.next = NULL;
    io->engine.fd = fd;
    if (io->operation == IO_DISCARD) /* the range was set by discard_prepare() */
        return;
    io->engine.left = io->operation == IO_FLUSH ? 0 : io->length;
    io->engine.position = io->offset;
    io->engine.iov = io->iov;
    io->engine.iov_count = io->operation == IO_FLUSH ? 0 : io->iov_count;
    skip_empty(io);
}

static void advance(struct io *io, uint64_t bytes)
{
    io->engine.left -= bytes;
    io->engine.position += bytes;
    while (bytes > 0 && io->engine.iov_count > 0) {
        struct iovec *iov = io->engine.iov;

        if (bytes < iov->iov_len) {
            iov->iov_base = (char *)iov->iov_base + bytes;
            iov->iov_len -= bytes;
            return;
        }
        bytes -= iov->iov_len;
        io->engine.iov++;
        io->engine.iov_count--;
    }
    skip_empty(io);
}

static bool over(struct io *io, int result)
{
    io->result = result;
    return true;
}

static bool discard_over(struct io *io, int64_t outcome)
{
    uint64_t span = discard_span(io);

    if (outcome < 0)
        return over(io, outcome < -INT_MAX ? -EIO : (int)outcome);
    io->engine.position += span;
    io->engine.left -= span;
    return io->engine.left == 0 && over(io, 0);
}

bool progress_over(struct io *io, int64_t outcome)
{
    if (outcome == -EINTR || outcome == -EAGAIN)
        return false;
    if (io->operation == IO_DISCARD)
        return discard_over(io, outcome);
    if (outcome == -EINVAL && io->operation != IO_FLUSH && io->engine.left < io->length)
        return over(io, -EIO);
    if (outcome < 0)
        return over(io, outcome < -INT_MAX ? -EIO : (int)outcome);
    if (io->operation == IO_FLUSH)
        return over(io, 0);
    if ((outcome == 0 && io->engine.left > 0) || (uint64_t)outcome > io->engine.left)
        return over(io, -EIO);

    advance(io, (uint64_t)outcome);
    return io->engine.left == 0 && over(io, 0);
}

int progress_iov_count(const struct io *io)
{
    return io->engine.iov_count < IOV_MAX ? (int)io->engine.iov_count : IOV_MAX;
}

unsigned progress_span(const struct io *io)
{
    return io->engine.iov->iov_len < SPAN_MAX ? (unsigned)io->engine.iov->iov_len : SPAN_MAX;
}
