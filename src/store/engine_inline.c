/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inline engine: the I/O is done within submit, by blocking system calls. For memory-speed
 * files, where a system call costs less than handing over, and where neither of the others is
 * allowed.
 */
#include "blkback/engine.h"
#include "progress.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Attempts of one I/O that the kernel may put off in a row. No file does so to a blocking call; if
 * one did, this would keep the loop for ever.
 */
#define ATTEMPTS_MAX 100U

static int inline_create(unsigned depth, const struct engine_memory *memory, struct engine **out)
{
    (void)memory;
    struct engine *engine = calloc(1, sizeof(*engine));

    (void)depth;
    if (!engine)
        return -ENOMEM;
    engine->ops = &engine_inline;
    *out = engine;
    return 0;
}

/* One entry goes without a vector, which the kernel would have to copy and check first: that is 5
 * to 10 % of 4 KiB in memory. */
static int64_t transfer(const struct io *io, bool write)
{
    const struct iovec *iov = io->engine.iov;
    const int fd = io->engine.fd;
    const int count = progress_iov_count(io);
    const off_t position = (off_t)io->engine.position;

    if (count != 1)
        return write ? pwritev(fd, iov, count, position) : preadv(fd, iov, count, position);
    return write ? pwrite(fd, iov->iov_base, iov->iov_len, position)
                 : pread(fd, iov->iov_base, iov->iov_len, position);
}

static int64_t attempt(const struct io *io)
{
    int64_t outcome = -1;

    switch (io->operation) {
    case IO_READ:
        outcome = transfer(io, false);
        break;
    case IO_WRITE:
        outcome = transfer(io, true);
        break;
    case IO_FLUSH:
        outcome = fdatasync(io->engine.fd);
        break;
    case IO_DISCARD: /* it may take long, and this is the loop's thread */
        return -ENOTSUP;
    }
    return outcome < 0 ? -errno : outcome;
}

static enum io_submit inline_submit(struct engine *engine, int fd, struct io *io)
{
    unsigned in_a_row = 0;

    (void)engine;
    progress_start(io, fd);
    while (in_a_row < ATTEMPTS_MAX) {
        int64_t outcome = attempt(io);

        if (progress_over(io, outcome))
            return IO_DONE;
        in_a_row = outcome < 0 ? in_a_row + 1 : 0;
    }
    io->result = -EIO;
    return IO_DONE;
}

static int inline_commit(struct engine *engine)
{
    (void)engine;
    return 0;
}

static unsigned inline_reap(struct engine *engine)
{
    (void)engine;
    return 0;
}

static int inline_event_fd(const struct engine *engine)
{
    (void)engine;
    return -1;
}

static void inline_destroy(struct engine *engine)
{
    free(engine);
}

const struct engine_ops engine_inline = {
    .name = "inline",
    .create = inline_create,
    .submit = inline_submit,
    .commit = inline_commit,
    .reap = inline_reap,
    .event_fd = inline_event_fd,
    .destroy = inline_destroy,
};
