/* SPDX-License-Identifier: BSD-2-Clause */
/* Checking all files of disks.d, for `blkbackd --check-config`. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX ".conf"

static int has_suffix(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return entry->d_name[0] != '.' && length > strlen(SUFFIX) &&
           strcmp(entry->d_name + length - strlen(SUFFIX), SUFFIX) == 0;
}

/* Returns whether the file is right. */
static bool check_file(const struct config *config, const char *file, FILE *out)
{
    struct target target;
    struct disk_config disk;
    char text[TARGET_NAME_MAX + 16];
    char why[CONFIG_WHY_MAX] = "";
    size_t length = strlen(file) - strlen(SUFFIX);

    if (length >= TARGET_NAME_MAX) {
        (void)fprintf(out, "%s/%s: the name is too long for a target\n", config->disks_dir, file);
        return false;
    }
    (void)snprintf(text, sizeof(text), "disk:%.*s", (int)length, file);
    if (target_parse(text, why, sizeof(why), &target) != 0) {
        (void)fprintf(out, "%s/%s: no target can refer to this file: %s\n", config->disks_dir, file,
                      why);
        return false;
    }
    if (config_load_disk(config, target.name, why, &disk) != 0) {
        (void)fprintf(out, "%s\n", why);
        return false;
    }
    return true;
}

int config_check_disks(const struct config *config, FILE *out, unsigned *wrong)
{
    struct dirent **entries = NULL;
    unsigned count = 0;
    int found = scandir(config->disks_dir, &entries, has_suffix, alphasort);

    if (found < 0 && errno != ENOENT) {
        int rc = -errno;
        (void)fprintf(out, "%s: %s\n", config->disks_dir, strerror(-rc));
        return rc;
    }
    for (int i = 0; i < found; i++) {
        if (!check_file(config, entries[i]->d_name, out))
            count++;
        free(entries[i]);
    }
    free(entries);
    *wrong = count;
    return 0;
}
