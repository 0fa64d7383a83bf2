/* SPDX-License-Identifier: BSD-2-Clause */
/* "limit": what a disk may do per second, changed while its guest runs. */
#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 10000U

/* The options' names are those of the configuration's keys, but for "-limit". */
static const struct option options[] = {
    {"iops", required_argument, NULL, 'i'},      {"iops-burst", required_argument, NULL, 'I'},
    {"bandwidth", required_argument, NULL, 'b'}, {"bandwidth-burst", required_argument, NULL, 'B'},
    {"weight", required_argument, NULL, 'w'},    {NULL, 0, NULL, 0}};

static const char *key_of(int option)
{
    switch (option) {
    case 'i':
        return "iops-limit";
    case 'I':
        return "iops-burst";
    case 'b':
        return "bandwidth-limit";
    case 'B':
        return "bandwidth-burst";
    case 'w':
        return "weight";
    default:
        return NULL;
    }
}

/* Puts "KEY=VALUE KEY=VALUE" into `text`; the daemon looks at the values. */
static int parse_arguments(int argc, char **argv, char text[STATE_TEXT_MAX])
{
    size_t used = 0;
    int option;

    text[0] = '\0';
    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const char *key = key_of(option);

        if (!key || optarg[strcspn(optarg, " ")] != '\0')
            return CTL_USAGE;
        used += (size_t)snprintf(text + used, STATE_TEXT_MAX - used, "%s%s=%s", used ? " " : "",
                                 key, optarg);
        if (used >= STATE_TEXT_MAX)
            return CTL_USAGE;
    }
    return used ? CTL_OK : CTL_USAGE;
}

int ctl_limit(const struct ctl_settings *settings, int argc, char **argv)
{
    struct control_reply reply;
    char path[STATE_TEXT_MAX];
    char text[STATE_TEXT_MAX];
    int rc = parse_arguments(argc, argv, text);

    if (rc == CTL_OK)
        rc = ctl_disk_path(settings, argc - optind, argv + optind, path);
    if (rc == CTL_USAGE)
        ctl_complain("usage: blkbackctl limit [--iops N] [--iops-burst N] [--bandwidth BYTES] "
                     "[--bandwidth-burst BYTES] [--weight N] DOMID VDEV");
    if (rc == CTL_OK)
        rc = (int)ctl_call_with(settings, CONTROL_LIMIT, path, text, TIMEOUT_MS, &reply);
    if (rc != CTL_OK || reply.error == 0)
        return rc;
    ctl_complain("%s", reply.text[0] ? reply.text : strerror(-reply.error));
    return reply.error == -ENOENT ? CTL_NO_SUCH_DISK : CTL_ERROR;
}
