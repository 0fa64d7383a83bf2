/* SPDX-License-Identifier: BSD-2-Clause */
/* blkbackctl's surroundings: its folders, its state files, a broker, and what it prints. */
#include "rig.h"

#include "blkback/control_protocol.h"

#include <errno.h>
#include <fcntl.h>
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

const char *rig_program;
char rig_run_dir[TEST_PATH_MAX];
char rig_state_dir[TEST_PATH_MAX];
char rig_config[TEST_PATH_MAX];
static pid_t broker_pid;

/* What the last run printed. */
char rig_output[65536];
char rig_errors[65536];

int rig_set_up(void **state)
{
    char text[TEST_PATH_MAX + 64];

    (void)state;
    test_folder_make(rig_run_dir);
    (void)test_path(rig_run_dir, "state", rig_state_dir);
    (void)test_path(rig_run_dir, "blkbackd.conf", rig_config);
    int length = snprintf(text, sizeof(text), "nonsense\n[daemon]\nrun-dir = %s\n", rig_run_dir);
    test_file_write(rig_config, text, (size_t)length);
    broker_pid = 0;
    return mkdir(rig_state_dir, 0700);
}

int rig_tear_down(void **state)
{
    (void)state;
    if (broker_pid) {
        (void)kill(broker_pid, SIGKILL);
        (void)waitpid(broker_pid, NULL, 0);
    }
    test_folder_remove(rig_run_dir);
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

void rig_start_broker(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/control", rig_run_dir);
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
int rig_run(const char *words)
{
    char command[4096];
    char out[TEST_PATH_MAX];
    char err[TEST_PATH_MAX];

    (void)test_path(rig_run_dir, "out", out);
    (void)test_path(rig_run_dir, "err", err);
    (void)snprintf(command, sizeof(command), "'%s' --config '%s' %s >'%s' 2>'%s'", rig_program,
                   rig_config, words, out, err);
    int status = system(command); /* NOLINT(cert-env33-c): paths are this test's own */
    slurp(out, rig_output, sizeof(rig_output));
    slurp(err, rig_errors, sizeof(rig_errors));
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

void rig_expect_in(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

struct connection_file rig_connection(uint32_t domid, uint32_t devid, const char *vdev)
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

void rig_store(struct connection_file *made)
{
    char name[64];
    int fd = open(rig_state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    connection_seal(made);
    (void)snprintf(name, sizeof(name), "%u-%u.conn", made->domid, made->devid);
    assert_int_equal(connection_write(fd, name, made), 0);
    (void)close(fd);
}

struct slab_header *rig_slab(void)
{
    struct slab_header *header = calloc(1, sizeof(*header));

    assert_non_null(header);
    header->magic = SLAB_MAGIC;
    header->version_major = STATE_VERSION_MAJOR;
    header->queue_count = 1;
    header->file_size = 1 << 20;
    return header;
}

void rig_store_slab_as(const char *name, struct slab_header *header)
{
    char path[TEST_PATH_MAX];

    test_file_write(test_path(rig_state_dir, name, path), header, sizeof(*header));
    free(header);
}

void rig_store_slab(const char *name, uint64_t reads, uint64_t read_bytes)
{
    struct slab_header *header = rig_slab();

    header->queues[0].in_flight = 9;
    header->queues[0].statistics.reads = reads;
    header->queues[0].statistics.writes = 22;
    header->queues[0].statistics.flushes = 3;
    header->queues[0].statistics.barriers = 4;
    header->queues[0].statistics.discards = 7;
    header->queues[0].statistics.errors = 5;
    header->queues[0].statistics.read_bytes = read_bytes;
    rig_store_slab_as(name, header);
}
