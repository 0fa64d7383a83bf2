/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading blkbackd.conf and the files of disks.d: whole or not at all, with file, line and reason
 * of what is wrong. */
#include "config.h"

#include "blkback/paths.h"
#include "config_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)256 * 1024)
#define LINE_BYTES_MAX 2048

/* The default of max-queues is the number of CPUs, but no more than this: what further queues bring
 * one disk is less than they cost. */
#define QUEUES_STANDARD_MAX 1U

/* One file being read. */
struct reading {
    const char *path;
    const char *next; /* text not handed to inih yet */
    unsigned line;    /* of what was handed over last */
    bool failed;      /* `why` holds the first error */
    unsigned failed_line;
    char *why;
    void *base[CONFIG_PLACES];           /* NULL: such keys do not belong in this file */
    unsigned seen_line[CONFIG_KEYS_MAX]; /* 0: not set by this file */
};

/* Keeps the first error, which is the one that explains the rest. line 0: the file as a whole. */
__attribute__((format(printf, 3, 4))) static void fail(struct reading *reading, unsigned line,
                                                       const char *format, ...)
{
    va_list arguments;
    size_t used;

    if (reading->failed)
        return;
    reading->failed = true;
    reading->failed_line = line;
    if (line)
        used = (size_t)snprintf(reading->why, CONFIG_WHY_MAX, "%s:%u: ", reading->path, line);
    else
        used = (size_t)snprintf(reading->why, CONFIG_WHY_MAX, "%s: ", reading->path);
    if (used >= CONFIG_WHY_MAX)
        return;
    va_start(arguments, format);
    (void)vsnprintf(reading->why + used, CONFIG_WHY_MAX - used, format, arguments);
    va_end(arguments);
}

/*
 * inih's source of lines. Leading blanks are dropped, since inih would take an indented line for
 * the continuation of the value before it.
 */
static char *next_line(char *line, int size, void *stream)
{
    struct reading *reading = stream;
    const char *start = reading->next;

    if (*start == '\0' || reading->failed)
        return NULL;
    size_t length = strcspn(start, "\n");
    reading->next = start + length + (start[length] == '\n');
    reading->line++;
    size_t blanks = strspn(start, " \t");
    if (blanks > length)
        blanks = length;
    if (length - blanks + 2 > (size_t)size) {
        fail(reading, reading->line, "the line is longer than %d bytes", size - 2);
        return NULL;
    }
    memcpy(line, start + blanks, length - blanks);
    line[length - blanks] = '\n';
    line[length - blanks + 1] = '\0';
    return line;
}

/* The key of that name, as an index; or -1 with the error said. */
static int find_key(struct reading *reading, const char *section, const char *name)
{
    bool section_known = false;
    int elsewhere = -1;

    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        bool here = reading->base[key->place] != NULL;
        bool section_matches = strcmp(key->section, section) == 0;

        if (section_matches && here)
            section_known = true;
        if (strcmp(key->name, name) != 0)
            continue;
        if (section_matches && here)
            return (int)i;
        elsewhere = (int)i;
    }
    if (*section == '\0')
        fail(reading, reading->line, "'%s' stands before any [section]", name);
    else if (!section_known)
        fail(reading, reading->line, "unknown section [%s]", section);
    else if (elsewhere >= 0 && !reading->base[config_keys[elsewhere].place])
        fail(reading, reading->line, "'%s' does not belong in this file", name);
    else if (elsewhere >= 0)
        fail(reading, reading->line, "'%s' belongs in [%s]", name, config_keys[elsewhere].section);
    else
        fail(reading, reading->line, "unknown key '%s' in [%s]", name, section);
    return -1;
}

/* inih's handler: 1 when the value was taken. */
static int take_value(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;
    char reason[512];
    char shown[128];
    int index = find_key(reading, section, name);

    if (index < 0)
        return 0;
    if (reading->seen_line[index]) {
        fail(reading, reading->line, "'%s' is set a second time, after line %u", name,
             reading->seen_line[index]);
        return 0;
    }
    reading->seen_line[index] = reading->line;
    const struct config_key *key = &config_keys[index];
    if (config_key_set(key, value, reading->base[key->place], reason, sizeof(reason))) {
        fail(reading, reading->line, "bad value '%s' for '%s': %s",
             log_escape(value, shown, sizeof(shown)), name, reason);
        return 0;
    }
    return 1;
}

