/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blkbackctl as its user sees it: the program runs on state files made here and a broker that is a
 * child of this test. argv[1]: the program.
 */
#include "testing.h"

#include "blkback/control_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;
static char run_dir[TEST_PATH_MAX];
static char state_dir[TEST_PATH_MAX];
static char config[TEST_PATH_MAX];
static pid_t broker_pid;

/* What the last run printed. */
static char output[65536];
static char errors[65536];

static int set_up(void **state)
{
    char text[TEST_PATH_MAX + 64];

    (void)state;
    test_folder_make(run_dir);
    (void)test_path(run_dir, "state", state_dir);
    (void)test_path(run_dir, "blkbackd.conf", config);
    int length = snprintf(text, sizeof(text), "nonsense\n[daemon]\nrun-dir = %s\n", run_dir);
    test_file_write(config, text, (size_t)length);
    broker_pid = 0;
    return mkdir(state_dir, 0700);
}

static int tear_down(void **state)
{
    (void)state;
    if (broker_pid) {
        (void)kill(broker_pid, SIGKILL);
        (void)waitpid(broker_pid, NULL, 0);
    }
    test_folder_remove(run_dir);
    return 0;
}

static void serve(int fd)
{
    for (;;) {
        struct control_request request;
        struct control_reply reply = {.magic = CONTROL_MAGIC, .version = CONTROL_VERSION};
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        if (recv(client, &request, sizeof(request), 0) == (ssize_t)sizeof(request)) {
            reply.value = 4711;
            bool known = strstr(request.path, "/3/") != NULL;
            const char *text = request.command == CONTROL_PING     ? "9.9"
                               : request.command == CONTROL_RELOAD ? "/etc/x.conf:3: unknown key"
                               : !known ? "/srv/image: in use by domain 5"
                               : request.command == CONTROL_ATTACH ? "/srv/image"
                                                                   : "";
            if (request.command > CONTROL_RELOAD)
                (void)snprintf(reply.text, sizeof(reply.text), "%.99s <%.99s>", request.path,
                               request.target);
            else
                (void)snprintf(reply.text, sizeof(reply.text), "%s", text);
            known = known && strcmp(request.target, "refused") != 0;
            if (request.command != CONTROL_PING && !known)
                reply.error = strstr(request.path, "/9/") ? -ENOENT : -EBUSY;
            (void)send(client, &reply, sizeof(reply), MSG_NOSIGNAL);
        }
        (void)close(client);
    }
}

static void start_broker(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/control", run_dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 4), 0);
    broker_pid = fork();
    if (broker_pid == 0)
        serve(fd);
    (void)close(fd);
}

static void slurp(const char *path, char *out, size_t size)
{
    char *text = test_file_read(path);

    (void)snprintf(out, size, "%s", text ? text : "");
    free(text);
}

