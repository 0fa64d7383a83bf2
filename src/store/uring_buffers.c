/* SPDX-License-Identifier: BSD-2-Clause */
/* Registered data buffers: see uring_buffers.h. */
#include "uring_buffers.h"

#include "uring_register.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Linux takes no more in one table. */
#define TABLE_MAX 16384U

/* How many are taken out by one call. */
#define FORGET_BATCH 64U

/*
 * Registering pages costs what pinning them does in an I/O, and a system call, which is as much as
 * pinning a page two or three times: a buffer that is used so often has paid for it, and one that a
 * burst uses once is left alone.
 */
#define MISSES_THAT_PAY 4U

int uring_buffers_create(const struct io_uring *ring, const struct engine_memory *memory,
                         struct uring_buffers *out)
{
    struct uring_buffers buffers = {.ring_fd = ring->ring_fd, .error = -EINVAL};
    uint64_t count = 0;

    *out = buffers;
    if (!memory || memory->buffer_bytes < URING_BUFFERS_PAGE ||
        memory->buffer_bytes / URING_BUFFERS_PAGE > UINT8_MAX ||
        (memory->buffer_bytes & (memory->buffer_bytes - 1)) != 0)
        return -EINVAL;
    while (UINT64_C(1) << buffers.shift < memory->buffer_bytes)
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

bool uring_buffers_miss(struct uring_buffers *buffers, unsigned index, uint64_t end)
{
    struct uring_buffer *known = &buffers->known[index];
    const uint64_t pages = (end + URING_BUFFERS_PAGE - 1) / URING_BUFFERS_PAGE;

    if (buffers->error || end > UINT64_C(1) << buffers->shift)
        return false;
    if (known->wanted < pages)
        known->wanted = (uint8_t)pages;
    if (++known->misses < MISSES_THAT_PAY)
        return false;
    const struct iovec iov = {
        .iov_base = (void *)(uintptr_t)(buffers->start + ((uint64_t)index << buffers->shift)),
        .iov_len = (size_t)known->wanted * URING_BUFFERS_PAGE};

    /* An error does not tell whether the smaller part that was registered still is. */
    known->registered = 0;
    known->misses = 0;
    known->in_table = true;
    buffers->error = update(buffers, index, &iov, 1);
    if (buffers->error)
        return false;
    known->registered = known->wanted;
    return true;
}

static bool any_in_table(const struct uring_buffers *buffers, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (buffers->known[first + i].in_table)
            return true;
    return false;
}

void uring_buffers_forget(struct uring_buffers *buffers, const void *start, uint64_t bytes)
{
    static const struct iovec none[FORGET_BATCH];
    const uint64_t from = (uintptr_t)start - buffers->start;

    if (from >= buffers->bytes)
        return;
    if (bytes > buffers->bytes - from)
        bytes = buffers->bytes - from;
    const unsigned end = (unsigned)((from + bytes) >> buffers->shift);

    for (unsigned first = (unsigned)(from >> buffers->shift), count; first < end; first += count) {
        count = end - first < FORGET_BATCH ? end - first : FORGET_BATCH;
        if (any_in_table(buffers, first, count)) {
            /* What stays in the table by an error is not used any more, and replaced if it is
             * registered anew. */
            (void)update(buffers, first, none, count);
            buffers->error = 0;
        }
        memset(buffers->known + first, 0, count * sizeof(*buffers->known));
    }
}
