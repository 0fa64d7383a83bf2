/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration files, good and bad, against what should come of them: fail/NAME.expected is the
 * message, pass/NAME.expected the settings. The program runs in the folder where these are.
 */
#include "testing.h"

#include "config.h"
#include "config_keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char why[CONFIG_WHY_MAX];

/* What max-queues is by default depends on the machine. */
static const char *print_queues(uint32_t queues, char text[16])
{
    struct config config;
    char ignored[CONFIG_WHY_MAX];

    assert_int_equal(config_load("pass/empty.conf", ignored, &config), 0);
    if (queues == config.disk.max_queues)
        return "standard";
    (void)snprintf(text, 16, "%u", queues);
    return text;
}

static int print_options(char *out, size_t size, const struct disk_options *options)
{
    char queues[16];

    return snprintf(out, size,
                    "engine %d\ndirect %d\nsector-size %u\nmax-ring-page-order %u\n"
                    "max-requests %u\nmax-request-segments %u\nmax-indirect-segments %u\n"
                    "max-queues %s\npersistent-grants %d\ndiscard %d\non-no-space %d\non-error %d\n"
                    "reconnects-per-minute %u\nwork-per-turn %llu\nmax-event-delay "
                    "%u\nlog-lines-per-minute %u\n"
                    "iops %u %u\nbandwidth %llu %llu\nweight %u\n",
                    (int)options->engine, options->direct, options->sector_size,
                    options->max_ring_page_order, options->max_requests, options->max_segments,
                    options->max_indirect_segments, print_queues(options->max_queues, queues),
                    (int)options->grants, options->discard, options->on_no_space, options->on_error,
                    options->reconnects_per_minute, (unsigned long long)options->work_per_turn,
                    options->max_event_delay_ms, options->log_lines_per_minute,
                    options->limits.iops, options->limits.iops_burst,
                    (unsigned long long)options->limits.bandwidth,
                    (unsigned long long)options->limits.bandwidth_burst, options->limits.weight);
}

static void print_config(const struct config *config, char *out, size_t size)
{
    int used = snprintf(
        out, size,
        "claim %d\nlog-level %d\nrun-dir %s\nstate-dir %s\ncontrol-socket %s\n"
        "disks-dir %s\nhook %s\nuid-base %u\nsandbox %d\nattach-timeout %u\nbuffer-size %llu\n"
        "queue-threads %u\npoll-time %u\nworker persistent-grants %u\n",
        (int)config->claim, (int)config->log_level, config->run_dir, config->state_dir,
        config->control_socket, config->disks_dir, config->hook, config->worker_uid_base,
        config->worker_sandbox, config->attach_timeout,
        (unsigned long long)config->worker_buffer_size, config->queue_threads, config->poll_us,
        config->grant_budget);
    (void)print_options(out + used, size - (size_t)used, &config->disk);
}

static void print_disk(const struct disk_config *disk, char *out, size_t size)
{
    int used = snprintf(out, size, "kind %d\npath %s\nsize %llu\nread-only %d\nshared %d\n",
                        (int)disk->target.kind, disk->target.path,
                        (unsigned long long)disk->target.size, disk->read_only, disk->shared);
    (void)print_options(out + used, size - (size_t)used, &disk->options);
}

/* With what a disk's file is read over: nothing in it is a default. */
static struct config parent(const char *folder)
{
    struct config config;

    memset(&config, 0, sizeof(config));
    (void)snprintf(config.disks_dir, sizeof(config.disks_dir), "%s", folder);
    config.disk = (struct disk_options){.engine = WORKER_ENGINE_INLINE,
                                        .direct = false,
                                        .sector_size = 4096,
                                        .max_ring_page_order = 1,
                                        .max_requests = 3,
                                        .max_segments = 12,
                                        .max_indirect_segments = 34,
                                        .max_queues = 5,
                                        .grants = WORKER_GRANTS_IN_PLACE,
                                        .discard = false,
                                        .on_no_space = FAULT_REPORT,
                                        .on_error = FAULT_REPORT,
                                        .reconnects_per_minute = 56,
                                        .work_per_turn = 2 << 20,
                                        .max_event_delay_ms = 12,
                                        .log_lines_per_minute = 34,
                                        .limits = {6, 7, 8, 9, 10}};
    return config;
}

