/* SPDX-License-Identifier: BSD-2-Clause */
/* Who tells that an image may have another size: see size_watch.h. */
#include "size_watch.h"

#include "image.h"
#include "vbd.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#define KERNEL_GROUP 1U /* the kernel's uevents; udev's own are another group */
#define UEVENT_MAX   8192U
#define BATCH        64U /* uevents taken at once */
#define NOT_A_FILE   (-1)

/* ---- what the kernel says ---- */

/* All of them, or those of one inotify watch: disks with the same image have one. */
static void forget_told(struct broker *broker, bool devices, int watch)
{
    struct vbd *vbd;

    TAILQ_FOREACH(vbd, &broker->vbds, in_broker)
    {
        const bool concerned =
            devices ? vbd->size.watch == NOT_A_FILE : watch < 0 || vbd->size.watch == watch;

        if (vbd->size.told && concerned) {
            vbd->size.told = false;
            broker_look_later(broker);
        }
    }
}

static void on_files(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct broker *broker = watcher->data;
    union {
        struct inotify_event first;
        char bytes[4096];
    } buffer;
    (void)loop;
    (void)events;

    const ssize_t length = read(broker->sizes.files_fd, &buffer, sizeof(buffer));

    for (ssize_t at = 0; at + (ssize_t)sizeof(buffer.first) <= length;) {
        struct inotify_event event;

        memcpy(&event, buffer.bytes + at, sizeof(event));
        forget_told(broker, false, event.mask & IN_Q_OVERFLOW ? -1 : event.wd);
        at += (ssize_t)(sizeof(event) + event.len);
    }
}

static void on_devices(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct broker *broker = watcher->data;
    char text[UEVENT_MAX];
    bool any = false;
    (void)loop;
    (void)events;

    for (unsigned i = 0; i < BATCH; i++) {
        const ssize_t length = recv(broker->sizes.devices_fd, text, sizeof(text) - 1, MSG_DONTWAIT);

        if (length < 0 && errno == EAGAIN)
            break;
        text[length > 0 ? length : 0] = '\0';
        /* -ENOBUFS: some were lost. Sizes are looked at, so nothing is believed that is said. */
        any |= length < 0 || strstr(text, "/block/") != NULL;
    }
    if (any)
        forget_told(broker, true, 0);
}

/* ---- listening ---- */

/* Only "change@/…" is to wake us: a host has many events of other kinds. */
static int filter_changes(int fd)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x6368616e, 0, 3), /* "chan" */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x6765402f, 0, 1), /* "ge@/" */
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    const struct sock_fprog filter = {.len = sizeof(program) / sizeof(*program), .filter = program};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
}

/* Since Linux 5.11 whatever changes a disk's capacity says so, set_capacity_and_notify(). */
static bool kernel_tells_of_devices(void)
{
    struct utsname name;
    char *end;

    if (uname(&name) != 0)
        return false;
    const unsigned long major = strtoul(name.release, &end, 10);
    const unsigned long minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;

    return major > 5 || (major == 5 && minor >= 11);
}

static int listen_to_devices(void)
{
    const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
    const int type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
    const int fd =
        kernel_tells_of_devices() ? socket(AF_NETLINK, type, NETLINK_KOBJECT_UEVENT) : -1;

    if (fd < 0)
        return -1;
    if (filter_changes(fd) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void start(struct broker *broker, ev_io *watcher, int fd,
                  void (*ready)(struct ev_loop *loop, ev_io *watcher, int events))
{
    ev_io_init(watcher, ready, fd, EV_READ);
    watcher->data = broker;
    if (fd >= 0)
        ev_io_start(broker->loop, watcher);
}

void size_watch_start(struct broker *broker)
{
    struct size_watch *sizes = &broker->sizes;

    sizes->files_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    sizes->devices_fd = listen_to_devices();
    start(broker, &sizes->files, sizes->files_fd, on_files);
    start(broker, &sizes->devices, sizes->devices_fd, on_devices);
    sizes->started = true;
}

void size_watch_stop(struct broker *broker)
{
    struct size_watch *sizes = &broker->sizes;

    if (!sizes->started)
        return;
    sizes->started = false;
    ev_io_stop(broker->loop, &sizes->files);
    ev_io_stop(broker->loop, &sizes->devices);
    if (sizes->files_fd >= 0)
        (void)close(sizes->files_fd);
    if (sizes->devices_fd >= 0)
        (void)close(sizes->devices_fd);
}

/* ---- one image ---- */

/* Where every write goes through this kernel's files; elsewhere another host may be the writer. */
static bool local_filesystem(int fd)
{
    static const uint32_t local[] = {
        0xef53,     /* ext4 */
        0x58465342, /* XFS */
        0x9123683e, /* btrfs */
        0xf2f52010, /* F2FS */
        0x01021994, /* tmpfs */
    };
    struct statfs status;

    if (fstatfs(fd, &status) != 0)
        return false;
    for (unsigned i = 0; i < sizeof(local) / sizeof(*local); i++)
        if ((uint32_t)status.f_type == local[i])
            return true;
    return false;
}

/* Whole disks of drivers of Linux itself. A partition's size is changed without a word. */
static bool device_tells(int fd)
{
    static const char *const names[] = {"dm-", "loop", "md", "nbd", "nvme",
                                        "rbd", "sd",   "vd", "xvd"};
    struct stat status;
    char link[64];
    char target[256];
    char partition[320];

    if (fstat(fd, &status) != 0)
        return false;
    (void)snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(status.st_rdev),
                   minor(status.st_rdev));
    const ssize_t length = readlink(link, target, sizeof(target) - 1);

    if (length < 0)
        return false;
    target[length] = '\0';
    (void)snprintf(partition, sizeof(partition), "%s/partition", link);
    const char *slash = strrchr(target, '/');

    if (!slash || access(partition, F_OK) == 0)
        return false;
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strncmp(slash + 1, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* Whether the file was written to since the last look. A disk that is busy is looked at: being told
 * of each write would cost more. */
static bool was_written(struct vbd *vbd, int fd)
{
    const struct timespec before = vbd->size.modified;
    struct stat status;

    if (fstat(fd, &status) != 0)
        return true;
    vbd->size.modified = status.st_mtim;
    return before.tv_sec != 0 &&
           (before.tv_sec != status.st_mtim.tv_sec || before.tv_nsec != status.st_mtim.tv_nsec);
}

static bool arm_file(struct vbd *vbd, int fd)
{
    const struct size_watch *sizes = &vbd->broker->sizes;
    char path[40];

    if (sizes->files_fd < 0 || was_written(vbd, fd) || !local_filesystem(fd))
        return false;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const int watch = inotify_add_watch(sizes->files_fd, path, IN_MODIFY | IN_ONESHOT);

    if (watch < 0)
        return false;
    vbd->size.watch = watch;
    return true;
}

bool size_watch_arm(struct vbd *vbd)
{
    const int fd = image_descriptor(vbd->image);

    if (image_is_block_device(vbd->image)) {
        vbd->size.watch = NOT_A_FILE;
        vbd->size.told = vbd->broker->sizes.devices_fd >= 0 && device_tells(fd);
    } else {
        vbd->size.told = arm_file(vbd, fd);
    }
    return vbd->size.told;
}

void size_watch_forget(struct vbd *vbd)
{
    if (vbd->size.told && vbd->size.watch != NOT_A_FILE)
        (void)inotify_rm_watch(vbd->broker->sizes.files_fd, vbd->size.watch);
    vbd->size.told = false;
    vbd->size.modified = (struct timespec){0};
}
