/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images and their ownership. Each user has a descriptor of its own, opened as it may use it. The
 * lock byte is held once per description: readers and shared writers hold it shared, each on its
 * own; an exclusive writer holds it exclusively, and users of the same guest hold a duplicate of
 * that descriptor.
 */
#include "image.h"

#include "blkback/log.h"
#include "blkback/worker_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct image {
    struct image *next;
    struct image_user user;
    uint64_t device; /* st_dev of a file, st_rdev of a device */
    uint64_t inode;  /* 0 for a device, so that two nodes of one device are the same image */
    bool block_device;
    bool read_only;
    bool exclusive; /* wants to be the only writer */
    int fd;         /* opened as this user may use it */
    int lock_fd;    /* holds the lock byte; may be a duplicate of another user's */
};

/* By identity: what is asked is who else has the same image. */
#define IMAGE_BUCKETS 1024U

struct image_table {
    struct image *buckets[IMAGE_BUCKETS];
};

int image_table_create(struct image_table **out)
{
    struct image_table *table = calloc(1, sizeof(*table));

    if (!table)
        return -ENOMEM;
    *out = table;
    return 0;
}

static void close_image(struct image *image)
{
    if (image->lock_fd >= 0 && image->lock_fd != image->fd)
        (void)close(image->lock_fd);
    if (image->fd >= 0)
        (void)close(image->fd);
    free(image);
}

void image_table_destroy(struct image_table *table)
{
    if (!table)
        return;
    for (unsigned i = 0; i < IMAGE_BUCKETS; i++)
        for (struct image *image = table->buckets[i], *next; image; image = next) {
            next = image->next;
            close_image(image);
        }
    free(table);
}

__attribute__((format(printf, 4, 5))) static int refuse(char *why, const char *path, int error,
                                                        const char *format, ...)
{
    char shown[120];
    va_list arguments;
    size_t used =
        (size_t)snprintf(why, IMAGE_WHY_MAX, "%s: ", log_escape(path, shown, sizeof(shown)));

    va_start(arguments, format);
    (void)vsnprintf(why + used, IMAGE_WHY_MAX - used, format, arguments);
    va_end(arguments);
    return error;
}

/* Opens again what `fd` refers to, whatever its path names by now. Returns the descriptor or
 * -errno. */
static int reopen(int fd, int flags)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int fresh = open(path, flags | O_CLOEXEC);
    return fresh < 0 ? -errno : fresh;
}

static int refuse_open(char *why, const char *path, int error, const struct image *image)
{
    if (!image->read_only && (error == -EROFS || error == -EACCES || error == -EPERM))
        return refuse(why, path, error, "is read-only and can't be opened for writing");
    if (error == -EBUSY)
        return refuse(why, path, error,
                      "is in use by the host (mounted, or part of another device)");
    return refuse(why, path, error, "%s", strerror(-error));
}

/*
 * Finds out what the path names without opening it, since opening a fifo or a tape has effects.
 * Returns a descriptor that reopen() makes a usable one from, or -errno.
 */
static int identify(struct image *image, const char *path, char *why)
{
    struct stat status;
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0)
        return refuse_open(why, path, -errno, image);
    if (fstat(fd, &status)) {
        int rc = -errno;
        (void)close(fd);
        return refuse_open(why, path, rc, image);
    }
    image->block_device = S_ISBLK(status.st_mode);
    if (!S_ISREG(status.st_mode) && !image->block_device) {
        bool folder = S_ISDIR(status.st_mode);
        (void)close(fd);
        return refuse(why, path, folder ? -EISDIR : -ENOTBLK, "%s",
                      folder ? "is a folder" : "is neither a regular file nor a block device");
    }
    image->device = image->block_device ? status.st_rdev : status.st_dev;
    image->inode = image->block_device ? 0 : status.st_ino;
    return fd;
}

static bool same_image(const struct image *a, const struct image *b)
{
    return a->block_device == b->block_device && a->device == b->device && a->inode == b->inode;
}

/* Where all that have the same image are, and others. */
static unsigned bucket_of(const struct image *image)
{
    return (unsigned)((image->inode ^ image->device << 5) % IMAGE_BUCKETS);
}

static struct image *same_bucket(const struct image_table *table, const struct image *image)
{
    return table->buckets[bucket_of(image)];
}

/* Domain 0 attaches on behalf of others (pygrub), so it is never the same guest. */
static bool same_guest(const struct image_user *a, const struct image_user *b)
{
    if (a->uuid[0] && b->uuid[0] && a->domid && b->domid && strcmp(a->uuid, b->uuid) == 0)
        return true;
    return a->target_domid != 0 && a->target_domid == b->target_domid;
}

/* A user of the same image that must not be there together with this one, or NULL. */
static const struct image *find_rival(const struct image_table *table, const struct image *image)
{
    for (const struct image *other = same_bucket(table, image); other; other = other->next)
        if (same_image(other, image) && (other->exclusive || image->exclusive) &&
            !same_guest(&other->user, &image->user))
            return other;
    return NULL;
}

static struct image *find_exclusive(const struct image_table *table, const struct image *like)
{
    for (struct image *other = same_bucket(table, like); other; other = other->next)
        if (same_image(other, like) && other->exclusive)
            return other;
    return NULL;
}

/* All other users of this image take or keep the lock byte shared, now that no exclusive one is
 * among them. */
static void lock_shared(const struct image_table *table, const struct image *like)
{
    for (const struct image *other = same_bucket(table, like); other; other = other->next)
        if (same_image(other, like))
            (void)image_lock(other->lock_fd, IMAGE_LOCK_OWNERSHIP, false);
}

