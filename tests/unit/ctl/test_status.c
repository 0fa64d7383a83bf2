/* SPDX-License-Identifier: BSD-2-Clause */
/* "blkbackctl status" as its user sees it. argv[1]: the program. */
#include "rig.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void table_has_a_line_per_disk_in_order(void **state)
{
    struct connection_file second = rig_connection(12, 51712, "xvda");
    struct connection_file first = rig_connection(3, 51728, "xvdb");
    struct connection_file broken = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    broken.queue_count = 0;
    broken.backend_state = 2;
    (void)strcpy(broken.reason, "/srv/xvda.img: in use by domain 5");
    first.read_only = 1;
    rig_store(&second);
    rig_store(&first);
    rig_store(&broken);
    rig_store_slab("3-51728.slab", 111, 4096);
    assert_int_equal(rig_run("status --interval 0"), 0);
    assert_string_equal(rig_errors, "");
    assert_string_equal(
        rig_output,
        "DOMAIN VDEV     STATE         RING IN-FLIGHT      READS     WRITES  FLUSHES  READ/s "
        "WRITE/s ERRORS  TARGET\n"
        "     3 xvda     InitWait         -         -          -          -        -       -   "
        "    -      -  /srv/xvda.img\n"
        "       /srv/xvda.img: in use by domain 5\n"
        "     3 xvdb     Connected        4     9/128        111         22        7       -   "
        "    -      5  /srv/xvdb.img (read-only)\n"
        "    12 xvda     Connected        4         -          -          -        -       -   "
        "    -      -  /srv/xvda.img\n");
    assert_int_equal(rig_run("status --interval 0 12"), 0);
    assert_null(strstr(rig_output, "xvdb"));
}

static void no_disks_is_said(void **state)
{
    (void)state;
    rig_start_broker();
    assert_int_equal(rig_run("status"), 0);
    assert_string_equal(rig_output, "no disks\n");
}

static void one_disk_is_shown_in_detail(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    rig_store(&made);
    rig_store_slab("3-51712.slab", 111, 4096);
    static const char *const ways[] = {"status -i 0 3 xvda", "status -i 0 3 51712",
                                       "status -i 0 backend/vbd/3/51712",
                                       "status -i 0 /local/domain/0/backend/vbd/3/51712"};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(rig_run(ways[i]), 0);
        rig_expect_in(rig_output, "domain                 3\n");
        rig_expect_in(rig_output, "domain UUID            a0000000-0000-0000-0000-000000000001\n");
        rig_expect_in(rig_output, "size                   3221225472 (3.0G) bytes\n");
        rig_expect_in(rig_output, "engine                 uring\n");
        rig_expect_in(rig_output, "in flight              9\n");
        rig_expect_in(rig_output, "flushes                3\n");
        rig_expect_in(rig_output, "read                   4096 (4.0K) bytes\n");
        rig_expect_in(rig_output, "event channel          restricted to the domain\n");
        rig_expect_in(rig_output, "indirect segments      256\n");
        rig_expect_in(rig_output, "persistent grants      yes\n");
        rig_expect_in(rig_output, "discard                yes\n");
        rig_expect_in(rig_output, "discards               7\n");
    }
}

static void throughput_is_measured_over_the_interval(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    rig_store(&made);
    rig_store_slab("3-51712.slab", 1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)usleep(400000);
        rig_store_slab("3-51712.slab", 1, 100 << 20);
        _exit(0);
    }
    assert_int_equal(rig_run("status --json --interval 1"), 0);
    (void)waitpid(pid, NULL, 0);
    json_t *root = json_loads(rig_output, 0, NULL);
    json_t *disk = json_array_get(json_object_get(root, "disks"), 0);
    double rate = json_real_value(json_object_get(disk, "read_bytes_per_second"));
    assert_true(rate > 20e6 && rate < 110e6);
    json_decref(root);
}

