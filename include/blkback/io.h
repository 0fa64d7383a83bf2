/* SPDX-License-Identifier: BSD-2-Clause */
/* One I/O on a store: what the data path asks for, and the store's and engine's scratch space
 * inside it. */
#ifndef BLKBACK_IO_H
#define BLKBACK_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/*
 * IO_DISCARD tells the store that `length` bytes at `offset` are of no use to the guest any more;
 * it has no iov. A hint: it is carried out for the whole granules within the range (struct
 * store_caps), and what is read there afterwards is undefined within the disk. With `secure` it is
 * a promise: all of the range is erased from the medium or the result is an error.
 */
enum io_operation { IO_READ, IO_WRITE, IO_FLUSH, IO_DISCARD };

struct io;
struct engine_set;

/* Called once, on the thread that submitted, for each I/O that was QUEUED. `io->result` holds 0 or
 * -errno.
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
    uint64_t length; /* bytes; of a transfer the sum of iov */
    struct iovec *iov;
    io_done_fn done;
    const struct engine_set *engines; /* of the thread that submits; NULL: those the store was
                                         opened with */
    int result;
    bool secure;     /* IO_DISCARD: see there */
    bool direct;     /* the store's: past the page cache, so that the kernel pins the buffers */
    bool by_thread;  /* the store's: a kernel thread carries it out, where the engine does not */
    bool registered; /* the engine's: the last attempt used a registered buffer */

    /* The engine's, no one else's. */
    struct {
        struct io *next;
        uint64_t left; /* bytes still to be transferred */
        uint64_t position;
        struct iovec *iov;
        unsigned iov_count;
        int fd;
        void *context;
        union {
            uint64_t words[16]; /* a struct iocb fits */
            /* IO_DISCARD: how to reach the kernel; from the store. */
            struct {
                uint64_t chunk; /* bytes: the most that one system call discards */
                uint32_t granularity;
                uint32_t alignment;
                bool device; /* by ioctl, not by punching a hole */
            } discard;
        };
    } engine;
};

/* The answer to a submission. */
enum io_submit {
    IO_QUEUED, /* `done` will be called, from commit or reap, never from within submit */
    IO_DONE,   /* over already: `result` is set and `done` is not called */
    IO_BUSY    /* not accepted: try again after a completion */
};

#endif