/* Reads a regular file into a new string. Returns 0 or -errno, with the error said. */
static int read_text(struct reading *reading, char **out)
{
    /* O_NONBLOCK: a fifo under this name must not hang us. */
    int fd = open(reading->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    size_t used = 0;
    ssize_t got = 1;

    if (fd < 0 || fstat(fd, &status)) {
        int rc = -errno;
        fail(reading, 0, "%s", strerror(-rc));
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    char *text = S_ISREG(status.st_mode) ? malloc(FILE_BYTES_MAX + 1) : NULL;
    while (text && used <= FILE_BYTES_MAX && got > 0) {
        got = read(fd, text + used, FILE_BYTES_MAX + 1 - used);
        used += got > 0 ? (size_t)got : 0;
    }
    int rc = got < 0 ? -errno : 0;
    (void)close(fd);
    if (!text || rc || used > FILE_BYTES_MAX || memchr(text, '\0', used)) {
        fail(reading, 0, "%s",
             !text                   ? "not a regular file"
             : rc                    ? strerror(-rc)
             : used > FILE_BYTES_MAX ? "larger than 256 KiB"
                                     : "not a text file");
        free(text);
        return rc ? rc : -EINVAL;
    }
    text[used] = '\0';
    *out = text;
    return 0;
}

/* Sets every key of the places that this file has to its default. */
static void set_defaults(struct reading *reading, bool options_too)
{
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char reason[512];
        void *base = reading->base[key->place];

        if (!base || !key->standard || (key->place == CONFIG_IN_OPTIONS && !options_too))
            continue;
        /* A test runs through every default; none can fail. */
        (void)config_key_set(key, key->standard, base, reason, sizeof(reason));
    }
}

static int read_file(struct reading *reading)
{
    char *text = NULL;
    int rc = read_text(reading, &text);

    if (rc)
        return rc;
    reading->next = text;
    ini_use_stack = false;
    ini_initial_alloc = LINE_BYTES_MAX;
    ini_max_line = LINE_BYTES_MAX;
    rc = ini_parse_stream(next_line, reading, take_value, reading);
    free(text);
    if (rc == -2)
        return -ENOMEM;
    /* inih goes on after a line it does not understand, so that a later error may have been said.
     */
    if (rc > 0 && (unsigned)rc < reading->failed_line)
        reading->failed = false;
    if (rc > 0)
        fail(reading, (unsigned)rc, "neither [section], key = value, nor # comment");
    return reading->failed ? -EINVAL : 0;
}

static bool was_set(const struct reading *reading, const char *name)
{
    for (unsigned i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].name, name) == 0 && reading->seen_line[i])
            return true;
    return false;
}

/* Paths that were not set follow the run folder. */
static int follow_run_dir(struct reading *reading, struct config *config)
{
    int length = 0;

    if (!was_set(reading, "state-dir"))
        length = snprintf(config->state_dir, sizeof(config->state_dir), "%s/%s", config->run_dir,
                          BLKBACKD_STATE_NAME);
    if (length >= (int)sizeof(config->state_dir)) {
        fail(reading, 0, "run-dir is too long for the state files below it");
        return -EINVAL;
    }
    if (was_set(reading, "control-socket"))
        return 0;
    length = snprintf(config->control_socket, sizeof(config->control_socket), "%s/%s",
                      config->run_dir, BLKBACKD_CONTROL_NAME);
    /* 108 bytes are what a Unix socket's address holds. */
    if (length >= 108) {
        fail(reading, 0, "run-dir is too long for the control socket: set control-socket");
        return -EINVAL;
    }
    return 0;
}

/*
 * Where the worker is: beside the broker's own program, as in a build folder, unless it is only
 * where it gets installed to, which is ../libexec/blkbackd from there.
 */
static void find_worker(struct config *config)
{
    char folder[CONFIG_PATH_MAX - 64];
    char installed[CONFIG_PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);

    folder[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[1] = '\0';
    (void)snprintf(config->worker, sizeof(config->worker), "%sblkbackd-worker", folder);
    (void)snprintf(installed, sizeof(installed), "%s../libexec/blkbackd/blkbackd-worker", folder);
    if (access(config->worker, X_OK) && access(installed, X_OK) == 0)
        memcpy(config->worker, installed, sizeof(installed));
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t online_cpus(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : lesser((uint32_t)count, STATE_MAX_QUEUES);
}

uint32_t config_queue_threads(const struct config *config)
{
    return config->queue_threads != 0 ? config->queue_threads
                                      : lesser(online_cpus(), config->disk.max_queues);
}

int config_load(const char *path, char *why, struct config *out)
{
    struct config config;
    struct reading reading = {.path = path, .why = why};

    memset(&config, 0, sizeof(config));
    reading.base[CONFIG_IN_DAEMON] = &config;
    reading.base[CONFIG_IN_OPTIONS] = &config.disk;
    why[0] = '\0';
    set_defaults(&reading, true);
    config.disk.max_queues = lesser(online_cpus(), QUEUES_STANDARD_MAX);
    int rc = read_file(&reading);
    if (rc == 0)
        rc = follow_run_dir(&reading, &config);
    if (rc) {
        if (!reading.failed)
            fail(&reading, 0, "%s", strerror(-rc));
        return rc;
    }
    if (!was_set(&reading, "binary"))
        find_worker(&config);
    *out = config;
    return 0;
}

int config_load_disk(const struct config *config, const char *name, char *why,
                     struct disk_config *out)
{
    struct disk_config disk;
    char path[CONFIG_PATH_MAX + TARGET_NAME_MAX + 8];
    struct reading reading = {.path = path, .why = why};

    memset(&disk, 0, sizeof(disk));
    disk.options = config->disk;
    reading.base[CONFIG_IN_OPTIONS] = &disk.options;
    reading.base[CONFIG_IN_DISK] = &disk;
    why[0] = '\0';
    (void)snprintf(path, sizeof(path), "%s/%.*s.conf", config->disks_dir, (int)TARGET_NAME_MAX - 1,
                   name);
    set_defaults(&reading, false);
    int rc = read_file(&reading);
    if (rc == 0 && !was_set(&reading, "target")) {
        fail(&reading, 0, "no 'target' in [disk]");
        rc = -EINVAL;
    }
    if (rc) {
        if (!reading.failed)
            fail(&reading, 0, "%s", strerror(-rc));
        return rc;
    }
    *out = disk;
    return 0;
}
