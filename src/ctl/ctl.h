/* SPDX-License-Identifier: BSD-2-Clause */
/* What blkbackctl's subcommands share: settings, exit codes, calls to the broker. */
#ifndef BLKBACK_CTL_CTL_H
#define BLKBACK_CTL_CTL_H

#include "blkback/control_protocol.h"

enum ctl_exit {
    CTL_OK = 0,
    CTL_ERROR = 1,
    CTL_USAGE = 2,
    CTL_NOT_RUNNING = 3,
    CTL_NO_SUCH_DISK = 4
};

#define CTL_PATH_MAX 512U

struct ctl_settings {
    char state_dir[CTL_PATH_MAX];
    char control_socket[CTL_PATH_MAX];
};

/*
 * Fills the settings from a configuration file: run-dir, state-dir and control-socket of [daemon],
 * and nothing else, so that a mistake elsewhere in it is no hindrance. A missing file means
 * defaults unless `required`. Returns 0 or -errno.
 */
int ctl_settings_load(const char *config_path, int required, struct ctl_settings *out);

/* Prints "blkbackctl: ..." to stderr. */
void ctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Sends a request to the broker. Returns CTL_OK when a reply came; else complains and returns the
 * exit code.
 */
enum ctl_exit ctl_call(const struct ctl_settings *settings, enum control_command command,
                       const char *path, unsigned timeout_ms, struct control_reply *out);
/* The same with a target. */
enum ctl_exit ctl_call_with(const struct ctl_settings *settings, enum control_command command,
                            const char *path, const char *target, unsigned timeout_ms,
                            struct control_reply *out);

/*
 * The backend path of the one disk that "DOMID VDEV" names, or a path given as such. Returns
 * CTL_OK, CTL_USAGE when the words are no such thing, or complains and returns the exit code.
 */
int ctl_disk_path(const struct ctl_settings *settings, int count, char **words,
                  char path[STATE_TEXT_MAX]);

/* A number of seconds with an optional fraction, at most `max`. Returns 0 or -EINVAL. */
int ctl_parse_seconds(const char *text, double max, double *out);

/* The subcommands: `argv[0]` is the subcommand's name. Each returns an enum ctl_exit. */
int ctl_status(const struct ctl_settings *settings, int argc, char **argv);
int ctl_attach(const struct ctl_settings *settings, int argc, char **argv);
int ctl_detach(const struct ctl_settings *settings, int argc, char **argv);
int ctl_resize(const struct ctl_settings *settings, int argc, char **argv);
int ctl_limit(const struct ctl_settings *settings, int argc, char **argv);
int ctl_resume(const struct ctl_settings *settings, int argc, char **argv);
int ctl_insert(const struct ctl_settings *settings, int argc, char **argv);
int ctl_eject(const struct ctl_settings *settings, int argc, char **argv);
int ctl_reload(const struct ctl_settings *settings, int argc, char **argv);
int ctl_ping(const struct ctl_settings *settings, int argc, char **argv);
int ctl_version(const struct ctl_settings *settings, int argc, char **argv);

#endif
