/* SPDX-License-Identifier: BSD-2-Clause */
/* Parsing of a disk's target specification: by its text alone, never by what it names. */
#include "blkback/target.h"

#include "blkback/log.h"
#include "blkback/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SECTOR_BYTES 512U
/* 1 EiB: far from where byte offsets overflow, and more than a disk of 512-byte sectors needs. */
#define NULL_SIZE_MAX (UINT64_C(1) << 60)

static int refuse(char *why, unsigned why_size, const char *reason)
{
    (void)snprintf(why, why_size, "%s", reason);
    return -EINVAL;
}

static bool has_control_characters(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

static int parse_path(const char *text, char *why, unsigned why_size, struct target *out)
{
    size_t length = strlen(text);

    if (length >= sizeof(out->path))
        return refuse(why, why_size, "the path is longer than 1023 bytes");
    out->kind = TARGET_PATH;
    memcpy(out->path, text, length + 1);
    return 0;
}

static int parse_null(const char *text, char *why, unsigned why_size, struct target *out)
{
    uint64_t size = 0;

    if (parse_size(text, &size) || size < SECTOR_BYTES || size > NULL_SIZE_MAX)
        return refuse(why, why_size,
                      "null: needs a size from 512 bytes to 1048576T, such as null:10G");
    out->kind = TARGET_NULL;
    out->size = size;
    return 0;
}

static bool name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static int parse_disk(const char *text, char *why, unsigned why_size, struct target *out)
{
    size_t length = strlen(text);

    if (length == 0 || length >= sizeof(out->name))
        return refuse(why, why_size, "disk: needs a name of 1 to 63 characters");
    /* The name becomes a file name in disks.d: nothing that could lead out of it. */
    if (text[0] == '.')
        return refuse(why, why_size, "the name of a disk does not begin with a dot");
    for (size_t i = 0; i < length; i++)
        if (!name_character(text[i]))
            return refuse(why, why_size,
                          "the name of a disk has letters, digits, dots, dashes and underscores "
                          "only");
    out->kind = TARGET_DISK;
    memcpy(out->name, text, length + 1);
    return 0;
}

int target_parse(const char *text, char *why, unsigned why_size, struct target *out)
{
    struct target target;
    char shown[80];
    int rc;

    memset(&target, 0, sizeof(target));
    if (*text == '\0')
        return refuse(why, why_size, "the target is empty");
    if (has_control_characters(text))
        return refuse(why, why_size, "the target has control characters in it");
    if (*text == '/') {
        rc = parse_path(text, why, why_size, &target);
    } else if (strncmp(text, "null:", 5) == 0) {
        rc = parse_null(text + 5, why, why_size, &target);
    } else if (strncmp(text, "disk:", 5) == 0) {
        rc = parse_disk(text + 5, why, why_size, &target);
    } else if (strcmp(text, "empty") == 0) {
        target.kind = TARGET_EMPTY;
        rc = 0;
    } else {
        (void)snprintf(why, why_size,
                       "'%s' is no target: use an absolute path, null:SIZE or disk:NAME",
                       log_escape(text, shown, sizeof(shown)));
        rc = -EINVAL;
    }
    if (rc == 0)
        *out = target;
    return rc;
}
