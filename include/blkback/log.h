/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Logging: one line per event to stderr, with a syslog priority prefix ("<6>") where systemd reads
 * it, and a rate limit per origin so that no guest can make us loud.
 */
#ifndef BLKBACK_LOG_H
#define BLKBACK_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

/* The values are syslog's. */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

/* A token bucket: `burst` lines at once, then one each `interval_ms`. Zero-initialised means
 * defaults (20, 1000). */
struct log_limit {
    unsigned burst;
    unsigned interval_ms;
    unsigned tokens;
    bool started;
    uint64_t last_ms;
    uint64_t suppressed; /* lines dropped since the last one that was let through */
    uint64_t *dropped;   /* where all dropped lines are counted; NULL: nowhere */
};

/* Names the program in each line and decides the format from the environment (JOURNAL_STREAM: with
 * priority). */
void log_init(const char *program, enum log_level threshold);

void log_set_level(enum log_level threshold);

/* Parses "error", "warning", "info" or "debug". Returns 0, or -EINVAL. */
int log_level_parse(const char *text, enum log_level *out);

void log_message(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* So many lines per minute, from 1 to 60000, and up to 20 at once; 0: the default. Not while
 * another thread uses the limit. */
void log_limit_pace(struct log_limit *limit, unsigned lines_per_minute);

/* As log_message(), unless `limit` is used up; the next line let through says how many were
 * dropped. Threads may share a limit. */
void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...)   log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * Escapes text that a guest wrote: printable ASCII as is, the rest as \xNN, cut to fit `size` with
 * "..." at the end. Returns `buffer`.
 */
const char *log_escape(const char *text, char *buffer, unsigned size);

#endif
