/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images: opening them, and holding the ownership lock that keeps a second writer away, within this
 * broker (a table by device and inode, which can name the other domain) and against other processes
 * (an OFD lock byte).
 */
#ifndef BLKBACK_BROKER_IMAGE_H
#define BLKBACK_BROKER_IMAGE_H

#include "blkback/discard_limits.h"

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_WHY_MAX 256U

struct image;

enum image_mode {
    IMAGE_READ_ONLY,
    IMAGE_EXCLUSIVE, /* the only writer */
    IMAGE_SHARED /* one of several writers that know of each other: mode "w!", or shared = yes */
};

struct image_table;

/* Who wants the image. Two users may write at once only if they are the same guest: see
 * image_acquire(). */
struct image_user {
    uint32_t domid;
    uint32_t devid;
    uint32_t target_domid; /* of a stub domain: the guest it serves; else domid */
    char uuid[40];         /* of the domain; empty: unknown */
};

int image_table_create(struct image_table **out);
void image_table_destroy(struct image_table *table);

/*
 * Opens `path` (regular file or block device, also through symlinks) for one user and takes
 * ownership: exclusive for a writer, shared for IMAGE_READ_ONLY and IMAGE_SHARED. Exceptions that
 * share an exclusive one within this table: disks of one guest, a guest and its own stub domain; a
 * domain with the same UUID (local migration). The first exclusive writer also claims a block
 * device in the kernel, so that one which is mounted is refused. Returns 0; -EBUSY when another
 * holds it ("in use by domain N" or "locked by another process"); else -errno. `why` (IMAGE_WHY_MAX
 * bytes) gets the reason for people, naming the path.
 */
int image_acquire(struct image_table *table, const char *path, enum image_mode mode,
                  const struct image_user *user, char *why, struct image **out);

/*
 * A fresh open file description of the same file (by /proc/self/fd, whatever the path names by now)
 * for a worker's I/O and its fence lock, close-on-exec, the caller's. Returns the descriptor or
 * -errno.
 */
int image_open_for_worker(const struct image *image);

void image_identity(const struct image *image, uint64_t *device, uint64_t *inode);
bool image_is_block_device(const struct image *image);

/* What a block device can discard, which the worker can't find out. Returns 0, -ENOTBLK for a file,
 * or -errno. */
int image_discard_limits(const struct image *image, struct discard_limits *out);

/* The user's descriptor, for looking at the file; it stays the image's. */
int image_descriptor(const struct image *image);

/* The size by now, bytes. Returns 0 or -errno. */
int image_size(const struct image *image, uint64_t *out);

/*
 * Whether a domain of the same UUID, the other end of a migration to this same host or the former
 * life of a rebooted guest, holds the image too: it may still have I/O in flight, so a ring must
 * not be connected before this is false.
 */
bool image_held_by_twin(const struct image_table *table, const struct image *image);

/*
 * Whether no I/O of a worker, living or dead, can reach the image through that disk any more: its
 * fence is free.
 */
bool image_fence_is_free(const struct image *image, uint32_t domid, uint32_t devid);

/* Lets this user go, which closes its descriptor; with the last one goes the lock. Accepts NULL. */
void image_release(struct image_table *table, struct image *image);

#endif
