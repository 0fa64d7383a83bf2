/* SPDX-License-Identifier: BSD-2-Clause */
/* "resize", "insert" and "eject": a disk that changes while its guest runs. */
#include "ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The I/O in flight has to end before a medium is changed. */
#define TIMEOUT_MS 30000U

static int usage(const char *command, const char *rest)
{
    ctl_complain("usage: blkbackctl %s DOMID VDEV%s", command, rest);
    return CTL_USAGE;
}

/* `target` NULL: none. */
static int ask(const struct ctl_settings *settings, enum control_command command, const char *path,
               const char *target, struct control_reply *reply)
{
    int rc = (int)ctl_call_with(settings, command, path, target ? target : "", TIMEOUT_MS, reply);

    if (rc != CTL_OK || reply->error == 0)
        return rc;
    ctl_complain("%s", reply->text[0] ? reply->text : strerror(-reply->error));
    return reply->error == -ENOENT ? CTL_NO_SUCH_DISK : CTL_ERROR;
}

int ctl_resize(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    char path[STATE_TEXT_MAX];
    int rc = ctl_disk_path(settings, argc - 1, argv + 1, path);

    if (rc == CTL_USAGE)
        return usage("resize", "");
    if (rc == CTL_OK)
        rc = ask(settings, CONTROL_RESIZE, path, NULL, &reply);
    if (rc == CTL_OK)
        (void)printf("%s bytes\n", reply.text);
    return rc;
}

int ctl_insert(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    char path[STATE_TEXT_MAX];
    int rc = argc < 3 ? CTL_USAGE : ctl_disk_path(settings, argc - 2, argv + 1, path);

    if (rc == CTL_USAGE || argv[argc - 1][0] == '\0')
        return usage("insert", " TARGET");
    return rc == CTL_OK ? ask(settings, CONTROL_INSERT, path, argv[argc - 1], &reply) : rc;
}

int ctl_eject(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    char path[STATE_TEXT_MAX];
    int rc = ctl_disk_path(settings, argc - 1, argv + 1, path);

    if (rc == CTL_USAGE)
        return usage("eject", "");
    return rc == CTL_OK ? ask(settings, CONTROL_EJECT, path, NULL, &reply) : rc;
}
