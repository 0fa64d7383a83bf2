/* SPDX-License-Identifier: BSD-2-Clause */
/* The three paths that blkbackctl needs, from the daemon's configuration file. */
#include "ctl.h"

#include "blkback/paths.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The daemon's own limit. */
#define LINE_BYTES_MAX 2048

struct found {
    char run_dir[CTL_PATH_MAX];
    char state_dir[CTL_PATH_MAX];
    char control_socket[CTL_PATH_MAX];
};

static int take_value(void *user, const char *section, const char *name, const char *value)
{
    struct found *found = user;
    const struct {
        const char *name;
        char *field;
    } keys[] = {{"run-dir", found->run_dir},
                {"state-dir", found->state_dir},
                {"control-socket", found->control_socket}};

    if (strcmp(section, "daemon") != 0 || strlen(value) >= CTL_PATH_MAX)
        return 1;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(keys[i].name, name) == 0)
            memcpy(keys[i].field, value, strlen(value) + 1);
    return 1;
}

/* "<run_dir>/<name>", unless the file set the path. */
static int choose(const char *set, const char *run_dir, const char *name, char *out)
{
    int length = set[0] ? snprintf(out, CTL_PATH_MAX, "%s", set)
                        : snprintf(out, CTL_PATH_MAX, "%s/%s", run_dir, name);

    return length < (int)CTL_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int ctl_settings_load(const char *config_path, int required, struct ctl_settings *out)
{
    struct found found = {.run_dir = BLKBACKD_RUN_DIR};
    struct ctl_settings settings;
    FILE *file = fopen(config_path, "re");

    if (!file && (required || errno != ENOENT))
        return -errno;
    if (file) {
        ini_use_stack = false;
        ini_initial_alloc = LINE_BYTES_MAX;
        ini_max_line = LINE_BYTES_MAX;
        (void)ini_parse_file(file, take_value, &found);
        (void)fclose(file);
    }
    memset(&settings, 0, sizeof(settings));
    int rc = choose(found.state_dir, found.run_dir, BLKBACKD_STATE_NAME, settings.state_dir);
    if (rc == 0)
        rc = choose(found.control_socket, found.run_dir, BLKBACKD_CONTROL_NAME,
                    settings.control_socket);
    if (rc == 0)
        *out = settings;
    return rc;
}
