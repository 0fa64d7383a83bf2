/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration files: blkbackd.conf, or after a first byte 'd' a file of disks.d, after 'n' the
 * name of one. What is accepted is within the ranges of the table of keys, and what is refused
 * leaves everything as it was.
 */
#include "fuzz.h"

#include "config.h"
#include "config_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char disk_link[600];

/* disks.d/x.conf is whatever the descriptor of the day is. */
static void link_to(const char *file)
{
    if (disk_link[0] == '\0')
        (void)snprintf(disk_link, sizeof(disk_link), "%s/x.conf", fuzz_folder());
    (void)unlink(disk_link);
    CHECK(symlink(file, disk_link) == 0);
}

static void check_number(const struct config_key *key, const void *base)
{
    uint64_t number = 0;
    uint32_t narrow = 0;

    if (key->type == CONFIG_SIZE)
        memcpy(&number, (const char *)base + key->offset, sizeof(number));
    else
        memcpy(&narrow, (const char *)base + key->offset, sizeof(narrow));
    number += narrow;
    CHECK(number >= key->min && number <= key->max);
}

static void check_choice(const struct config_key *key, const void *base)
{
    const struct config_choice *choice = key->choices;
    uint32_t value;

    memcpy(&value, (const char *)base + key->offset, sizeof(value));
    while (choice->name && choice->value != value)
        choice++;
    CHECK(choice->name != NULL);
}

static void check_keys(enum config_place place, const void *base)
{
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        const char *text = (const char *)base + key->offset;

        if (key->place != place)
            continue;
        if (key->type == CONFIG_U32 || key->type == CONFIG_SIZE)
            check_number(key, base);
        else if (key->type == CONFIG_CHOICE)
            check_choice(key, base);
        else if (key->type == CONFIG_PATH || key->type == CONFIG_NAME)
            CHECK(fuzz_terminated(text, key->max) && text[0] != '\0' &&
                  (text[0] == '/') == (key->type == CONFIG_PATH));
    }
}

static void check_reason(int rc, const char *why)
{
    CHECK(rc < 0 && why[0] != '\0' && fuzz_terminated(why, CONFIG_WHY_MAX));
}

static void load_daemon(const char *path)
{
    struct config config;
    struct config untouched;
    char why[CONFIG_WHY_MAX];

    memset(&config, 0x5a, sizeof(config));
    memset(&untouched, 0x5a, sizeof(untouched));
    const int rc = config_load(path, why, &config);

    if (rc) {
        check_reason(rc, why);
        CHECK(memcmp(&config, &untouched, sizeof(config)) == 0);
        return;
    }
    check_keys(CONFIG_IN_DAEMON, &config);
    check_keys(CONFIG_IN_OPTIONS, &config.disk);
    CHECK(config_queue_threads(&config) >= 1 && config_queue_threads(&config) <= STATE_MAX_QUEUES);
}

static void load_disk(const char *path)
{
    struct config config = {.disk = {.max_segments = 11,
                                     .max_queues = 1,
                                     .work_per_turn = 1 << 20,
                                     .log_lines_per_minute = 1,
                                     .limits.weight = 1}};
    struct disk_config disk;
    struct disk_config untouched;
    char why[CONFIG_WHY_MAX];
    char report[CONFIG_WHY_MAX + 2] = "";
    FILE *out = fmemopen(report, sizeof(report), "w");
    unsigned wrong = 9;

    link_to(path);
    (void)snprintf(config.disks_dir, sizeof(config.disks_dir), "%s", fuzz_folder());
    memset(&disk, 0x5a, sizeof(disk));
    memset(&untouched, 0x5a, sizeof(untouched));
    const int rc = config_load_disk(&config, "x", why, &disk);

    if (rc) {
        check_reason(rc, why);
        CHECK(memcmp(&disk, &untouched, sizeof(disk)) == 0);
    } else {
        check_keys(CONFIG_IN_OPTIONS, &disk.options);
        CHECK(disk.target.kind != TARGET_DISK);
    }
    CHECK(out != NULL && config_check_disks(&config, out, &wrong) == 0);
    (void)fclose(out);
    CHECK(wrong == (rc ? 1U : 0U) && (report[0] != '\0') == (rc != 0));
}

/* A name that no target can mean is wrong, whatever is in the file. */
static void check_name(const uint8_t *data, size_t size)
{
    struct config config = {.disk = {.max_segments = 11,
                                     .max_queues = 1,
                                     .work_per_turn = 1 << 20,
                                     .log_lines_per_minute = 1,
                                     .limits.weight = 1}};
    char name[220];
    char path[800];
    unsigned wrong = 9;
    FILE *out = fopen("/dev/null", "we");

    memset(name, 0, sizeof(name));
    for (size_t i = 0; i < size && i < sizeof(name) - 1; i++)
        name[i] = data[i] == '/' || data[i] == '\0' ? '_' : (char)data[i];
    (void)snprintf(config.disks_dir, sizeof(config.disks_dir), "%s/names", fuzz_folder());
    (void)snprintf(path, sizeof(path), "%s/%s.conf", config.disks_dir, name);
    CHECK(mkdir(config.disks_dir, 0700) == 0 && symlink("/dev/null", path) == 0);
    CHECK(out != NULL && config_check_disks(&config, out, &wrong) == 0);
    CHECK(wrong == (name[0] != '.' && name[0] != '\0'));
    CHECK(unlink(path) == 0 && rmdir(config.disks_dir) == 0);
    (void)snprintf(config.disks_dir, sizeof(config.disks_dir), "/dev/null");
    CHECK(config_check_disks(&config, out, &wrong) == -ENOTDIR);
    (void)fclose(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int before = fuzz_next_descriptor();
    const bool of_disk = size && data[0] == 'd';

    if (size && data[0] == 'n') {
        check_name(data + 1, size - 1);
        CHECK(fuzz_next_descriptor() == before);
        return 0;
    }
    const int fd = fuzz_file(data + of_disk, size - of_disk);
    char path[40];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (of_disk)
        load_disk(path);
    else
        load_daemon(path);
    (void)close(fd);
    CHECK(fuzz_next_descriptor() == before);
    return 0;
}
