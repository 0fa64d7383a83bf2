/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket's server with good clients and hostile ones; the loop is turned by hand. */
#include "testing.h"

#include "blkback/control_protocol.h"
#include "control_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TOKENS_MAX 40

static char folder[TEST_PATH_MAX];
static char path[TEST_PATH_MAX];
static struct ev_loop *loop;
static struct control_server *server;

/* What the handlers were called with. */
static struct control_call_token *tokens[TOKENS_MAX];
static unsigned token_count;
static char last_path[STATE_TEXT_MAX];
static char last_target[STATE_TEXT_MAX];
static const char *last_call;
static bool answer_at_once;

static void keep(const char *call, const char *backend_path, struct control_call_token *token)
{
    last_call = call;
    (void)snprintf(last_path, sizeof(last_path), "%s", backend_path);
    if (answer_at_once) {
        control_reply(token, 0, "at once");
        return;
    }
    assert_true(token_count < TOKENS_MAX);
    tokens[token_count++] = token;
}

#define HANDLER(name)                                              \
    static void on_##name(void *context, const char *backend_path, \
                          struct control_call_token *token)        \
    {                                                              \
        assert_ptr_equal(context, &tokens);                        \
        keep(#name, backend_path, token);                          \
    }
HANDLER(attach)
HANDLER(detach)
HANDLER(resize)

static void on_reload(void *context, struct control_call_token *token)
{
    assert_ptr_equal(context, &tokens);
    keep("reload", "", token);
}

static void on_insert(void *context, const char *backend_path, const char *target,
                      struct control_call_token *token)
{
    assert_ptr_equal(context, &tokens);
    (void)snprintf(last_target, sizeof(last_target), "%s", target);
    keep("insert", backend_path, token);
}

static int start(void)
{
    const struct control_handlers handlers = {.context = &tokens,
                                              .attach = on_attach,
                                              .detach = on_detach,
                                              .reload = on_reload,
                                              .resize = on_resize,
                                              .insert = on_insert};

    return control_server_start(loop, path, &handlers, &server);
}

static int set_up(void **state)
{
    (void)state;
    test_folder_make(folder);
    (void)test_path(folder, "control", path);
    loop = ev_loop_new(EVFLAG_AUTO);
    token_count = 0;
    last_call = NULL;
    answer_at_once = false;
    return start();
}

static int tear_down(void **state)
{
    (void)state;
    control_server_stop(server);
    server = NULL;
    ev_loop_destroy(loop);
    test_folder_remove(folder);
    return 0;
}

/* Lets the server handle all that has come. */
static void turn(void)
{
    for (int i = 0; i < 8; i++)
        ev_run(loop, EVRUN_NOWAIT);
}

static int connect_client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static struct control_request request(enum control_command command, const char *backend_path)
{
    struct control_request made = {
        .magic = CONTROL_MAGIC, .version = CONTROL_VERSION, .command = (uint16_t)command};

    (void)snprintf(made.path, sizeof(made.path), "%s", backend_path);
    return made;
}

static int send_request(const struct control_request *made)
{
    int fd = connect_client();

    assert_int_equal(send(fd, made, sizeof(*made), 0), sizeof(*made));
    turn();
    return fd;
}

static int ask(enum control_command command, const char *backend_path)
{
    struct control_request made = request(command, backend_path);
    return send_request(&made);
}

/* 1: a reply came; 0: hung up; -EAGAIN: neither. */
static int receive(int fd, struct control_reply *out)
{
    ssize_t got = recv(fd, out, sizeof(*out), 0);

    if (got < 0)
        return -errno;
    if (got == 0)
        return 0;
    assert_int_equal(got, sizeof(*out));
    assert_int_equal(out->magic, CONTROL_MAGIC);
    assert_int_equal(out->version, CONTROL_VERSION);
    return 1;
}

static void expect_cut_off(int fd)
{
    struct control_reply reply;

    turn();
    int got = receive(fd, &reply);
    assert_true(got == 0 || got == -ECONNRESET);
    (void)close(fd);
}

static void expect_alive(void)
{
    struct control_reply reply;
    int fd = ask(CONTROL_PING, "");

    assert_int_equal(receive(fd, &reply), 1);
    assert_int_equal(reply.error, 0);
    assert_int_equal(reply.value, getpid());
    assert_string_equal(reply.text, BLKBACKD_VERSION);
    assert_int_equal(receive(fd, &reply), 0); /* one request per connection */
    (void)close(fd);
}

static void ping_is_answered_with_pid_and_version(void **state)
{
    (void)state;
    expect_alive();
    expect_alive();
}

static void socket_is_for_its_owner_only(void **state)
{
    struct stat status;

    (void)state;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void media_and_sizes_reach_their_handlers(void **state)
{
    struct control_request made = request(CONTROL_INSERT, "backend/vbd/3/51728");

    (void)state;
    answer_at_once = true;
    (void)close(ask(CONTROL_RESIZE, "backend/vbd/3/51712"));
    assert_string_equal(last_call, "resize");
    assert_string_equal(last_path, "backend/vbd/3/51712");
    (void)close(ask(CONTROL_EJECT, "backend/vbd/3/51728"));
    assert_string_equal(last_call, "insert");
    assert_string_equal(last_target, "");
    last_call = "none";
    (void)close(ask(CONTROL_INSERT, "backend/vbd/3/51728")); /* what? */
    assert_string_equal(last_call, "none");
    strcpy(made.target, "/srv/cd.iso");
    (void)close(send_request(&made));
    assert_string_equal(last_call, "insert");
    assert_string_equal(last_path, "backend/vbd/3/51728");
    assert_string_equal(last_target, "/srv/cd.iso");
    memset(made.target, 'x', sizeof(made.target));
    expect_cut_off(send_request(&made));
}

static void requests_reach_their_handlers_and_wait_for_the_answer(void **state)
{
    struct control_reply reply;
    int fd = ask(CONTROL_ATTACH, "backend/vbd/3/51712");

    (void)state;
    assert_string_equal(last_call, "attach");
    assert_string_equal(last_path, "backend/vbd/3/51712");
    assert_int_equal(receive(fd, &reply), -EAGAIN);
    expect_alive(); /* meanwhile */
    control_reply(tokens[0], -EBUSY, "in use by domain 5");
    assert_int_equal(receive(fd, &reply), 1);
    assert_int_equal(reply.error, -EBUSY);
    assert_string_equal(reply.text, "in use by domain 5");
    (void)close(fd);
    fd = ask(CONTROL_DETACH, "backend/vbd/3/51712");
    assert_string_equal(last_call, "detach");
    control_reply(tokens[1], 0, NULL);
    assert_int_equal(receive(fd, &reply), 1);
    assert_string_equal(reply.text, "");
    (void)close(fd);
    fd = ask(CONTROL_RELOAD, "");
    assert_string_equal(last_call, "reload");
    control_reply(tokens[2], 0, NULL);
    (void)close(fd);
}

static void a_handler_may_answer_at_once(void **state)
{
    struct control_reply reply;

    (void)state;
    answer_at_once = true;
    int fd = ask(CONTROL_ATTACH, "backend/vbd/3/51712");
    assert_int_equal(receive(fd, &reply), 1);
    assert_string_equal(reply.text, "at once");
    (void)close(fd);
}

static void long_text_is_cut(void **state)
{
    struct control_reply reply;
    char text[2000];
    int fd = ask(CONTROL_RELOAD, "");

    (void)state;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    control_reply(tokens[0], -EINVAL, text);
    assert_int_equal(receive(fd, &reply), 1);
    assert_int_equal(strnlen(reply.text, sizeof(reply.text)), sizeof(reply.text) - 1);
    (void)close(fd);
}

static void a_client_that_hangs_up_early_is_answered_into_nothing(void **state)
{
    int fd = ask(CONTROL_ATTACH, "backend/vbd/3/51712");

    (void)state;
    (void)close(fd);
    turn();
    control_reply(tokens[0], 0, "/image");
    expect_alive();
}

static void tokens_outlive_the_server(void **state)
{
    int fd = ask(CONTROL_ATTACH, "backend/vbd/3/51712");

    (void)state;
    control_server_stop(server);
    server = NULL;
    expect_cut_off(fd);
    control_reply(tokens[0], 0, "/image");
    assert_int_equal(access(path, F_OK), -1);
}

static void paths_are_wanted_where_they_are_needed(void **state)
{
    struct control_reply reply;
    int fd = ask(CONTROL_ATTACH, "");

    (void)state;
    assert_int_equal(receive(fd, &reply), 1);
    assert_int_equal(reply.error, -EINVAL);
    assert_null(last_call);
    (void)close(fd);
}

static void send_and_expect_cut_off(const void *bytes, size_t size)
{
    int fd = connect_client();

    assert_int_equal(send(fd, bytes, size, 0), size);
    expect_cut_off(fd);
    assert_null(last_call);
    expect_alive();
}

static void malformed_requests_end_their_client_only(void **state)
{
    struct control_request bad[2] = {request(CONTROL_ATTACH, "x"), request(CONTROL_ATTACH, "x")};

    (void)state;
    send_and_expect_cut_off(bad, 1);
    send_and_expect_cut_off(bad, sizeof(bad[0]) - 1);
    send_and_expect_cut_off(bad, sizeof(bad[0]) + 1);
    send_and_expect_cut_off(bad, sizeof(bad));
    bad[0].magic++;
    send_and_expect_cut_off(bad, sizeof(bad[0]));
    bad[0] = bad[1];
    bad[0].version++;
    send_and_expect_cut_off(bad, sizeof(bad[0]));
    bad[0] = bad[1];
    bad[0].command = CONTROL_COMMANDS;
    send_and_expect_cut_off(bad, sizeof(bad[0]));
    bad[0].command = 0;
    send_and_expect_cut_off(bad, sizeof(bad[0]));
    bad[0] = bad[1];
    memset(bad[0].path, 'x', sizeof(bad[0].path));
    send_and_expect_cut_off(bad, sizeof(bad[0]));
}

static void descriptors_that_come_along_are_not_kept(void **state)
{
    struct control_request made = request(CONTROL_ATTACH, "x");
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } space = {0};
    struct iovec iov = {.iov_base = &made, .iov_len = sizeof(made)};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = space.bytes,
                            .msg_controllen = sizeof(space.bytes)};
    struct cmsghdr *control = CMSG_FIRSTHDR(&header);
    int fd = connect_client();

    (void)state;
    turn();
    unsigned before = test_count_descriptors();
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(control), &fd, sizeof(int));
    assert_int_equal(sendmsg(fd, &header, 0), sizeof(made));
    expect_cut_off(fd);
    assert_null(last_call);
    assert_int_equal(test_count_descriptors(), before - 2);
}

