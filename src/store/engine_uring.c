/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The io_uring engine. Submission fills entries of the submission queue, commit is one
 * io_uring_enter, reaping reads shared memory.
 *
 * The event descriptor is the ring's own: it is readable exactly while there are completions, so
 * nothing has to be read to clear it, where an eventfd costs a read per wake-up.
 */
#include "blkback/engine.h"
#include "discard.h"
#include "progress.h"
#include "uring_buffers.h"
#include "uring_parts.h"
#include "uring_register.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#define REAP_BATCH 64U

/* Parts in flight at once, of a mebibyte's transfer 16. */
#define PARTS 128U

struct uring {
    struct engine base;
    struct io_uring ring;
    struct uring_buffers buffers;
    struct uring_parts parts;
    unsigned depth;
    bool restricted;  /* to what the engine uses */
    struct io *again; /* to be handed to the kernel once more */
};

static struct uring *uring_of(struct engine *engine)
{
    return (struct uring *)engine;
}

/* All that this engine ever submits, the last two where buffers are registered. */
static const uint8_t opcodes[] = {IORING_OP_READ,       IORING_OP_WRITE,      IORING_OP_READV,
                                  IORING_OP_WRITEV,     IORING_OP_FSYNC,      IORING_OP_FALLOCATE,
                                  IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED};
enum { OPCODES = sizeof(opcodes) / sizeof(opcodes[0]), OPCODES_OF_BUFFERS = 2 };

static int check_opcodes(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    int error = probe ? 0 : -ENOSYS;

    for (unsigned i = 0; !error && i < OPCODES; i++) {
        if (!io_uring_opcode_supported(probe, opcodes[i]))
            error = -ENOSYS;
    }
    io_uring_free_probe(probe);
    return error;
}

/*
 * As many entries as I/Os may be in flight, so the submission queue can't overflow. The kernel
 * makes the completion queue twice that size, so that can't either, even when completions being
 * reported lead to new submissions.
 */
static int make_ring(unsigned depth, struct io_uring *ring)
{
    /* What newer kernels can comes first. Linux 5.19: completions need not interrupt a busy thread,
     * they are taken up when it enters the kernel or asks. Linux 5.10: a ring begins disabled, for
     * restrictions to be set. */
    static const unsigned flags[] = {IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN |
                                         IORING_SETUP_TASKRUN_FLAG,
                                     IORING_SETUP_R_DISABLED, 0};
    int error = -EINVAL;

    for (unsigned i = 0; error == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct io_uring_params params = {.flags = flags[i]};

        error = io_uring_queue_init_params(depth, ring, &params);
    }
    return error;
}

/*
 * A ring is a second way to make system calls, which a filter of those does not see: from here on
 * it takes what this engine uses, without any flag, and nothing can be registered but buffers, in
 * the table that is there already.
 */
static int restrict_ring(const struct io_uring *ring, bool buffers)
{
    struct io_uring_restriction restrictions[OPCODES + 1] = {0};
    const unsigned count = buffers ? OPCODES : OPCODES - OPCODES_OF_BUFFERS;

    if (!(ring->flags & IORING_SETUP_R_DISABLED))
        return -ENOSYS;
    for (unsigned i = 0; i < count; i++) {
        restrictions[i].opcode = IORING_RESTRICTION_SQE_OP;
        restrictions[i].sqe_op = opcodes[i];
    }
    restrictions[count].opcode = IORING_RESTRICTION_REGISTER_OP;
    restrictions[count].register_op = IORING_REGISTER_BUFFERS_UPDATE;
    return uring_register(ring->ring_fd, IORING_REGISTER_RESTRICTIONS, restrictions,
                          buffers ? count + 1 : count);
}