/* What reading this file comes to: the message, or the settings. */
static int outcome(const char *folder, const char *name, char *out, size_t size)
{
    char path[TEST_PATH_MAX];
    struct config config = parent(folder);
    struct disk_config disk;
    int rc;

    if (strncmp(folder, "disk-", 5) == 0) {
        memset(&disk, 0x5a, sizeof(disk));
        rc = config_load_disk(&config, name, why, &disk);
        if (rc == 0)
            print_disk(&disk, out, size);
        else
            assert_int_equal(disk.target.size, UINT64_C(0x5a5a5a5a5a5a5a5a)); /* untouched */
    } else {
        memset(&config, 0x5a, sizeof(config));
        (void)snprintf(path, sizeof(path), "%s/%s.conf", folder, name);
        rc = config_load(path, why, &config);
        if (rc == 0)
            print_config(&config, out, size);
        else
            assert_int_equal(config.worker_uid_base, 0x5a5a5a5a);
    }
    if (rc)
        (void)snprintf(out, size, "%s\n", why);
    return rc;
}

static void check_file(const char *folder, const char *name, int expected_rc)
{
    char out[8192];
    char path[TEST_PATH_MAX];
    int rc = outcome(folder, name, out, sizeof(out));

    (void)snprintf(path, sizeof(path), "%s/%s.expected", folder, name);
    char *expected = test_file_read(path);
    if (rc != expected_rc || !expected || strcmp(out, expected) != 0)
        fail_msg("%s/%s.conf: %d instead of %d\n--- got:\n%s--- expected:\n%s", folder, name, rc,
                 expected_rc, out, expected ? expected : "(no file)");
    free(expected);
}

static void check_folder(const char *folder, int expected_rc, unsigned at_least)
{
    DIR *open_folder = opendir(folder);
    const struct dirent *entry;
    unsigned count = 0;

    assert_non_null(open_folder);
    while ((entry = readdir(open_folder))) {
        char name[256];
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".conf") != 0)
            continue;
        (void)snprintf(name, sizeof(name), "%.*s", (int)(dot - entry->d_name), entry->d_name);
        check_file(folder, name, expected_rc);
        count++;
    }
    (void)closedir(open_folder);
    assert_in_range(count, at_least, 1000);
}

static void good_files_give_their_settings(void **state)
{
    (void)state;
    check_folder("pass", 0, 8);
    check_folder("disk-pass", 0, 2);
}

static void bad_files_give_file_line_and_reason(void **state)
{
    (void)state;
    check_folder("fail", -EINVAL, 26);
    check_folder("disk-fail", -EINVAL, 6);
}

/* A key without a fixed default is shown without a value. */
static bool computed(const char *line)
{
    size_t length = strcspn(line, "\n");
    return length > 0 && line[length - 1] == '=';
}

static void example_file_holds_the_defaults(void **state)
{
    char defaults[8192];
    char from_example[8192];
    struct config config;

    (void)state;
    assert_int_equal(config_load("pass/empty.conf", why, &config), 0);
    print_config(&config, defaults, sizeof(defaults));
    /* The same with every comment sign before a key taken away. */
    char *text = test_file_read("../../../conf/blkbackd.conf");
    assert_non_null(text);
    const size_t size = text ? strlen(text) : 0;
    unsigned set = 0;
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z' && !computed(line)) {
            line[0] = ' ';
            set++;
        }
    }
    char folder[TEST_PATH_MAX];
    char path[TEST_PATH_MAX];
    test_folder_make(folder);
    test_file_write(test_path(folder, "all.conf", path), text, size);
    int rc = config_load(path, why, &config);
    test_folder_remove(folder);
    free(text);
    if (rc)
        fail_msg("%s", why);
    print_config(&config, from_example, sizeof(from_example));
    assert_string_equal(from_example, defaults);
    assert_int_equal(set, 34);
    assert_int_equal(config_load("../../../conf/disks.d/example.conf", why, &config), -EINVAL);
}

static void every_default_can_be_set(void **state)
{
    union {
        struct config config;
        struct disk_config disk;
    } place;

    (void)state;
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char reason[512] = "";
        if (key->standard && config_key_set(key, key->standard, &place, reason, sizeof(reason)))
            fail_msg("%s: %s", key->name, reason);
    }
}

static void missing_files_and_what_is_no_file(void **state)
{
    struct config config;
    struct disk_config disk;
    struct config above = parent("disk-pass");

    (void)state;
    assert_int_equal(config_load("no/such.conf", why, &config), -ENOENT);
    assert_string_equal(why, "no/such.conf: No such file or directory");
    assert_int_equal(config_load("pass", why, &config), -EINVAL);
    assert_string_equal(why, "pass: not a regular file");
    assert_int_equal(config_load_disk(&above, "nobody", why, &disk), -ENOENT);
    assert_string_equal(why, "disk-pass/nobody.conf: No such file or directory");
}

