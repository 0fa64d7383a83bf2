/* SPDX-License-Identifier: BSD-2-Clause */
/* Lock bytes on an image: open file description locks, which the last copy of a description gives
 * up. */
#include "blkback/worker_protocol.h"

#include <errno.h>
#include <fcntl.h>

/* Injective for domids below 2^16: no two disks of a host share a fence byte. */
int64_t image_fence_offset(uint32_t domid, uint32_t devid)
{
    uint64_t disk = (uint64_t)domid << 32 | devid;

    return (int64_t)((UINT64_C(1) << 62) + (disk & ((UINT64_C(1) << 62) - 1)));
}

static int set_lock(int fd, int64_t offset, short type)
{
    /* l_pid must be 0 for open file description locks. */
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1, .l_pid = 0};

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

int image_lock(int fd, int64_t offset, bool exclusive)
{
    return set_lock(fd, offset, exclusive ? F_WRLCK : F_RDLCK);
}

int image_unlock(int fd, int64_t offset)
{
    return set_lock(fd, offset, F_UNLCK);
}

bool image_lock_is_free(int fd, int64_t offset)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1, .l_pid = 0};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}
