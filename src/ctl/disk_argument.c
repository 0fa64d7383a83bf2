/* SPDX-License-Identifier: BSD-2-Clause */
/* How a disk is named on the command line: a domain and a vdev, or a backend path. */
#include "disks.h"

#include "blkback/parse.h"
#include "ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "…/<domid>/<devid>", as in a backend path. */
static int parse_backend_path(const char *text, struct ctl_filter *out)
{
    char domid[16];
    const char *devid = strrchr(text, '/') + 1;
    const char *start = devid - 1;

    while (start > text && start[-1] != '/')
        start--;
    size_t length = (size_t)(devid - 1 - start);
    if (length >= sizeof(domid))
        return -EINVAL;
    memcpy(domid, start, length);
    domid[length] = '\0';
    if (parse_u32(domid, UINT32_MAX, &out->domid) || parse_u32(devid, UINT32_MAX, &out->devid))
        return -EINVAL;
    out->by_domid = true;
    out->by_devid = true;
    return 0;
}

int ctl_parse_disk(int count, char **words, struct ctl_filter *out)
{
    if (count == 0)
        return 0;
    if (count == 1 && strchr(words[0], '/'))
        return parse_backend_path(words[0], out);
    if (count > 2 || parse_u32(words[0], UINT32_MAX, &out->domid))
        return -EINVAL;
    out->by_domid = true;
    if (count == 2 && parse_u32(words[1], UINT32_MAX, &out->devid) == 0)
        out->by_devid = true;
    else if (count == 2)
        out->vdev = words[1];
    return 0;
}

/* One that fits, as the daemon calls it. */
static int path_of(const struct ctl_settings *settings, const struct ctl_filter *filter,
                   char path[STATE_TEXT_MAX])
{
    struct ctl_disks disks = {0};
    int rc = ctl_disks_read(settings->state_dir, filter, 0., &disks);

    if (rc != 0 && rc != -ENOENT) {
        ctl_complain("%s: %s", settings->state_dir,
                     rc == -EACCES ? "no permission: be root" : strerror(-rc));
        return CTL_ERROR;
    }
    rc = disks.count > 0 ? CTL_OK : CTL_NO_SUCH_DISK;
    if (rc == CTL_OK) {
        const struct connection_file *disk = &disks.disks[0].connection;
        (void)snprintf(path, STATE_TEXT_MAX, "backend/%s/%u/%u", disk->class_name, disk->domid,
                       disk->devid);
    } else {
        ctl_complain("blkbackd serves no such disk");
    }
    ctl_disks_free(&disks);
    return rc;
}

int ctl_disk_path(const struct ctl_settings *settings, int count, char **words,
                  char path[STATE_TEXT_MAX])
{
    struct ctl_filter filter = {.vdev = NULL};

    if (count == 1 && strchr(words[0], '/') && strlen(words[0]) < STATE_TEXT_MAX) {
        memcpy(path, words[0], strlen(words[0]) + 1);
        return CTL_OK;
    }
    if (count != 2 || ctl_parse_disk(count, words, &filter) != 0)
        return CTL_USAGE;
    return path_of(settings, &filter, path);
}
