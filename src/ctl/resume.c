/* SPDX-License-Identifier: BSD-2-Clause */
/* "resume": has a disk that waits for its storage go on. */
#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What is tried again may take long on storage that is in trouble. */
#define TIMEOUT_MS 60000U

static int parse_arguments(int argc, char **argv, bool *accept_loss)
{
    static const struct option options[] = {{"accept-data-loss", no_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    int option;

    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'l')
            return CTL_USAGE;
        *accept_loss = true;
    }
    return CTL_OK;
}

int ctl_resume(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    char path[STATE_TEXT_MAX];
    bool accept_loss = false;
    int rc = parse_arguments(argc, argv, &accept_loss);

    if (rc == CTL_OK)
        rc = ctl_disk_path(settings, argc - optind, argv + optind, path);
    if (rc == CTL_USAGE)
        ctl_complain("usage: blkbackctl resume [--accept-data-loss] DOMID VDEV");
    if (rc == CTL_OK)
        rc = (int)ctl_call(settings, accept_loss ? CONTROL_RESUME_AND_LOSE : CONTROL_RESUME, path,
                           TIMEOUT_MS, &reply);
    if (rc != CTL_OK || reply.error == 0)
        return rc;
    ctl_complain("%s", reply.text[0] ? reply.text : strerror(-reply.error));
    return reply.error == -ENOENT ? CTL_NO_SUCH_DISK : CTL_ERROR;
}
