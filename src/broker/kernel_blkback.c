/* SPDX-License-Identifier: BSD-2-Clause */
/* Unbinding a disk from the kernel's xen-blkback, through sysfs. */
#include "kernel_blkback.h"

#include "blkback/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_RING_PAGE_ORDER 4U

static const char *bus_folder = KERNEL_BLKBACK_BUS;
static const char *parameters_folder = KERNEL_BLKBACK_PARAMETERS;

void kernel_blkback_use_bus(const char *folder)
{
    bus_folder = folder;
}

void kernel_blkback_use_parameters(const char *folder)
{
    parameters_folder = folder;
}

static uint32_t read_parameter(const char *name, uint32_t otherwise)
{
    char path[PATH_MAX];
    char text[16] = "";
    uint32_t value;

    (void)snprintf(path, sizeof(path), "%s/%s", parameters_folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return otherwise;
    ssize_t length = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return parse_u32(text, UINT32_MAX, &value) == 0 ? value : otherwise;
}

struct kernel_blkback_offer kernel_blkback_offer(uint32_t cpus, uint32_t vcpus)
{
    struct kernel_blkback_offer offer = {
        .ring_page_order = read_parameter("max_ring_page_order", DEFAULT_RING_PAGE_ORDER),
        .queues = read_parameter("max_queues", cpus),
    };

    if (vcpus != 0 && vcpus < offer.queues)
        offer.queues = vcpus;
    return offer;
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
