/* SPDX-License-Identifier: BSD-2-Clause */
/* Target specifications, as a toolstack or an administrator writes them. */
#include "fuzz.h"

#include "blkback/target.h"

#include <errno.h>
#include <stdlib.h>

static void check_parsed(const struct target *target)
{
    switch (target->kind) {
    case TARGET_PATH:
        CHECK(fuzz_terminated(target->path, sizeof(target->path)) && target->path[0] == '/');
        CHECK(target->name[0] == '\0' && target->size == 0);
        break;
    case TARGET_NULL:
        CHECK(target->size >= 512 && target->size <= UINT64_C(1) << 60);
        CHECK(target->name[0] == '\0' && target->path[0] == '\0');
        break;
    case TARGET_DISK:
        CHECK(fuzz_printable(target->name, sizeof(target->name)) && target->name[0] != '\0');
        CHECK(target->name[0] != '.' && strchr(target->name, '/') == NULL);
        CHECK(target->path[0] == '\0' && target->size == 0);
        break;
    case TARGET_EMPTY:
        CHECK(target->path[0] == '\0' && target->name[0] == '\0' && target->size == 0);
        break;
    default:
        CHECK(false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target target;
    struct target untouched;
    char why[120];
    char *text = malloc(size + 1);

    CHECK(text != NULL);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    memset(&target, 0x5a, sizeof(target));
    memset(&untouched, 0x5a, sizeof(untouched));
    memset(why, 0x7f, sizeof(why));
    const int rc = target_parse(text, why, sizeof(why), &target);

    if (rc == 0) {
        check_parsed(&target);
    } else {
        CHECK(rc == -EINVAL);
        CHECK(memcmp(&target, &untouched, sizeof(target)) == 0);
        CHECK(fuzz_printable(why, sizeof(why)) && why[0] != '\0');
    }
    free(text);
    return 0;
}
