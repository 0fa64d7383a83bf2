/* SPDX-License-Identifier: BSD-2-Clause */
/* "attach" and "detach", which the hook calls. */
#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* Below the 40 seconds after which libxl ends the hook, so that the reason still reaches xl. */
#define DEFAULT_SECONDS 38.0
#define SECONDS_MAX     86400.0

/* Parses "[--timeout SECONDS] PATH". */
static int parse_arguments(int argc, char **argv, const char **path, unsigned *timeout_ms)
{
    static const struct option options[] = {{"timeout", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    double seconds = DEFAULT_SECONDS;
    int option;

    optind = 0;
    while ((option = getopt_long(argc, argv, "+t:", options, NULL)) != -1) {
        if (option != 't')
            return CTL_USAGE;
        if (ctl_parse_seconds(optarg, SECONDS_MAX, &seconds)) {
            ctl_complain("bad number of seconds '%s'", optarg);
            return CTL_USAGE;
        }
    }
    if (argc - optind != 1) {
        ctl_complain("usage: blkbackctl %s [--timeout SECONDS] BACKEND-PATH", argv[0]);
        return CTL_USAGE;
    }
    *path = argv[optind];
    *timeout_ms = (unsigned)(seconds * 1000.0);
    return CTL_OK;
}

static const char *reason(const struct control_reply *reply)
{
    return reply->text[0] ? reply->text : strerror(-reply->error);
}

int ctl_attach(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    const char *path = NULL;
    unsigned timeout_ms = 0;
    int rc = parse_arguments(argc, argv, &path, &timeout_ms);

    if (rc == CTL_OK)
        rc = (int)ctl_call(settings, CONTROL_ATTACH, path, timeout_ms, &reply);
    if (rc != CTL_OK)
        return rc;
    if (reply.error) {
        ctl_complain("%s", reason(&reply));
        return CTL_ERROR;
    }
    if (reply.text[0])
        (void)puts(reply.text);
    return CTL_OK;
}

int ctl_detach(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    const char *path = NULL;
    unsigned timeout_ms = 0;
    int rc = parse_arguments(argc, argv, &path, &timeout_ms);

    if (rc == CTL_OK)
        rc = (int)ctl_call(settings, CONTROL_DETACH, path, timeout_ms, &reply);
    if (rc != CTL_OK)
        return rc;
    if (reply.error) {
        ctl_complain("%s", reason(&reply));
        return reply.error == -ENOENT || reply.error == -ENODEV ? CTL_NO_SUCH_DISK : CTL_ERROR;
    }
    return CTL_OK;
}
