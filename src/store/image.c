/* SPDX-License-Identifier: BSD-2-Clause */
/* What an open image is: see image.h. Everything is asked of the descriptor, nothing of a path. */
#include "image.h"

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdalign.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FILE_PHYSICAL_SECTOR \
    4096U /* file systems' block size: a guest that aligns to it avoids their read-modify-write */

static bool open_for_writing(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
}

static int probe_device(int fd, char *why, unsigned why_size, struct image *out)
{
    uint64_t size = 0;
    int logical = 0;
    unsigned physical = 0;
    int read_only = 0;

    if (ioctl(fd, BLKGETSIZE64, &size) || ioctl(fd, BLKSSZGET, &logical) ||
        ioctl(fd, BLKPBSZGET, &physical) || ioctl(fd, BLKROGET, &read_only)) {
        int error = -errno;

        return store_refuse(why, why_size, error, "the device can't be asked for its size: %s",
                            strerror(-error));
    }
    if (logical <= 0 || !store_sector_size_valid((uint32_t)logical))
        return store_refuse(why, why_size, -ENOTSUP, "the device has sectors of %d bytes", logical);
    out->size = size;
    out->logical_sector = (uint32_t)logical;
    out->physical_sector = physical;
    out->writable = open_for_writing(fd) && !read_only;
    return 0;
}

static int probe_file(int fd, const struct stat *status, struct image *out)
{
    struct statfs file_system;

    if (fstatfs(fd, &file_system))
        return -errno;
    out->size = (uint64_t)status->st_size;
    out->logical_sector = STORE_SECTOR_MIN;
    out->physical_sector = FILE_PHYSICAL_SECTOR;
    out->writable = open_for_writing(fd);
    /* Of files only: device nodes lie on a tmpfs too. */
    out->in_memory = (uint64_t)file_system.f_type == (uint64_t)TMPFS_MAGIC ||
                     (uint64_t)file_system.f_type == (uint64_t)RAMFS_MAGIC;
    return 0;
}

int image_probe(int fd, char *why, unsigned why_size, struct image *out)
{
    struct image image = {0};
    struct stat status;
    int error = fstat(fd, &status) ? -errno : 0;

    if (error == 0 && S_ISBLK(status.st_mode)) {
        image.is_device = true;
        error = probe_device(fd, why, why_size, &image);
        if (error)
            return error;
    } else if (error == 0 && S_ISREG(status.st_mode)) {
        error = probe_file(fd, &status, &image);
    } else if (error == 0) {
        return store_refuse(why, why_size, -EINVAL,
                            "the image is neither a regular file nor a block device");
    }
    if (error)
        return store_refuse(why, why_size, error, "the image can't be examined: %s",
                            strerror(-error));
    if (image.size == 0)
        return store_refuse(why, why_size, -EINVAL, "the image is empty");
    *out = image;
    return 0;
}

int image_size(int fd, uint64_t *out)
{
    struct stat status;
    uint64_t size = 0;

    if (fstat(fd, &status))
        return -errno;
    if (!S_ISBLK(status.st_mode))
        size = (uint64_t)status.st_size;
    else if (ioctl(fd, BLKGETSIZE64, &size))
        return -errno;
    *out = size;
    return 0;
}

static int set_direct(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    int wanted = on ? flags | O_DIRECT : flags & ~O_DIRECT;

    if (flags < 0)
        return -errno;
    if (flags == wanted)
        return 0;
    return fcntl(fd, F_SETFL, wanted) ? -errno : 0;
}

int image_disable_direct(int fd)
{
    return set_direct(fd, false);
}

/* Linux 6.1 and later say what they need. Returns whether `fd` says; an `offset` of 0 is "no direct
 * I/O". */
static bool ask_alignment(int fd, uint32_t *offset, uint32_t *memory)
{
#ifdef STATX_DIOALIGN
    struct statx status;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) ||
        !(status.stx_mask & STATX_DIOALIGN))
        return false;
    *offset = status.stx_dio_offset_align;
    *memory = status.stx_dio_mem_align;
    return true;
#else
    (void)fd;
    (void)offset;
    (void)memory;
    return false;
#endif
}

/* Tries to read one sector, with O_DIRECT on, from the least aligned place into the least aligned
 * memory. */
static bool read_works(int fd, uint32_t sector, uint64_t size)
{
    alignas(2 * STORE_SECTOR_MAX) char buffer[2 * STORE_SECTOR_MAX];
    off_t offset = size >= 2 * (uint64_t)sector ? (off_t)sector : 0;

    /* Another error than EINVAL says nothing about alignment, and a bad sector must not make a
     * device buffered. */
    return pread(fd, buffer + sector, sector, offset) >= 0 || errno != EINVAL;
}

uint32_t image_enable_direct(int fd, uint32_t sector, uint64_t size)
{
    uint32_t offset_alignment = sector;
    uint32_t memory_alignment = sector;
    bool said = ask_alignment(fd, &offset_alignment, &memory_alignment);
    bool works = offset_alignment > 0 && sector % offset_alignment == 0 && memory_alignment > 0 &&
                 memory_alignment <= STORE_SECTOR_MAX;

    if (works)
        works = set_direct(fd, true) == 0 && (said || read_works(fd, sector, size));
    if (!works) {
        (void)image_disable_direct(fd);
        return 0;
    }
    return memory_alignment;
}