/*
 * Takes the lock byte for the first exclusive writer. Users of the same guest give up their shared
 * locks for it, and hold its lock through duplicates from then on.
 */
static int take_exclusive(const struct image_table *table, struct image *image)
{
    struct image *other;

    for (other = same_bucket(table, image); other; other = other->next)
        if (same_image(other, image))
            (void)image_unlock(other->lock_fd, IMAGE_LOCK_OWNERSHIP);
    int rc = image_lock(image->fd, IMAGE_LOCK_OWNERSHIP, true);
    if (rc) {
        lock_shared(table, image);
        return rc;
    }
    image->lock_fd = image->fd;
    for (other = same_bucket(table, image); other; other = other->next) {
        int duplicate = same_image(other, image) ? fcntl(image->fd, F_DUPFD_CLOEXEC, 0) : -1;
        if (duplicate < 0)
            continue; /* takes its own again when the exclusive one goes */
        if (other->lock_fd != other->fd)
            (void)close(other->lock_fd);
        other->lock_fd = duplicate;
    }
    return 0;
}

/* Takes ownership for a user that has no rival in the table. */
static int take_lock(const struct image_table *table, struct image *image)
{
    const struct image *holder = find_exclusive(table, image);

    if (holder) {
        image->lock_fd = fcntl(holder->lock_fd, F_DUPFD_CLOEXEC, 0);
        return image->lock_fd < 0 ? -errno : 0;
    }
    if (image->exclusive)
        return take_exclusive(table, image);
    int rc = image_lock(image->fd, IMAGE_LOCK_OWNERSHIP, false);
    if (rc == 0)
        image->lock_fd = image->fd;
    return rc;
}

/*
 * Opens what identify() found. The first exclusive writer of a block device also claims it in the
 * kernel, as a mount does, so that a mounted device is refused.
 */
static int open_identified(const struct image_table *table, struct image *image, const char *path,
                           int path_fd, char *why)
{
    const struct image *rival = find_rival(table, image);
    int flags = (image->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK;

    if (rival)
        return refuse(why, path, -EBUSY, "in use by domain %u", rival->user.domid);
    if (image->block_device && image->exclusive && !find_exclusive(table, image))
        flags |= O_EXCL;
    int fd = reopen(path_fd, flags);
    if (fd < 0)
        return refuse_open(why, path, fd, image);
    image->fd = fd;
    int rc = take_lock(table, image);
    if (rc == -EAGAIN)
        return refuse(why, path, -EBUSY, "locked by another process");
    if (rc)
        return refuse(why, path, rc, "can't be locked: %s", strerror(-rc));
    return 0;
}

static int acquire(const struct image_table *table, struct image *image, const char *path,
                   char *why)
{
    int path_fd = identify(image, path, why);

    if (path_fd < 0)
        return path_fd;
    int rc = open_identified(table, image, path, path_fd, why);
    (void)close(path_fd);
    return rc;
}

int image_acquire(struct image_table *table, const char *path, enum image_mode mode,
                  const struct image_user *user, char *why, struct image **out)
{
    struct image *image = calloc(1, sizeof(*image));

    if (!image)
        return refuse(why, path, -ENOMEM, "%s", strerror(ENOMEM));
    image->user = *user;
    image->read_only = mode == IMAGE_READ_ONLY;
    image->exclusive = mode == IMAGE_EXCLUSIVE;
    image->fd = -1;
    image->lock_fd = -1;
    int rc = acquire(table, image, path, why);
    if (rc) {
        close_image(image);
        return rc;
    }
    struct image **bucket = &table->buckets[bucket_of(image)];
    image->next = *bucket;
    *bucket = image;
    *out = image;
    return 0;
}

int image_open_for_worker(const struct image *image)
{
    return reopen(image->fd, image->read_only ? O_RDONLY : O_RDWR);
}

void image_identity(const struct image *image, uint64_t *device, uint64_t *inode)
{
    *device = image->device;
    *inode = image->inode;
}

bool image_is_block_device(const struct image *image)
{
    return image->block_device;
}

int image_discard_limits(const struct image *image, struct discard_limits *out)
{
    return image->block_device ? discard_limits_read(image->fd, out) : -ENOTBLK;
}

int image_descriptor(const struct image *image)
{
    return image->fd;
}

int image_size(const struct image *image, uint64_t *out)
{
    struct stat status;

    if (image->block_device)
        return ioctl(image->fd, BLKGETSIZE64, out) ? -errno : 0;
    if (fstat(image->fd, &status))
        return -errno;
    *out = (uint64_t)status.st_size;
    return 0;
}

bool image_held_by_twin(const struct image_table *table, const struct image *image)
{
    for (const struct image *other = same_bucket(table, image); other; other = other->next)
        if (other != image && same_image(other, image) && other->user.domid != image->user.domid &&
            other->user.target_domid != image->user.target_domid && image->user.uuid[0] &&
            strcmp(other->user.uuid, image->user.uuid) == 0)
            return true;
    return false;
}

bool image_fence_is_free(const struct image *image, uint32_t domid, uint32_t devid)
{
    return image_lock_is_free(image->fd, image_fence_offset(domid, devid));
}

void image_release(struct image_table *table, struct image *image)
{
    if (!image)
        return;
    for (struct image **link = &table->buckets[bucket_of(image)]; *link; link = &(*link)->next) {
        if (*link == image) {
            *link = image->next;
            break;
        }
    }
    struct image like = *image;
    close_image(image);
    if (like.exclusive && !find_exclusive(table, &like))
        lock_shared(table, &like);
}
