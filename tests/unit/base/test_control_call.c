/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket's client against brokers that answer well, badly, late or not at all. */
#include "testing.h"

#include "blkback/control_protocol.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[TEST_PATH_MAX];
static char path[TEST_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    test_folder_make(folder);
    (void)test_path(folder, "control", path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static int listener(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

/* A broker that takes one request and answers with these bytes; size 0: hangs up. */
static pid_t broker(const void *bytes, size_t size)
{
    int fd = listener();
    pid_t pid = fork();

    if (pid == 0) {
        struct control_request request;
        int client = accept(fd, NULL, NULL);
        ssize_t got = recv(client, &request, sizeof(request), 0);
        bool fine =
            got == (ssize_t)sizeof(request) && strcmp(request.path, "backend/vbd/3/51712") == 0;
        if (size)
            fine = fine && send(client, bytes, size, 0) == (ssize_t)size;
        _exit(fine ? 0 : 1);
    }
    (void)close(fd);
    return pid;
}

static int call(struct control_reply *out)
{
    struct control_request request = {.magic = CONTROL_MAGIC,
                                      .version = CONTROL_VERSION,
                                      .command = CONTROL_ATTACH,
                                      .path = "backend/vbd/3/51712"};

    return control_call(path, &request, 300, out);
}

static void expect_exit(pid_t pid)
{
    int status = 0;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void a_reply_is_handed_over_terminated(void **state)
{
    struct control_reply answer = {
        .magic = CONTROL_MAGIC, .version = CONTROL_VERSION, .error = -EBUSY, .value = 42};
    struct control_reply reply;

    (void)state;
    memset(answer.text, 'x', sizeof(answer.text));
    pid_t pid = broker(&answer, sizeof(answer));
    assert_int_equal(call(&reply), 0);
    expect_exit(pid);
    assert_int_equal(reply.error, -EBUSY);
    assert_int_equal(reply.value, 42);
    assert_int_equal(strnlen(reply.text, sizeof(reply.text)), sizeof(reply.text) - 1);
}

static void no_broker(void **state)
{
    struct control_reply reply;

    (void)state;
    assert_int_equal(call(&reply), -ENOENT);
    (void)close(listener()); /* the socket of one that was killed */
    assert_int_equal(call(&reply), -ECONNREFUSED);
}

static void a_path_that_no_socket_can_have(void **state)
{
    struct control_request request = {.magic = CONTROL_MAGIC};
    struct control_reply reply;
    char longer[200];

    (void)state;
    memset(longer, 'x', sizeof(longer));
    longer[0] = '/';
    longer[108] = '\0';
    assert_int_equal(control_call(longer, &request, 100, &reply), -ENAMETOOLONG);
}

static void a_broker_that_hangs_is_not_waited_for_longer(void **state)
{
    struct control_reply reply;
    struct timespec before, after;
    int fd = listener(); /* accepts no one, but the kernel queues us */

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(call(&reply), -ETIMEDOUT);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_in_range((after.tv_sec - before.tv_sec) * 1000 +
                        (after.tv_nsec - before.tv_nsec) / 1000000,
                    250, 5000);
    (void)close(fd);
}

static void a_broker_that_dies(void **state)
{
    struct control_reply reply;
    pid_t pid = broker(NULL, 0);

    (void)state;
    assert_int_equal(call(&reply), -ECONNRESET);
    expect_exit(pid);
}

static void malformed_replies(void **state)
{
    struct control_reply answer[2] = {{.magic = CONTROL_MAGIC, .version = CONTROL_VERSION}};
    struct control_reply reply = {.value = 7};
    static const size_t sizes[] = {1, sizeof(reply) - 1, sizeof(reply) + 1};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        pid_t pid = broker(answer, sizes[i]);
        assert_int_equal(call(&reply), -EPROTO);
        expect_exit(pid);
        (void)unlink(path);
    }
    answer[0].version++;
    pid_t pid = broker(answer, sizeof(answer[0]));
    assert_int_equal(call(&reply), -EPROTO);
    expect_exit(pid);
    assert_int_equal(reply.value, 7);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reply_is_handed_over_terminated),
        TEST(no_broker),
        TEST(a_path_that_no_socket_can_have),
        TEST(a_broker_that_hangs_is_not_waited_for_longer),
        TEST(a_broker_that_dies),
        TEST(malformed_replies),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
