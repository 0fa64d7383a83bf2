/* SPDX-License-Identifier: BSD-2-Clause */
/* Registered data buffers: see uring_buffers.h. */
#include "uring_buffers.h"

#include "uring_register.h"

#include <errno.h>
#include <stdlib.h>

/* Linux takes no more in one table. */
#define TABLE_MAX 16384U

/* How many are taken out by one call. */
#define FORGET_BATCH 64U

/*
 * Registering 16 pages costs as much as pinning them in 16 I/Os or a bit more, measured: a buffer
 * that was used so often has paid for that, and one that a burst uses once is left alone.
 */
#define USES_THAT_PAY 16U

int uring_buffers_create(const struct io_uring *ring, const struct engine_memory *memory,
                         struct uring_buffers *out)
{
    struct uring_buffers buffers = {.ring_fd = ring->ring_fd, .error = -EINVAL};
    uint64_t count = 0;

    *out = buffers;
    if (!memory || memory->buffer_bytes == 0 ||
        (memory->buffer_bytes & (memory->buffer_bytes - 1)) != 0)
        return -EINVAL;
    while (1U << buffers.shift < memory->buffer_bytes)
        buffers.shift++;
    count = memory->bytes >> buffers.shift;
    if (count > TABLE_MAX)
        count = TABLE_MAX;
    if (count == 0)
        return -EINVAL;
    buffers.known = calloc(count, sizeof(*buffers.known));
    if (!buffers.known)
        return -ENOMEM;
    const struct io_uring_rsrc_register table = {.nr = (uint32_t)count,
                                                 .flags = IORING_RSRC_REGISTER_SPARSE};

    out->error =
        uring_register(buffers.ring_fd, IORING_REGISTER_BUFFERS2, &table, (unsigned)sizeof(table));
    if (out->error) {
        free(buffers.known);
        return out->error;
    }
    buffers.error = 0;
    buffers.start = (uintptr_t)memory->start;
    buffers.bytes = count << buffers.shift;
    *out = buffers;
    return 0;
}

void uring_buffers_destroy(struct uring_buffers *buffers)
{
    free(buffers->known);
    buffers->known = NULL;
    buffers->bytes = 0;
}

static int update(const struct uring_buffers *buffers, unsigned first, const struct iovec *iov,
                  unsigned count)
{
    const struct io_uring_rsrc_update2 change = {
        .offset = first, .data = (uintptr_t)iov, .nr = count};

    return uring_register(buffers->ring_fd, IORING_REGISTER_BUFFERS_UPDATE, &change,
                          (unsigned)sizeof(change));
}

bool uring_buffers_use(struct uring_buffers *buffers, unsigned index)
{
    uint8_t *known = &buffers->known[index];
    const uint64_t bytes = UINT64_C(1) << buffers->shift;
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)(buffers->start + index * bytes),
                              .iov_len = bytes};

    if (*known == URING_BUFFER_REFUSED || ++*known < USES_THAT_PAY)
        return false;
    const int error = buffers->error ? buffers->error : update(buffers, index, &iov, 1);

    *known = error ? URING_BUFFER_REFUSED : URING_BUFFER_REGISTERED;
    if (error)
        buffers->error = error; /* the others need not try */
    else if (buffers->ends <= index)
        buffers->ends = index + 1;
    return !error;
}

void uring_buffers_forget(struct uring_buffers *buffers)
{
    static const struct iovec none[FORGET_BATCH];
    const unsigned count = (unsigned)(buffers->bytes >> buffers->shift);

    if (count == 0)
        return;
    for (unsigned first = 0; first < buffers->ends; first += FORGET_BATCH) {
        const unsigned left = buffers->ends - first;

        /* What stays in the table by an error is not used any more, and replaced if it is
         * registered anew. */
        (void)update(buffers, first, none, left < FORGET_BATCH ? left : FORGET_BATCH);
    }
    buffers->ends = 0;
    buffers->error = 0;
    for (unsigned i = 0; i < count; i++)
        buffers->known[i] = 0;
}