/* A test that hangs here runs into its time-out. */
static void a_fifo_does_not_hang_the_daemon(void **state)
{
    struct config config;
    char folder[TEST_PATH_MAX];
    char path[TEST_PATH_MAX];

    (void)state;
    test_folder_make(folder);
    assert_int_equal(mkfifo(test_path(folder, "fifo", path), 0600), 0);
    assert_int_equal(config_load(path, why, &config), -EINVAL);
    test_folder_remove(folder);
}

static void a_huge_file_is_refused(void **state)
{
    struct config config;
    char folder[TEST_PATH_MAX];
    char path[TEST_PATH_MAX];

    (void)state;
    test_folder_make(folder);
    test_file_write(test_path(folder, "huge", path), "#", 1);
    assert_int_equal(truncate(path, 1 << 20), 0);
    assert_int_equal(config_load(path, why, &config), -EINVAL);
    assert_non_null(strstr(why, "larger than 256 KiB"));
    test_folder_remove(folder);
}

/* All that are wrong are told, not only the first; what is no NAME.conf is left alone. */
static void every_file_of_disks_d_is_checked(void **state)
{
    struct config config = {.disk = {.engine = WORKER_ENGINE_AUTO}};
    char path[TEST_PATH_MAX];
    char *text = NULL;
    size_t size = 0;
    unsigned wrong = 99;

    (void)state;
    test_folder_make(config.disks_dir);
    test_file_write(test_path(config.disks_dir, "good.conf", path), "[disk]\ntarget = null:1G\n",
                    24);
    test_file_write(test_path(config.disks_dir, "b.conf", path), "[disk]\nengine = aio\n", 20);
    test_file_write(test_path(config.disks_dir, "c.conf", path), "[disk]\nspeed = 9\n", 17);
    test_file_write(test_path(config.disks_dir, "a b.conf", path), "[disk]\ntarget = /x\n", 19);
    test_file_write(test_path(config.disks_dir, "c.conf~", path), "garbage", 7);
    test_file_write(test_path(config.disks_dir, ".d.conf", path), "garbage", 7);
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    assert_int_equal(config_check_disks(&config, out, &wrong), 0);
    (void)fclose(out);
    assert_int_equal(wrong, 3);
    assert_non_null(strstr(text, "/b.conf: no 'target' in [disk]\n"));
    assert_non_null(strstr(text, "/c.conf:2: unknown key 'speed' in [disk]\n"));
    assert_non_null(strstr(text, "/a b.conf: no target can refer to this file: "));
    assert_null(strstr(text, "good"));
    assert_null(strstr(text, "c.conf~"));
    free(text);
    test_folder_remove(config.disks_dir);
    out = fopen("/dev/null", "we");
    assert_non_null(out);
    assert_int_equal(config_check_disks(&config, out, &wrong), 0); /* no such folder: no files */
    (void)fclose(out);
    assert_int_equal(wrong, 0);
}

/* Broker and worker of a build folder, or of a test, lie beside each other. */
static void worker_is_looked_for_beside_the_program(void **state)
{
    struct config config;
    char self[TEST_PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 32);

    (void)state;
    assert_true(length > 0);
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    char expected[TEST_PATH_MAX];
    (void)test_path(self, "blkbackd-worker", expected);
    assert_int_equal(config_load("pass/empty.conf", why, &config), 0);
    assert_string_equal(config.worker, expected);
    assert_int_equal(config_load("pass/every-key.conf", why, &config), 0);
    assert_string_equal(config.worker, "/tmp/worker");
}

/* By the CPUs of this machine, but never none, and no more threads than rings. */
static void queues_and_threads_by_default(void **state)
{
    struct config config;

    (void)state;
    assert_int_equal(config_load("pass/empty.conf", why, &config), 0);
    assert_in_range(config.disk.max_queues, 1, 4);
    assert_in_range(config_queue_threads(&config), 1, config.disk.max_queues);
    config.disk.max_queues = 1;
    assert_int_equal(config_queue_threads(&config), 1);
    config.queue_threads = 7;
    assert_int_equal(config_queue_threads(&config), 7);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_give_their_settings),
        cmocka_unit_test(bad_files_give_file_line_and_reason),
        cmocka_unit_test(example_file_holds_the_defaults),
        cmocka_unit_test(every_default_can_be_set),
        cmocka_unit_test(missing_files_and_what_is_no_file),
        cmocka_unit_test(a_fifo_does_not_hang_the_daemon),
        cmocka_unit_test(a_huge_file_is_refused),
        cmocka_unit_test(every_file_of_disks_d_is_checked),
        cmocka_unit_test(queues_and_threads_by_default),
        cmocka_unit_test(worker_is_looked_for_beside_the_program),
    };

    if (argc > 1 && chdir(argv[1]))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