/* Runs "blkbackctl --config FILE WORDS..."; returns its exit code. */
static int run(const char *words)
{
    char command[4096];
    char out[TEST_PATH_MAX];
    char err[TEST_PATH_MAX];

    (void)test_path(run_dir, "out", out);
    (void)test_path(run_dir, "err", err);
    (void)snprintf(command, sizeof(command), "'%s' --config '%s' %s >'%s' 2>'%s'", program, config,
                   words, out, err);
    int status = system(command); /* NOLINT(cert-env33-c): paths are this test's own */
    slurp(out, output, sizeof(output));
    slurp(err, errors, sizeof(errors));
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_in(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static struct connection_file connection(uint32_t domid, uint32_t devid, const char *vdev)
{
    struct connection_file made;

    memset(&made, 0, sizeof(made));
    made.domid = domid;
    made.devid = devid;
    made.backend_state = 4;
    made.ring_order = 2;
    made.queue_count = 1;
    made.max_requests = 128;
    made.max_segments = 11;
    made.sector_size = 512;
    made.size_bytes = UINT64_C(3) << 30;
    made.evtchn_restricted = 1;
    made.max_indirect_segments = 256;
    made.persistent = 1;
    made.discard = 1;
    (void)strcpy(made.class_name, "vbd");
    (void)strcpy(made.engine, "uring");
    (void)strcpy(made.domain_uuid, "a0000000-0000-0000-0000-000000000001");
    (void)snprintf(made.vdev, sizeof(made.vdev), "%s", vdev);
    (void)snprintf(made.target, sizeof(made.target), "/srv/%s.img", vdev);
    return made;
}

static void store(struct connection_file *made)
{
    char name[64];
    int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    connection_seal(made);
    (void)snprintf(name, sizeof(name), "%u-%u.conn", made->domid, made->devid);
    assert_int_equal(connection_write(fd, name, made), 0);
    (void)close(fd);
}

static void store_slab(const char *name, uint64_t reads, uint64_t read_bytes)
{
    char path[TEST_PATH_MAX];
    struct slab_header *header = calloc(1, sizeof(*header));

    assert_non_null(header);
    header->magic = SLAB_MAGIC;
    header->version_major = STATE_VERSION_MAJOR;
    header->queue_count = 1;
    header->file_size = 1 << 20;
    header->queues[0].in_flight = 9;
    header->queues[0].statistics.reads = reads;
    header->queues[0].statistics.writes = 22;
    header->queues[0].statistics.flushes = 3;
    header->queues[0].statistics.barriers = 4;
    header->queues[0].statistics.discards = 7;
    header->queues[0].statistics.errors = 5;
    header->queues[0].statistics.read_bytes = read_bytes;
    test_file_write(test_path(state_dir, name, path), header, sizeof(*header));
    free(header);
}

static void table_has_a_line_per_disk_in_order(void **state)
{
    struct connection_file second = connection(12, 51712, "xvda");
    struct connection_file first = connection(3, 51728, "xvdb");
    struct connection_file broken = connection(3, 51712, "xvda");

    (void)state;
    start_broker();
    broken.queue_count = 0;
    broken.backend_state = 2;
    (void)strcpy(broken.reason, "/srv/xvda.img: in use by domain 5");
    first.read_only = 1;
    store(&second);
    store(&first);
    store(&broken);
    store_slab("3-51728.slab", 111, 4096);
    assert_int_equal(run("status --interval 0"), 0);
    assert_string_equal(errors, "");
    assert_string_equal(
        output,
        "DOMAIN VDEV     STATE         RING IN-FLIGHT      READS     WRITES  FLUSHES  READ/s "
        "WRITE/s ERRORS  TARGET\n"
        "     3 xvda     InitWait         -         -          -          -        -       -   "
        "    -      -  /srv/xvda.img\n"
        "       /srv/xvda.img: in use by domain 5\n"
        "     3 xvdb     Connected        4     9/128        111         22        7       -   "
        "    -      5  /srv/xvdb.img (read-only)\n"
        "    12 xvda     Connected        4         -          -          -        -       -   "
        "    -      -  /srv/xvda.img\n");
    assert_int_equal(run("status --interval 0 12"), 0);
    assert_null(strstr(output, "xvdb"));
}

static void no_disks_is_said(void **state)
{
    (void)state;
    start_broker();
    assert_int_equal(run("status"), 0);
    assert_string_equal(output, "no disks\n");
}

static void one_disk_is_shown_in_detail(void **state)
{
    struct connection_file made = connection(3, 51712, "xvda");

    (void)state;
    start_broker();
    store(&made);
    store_slab("3-51712.slab", 111, 4096);
    static const char *const ways[] = {"status -i 0 3 xvda", "status -i 0 3 51712",
                                       "status -i 0 backend/vbd/3/51712",
                                       "status -i 0 /local/domain/0/backend/vbd/3/51712"};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(run(ways[i]), 0);
        expect_in(output, "domain                 3\n");
        expect_in(output, "domain UUID            a0000000-0000-0000-0000-000000000001\n");
        expect_in(output, "size                   3221225472 (3.0G) bytes\n");
        expect_in(output, "engine                 uring\n");
        expect_in(output, "in flight              9\n");
        expect_in(output, "flushes                3\n");
        expect_in(output, "read                   4096 (4.0K) bytes\n");
        expect_in(output, "event channel          restricted to the domain\n");
        expect_in(output, "indirect segments      256\n");
        expect_in(output, "persistent grants      yes\n");
        expect_in(output, "discard                yes\n");
        expect_in(output, "discards               7\n");
    }
}

static void throughput_is_measured_over_the_interval(void **state)
{
    struct connection_file made = connection(3, 51712, "xvda");

    (void)state;
    start_broker();
    store(&made);
    store_slab("3-51712.slab", 1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)usleep(400000);
        store_slab("3-51712.slab", 1, 100 << 20);
        _exit(0);
    }
    assert_int_equal(run("status --json --interval 1"), 0);
    (void)waitpid(pid, NULL, 0);
    json_t *root = json_loads(output, 0, NULL);
    json_t *disk = json_array_get(json_object_get(root, "disks"), 0);
    double rate = json_real_value(json_object_get(disk, "read_bytes_per_second"));
    assert_true(rate > 20e6 && rate < 110e6);
    json_decref(root);
}

