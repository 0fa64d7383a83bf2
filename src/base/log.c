/* SPDX-License-Identifier: BSD-2-Clause */
/* Log lines: formatting, the rate limit, and a write to stderr that never waits for a slow reader.
 */
#include "blkback/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Below PIPE_BUF, so that a line is written whole or not at all and never mixes with another's. */
#define LOG_LINE_MAX 1024U

#define LOG_DEFAULT_BURST       20U
#define LOG_DEFAULT_INTERVAL_MS 1000U

static const char *program_name = "blkback";
static enum log_level log_threshold = LOG_LEVEL_INFO;
static bool with_priority;
static _Atomic unsigned lines_lost; /* because nobody read stderr */

/* Of every limit: threads share some, and a line that is written costs more than waiting here. */
static pthread_mutex_t limits = PTHREAD_MUTEX_INITIALIZER;

void log_init(const char *program, enum log_level threshold)
{
    program_name = program;
    log_threshold = threshold;
    with_priority = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_level(enum log_level threshold)
{
    log_threshold = threshold;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARNING:
        return "warning";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "info";
}

int log_level_parse(const char *text, enum log_level *out)
{
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO,
                                            LOG_LEVEL_DEBUG};

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(text, level_name(levels[i])) == 0) {
            *out = levels[i];
            return 0;
        }
    }
    return -EINVAL;
}

/* Data comes before log lines: where stderr is full (a stuck reader, a full disk) the line is lost
 * and counted. */
static void write_line(const char *line, size_t length)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT) ||
        write(STDERR_FILENO, line, length) < 0)
        atomic_fetch_add(&lines_lost, 1U);
}

/* The length of a line of LOG_LINE_MAX bytes after vsnprintf() at `used`; the newline still fits
 * behind it. */
static size_t grown(size_t used, int length)
{
    size_t room = LOG_LINE_MAX - 1 - used;

    if (length < 0)
        return used;
    return (size_t)length < room ? used + (size_t)length : LOG_LINE_MAX - 2;
}

__attribute__((format(printf, 3, 4))) static size_t append(char *line, size_t used,
                                                           const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(line + used, LOG_LINE_MAX - 1 - used, format, arguments);
    va_end(arguments);
    return grown(used, length);
}

__attribute__((format(printf, 3, 0))) static void log_line(enum log_level level,
                                                           uint64_t suppressed, const char *format,
                                                           va_list arguments)
{
    char line[LOG_LINE_MAX];
    int saved_errno = errno;
    unsigned lost = atomic_exchange(&lines_lost, 0U);
    size_t used;

    if (with_priority)
        used = append(line, 0, "<%d>%s: ", (int)level, program_name);
    else
        used = append(line, 0, "%s: %s: ", program_name, level_name(level));
    size_t body = used;
    used = grown(used, vsnprintf(line + used, LOG_LINE_MAX - 1 - used, format, arguments));
    if (suppressed)
        used =
            append(line, used, " (%llu similar lines suppressed)", (unsigned long long)suppressed);
    if (lost)
        used = append(line, used, " (%u lines lost before this one)", lost);
    /* One event is one line, whatever a string in it holds. */
    for (size_t i = body; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    write_line(line, used);
    errno = saved_errno;
}

void log_message(enum log_level level, const char *format, ...)
{
    va_list arguments;

    if (level > log_threshold)
        return;
    va_start(arguments, format);
    log_line(level, 0, format, arguments);
    va_end(arguments);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

/* Takes a token, after refilling by the time that went by. Returns false when there is none, which
 * is counted; otherwise how often that was so before. With `limits` held. */
static bool limit_take(struct log_limit *limit, uint64_t *suppressed)
{
    unsigned burst = limit->burst ? limit->burst : LOG_DEFAULT_BURST;
    unsigned interval_ms = limit->interval_ms ? limit->interval_ms : LOG_DEFAULT_INTERVAL_MS;
    uint64_t now = now_ms();

    if (!limit->started) {
        limit->started = true;
        limit->tokens = burst;
        limit->last_ms = now;
    }
    uint64_t earned = (now - limit->last_ms) / interval_ms;
    limit->last_ms += earned * interval_ms;
    limit->tokens = earned >= burst - limit->tokens ? burst : limit->tokens + (unsigned)earned;
    if (limit->tokens == 0) {
        limit->suppressed++;
        if (limit->dropped)
            ++*limit->dropped;
        return false;
    }
    limit->tokens--;
    *suppressed = limit->suppressed;
    limit->suppressed = 0;
    return true;
}

void log_limit_pace(struct log_limit *limit, unsigned lines_per_minute)
{
    limit->interval_ms = lines_per_minute ? 60000U / lines_per_minute : LOG_DEFAULT_INTERVAL_MS;
    limit->burst = lines_per_minute && lines_per_minute < LOG_DEFAULT_BURST ? lines_per_minute
                                                                            : LOG_DEFAULT_BURST;
    if (limit->tokens > limit->burst)
        limit->tokens = limit->burst;
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
{
    va_list arguments;
    uint64_t suppressed = 0;

    if (level > log_threshold)
        return;
    (void)pthread_mutex_lock(&limits);
    const bool taken = limit_take(limit, &suppressed);

    (void)pthread_mutex_unlock(&limits);
    if (!taken)
        return;
    va_start(arguments, format);
    log_line(level, suppressed, format, arguments);
    va_end(arguments);
}

const char *log_escape(const char *text, char *buffer, unsigned size)
{
    static const char ellipsis[] = "...";
    unsigned used = 0;
    unsigned safe = 0; /* length after which the ellipsis still fits */

    if (size == 0)
        return buffer;
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        unsigned length = byte >= 0x20 && byte < 0x7f ? 1U : 4U;

        if (used + length + 1U > size) {
            unsigned room = size - 1U - safe;
            memcpy(buffer + safe, ellipsis, room < 3U ? room : 3U);
            used = safe + (room < 3U ? room : 3U);
            break;
        }
        if (length == 1U)
            buffer[used] = (char)byte;
        else
            (void)snprintf(buffer + used, 5, "\\x%02x", byte);
        used += length;
        if (used + sizeof(ellipsis) <= size)
            safe = used;
    }
    buffer[used] = '\0';
    return buffer;
}
