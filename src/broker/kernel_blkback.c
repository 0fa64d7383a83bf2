/* SPDX-License-Identifier: BSD-2-Clause */
/* Unbinding a disk from the kernel's xen-blkback, through sysfs. */
#include "kernel_blkback.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *bus_folder = KERNEL_BLKBACK_BUS;

void kernel_blkback_use_bus(const char *folder)
{
    bus_folder = folder;
}

static void device_name(uint32_t domid, uint32_t devid, char *name, size_t size)
{
    (void)snprintf(name, size, "vbd-%u-%u", domid, devid);
}

bool kernel_blkback_bound(uint32_t domid, uint32_t devid)
{
    char name[32];
    char path[PATH_MAX];

    device_name(domid, devid, name, sizeof(name));
    /* The driver's folder has a link to each device that it is bound to. */
    (void)snprintf(path, sizeof(path), "%s/drivers/vbd/%s", bus_folder, name);
    return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int unbind(const char *name)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/drivers/vbd/unbind", bus_folder);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = write(fd, name, strlen(name)) < 0 ? -errno : 0;
    (void)close(fd);
    return rc;
}

int kernel_blkback_release(uint32_t domid, uint32_t devid)
{
    char name[32];
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/drivers/vbd", bus_folder);
    if (access(path, F_OK))
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    if (!kernel_blkback_bound(domid, devid))
        return -EAGAIN;
    device_name(domid, devid, name, sizeof(name));
    int rc = unbind(name);
    /* ENODEV: it was unbound, or the device removed, since we looked. */
    if (rc == -ENODEV)
        return -EAGAIN;
    return rc ? rc : 1;
}