static void a_second_request_ends_the_client(void **state)
{
    struct control_request made = request(CONTROL_DETACH, "y");
    int fd = ask(CONTROL_ATTACH, "x");

    (void)state;
    assert_int_equal(send(fd, &made, sizeof(made), 0), sizeof(made));
    expect_cut_off(fd);
    assert_string_equal(last_call, "attach");
    assert_int_equal(token_count, 1);
    control_reply(tokens[0], 0, NULL);
}

/* Within a few seconds; the test's time-out would end a server that waits for ever. */
static void a_client_that_says_nothing_is_cut_off(void **state)
{
    struct pollfd silent = {.fd = connect_client(), .events = POLLIN};

    (void)state;
    while (poll(&silent, 1, 0) == 0)
        ev_run(loop, EVRUN_ONCE);
    expect_cut_off(silent.fd);
}

static void more_clients_than_allowed_wait_and_are_served_then(void **state)
{
    struct control_reply reply;
    int fds[36];

    (void)state;
    for (int i = 0; i < 36; i++)
        fds[i] = ask(CONTROL_ATTACH, "x");
    turn();
    assert_int_equal(token_count, 32);
    for (unsigned i = 0; i < 4; i++)
        control_reply(tokens[i], 0, NULL);
    turn();
    assert_int_equal(token_count, 36);
    for (unsigned i = 4; i < 36; i++)
        control_reply(tokens[i], 0, NULL);
    for (int i = 0; i < 36; i++) {
        assert_int_equal(receive(fds[i], &reply), 1);
        (void)close(fds[i]);
    }
    expect_alive();
}

