/* SPDX-License-Identifier: BSD-2-Clause */
/* Transfers of several registered buffers: see uring_parts.h. */
#include "uring_parts.h"

#include <errno.h>
#include <stdlib.h>

/* An entry of its own for less does not pay: it costs what pinning some pages does. Merged requests
 * of 44 KiB took as much processor time in parts as whole, and were slower on a virtio disk. */
#define PART_BYTES_MIN (UINT64_C(48) * 1024)

int uring_parts_create(unsigned count, struct uring_parts *out)
{
    *out = (struct uring_parts){.available = count};
    out->all = calloc(count, sizeof(*out->all));
    return out->all ? 0 : -ENOMEM;
}

void uring_parts_destroy(struct uring_parts *parts)
{
    free(parts->all);
    parts->all = NULL;
}

unsigned uring_parts_wanted(const struct uring_parts *parts, struct uring_buffers *buffers,
                            const struct io *io, unsigned room)
{
    const unsigned count = io->iov_count;
    bool registered = true;

    if (count < 2 || !io->direct || (io->operation != IO_READ && io->operation != IO_WRITE) ||
        io->length / count < PART_BYTES_MIN || count > room || count > parts->available)
        return 0;
    /* All of them are looked at: each look counts as a use. */
    for (unsigned i = 0; i < count; i++)
        if (uring_buffers_find(buffers, io->iov[i].iov_base, io->iov[i].iov_len) < 0)
            registered = false;
    return registered ? count : 0;
}

void uring_parts_begin(struct io *io)
{
    io->result = 0;
    io->registered = true;
    io->engine.left = io->iov_count; /* parts that are not over */
    io->engine.position = io->offset;
}

static void part_done(struct io *io)
{
    struct uring_part *part = (struct uring_part *)io;
    struct uring_parts *parts = part->owner;
    struct io *whole = part->whole;

    if (whole->result == 0)
        whole->result = io->result;
    whole->registered &= io->registered;
    part->next_free = parts->free;
    parts->free = part;
    parts->available++;
    if (--whole->engine.left == 0)
        whole->done(whole);
}

static struct uring_part *get_part(struct uring_parts *parts)
{
    struct uring_part *part = parts->free;

    parts->available--;
    if (!part)
        return &parts->all[parts->fresh++];
    parts->free = part->next_free;
    return part;
}

struct io *uring_parts_take(struct uring_parts *parts, struct io *io, unsigned index)
{
    struct uring_part *part = get_part(parts);

    part->owner = parts;
    part->whole = io;
    part->iov = io->iov[index];
    part->io = (struct io){.operation = io->operation,
                           .iov_count = 1,
                           .iov = &part->iov,
                           .offset = io->engine.position,
                           .length = part->iov.iov_len,
                           .direct = true,
                           .done = part_done};
    io->engine.position += part->iov.iov_len;
    return &part->io;
}
