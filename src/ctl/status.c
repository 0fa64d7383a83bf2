/* SPDX-License-Identifier: BSD-2-Clause */
/* "status": which disks are asked for, whether the daemon runs, and the choice of output. */
#include "ctl.h"
#include "disks.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_INTERVAL 0.5
#define INTERVAL_MAX     3600.0
#define PING_MS          1000U

struct status_options {
    bool json;
    double interval;
    struct ctl_filter filter;
};

static int parse_arguments(int argc, char **argv, struct status_options *out)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"interval", required_argument, NULL, 'i'},
                                            {NULL, 0, NULL, 0}};
    int option;

    memset(out, 0, sizeof(*out));
    out->interval = DEFAULT_INTERVAL;
    optind = 0;
    while ((option = getopt_long(argc, argv, "ji:", options, NULL)) != -1) {
        if (option == 'j') {
            out->json = true;
        } else if (option != 'i') {
            return CTL_USAGE;
        } else if (ctl_parse_seconds(optarg, INTERVAL_MAX, &out->interval)) {
            ctl_complain("bad number of seconds '%s'", optarg);
            return CTL_USAGE;
        }
    }
    if (ctl_parse_disk(argc - optind, argv + optind, &out->filter)) {
        ctl_complain("usage: blkbackctl status [--json] [--interval SECONDS] [DOMID [VDEV]]");
        return CTL_USAGE;
    }
    return CTL_OK;
}

static int read_disks(const struct ctl_settings *settings, const struct status_options *options,
                      struct ctl_disks *out)
{
    int rc = ctl_disks_read(settings->state_dir, &options->filter, options->interval, out);

    /* Before its first start the daemon has made no folder: then there are no disks. */
    if (rc == 0 || rc == -ENOENT)
        return CTL_OK;
    ctl_complain("%s: %s", settings->state_dir,
                 rc == -EACCES ? "no permission: be root" : strerror(-rc));
    return CTL_ERROR;
}

static int print(const struct status_options *options, const struct ctl_daemon *daemon,
                 const struct ctl_disks *disks)
{
    const struct ctl_filter *filter = &options->filter;

    if (options->json) {
        if (ctl_print_json(daemon, disks) == 0)
            return CTL_OK;
        ctl_complain("out of memory");
        return CTL_ERROR;
    }
    if (disks->count == 1 && (filter->by_devid || filter->vdev))
        ctl_print_details(&disks->disks[0]);
    else if (disks->count > 0)
        ctl_print_table(disks);
    else if (daemon->running && !filter->by_domid)
        (void)puts("no disks");
    return CTL_OK;
}

/* Complains where the daemon does not answer; what the state files say is shown nevertheless. */
static int ask_daemon(const struct ctl_settings *settings, struct ctl_daemon *out)
{
    struct control_reply reply;
    int rc = (int)ctl_call(settings, CONTROL_PING, "", PING_MS, &reply);

    memset(out, 0, sizeof(*out));
    if (rc != CTL_OK)
        return rc;
    out->running = true;
    out->pid = reply.value;
    (void)snprintf(out->version, sizeof(out->version), "%.31s", reply.text);
    return CTL_OK;
}

int ctl_status(const struct ctl_settings *settings, int argc, char **argv)
{
    struct status_options options;
    struct ctl_daemon daemon;
    struct ctl_disks disks = {0};
    int rc = parse_arguments(argc, argv, &options);

    if (rc == CTL_OK)
        rc = read_disks(settings, &options, &disks);
    if (rc != CTL_OK)
        return rc;
    rc = ask_daemon(settings, &daemon);
    int printed = print(&options, &daemon, &disks);
    if (rc == CTL_OK && options.filter.by_domid && disks.count == 0) {
        ctl_complain("blkbackd serves no such disk");
        rc = CTL_NO_SUCH_DISK;
    }
    if (rc == CTL_OK)
        rc = disks.unreadable ? CTL_ERROR : printed;
    ctl_disks_free(&disks);
    return rc;
}
