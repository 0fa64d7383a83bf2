/* SPDX-License-Identifier: BSD-2-Clause */
/* blkbackd-worker: serves the disks of one domain. Started by blkbackd, never by hand. */
#include "blkback/log.h"
#include "blkback/parse.h"
#include "sandbox.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

struct arguments {
    uint32_t domid;
    struct sandbox sandbox;
    uint64_t buffer_bytes;
    uint32_t queue_threads;
    uint32_t poll_us;
    enum log_level level;
};

static int parse_argument(int option, const char *value, struct arguments *out)
{
    switch (option) {
    case 'd':
        return parse_u32(value, UINT16_MAX, &out->domid);
    case 'u':
        return parse_u32(value, INT32_MAX, &out->sandbox.uid);
    case 'g':
        return parse_u32(value, INT32_MAX, &out->sandbox.gid);
    case 's':
        return parse_bool(value, &out->sandbox.on);
    case 'b':
        return parse_u64(value, UINT64_MAX, &out->buffer_bytes);
    case 't':
        return parse_u32(value, WORKER_MAX_THREADS, &out->queue_threads);
    case 'p':
        return parse_u32(value, WORKER_POLL_US_MAX, &out->poll_us);
    case 'l':
        return log_level_parse(value, &out->level);
    default:
        return -EINVAL;
    }
}

static int parse_arguments(int argc, char **argv, struct arguments *out)
{
    static const struct option options[] = {
        {"domid", required_argument, NULL, 'd'},
        {"uid", required_argument, NULL, 'u'},
        {"gid", required_argument, NULL, 'g'},
        {"sandbox", required_argument, NULL, 's'},
        {"buffer-size", required_argument, NULL, 'b'},
        {"queue-threads", required_argument, NULL, 't'},
        {"poll-time", required_argument, NULL, 'p'},
        {"log-level", required_argument, NULL, 'l'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const int error = parse_argument(option, optarg, out);

        if (error)
            return error;
    }
    return optind == argc ? 0 : -EINVAL;
}

static void say_what_is_missing(const struct arguments *arguments,
                                char description[STATE_SANDBOX_MAX])
{
    sandbox_describe(&arguments->sandbox, description);
    if (arguments->sandbox.on && arguments->sandbox.lacks[0])
        log_warning("domain %u: sandbox %s", arguments->domid, description);
    else
        log_debug("domain %u: sandbox %s", arguments->domid, description);
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.buffer_bytes = UINT64_C(64) << 20,
                                  .queue_threads = 1,
                                  .level = LOG_LEVEL_INFO,
                                  .sandbox.on = true};
    static struct worker worker;
    char sandbox[STATE_SANDBOX_MAX];

    log_init("blkbackd-worker", LOG_LEVEL_INFO);
    if (parse_arguments(argc, argv, &arguments) < 0 || fcntl(WORKER_SOCKET_FD, F_GETFD) < 0) {
        (void)fprintf(stderr,
                      "blkbackd-worker: started by blkbackd, not by hand; see blkbackd(8)\n");
        return EXIT_FAILURE;
    }
    log_set_level(arguments.level);
    /* Started through a descriptor, it has that one's number for a name. */
    (void)prctl(PR_SET_NAME, "blkbackd-worker");
    /* A broker that is gone is noticed at the socket; the service's signals to the whole group are
     * the broker's to handle. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    /* One arena for all threads: none is needed on the data path, and giving back memory of another
     * one reads a file. */
    (void)mallopt(M_ARENA_MAX, 1);
    sandbox_enter(&arguments.sandbox);
    const struct worker_params params = {
        .domid = arguments.domid,
        .buffer_bytes = arguments.buffer_bytes,
        .threads = arguments.queue_threads,
        .poll_us = arguments.poll_us,
    };

    if (worker_create(&params, &worker) < 0 ||
        sandbox_seal(&arguments.sandbox, worker_uring_restricted(&worker)) < 0)
        return EXIT_FAILURE;
    say_what_is_missing(&arguments, sandbox);
    const int error = worker_run(&worker, sandbox);

    worker_destroy(&worker);
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
