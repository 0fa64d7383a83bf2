/* SPDX-License-Identifier: BSD-2-Clause */
/* One I/O on a store: what the data path asks for, and the store's and engine's scratch space
 * inside it. */
#ifndef BLKBACK_IO_H
#define BLKBACK_IO_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum io_operation { IO_READ, IO_WRITE, IO_FLUSH };

struct io;

/* Called once, on the loop's thread, for each I/O that was QUEUED. `io->result` holds 0 or -errno.
 */
typedef void (*io_done_fn)(struct io *io);

/*
 * The owner fills the first part and leaves it alone until the I/O is over. The engine may change
 * `iov` in place to go on after a short transfer. A transfer is done whole or fails: result 0 means
 * all `length` bytes.
 */
struct io {
    enum io_operation operation;
    unsigned iov_count;
    uint64_t offset; /* bytes */
    uint64_t length; /* bytes, the sum of iov */
    struct iovec *iov;
    io_done_fn done;
    int result;

    /* The engine's, no one else's. */
    struct {
        struct io *next;
        uint64_t left; /* bytes still to be transferred */
        uint64_t position;
        struct iovec *iov;
        unsigned iov_count;
        int fd;
        void *context;
        uint64_t words[16]; /* a struct iocb fits */
    } engine;
};

/* The answer to a submission. */
enum io_submit {
    IO_QUEUED, /* `done` will be called, from commit or reap, never from within submit */
    IO_DONE,   /* over already: `result` is set and `done` is not called */
    IO_BUSY    /* not accepted: try again after a completion */
};

#endif
