/* SPDX-License-Identifier: BSD-2-Clause */
/* blkbackd, the broker: command line, lock file, signals. */
#include "blkback/paths.h"
#include "broker.h"
#include "capabilities.h"
#include "check_upgrade.h"
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
    const char *config_path;
    bool foreground;
    bool check_config;
    bool check_upgrade;
};

static const char usage[] =
    "usage: blkbackd [--foreground] [--config FILE]\n"
    "       blkbackd --check-config | --check-upgrade [--config FILE]\n"
    "\n"
    "  -f, --foreground    run from a terminal: log lines without the journal's priorities\n"
    "  -c, --config FILE   configuration (default " BLKBACKD_CONFIG_FILE ")\n"
    "      --check-config  say whether the configuration is right, and leave\n"
    "      --check-upgrade say whether the disks that a daemon serves could be taken up, and "
    "leave\n"
    "      --version       show the version\n"
    "  -h, --help          show this\n";

/* Returns -1 to go on, or the exit status. */
static int parse_options(int argc, char **argv, struct options *options)
{
    enum { OPTION_CHECK = 256, OPTION_UPGRADE, OPTION_VERSION };
    static const struct option long_options[] = {
        {"foreground", no_argument, NULL, 'f'},
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, OPTION_CHECK},
        {"check-upgrade", no_argument, NULL, OPTION_UPGRADE},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "fc:h", long_options, NULL)) != -1) {
        switch (option) {
        case 'f':
            options->foreground = true;
            break;
        case 'c':
            options->config_path = optarg;
            break;
        case OPTION_CHECK:
            options->check_config = true;
            break;
        case OPTION_UPGRADE:
            options->check_upgrade = true;
            break;
        case OPTION_VERSION:
            puts("blkbackd " BLKBACKD_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    return -1;
}

/* The lock that makes us the only broker of this run directory; held until the process ends.
 * Returns its descriptor or -1. */
static int lock_run_dir(const struct config *config)
{
    char path[CONFIG_PATH_MAX + 16];
    if (mkdir(config->run_dir, 0700) != 0 && errno != EEXIST) {
        log_error("can't make %s: %s", config->run_dir, strerror(errno));
        return -1;
    }
    snprintf(path, sizeof(path), "%s/%s", config->run_dir, "lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        log_error("can't open %s: %s", path, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            log_error("another blkbackd runs in %s", config->run_dir);
        else
            log_error("can't lock %s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

static void on_stop_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)events;
    (void)notify_send("STOPPING=1");
    broker_stop(watcher->data);
}

static void on_reload_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    char why[CONFIG_WHY_MAX] = "";
    (void)loop;
    (void)events;
    if (broker_reload(watcher->data, why) != 0)
        log_error("the configuration was not reloaded: %s", why);
}

static void watch_signals(struct broker *broker, ev_signal signals[3])
{
    ev_signal_init(&signals[0], on_stop_signal, SIGTERM);
    ev_signal_init(&signals[1], on_stop_signal, SIGINT);
    ev_signal_init(&signals[2], on_reload_signal, SIGHUP);
    for (unsigned i = 0; i < 3; i++) {
        signals[i].data = broker;
        ev_signal_start(broker->loop, &signals[i]);
    }
    signal(SIGPIPE, SIG_IGN);
}

static int run(const struct options *options, const struct config *config)
{
    static struct broker broker;
    char why[CONFIG_WHY_MAX] = "";
    struct ev_loop *loop = ev_default_loop(EVFLAG_NOENV);
    ev_signal signals[3];

    if (loop == NULL) {
        log_error("can't make an event loop");
        return EXIT_FAILURE;
    }
    int error = broker_start(&broker, loop, options->config_path, config, why);
    if (error != 0) {
        log_error("%s", why[0] != '\0' ? why : strerror(-error));
        broker_finish(&broker);
        return EXIT_FAILURE;
    }
    watch_signals(&broker, signals);
    log_info("version " BLKBACKD_VERSION " ready, in domain %u", broker.own_domid);
    (void)notify_send("READY=1");
    ev_run(loop, 0);
    broker_finish(&broker);
    log_info("stopped");
    return EXIT_SUCCESS;
}

/* Everything that is wrong is said, one line each, and then how much it was. */
static int check_config(const struct options *options, const struct config *config)
{
    unsigned wrong = 0;

    if (config_check_disks(config, stderr, &wrong) != 0)
        return EXIT_FAILURE;
    if (wrong > 0) {
        fprintf(stderr, "%s: no errors; errors in %u of the files in %s\n", options->config_path,
                wrong, config->disks_dir);
        return EXIT_FAILURE;
    }
    printf("%s: no errors, nor in %s\n", options->config_path, config->disks_dir);
    return EXIT_SUCCESS;
}

static int check_disks(const struct config *config)
{
    struct check_upgrade found;

    int error = check_upgrade(config->state_dir, stderr, &found);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", config->state_dir, strerror(-error));
        return EXIT_FAILURE;
    }
    if (found.wrong > 0) {
        fprintf(stderr, "%u of %u connected disks could not be taken up: do not restart blkbackd\n",
                found.wrong, found.disks);
        return EXIT_FAILURE;
    }
    printf("blkbackd " BLKBACKD_VERSION " can take up all of the %u connected disks in %s\n",
           found.disks, config->state_dir);
    return EXIT_SUCCESS;
}

/* The soft limit is for programs that use select(), as neither we nor our workers do, which inherit
 * it. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            log_warning("can't raise the limit of descriptors: %s", strerror(errno));
    }
}

int main(int argc, char **argv)
{
    struct options options = {.config_path = BLKBACKD_CONFIG_FILE};
    struct config config;
    char why[CONFIG_WHY_MAX] = "";

    int status = parse_options(argc, argv, &options);
    if (status >= 0)
        return status;
    if (options.foreground)
        unsetenv("JOURNAL_STREAM");
    notify_init();
    log_init("blkbackd", LOG_LEVEL_INFO);
    if (config_load(options.config_path, why, &config) != 0) {
        log_error("%s", why);
        return EXIT_FAILURE;
    }
    if (options.check_config)
        return check_config(&options, &config);
    if (options.check_upgrade)
        return check_disks(&config);
    log_set_level(config.log_level);
    umask(077);
    raise_descriptor_limit();
    int error = capabilities_drop();
    if (error != 0)
        log_warning("can't give up capabilities: %s", strerror(-error));
    if (lock_run_dir(&config) < 0)
        return EXIT_FAILURE;
    return run(&options, &config);
}
