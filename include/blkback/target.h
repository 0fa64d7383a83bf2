/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk's target specification, as in xl's `target=`: "/path", "null:SIZE", "disk:NAME" (a file
 * in disks.d), or "empty" (a drive without a medium). What an image's contents look like never
 * decides its format: the guest writes those.
 */
#ifndef BLKBACK_TARGET_H
#define BLKBACK_TARGET_H

#include <stdint.h>

#define TARGET_PATH_MAX 1024U
#define TARGET_NAME_MAX 64U

enum target_kind { TARGET_PATH, TARGET_NULL, TARGET_DISK, TARGET_EMPTY };

struct target {
    enum target_kind kind;
    uint64_t size;              /* null: bytes */
    char path[TARGET_PATH_MAX]; /* path: absolute */
    char name[TARGET_NAME_MAX]; /* disk: [A-Za-z0-9._-], not beginning with a dot */
};

/* Parses a specification. Returns 0, or -EINVAL with the reason for people in `why`. */
int target_parse(const char *text, char *why, unsigned why_size, struct target *out);

#endif