static void json_has_what_the_table_has(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    (void)strcpy(made.target, "/srv/\xff.img"); /* not UTF-8 */
    rig_store(&made);
    rig_store_slab("3-51712.slab", UINT64_MAX, 4096);
    assert_int_equal(rig_run("status --json --interval 0"), 0);
    json_t *root = json_loads(rig_output, 0, NULL);
    assert_non_null(root);
    json_t *daemon = json_object_get(root, "daemon");
    assert_true(json_is_true(json_object_get(daemon, "running")));
    assert_int_equal(json_integer_value(json_object_get(daemon, "pid")), 4711);
    json_t *disk = json_array_get(json_object_get(root, "disks"), 0);
    assert_string_equal(json_string_value(json_object_get(disk, "state")), "Connected");
    assert_string_equal(json_string_value(json_object_get(disk, "target")), "/srv/\\xff.img");
    assert_int_equal(json_integer_value(json_object_get(disk, "ring_pages")), 4);
    assert_null(json_object_get(disk, "read_bytes_per_second"));
    assert_int_equal(json_integer_value(json_object_get(disk, "max_indirect_segments")), 256);
    assert_true(json_is_true(json_object_get(disk, "persistent_grants")));
    assert_true(json_is_false(json_object_get(disk, "removable")));
    json_t *statistics = json_object_get(disk, "statistics");
    assert_int_equal(json_integer_value(json_object_get(statistics, "in_flight")), 9);
    assert_int_equal(json_integer_value(json_object_get(statistics, "reads")), INT64_MAX);
    assert_int_equal(json_integer_value(json_object_get(statistics, "barriers")), 4);
    json_decref(root);
}

static void a_dead_daemon_is_said_and_its_disks_are_shown(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_store(&made);
    assert_int_equal(rig_run("status -i 0"), 3);
    rig_expect_in(rig_output, "/srv/xvda.img");
    rig_expect_in(rig_errors, "blkbackctl: blkbackd is not running: there is no socket at ");
    assert_int_equal(rig_run("status -i 0 --json"), 3);
    rig_expect_in(rig_output, "\"running\": false");
    assert_int_equal(rig_run("ping"), 3);
    assert_int_equal(rig_run("attach backend/vbd/3/51712"), 3);
    assert_int_equal(rig_run("detach backend/vbd/3/51712"), 3);
    assert_int_equal(rig_run("reload"), 3);
}

static void a_disk_that_is_not_there(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    rig_store(&made);
    assert_int_equal(rig_run("status -i 0 4"), 4);
    assert_string_equal(rig_errors, "blkbackctl: blkbackd serves no such disk\n");
    assert_int_equal(rig_run("status -i 0 3 xvdb"), 4);
    assert_int_equal(rig_run("status -i 0 backend/vbd/3/51728"), 4);
}

static void damaged_files_are_named_and_the_others_shown(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");
    char path[TEST_PATH_MAX];

    (void)state;
    rig_start_broker();
    rig_store(&made);
    test_file_write(test_path(rig_state_dir, "4-51712.conn", path), "rubbish", 7);
    test_file_write(test_path(rig_state_dir, "3-51712.slab", path), "rubbish", 7);
    assert_int_equal(mkfifo(test_path(rig_state_dir, "5-51712.conn", path), 0600), 0);
    assert_int_equal(rig_run("status -i 0"), 1);
    rig_expect_in(rig_errors, "blkbackctl: 4-51712.conn: damaged\n");
    rig_expect_in(rig_errors, "blkbackctl: 5-51712.conn: ");
    rig_expect_in(rig_output, "/srv/xvda.img");
}

static void drives_show_whether_there_is_a_medium(void **state)
{
    struct connection_file made = rig_connection(3, 51728, "xvdb");

    (void)state;
    rig_start_broker();
    made.removable = 1;
    rig_store(&made);
    assert_int_equal(rig_run("status -i 0 3 xvdb"), 0);
    rig_expect_in(rig_output, "medium                 in the drive\n");
    made.target[0] = '\0';
    rig_store(&made);
    (void)rig_run("status -i 0 3 xvdb");
    rig_expect_in(rig_output, "medium                 none\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(table_has_a_line_per_disk_in_order),
        RIG_TEST(no_disks_is_said),
        RIG_TEST(one_disk_is_shown_in_detail),
        RIG_TEST(throughput_is_measured_over_the_interval),
        RIG_TEST(json_has_what_the_table_has),
        RIG_TEST(a_dead_daemon_is_said_and_its_disks_are_shown),
        RIG_TEST(a_disk_that_is_not_there),
        RIG_TEST(damaged_files_are_named_and_the_others_shown),
        RIG_TEST(drives_show_whether_there_is_a_medium),
    };

    if (argc != 2)
        return 1;
    rig_program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
