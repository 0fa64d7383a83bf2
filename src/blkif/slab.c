/* SPDX-License-Identifier: BSD-2-Clause */
/* A vbd's slab file: see slab.h. */
#include "blkback/slab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Address space for the largest slab: every queue with the longest ring and 256 segments for each
 * request. */
#define SLAB_SPAN                                   \
    (sizeof(struct slab_header) +                   \
     (uint64_t)STATE_MAX_QUEUES * STATE_MAX_SLOTS * \
         (sizeof(struct slab_entry) + 256 * sizeof(struct slab_segment)))

static uint32_t align64(uint64_t bytes)
{
    return (uint32_t)((bytes + 63) & ~UINT64_C(63));
}

/* What slabs leave of a small file system, so that the broker can still write the connection files,
 * which say why a disk is not served. */
#define KEPT_BYTES_MAX (UINT64_C(1) << 20)
#define KEPT_PART      16U

#define FILLED_AT_ONCE (UINT64_C(64) << 10)

static bool leaves_room(int fd)
{
    struct statvfs room;

    if (fstatvfs(fd, &room) < 0)
        return true;
    const uint64_t part = (uint64_t)room.f_blocks * room.f_frsize / KEPT_PART;

    return (uint64_t)room.f_bavail * room.f_frsize >=
           (part < KEPT_BYTES_MAX ? part : KEPT_BYTES_MAX);
}

/*
 * posix_fallocate(), whatever comes meanwhile. A tmpfs of Linux 6.1 gives up what it has done,
 * with EINTR, for anything that the thread is to be told of, and io_uring tells it in that way of
 * I/O that is complete: on a busy thread that may be each time, if much is asked for at once.
 */
static int fill(int fd, uint64_t from, uint64_t bytes)
{
    int error = 0;

    for (uint64_t done = 0; !error && done < bytes;) {
        const uint64_t part = bytes - done < FILLED_AT_ONCE ? bytes - done : FILLED_AT_ONCE;

        error = posix_fallocate(fd, (off_t)(from + done), (off_t)part);
        if (!error)
            done += part;
        else if (error == EINTR)
            error = 0;
    }
    return -error;
}

/* Makes the file longer by allocated space. Returns 0 or -errno (-ENOSPC), and the file is as it
 * was. */
static int allocate(int fd, uint32_t from, uint32_t bytes)
{
    int error = fill(fd, from, bytes);

    if (!error && !leaves_room(fd))
        error = -ENOSPC;
    if (error && ftruncate(fd, from) < 0)
        error = -errno;
    return error;
}

int slab_open(int fd, struct slab *out)
{
    const uint32_t header_bytes = align64(sizeof(struct slab_header));
    struct slab_header old;
    const uint32_t epoch = slab_read_header(fd, &old) == 0 ? old.epoch + 1 : 1;
    /* One that a former worker left has its space. */
    const int error = epoch > 1 ? fill(fd, 0, header_bytes) : allocate(fd, 0, header_bytes);

    if (error)
        return error;
    struct slab_header *header = mmap(NULL, SLAB_SPAN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (header == MAP_FAILED)
        return -errno;
    memset(header, 0, sizeof(*header));
    header->magic = SLAB_MAGIC;
    header->version_major = STATE_VERSION_MAJOR;
    header->version_minor = STATE_VERSION_MINOR;
    header->epoch = epoch;
    header->file_size = header_bytes;
    *out =
        (struct slab){.fd = fd, .header = header, .mapped = SLAB_SPAN, .allocated = header_bytes};
    return 0;
}

int slab_adopt(int fd, struct slab *out)
{
    struct slab_header old;
    int error = slab_read_header(fd, &old);

    if (error)
        return error;
    if (old.file_size > SLAB_SPAN || old.file_size % 64)
        return -EBADMSG;
    error = fill(fd, 0, old.file_size);
    if (error)
        return error;
    struct slab_header *header = mmap(NULL, SLAB_SPAN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (header == MAP_FAILED)
        return -errno;
    header->epoch = old.epoch + 1;
    *out = (struct slab){
        .fd = fd, .header = header, .mapped = SLAB_SPAN, .allocated = (uint32_t)old.file_size};
    return 0;
}

int slab_reserve(struct slab *slab, uint32_t bytes, uint32_t *offset)
{
    const uint64_t end = (uint64_t)slab->allocated + align64(bytes);

    if (end > slab->mapped)
        return -ENOSPC;
    const int error = allocate(slab->fd, slab->allocated, align64(bytes));

    if (error)
        return error;
    memset(slab_at(slab, slab->allocated), 0, align64(bytes));
    *offset = slab->allocated;
    slab->allocated = (uint32_t)end;
    slab->header->file_size = end;
    return 0;
}

void slab_reset(struct slab *slab)
{
    const uint32_t header_bytes = align64(sizeof(struct slab_header));

    /* What is counted goes on to be counted; everything else of a queue is set anew by the next
     * connection. */
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++) {
        slab->header->queues[i].slots = 0;
        slab->header->queues[i].in_flight = 0;
        slab->header->queues[i].statistics.mapped_grants = 0;
        slab->header->queues[i].statistics.bytes_in_flight = 0;
    }
    slab->header->store_paused = 0;
    slab->header->entries_end = 0;
    if (ftruncate(slab->fd, header_bytes) < 0)
        return; /* the space stays allocated until the file is deleted */
    slab->header->file_size = header_bytes;
    slab->allocated = header_bytes;
}

void slab_close(struct slab *slab)
{
    if (!slab->header)
        return;
    (void)munmap(slab->header, slab->mapped);
    (void)close(slab->fd);
    *slab = (struct slab){.fd = -1};
}
