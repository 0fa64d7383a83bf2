/* SPDX-License-Identifier: BSD-2-Clause */
/* blkbackctl: the table of subcommands and the options that all share. */
#include "ctl.h"

#include "blkback/paths.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const struct subcommand {
    const char *name;
    const char *arguments;
    const char *summary;
    int (*run)(const struct ctl_settings *settings, int argc, char **argv);
} subcommands[] = {
    {"status", "[--json] [--interval SECONDS] [DOMID [VDEV]]", "what disks there are", ctl_status},
    {"resize", "DOMID VDEV", "look whether the image has grown", ctl_resize},
    {"resume", "[--accept-data-loss] DOMID VDEV", "try again what the storage failed", ctl_resume},
    {"limit",
     "[--iops N] [--iops-burst N] [--bandwidth BYTES] [--bandwidth-burst BYTES] [--weight N] "
     "DOMID VDEV",
     "what the disk may do per second", ctl_limit},
    {"insert", "DOMID VDEV TARGET", "put a medium into a CD-ROM drive", ctl_insert},
    {"eject", "DOMID VDEV", "take it out", ctl_eject},
    {"reload", "", "read the configuration again", ctl_reload},
    {"ping", "", "whether the daemon runs and answers", ctl_ping},
    {"version", "", "versions of this program and of the daemon", ctl_version},
    {"attach", "[--timeout SECONDS] PATH", "for the hook: wait until a disk is open", ctl_attach},
    {"detach", "[--timeout SECONDS] PATH", "for the hook: wait until it is let go of", ctl_detach},
};

#define SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static void print_help(FILE *file)
{
    (void)fputs(
        "usage: blkbackctl [--config FILE] [--state-dir FOLDER] [--socket PATH] SUBCOMMAND\n"
        "       blkbackctl --help | --version\n\n",
        file);
    for (size_t i = 0; i < SUBCOMMANDS; i++)
        (void)fprintf(file, "  %s%s%s\n      %s\n", subcommands[i].name,
                      subcommands[i].arguments[0] ? " " : "", subcommands[i].arguments,
                      subcommands[i].summary);
    (void)fputs("  help\n      this text\n\n"
                "Exit codes: 0 success, 1 error, 2 usage, 3 daemon not running, 4 no such disk.\n",
                file);
}

/* What the options before the subcommand said. NULL: not given. */
struct global_options {
    const char *config;
    const char *state_dir;
    const char *socket;
};

/* Returns -1 to go on with the subcommand at `optind`, or an exit code. */
static int parse_options(int argc, char **argv, struct global_options *out)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"state-dir", required_argument, NULL, 'd'},
        {"socket", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "+c:hV", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            out->config = optarg;
            break;
        case 'd':
            out->state_dir = optarg;
            break;
        case 's':
            out->socket = optarg;
            break;
        case 'h':
            print_help(stdout);
            return CTL_OK;
        case 'V':
            (void)printf("blkbackctl %s\n", BLKBACKD_VERSION);
            return CTL_OK;
        default:
            return CTL_USAGE;
        }
    }
    return -1;
}

static int override(const char *option, const char *value, char *field)
{
    if (!value)
        return CTL_OK;
    if (strlen(value) >= CTL_PATH_MAX) {
        ctl_complain("the path after %s is too long", option);
        return CTL_USAGE;
    }
    memcpy(field, value, strlen(value) + 1);
    return CTL_OK;
}

static int settle(const struct global_options *options, struct ctl_settings *out)
{
    const char *config = options->config ? options->config : BLKBACKD_CONFIG_FILE;
    int rc = ctl_settings_load(config, options->config != NULL, out);

    if (rc) {
        ctl_complain("%s: %s", config, strerror(-rc));
        return CTL_ERROR;
    }
    rc = override("--state-dir", options->state_dir, out->state_dir);
    if (rc == CTL_OK)
        rc = override("--socket", options->socket, out->control_socket);
    return rc;
}

int main(int argc, char **argv)
{
    struct global_options options = {0};
    struct ctl_settings settings;
    int rc = parse_options(argc, argv, &options);

    if (rc >= 0)
        return rc;
    if (optind == argc) {
        print_help(stderr);
        return CTL_USAGE;
    }
    argc -= optind;
    argv += optind;
    if (strcmp(argv[0], "help") == 0) {
        print_help(stdout);
        return CTL_OK;
    }
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        if (strcmp(argv[0], subcommands[i].name) != 0)
            continue;
        rc = settle(&options, &settings);
        return rc ? rc : subcommands[i].run(&settings, argc, argv);
    }
    ctl_complain("no subcommand '%s': see blkbackctl help", argv[0]);
    return CTL_USAGE;
}