static void json_has_what_the_table_has(void **state)
{
    struct connection_file made = connection(3, 51712, "xvda");

    (void)state;
    start_broker();
    (void)strcpy(made.target, "/srv/\xff.img"); /* not UTF-8 */
    store(&made);
    store_slab("3-51712.slab", UINT64_MAX, 4096);
    assert_int_equal(run("status --json --interval 0"), 0);
    json_t *root = json_loads(output, 0, NULL);
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
    struct connection_file made = connection(3, 51712, "xvda");

    (void)state;
    store(&made);
    assert_int_equal(run("status -i 0"), 3);
    expect_in(output, "/srv/xvda.img");
    expect_in(errors, "blkbackctl: blkbackd is not running: there is no socket at ");
    assert_int_equal(run("status -i 0 --json"), 3);
    expect_in(output, "\"running\": false");
    assert_int_equal(run("ping"), 3);
    assert_int_equal(run("attach backend/vbd/3/51712"), 3);
    assert_int_equal(run("detach backend/vbd/3/51712"), 3);
    assert_int_equal(run("reload"), 3);
}

static void a_disk_that_is_not_there(void **state)
{
    struct connection_file made = connection(3, 51712, "xvda");

    (void)state;
    start_broker();
    store(&made);
    assert_int_equal(run("status -i 0 4"), 4);
    assert_string_equal(errors, "blkbackctl: blkbackd serves no such disk\n");
    assert_int_equal(run("status -i 0 3 xvdb"), 4);
    assert_int_equal(run("status -i 0 backend/vbd/3/51728"), 4);
}

static void damaged_files_are_named_and_the_others_shown(void **state)
{
    struct connection_file made = connection(3, 51712, "xvda");
    char path[TEST_PATH_MAX];

    (void)state;
    start_broker();
    store(&made);
    test_file_write(test_path(state_dir, "4-51712.conn", path), "rubbish", 7);
    test_file_write(test_path(state_dir, "3-51712.slab", path), "rubbish", 7);
    assert_int_equal(mkfifo(test_path(state_dir, "5-51712.conn", path), 0600), 0);
    assert_int_equal(run("status -i 0"), 1);
    expect_in(errors, "blkbackctl: 4-51712.conn: damaged\n");
    expect_in(errors, "blkbackctl: 5-51712.conn: ");
    expect_in(output, "/srv/xvda.img");
}

static void attach_prints_the_path_or_the_reason(void **state)
{
    (void)state;
    start_broker();
    assert_int_equal(run("attach backend/vbd/3/51712"), 0);
    assert_string_equal(output, "/srv/image\n");
    assert_int_equal(run("attach --timeout 5 backend/vbd/4/51712"), 1);
    assert_string_equal(output, "");
    assert_string_equal(errors, "blkbackctl: /srv/image: in use by domain 5\n");
    assert_int_equal(run("detach backend/vbd/3/51712"), 0);
    assert_int_equal(run("detach backend/vbd/9/51712"), 4);
}

