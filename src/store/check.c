/* SPDX-License-Identifier: BSD-2-Clause */
/* What every driver checks and says in the same way: see check.h. */
#include "check.h"

#include "blkback/parse.h"

#include <errno.h>

/* It may grow at any time, and on another thread: store_refresh_size(). */
static uint64_t size_now(const struct store_caps *caps)
{
    return __atomic_load_n(&caps->size, __ATOMIC_RELAXED);
}

static bool vector_fits(const struct store_caps *caps, const struct io *io)
{
    uint64_t left = io->length;

    for (unsigned i = 0; i < io->iov_count; i++) {
        uintptr_t base = (uintptr_t)io->iov[i].iov_base;
        uint64_t length = io->iov[i].iov_len;

        if (length > left || base % caps->memory_alignment != 0)
            return false;
        /* Kernels differ in what direct I/O takes of one entry; whole sectors suit them all. */
        if (caps->direct && length % caps->sector_size != 0)
            return false;
        left -= length;
    }
    return left == 0;
}

/* Of any alignment: it is rounded to whole granules. One that is to be secure is not. */
static int check_discard(const struct store_caps *caps, const struct io *io)
{
    if (!range_within(io->offset, io->length, size_now(caps)))
        return -EINVAL;
    if (caps->read_only)
        return -EROFS;
    if (!caps->discard || (io->secure && !caps->discard_secure))
        return -ENOTSUP;
    if (io->secure && (io->offset % caps->sector_size != 0 || io->length % caps->sector_size != 0))
        return -EINVAL;
    return 0;
}

int store_check_io(const struct store_caps *caps, const struct io *io)
{
    if (io->operation == IO_FLUSH)
        return 0;
    if (io->operation == IO_DISCARD)
        return check_discard(caps, io);
    if (io->offset % caps->sector_size != 0 || io->length % caps->sector_size != 0)
        return -EINVAL;
    if (!range_within(io->offset, io->length, size_now(caps)) || !vector_fits(caps, io))
        return -EINVAL;
    return io->operation == IO_WRITE && caps->read_only ? -EROFS : 0;
}

bool store_sector_size_valid(uint32_t size)
{
    return size >= STORE_SECTOR_MIN && size <= STORE_SECTOR_MAX && (size & (size - 1)) == 0;
}