static void strangers_are_not_listened_to(void **state)
{
    struct control_request made = request(CONTROL_RELOAD, "");

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(seteuid(65534), 0);
    int fd = connect_client();
    (void)send(fd, &made, sizeof(made), MSG_NOSIGNAL);
    assert_int_equal(seteuid(0), 0);
    expect_cut_off(fd);
    assert_null(last_call);
    expect_alive();
}

static void a_socket_left_behind_is_replaced_but_no_other_file(void **state)
{
    (void)state;
    control_server_stop(server);
    server = NULL;
    assert_int_equal(start(), 0);
    struct control_server *first = server;
    assert_int_equal(start(), 0); /* as after a kill: the socket is there, nobody owns it */
    expect_alive();
    control_server_stop(first);
    control_server_stop(server);
    server = NULL;
    test_file_write(path, "precious", 8);
    assert_int_equal(start(), -EEXIST);
    assert_int_equal(access(path, F_OK), 0);
}

static void nothing_is_left_open(void **state)
{
    (void)state;
    control_server_stop(server);
    server = NULL;
    unsigned before = test_count_descriptors();
    assert_int_equal(start(), 0);
    int fd = ask(CONTROL_ATTACH, "x");
    control_server_stop(server);
    server = NULL;
    (void)close(fd);
    assert_int_equal(test_count_descriptors(), before);
    control_reply(tokens[0], 0, NULL);
    control_server_stop(NULL);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ping_is_answered_with_pid_and_version),
        TEST(socket_is_for_its_owner_only),
        TEST(media_and_sizes_reach_their_handlers),
        TEST(requests_reach_their_handlers_and_wait_for_the_answer),
        TEST(a_handler_may_answer_at_once),
        TEST(long_text_is_cut),
        TEST(a_client_that_hangs_up_early_is_answered_into_nothing),
        TEST(tokens_outlive_the_server),
        TEST(paths_are_wanted_where_they_are_needed),
        TEST(malformed_requests_end_their_client_only),
        TEST(descriptors_that_come_along_are_not_kept),
        TEST(a_second_request_ends_the_client),
        TEST(a_client_that_says_nothing_is_cut_off),
        TEST(more_clients_than_allowed_wait_and_are_served_then),
        TEST(strangers_are_not_listened_to),
        TEST(a_socket_left_behind_is_replaced_but_no_other_file),
        TEST(nothing_is_left_open),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
