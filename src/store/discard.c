/* SPDX-License-Identifier: BSD-2-Clause */
/* How an image's bytes are discarded: see discard.h. */
#include "discard.h"

#include <errno.h>
#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

/*
 * While a hole is punched the file is locked against other I/O: about 0.3 ms per MiB that was
 * allocated. A system call must not hold up the guest's reads and writes for long.
 */
#define FILE_CHUNK   (UINT64_C(32) << 20)
#define DEVICE_CHUNK (UINT64_C(1) << 30)

/* So far beyond a file's end that nobody who makes it grow can be there already. */
#define PROBE_DISTANCE (UINT64_C(1) << 40)

static uint64_t chunk_of(uint64_t most, uint32_t granularity)
{
    return most < granularity ? granularity : most - most % granularity;
}

struct discard_rules discard_probe_file(int fd, uint64_t size, uint32_t sector)
{
    struct discard_rules rules = {0};
    struct statfs status;
    uint64_t block = 0;

    if (fstatfs(fd, &status))
        return rules;
    block = (uint64_t)(status.f_frsize > 0 ? status.f_frsize : status.f_bsize);
    if (block < sector || block > UINT32_MAX)
        block = sector;
    /* Too far for the file system says nothing about holes. */
    if (fallocate(fd, DISCARD_FALLOCATE_MODE, (off_t)(size + PROBE_DISTANCE), (off_t)block) &&
        errno != EFBIG)
        return rules;
    rules.possible = true;
    rules.granularity = (uint32_t)block;
    rules.chunk = chunk_of(FILE_CHUNK, rules.granularity);
    return rules;
}

/* No device discards a range that does not begin at a multiple of 512; one that can't discard says
 * that first. */
static bool device_takes(int fd, unsigned long request)
{
    uint64_t range[2] = {1, 512};

    return ioctl(fd, request, range) && errno == EINVAL;
}

struct discard_rules discard_probe_device(int fd, const struct discard_limits *limits,
                                          uint32_t sector)
{
    struct discard_rules rules = {.device = true};
    uint64_t most = limits->max_bytes < DEVICE_CHUNK ? limits->max_bytes : DEVICE_CHUNK;

    rules.possible = limits->max_bytes > 0 && device_takes(fd, BLKDISCARD);
    if (!rules.possible)
        return rules;
    rules.secure = device_takes(fd, BLKSECDISCARD);
    rules.granularity = limits->granularity > sector ? limits->granularity : sector;
    rules.alignment = limits->alignment % rules.granularity;
    rules.chunk = chunk_of(most, rules.granularity);
    return rules;
}

/* Bytes from the last beginning of a granule at or before `position`. */
static uint64_t into_granule(uint64_t position, uint64_t granularity, uint64_t alignment)
{
    return (position + granularity - alignment) % granularity;
}

bool discard_prepare(const struct discard_rules *rules, struct io *io)
{
    uint64_t start = io->offset;
    uint64_t end = io->offset + io->length;

    if (!io->secure) {
        uint64_t before = into_granule(start, rules->granularity, rules->alignment);
        uint64_t after = into_granule(end, rules->granularity, rules->alignment);

        start += before ? rules->granularity - before : 0;
        end = after > end ? 0 : end - after;
    }
    if (start >= end)
        return false;
    io->engine.position = start;
    io->engine.left = end - start;
    io->engine.discard.chunk = rules->chunk;
    io->engine.discard.granularity = rules->granularity;
    io->engine.discard.alignment = rules->alignment;
    io->engine.discard.device = rules->device;
    return true;
}

uint64_t discard_span(const struct io *io)
{
    /* To the end of a granule, for a range that begins within one. */
    uint64_t span =
        io->engine.discard.chunk - into_granule(io->engine.position, io->engine.discard.granularity,
                                                io->engine.discard.alignment);

    return io->engine.left < span ? io->engine.left : span;
}

int discard_attempt(const struct io *io)
{
    uint64_t range[2] = {io->engine.position, discard_span(io)};
    int result = -1;

    if (io->engine.discard.device)
        result = ioctl(io->engine.fd, io->secure ? BLKSECDISCARD : BLKDISCARD, range);
    else
        result = fallocate(io->engine.fd, DISCARD_FALLOCATE_MODE, (off_t)range[0], (off_t)range[1]);
    if (result == 0)
        return 0;
    return errno == ENOTTY || errno == ENOSYS ? -ENOTSUP : -errno;
}