static void drives_show_whether_there_is_a_medium(void **state)
{
    struct connection_file made = connection(3, 51728, "xvdb");

    (void)state;
    start_broker();
    made.removable = 1;
    store(&made);
    assert_int_equal(run("status -i 0 3 xvdb"), 0);
    expect_in(output, "medium                 in the drive\n");
    made.target[0] = '\0';
    store(&made);
    (void)run("status -i 0 3 xvdb");
    expect_in(output, "medium                 none\n");
}

static void sizes_and_media(void **state)
{
    struct connection_file made = connection(3, 51728, "xvdb");

    (void)state;
    start_broker();
    (void)strcpy(made.class_name, "vbd3");
    store(&made);
    assert_int_equal(run("resize 3 xvdb"), 0);
    assert_string_equal(output, "backend/vbd3/3/51728 <> bytes\n");
    assert_int_equal(run("insert 3 xvdb /srv/cd.iso"), 0);
    assert_int_equal(run("insert 3 xvdb refused"), 1);
    assert_string_equal(errors, "blkbackctl: backend/vbd3/3/51728 <refused>\n");
    assert_int_equal(run("eject 3 xvdb"), 0);
    assert_int_equal(run("eject 3 xvdc"), 4);
}

static void daemon_commands(void **state)
{
    (void)state;
    start_broker();
    assert_int_equal(run("ping"), 0);
    assert_string_equal(output, "blkbackd 9.9 is running, pid 4711\n");
    assert_int_equal(run("version"), 0);
    assert_string_equal(output, "blkbackctl " BLKBACKD_VERSION "\nblkbackd 9.9\n");
    assert_int_equal(run("reload"), 1);
    expect_in(errors, "blkbackctl: /etc/x.conf:3: unknown key\n");
}

static void wrong_usage(void **state)
{
    static const char *const wrong[] = {"",
                                        "nonsense",
                                        "--nonsense status",
                                        "status --nonsense",
                                        "status x",
                                        "status 3 xvda x",
                                        "status --interval x",
                                        "status --interval -1",
                                        "attach",
                                        "attach a b",
                                        "attach --timeout x a",
                                        "ping x",
                                        "status 3x",
                                        "status a/b",
                                        "status /",
                                        "status --interval 99999",
                                        "reload now",
                                        "resize 3",
                                        "insert 3 xvda",
                                        "insert 3 xvda ''",
                                        "eject 3",
                                        "status -i 0x10",
                                        "status -i inf"};

    (void)state;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int rc = run(wrong[i]);
        if (rc != 2 || output[0] != '\0' || errors[0] == '\0')
            fail_msg("'%s': %d\n%s%s", wrong[i], rc, output, errors);
    }
    assert_int_equal(run("help"), 0);
    expect_in(output, "usage: blkbackctl");
    assert_int_equal(run("--version"), 0);
    (void)unlink(config);
    assert_int_equal(run("status"), 1);
    expect_in(errors, "blkbackd.conf: No such file or directory\n");
}

static void paths_can_be_given_on_the_command_line(void **state)
{
    struct connection_file made = connection(3, 51712, "xvda");
    char words[2 * TEST_PATH_MAX];

    (void)state;
    store(&made);
    (void)snprintf(words, sizeof(words), "--state-dir '%s' --socket /no/such/socket status -i 0",
                   state_dir);
    test_file_write(config, "", 0);
    assert_int_equal(run(words), 3);
    expect_in(output, "/srv/xvda.img");
    expect_in(errors, "there is no socket at /no/such/socket\n");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(table_has_a_line_per_disk_in_order),
        TEST(no_disks_is_said),
        TEST(one_disk_is_shown_in_detail),
        TEST(throughput_is_measured_over_the_interval),
        TEST(json_has_what_the_table_has),
        TEST(a_dead_daemon_is_said_and_its_disks_are_shown),
        TEST(a_disk_that_is_not_there),
        TEST(damaged_files_are_named_and_the_others_shown),
        TEST(attach_prints_the_path_or_the_reason),
        TEST(drives_show_whether_there_is_a_medium),
        TEST(sizes_and_media),
        TEST(daemon_commands),
        TEST(wrong_usage),
        TEST(paths_can_be_given_on_the_command_line),
    };

    if (argc != 2)
        return 1;
    program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
