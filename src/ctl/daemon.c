/* SPDX-License-Identifier: BSD-2-Clause */
/* "ping", "version" and "reload": about the daemon as a whole. */
#include "ctl.h"

#include <stdio.h>
#include <string.h>

#define PING_MS   2000U
#define RELOAD_MS 10000U

static int no_arguments(int argc, char **argv)
{
    if (argc == 1)
        return CTL_OK;
    ctl_complain("'%s' takes no arguments", argv[0]);
    return CTL_USAGE;
}

int ctl_ping(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    int rc = no_arguments(argc, argv);

    if (rc == CTL_OK)
        rc = (int)ctl_call(settings, CONTROL_PING, "", PING_MS, &reply);
    if (rc == CTL_OK)
        (void)printf("blkbackd %s is running, pid %u\n", reply.text, reply.value);
    return rc;
}

int ctl_version(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    int rc = no_arguments(argc, argv);

    if (rc != CTL_OK)
        return rc;
    (void)printf("blkbackctl %s\n", BLKBACKD_VERSION);
    (void)fflush(stdout);
    rc = (int)ctl_call(settings, CONTROL_PING, "", PING_MS, &reply);
    if (rc == CTL_OK)
        (void)printf("blkbackd %s\n", reply.text);
    return rc;
}

int ctl_reload(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    int rc = no_arguments(argc, argv);

    if (rc == CTL_OK)
        rc = (int)ctl_call(settings, CONTROL_RELOAD, "", RELOAD_MS, &reply);
    if (rc != CTL_OK)
        return rc;
    if (reply.error) {
        ctl_complain("%s", reply.text[0] ? reply.text : strerror(-reply.error));
        ctl_complain("the configuration was not changed");
        return CTL_ERROR;
    }
    return CTL_OK;
}
