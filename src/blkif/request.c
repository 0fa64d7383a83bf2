/* SPDX-License-Identifier: BSD-2-Clause */
/* A request on its way: see request.h. */
#include "request.h"

#include "blkback/buffer_pool.h"

#include <stddef.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

const struct request_plan *request_plan(const struct slab_entry *entry)
{
    static const struct request_plan read = {1, {IO_READ}};
    static const struct request_plan write = {1, {IO_WRITE}};
    static const struct request_plan discard = {1, {IO_DISCARD}};
    static const struct request_plan flush = {1, {IO_FLUSH}};
    static const struct request_plan flush_write = {2, {IO_FLUSH, IO_WRITE}};
    static const struct request_plan barrier_write = {3, {IO_FLUSH, IO_WRITE, IO_FLUSH}};

    switch (entry->operation) {
    case BLKIF_OP_READ:
        return &read;
    case BLKIF_OP_WRITE:
        return &write;
    case BLKIF_OP_DISCARD:
        return &discard;
    case BLKIF_OP_WRITE_BARRIER:
        return entry->bytes ? &barrier_write : &flush;
    default: /* decoding lets nothing else through than a flush */
        return entry->bytes ? &flush_write : &flush;
    }
}

uint32_t request_buffers(uint64_t bytes)
{
    return (uint32_t)((bytes + BUFFER_BYTES - 1) / BUFFER_BYTES);
}

static void fill_iov(struct request *request)
{
    size_t left = request->entry->bytes;

    for (unsigned i = 0; i < request->buffer_count; i++) {
        const size_t length = left < BUFFER_BYTES ? left : BUFFER_BYTES;

        request->iov[i] = (struct iovec){.iov_base = request->buffers[i], .iov_len = length};
        left -= length;
    }
}

void request_prepare_io(struct request *request)
{
    const struct slab_entry *entry = request->entry;
    struct io *io = &request->io;

    io->operation = request_plan(entry)->step[request->step];
    io->result = 0;
    io->registered = false;
    io->offset = entry->sector * REQUEST_SECTOR_BYTES;
    io->length = entry->bytes;
    io->iov = NULL;
    io->iov_count = 0;
    switch (io->operation) {
    case IO_READ:
    case IO_WRITE:
        if (!request->in_place)
            fill_iov(request);
        io->iov = request->iov;
        io->iov_count = request->buffer_count;
        break;
    case IO_DISCARD:
        io->length = request_changes(entry);
        io->secure = (entry->flags & SLAB_ENTRY_SECURE) != 0;
        break;
    case IO_FLUSH:
        io->offset = 0;
        io->length = 0;
        break;
    }
}