static int open_ring(struct uring *uring, const struct engine_memory *memory)
{
    int error = check_opcodes(&uring->ring);

    if (error)
        return error;
    const bool buffers = uring_buffers_create(&uring->ring, memory, &uring->buffers) == 0;

    error = buffers ? uring_parts_create(PARTS, &uring->parts) : 0;
    if (error)
        return error;
    uring->restricted = restrict_ring(&uring->ring, buffers) == 0;
    if (!(uring->ring.flags & IORING_SETUP_R_DISABLED))
        return 0;
    return uring_register(uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static void dispose(struct uring *uring)
{
    io_uring_queue_exit(&uring->ring);
    uring_buffers_destroy(&uring->buffers);
    uring_parts_destroy(&uring->parts);
    free(uring);
}

static int uring_create(unsigned depth, const struct engine_memory *memory, struct engine **out)
{
    struct uring *uring = NULL;
    int error = -EINVAL;

    if (depth == 0)
        return -EINVAL;
    uring = calloc(1, sizeof(*uring));
    if (!uring)
        return -ENOMEM;
    error = make_ring(depth, &uring->ring);
    if (error) {
        free(uring);
        return error;
    }
    error = open_ring(uring, memory);
    if (error) {
        dispose(uring);
        return error;
    }
    uring->base.ops = &engine_uring;
    uring->depth = depth;
    *out = &uring->base;
    return 0;
}

/* One entry: the opcodes without a vector save the kernel a copy from user memory, those with a
 * registered buffer the search for its pages too. */
static void prepare_one(struct uring *uring, struct io_uring_sqe *sqe, struct io *io)
{
    void *at = io->engine.iov->iov_base;
    const unsigned length = progress_span(io);
    const uint64_t position = io->engine.position;
    const int fd = io->engine.fd;
    const int buffer = uring_buffers_find(&uring->buffers, at, length);

    io->registered = buffer >= 0;
    if (io->operation == IO_READ && buffer >= 0)
        io_uring_prep_read_fixed(sqe, fd, at, length, position, buffer);
    else if (io->operation == IO_READ)
        io_uring_prep_read(sqe, fd, at, length, position);
    else if (buffer >= 0)
        io_uring_prep_write_fixed(sqe, fd, at, length, position, buffer);
    else
        io_uring_prep_write(sqe, fd, at, length, position);
}

/* Puts the next attempt of `io` into the submission queue. Returns false when that is full. */
static bool prepare(struct uring *uring, struct io *io)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    const struct iovec *iov = io->engine.iov;
    unsigned count = (unsigned)progress_iov_count(io);
    uint64_t position = io->engine.position;
    int fd = io->engine.fd;

    if (!sqe)
        return false;
    io->registered = false;
    switch (io->operation) {
    case IO_READ:
        if (count == 1)
            prepare_one(uring, sqe, io);
        else
            io_uring_prep_readv(sqe, fd, iov, count, position);
        break;
    case IO_WRITE:
        if (count == 1)
            prepare_one(uring, sqe, io);
        else
            io_uring_prep_writev(sqe, fd, iov, count, position);
        break;
    case IO_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_DISCARD: /* of a file; the kernel makes the call on a thread of its own */
        io_uring_prep_fallocate(sqe, fd, DISCARD_FALLOCATE_MODE, (off_t)position,
                                (off_t)discard_span(io));
        break;
    }
    io_uring_sqe_set_data(sqe, io);
    return true;
}

static bool submit_one(struct uring *uring, int fd, struct io *io)
{
    progress_start(io, fd);
    if (!prepare(uring, io))
        return false;
    uring->base.in_flight++;
    uring->base.by_thread += io->by_thread;
    return true;
}

/* Returns false when it is not one for that. */
static bool submit_parts(struct uring *uring, int fd, struct io *io)
{
    const unsigned room = uring->depth - uring->base.in_flight;
    const unsigned count = uring_parts_wanted(&uring->parts, &uring->buffers, io, room);

    if (count == 0 || io_uring_sq_space_left(&uring->ring) < count)
        return false;
    uring_parts_begin(io);
    for (unsigned i = 0; i < count; i++)
        (void)submit_one(uring, fd, uring_parts_take(&uring->parts, io, i)); /* there is room */
    return true;
}

static enum io_submit uring_submit(struct engine *engine, int fd, struct io *io)
{
    struct uring *uring = uring_of(engine);

    if (io->operation == IO_DISCARD && io->engine.discard.device) {
        io->result = -ENOTSUP;
        return IO_DONE;
    }
    if (engine->in_flight >= uring->depth)
        return IO_BUSY;
    if (!submit_parts(uring, fd, io) && !submit_one(uring, fd, io))
        return IO_BUSY;
    /* What goes wrong here goes wrong again at the commit. */
    if (io_uring_sq_ready(&uring->ring) >= ENGINE_BATCH)
        (void)io_uring_submit(&uring->ring);
    return IO_QUEUED;
}

static int uring_commit(struct engine *engine)
{
    struct uring *uring = uring_of(engine);

    while (uring->again && prepare(uring, uring->again))
        uring->again = uring->again->engine.next;

    while (io_uring_sq_ready(&uring->ring) > 0) {
        int submitted = io_uring_submit(&uring->ring);

        /* What was not taken stays in the submission queue. */
        if (submitted == 0 || submitted == -EAGAIN || submitted == -EBUSY || submitted == -EINTR)
            return -EAGAIN;
        if (submitted < 0)
            return submitted;
    }
    return 0;
}

/* Returns how many I/Os are over by it: 1 or 0. */
static unsigned complete(struct uring *uring, struct io *io, int outcome)
{
    if (!progress_over(io, outcome)) {
        io->engine.next = uring->again;
        uring->again = io;
        return 0;
    }
    uring->base.in_flight--;
    uring->base.by_thread -= io->by_thread;
    io->done(io);
    return 1;
}

static unsigned uring_reap(struct engine *engine)
{
    struct uring *uring = uring_of(engine);
    struct io_uring_cqe *cqes[REAP_BATCH];
    struct io *ios[REAP_BATCH];
    int outcomes[REAP_BATCH];
    unsigned before = engine->in_flight;
    unsigned reaped = 0;
    unsigned done = 0;
    unsigned count = 0;

    /* No more than was in flight at first, so that I/O submitted from `done` does not keep us here.
     */
    while (reaped < before) {
        count = io_uring_peek_batch_cqe(&uring->ring, cqes, REAP_BATCH);
        if (count == 0)
            break;
        /* Copied and given back first: `done` may submit, and the kernel may need the room. */
        for (unsigned i = 0; i < count; i++) {
            ios[i] = io_uring_cqe_get_data(cqes[i]);
            outcomes[i] = cqes[i]->res;
        }
        io_uring_cq_advance(&uring->ring, count);
        for (unsigned i = 0; i < count; i++)
            done += complete(uring, ios[i], outcomes[i]);
        reaped += count;
    }
    /* Whether the caller commits before it sleeps is not known here. */
    if (uring->again)
        (void)uring_commit(engine);
    return done;
}

static int uring_event_fd(const struct engine *engine)
{
    return ((const struct uring *)engine)->ring.ring_fd;
}

static void uring_destroy(struct engine *engine)
{
    dispose(uring_of(engine));
}

int engine_uring_registers(const struct engine *engine)
{
    return ((const struct uring *)engine)->buffers.error;
}

void engine_uring_forget(struct engine *engine, const void *start, uint64_t bytes)
{
    uring_buffers_forget(&uring_of(engine)->buffers, start, bytes);
}

bool engine_uring_restricted(const struct engine *engine)
{
    return ((const struct uring *)engine)->restricted;
}

const struct engine_ops engine_uring = {
    .name = "uring",
    .create = uring_create,
    .submit = uring_submit,
    .commit = uring_commit,
    .reap = uring_reap,
    .event_fd = uring_event_fd,
    .destroy = uring_destroy,
};
