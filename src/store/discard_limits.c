/* SPDX-License-Identifier: BSD-2-Clause */
/* What a block device can discard: see discard_limits.h. */
#include "blkback/discard_limits.h"

#include "blkback/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A number that fills a file of sysfs, in the folder `device`; 0 where there is none. */
static uint64_t read_number(int device, const char *name)
{
    char text[32];
    uint64_t number = 0;
    ssize_t length = 0;
    int fd = openat(device, name, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    length = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    text[strcspn(text, "\n")] = '\0';
    /* The alignment is -1 where the kernel finds none; there is nothing to be known from that. */
    return parse_u64(text, UINT64_MAX, &number) ? 0 : number;
}

static uint32_t narrow(uint64_t number)
{
    return number > UINT32_MAX ? 0 : (uint32_t)number;
}

int discard_limits_read(int fd, struct discard_limits *out)
{
    struct discard_limits limits = {0};
    char path[64];
    struct stat status;
    int device = -1;
    int queue = -1;

    if (fstat(fd, &status))
        return -errno;
    if (!S_ISBLK(status.st_mode))
        return -ENOTBLK;
    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(status.st_rdev),
                   minor(status.st_rdev));
    device = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (device >= 0) {
        queue = openat(device, "queue", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (queue < 0) /* a partition has its disk's */
            queue = openat(device, "../queue", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (queue >= 0) {
        limits.max_bytes = read_number(queue, "discard_max_bytes");
        limits.granularity = narrow(read_number(queue, "discard_granularity"));
        limits.alignment = narrow(read_number(device, "discard_alignment"));
        (void)close(queue);
    }
    if (device >= 0)
        (void)close(device);
    *out = limits;
    return 0;
}
