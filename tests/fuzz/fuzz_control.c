/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients of the control socket, several at once, in any order of connecting, sending, hanging up,
 * and of the broker's answers. A handler hears only of requests that are whole.
 */
#include "fake_time.h"
#include "fuzz.h"

#include "blkback/control_protocol.h"
#include "blkback/log.h"
#include "control_server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS   4U
#define STEPS_MAX 64U
#define TOKENS    (STEPS_MAX + 1U)

static struct ev_loop *loop;
static struct control_server *server;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int clients[CLIENTS];
static struct control_call_token *tokens[TOKENS];
static unsigned token_count;
static bool at_once;

static void keep(const char *path, const char *target, struct control_call_token *token)
{
    CHECK(fuzz_terminated(path, STATE_TEXT_MAX) && fuzz_terminated(target, STATE_TEXT_MAX));
    if (at_once) {
        control_reply(token, -1, path);
        return;
    }
    CHECK(token_count < TOKENS);
    tokens[token_count++] = token;
}

static void on_path(void *context, const char *path, struct control_call_token *token)
{
    CHECK(context == &tokens && path[0] != '\0');
    keep(path, "", token);
}

static void on_reload(void *context, struct control_call_token *token)
{
    CHECK(context == &tokens);
    keep("", "", token);
}

static void on_insert(void *context, const char *path, const char *target,
                      struct control_call_token *token)
{
    CHECK(context == &tokens && path[0] != '\0');
    keep(path, target, token);
}

static void on_resume(void *context, const char *path, bool accept_loss,
                      struct control_call_token *token)
{
    (void)accept_loss;
    on_path(context, path, token);
}

static void start(void)
{
    const struct control_handlers handlers = {.context = &tokens,
                                              .attach = on_path,
                                              .detach = on_path,
                                              .reload = on_reload,
                                              .resize = on_path,
                                              .insert = on_insert,
                                              .resume = on_resume};

    CHECK(control_server_start(loop, address.sun_path, &handlers, &server) == 0);
}

static void hang_up(unsigned client)
{
    if (clients[client] >= 0)
        (void)close(clients[client]);
    clients[client] = -1;
}

static void come(unsigned client)
{
    hang_up(client);
    clients[client] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(clients[client] >= 0);
    (void)connect(clients[client], (struct sockaddr *)&address, sizeof(address));
}

static void send_bytes(unsigned client, const void *bytes, size_t size, bool descriptor)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } space;
    char copy[2 * sizeof(struct control_request)];
    struct iovec iov = {.iov_base = copy, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    if (clients[client] < 0)
        return;
    memcpy(copy, bytes, size);
    if (descriptor) {
        memset(&space, 0, sizeof(space));
        header.msg_control = space.bytes;
        header.msg_controllen = sizeof(space.bytes);
        CMSG_FIRSTHDR(&header)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&header)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&header)->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)), &clients[client], sizeof(int));
    }
    (void)sendmsg(clients[client], &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A request that is right but for what the input changes about it. */
static void ask(unsigned client, struct input *input)
{
    struct control_request request[2];
    const uint8_t how = input_u8(input);
    size_t size = sizeof(request[0]);

    memset(request, 0, sizeof(request));
    request[0].magic = CONTROL_MAGIC;
    request[0].version = CONTROL_VERSION;
    request[0].command = how & 15U;
    input_text(input, request[0].path, sizeof(request[0].path));
    if (how & 16)
        input_text(input, request[0].target, sizeof(request[0].target));
    if (how & 32)
        input_patches(input, request, sizeof(request[0]), 2);
    if (how & 64)
        size = input_u16(input) % (sizeof(request) + 1);
    send_bytes(client, request, size, how & 128);
}

/* What a client reads is a whole reply, or nothing. */
static void read_reply(unsigned client)
{
    struct control_reply reply;

    if (clients[client] < 0)
        return;
    const ssize_t got = recv(clients[client], &reply, sizeof(reply), MSG_DONTWAIT);

    if (got <= 0)
        return;
    CHECK(got == sizeof(reply) && reply.magic == CONTROL_MAGIC);
    CHECK(fuzz_terminated(reply.text, sizeof(reply.text)));
}

static void answer(struct input *input)
{
    char text[300];

    input_text(input, text, sizeof(text));
    if (token_count)
        control_reply(tokens[--token_count], -(int)input_u8(input), text);
}

/* More clients than are served at once. */
static void flood(void)
{
    int fds[40];

    for (unsigned i = 0; i < 40; i++) {
        fds[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fds[i], (struct sockaddr *)&address, sizeof(address));
        (void)ev_run(loop, EVRUN_NOWAIT);
    }
    for (unsigned i = 0; i < 40; i++)
        (void)close(fds[i]);
}

static void refuse(const char *path, int error)
{
    const struct control_handlers none = {.context = NULL};
    struct control_server *other = NULL;

    CHECK(control_server_start(loop, path, &none, &other) == error && other == NULL);
    control_server_stop(other);
}

/* Another broker's socket is replaced, anything else is not. */
static void replace_server(void)
{
    struct control_server *former = server;
    char path[600];

    refuse(fuzz_folder(), -EEXIST);
    (void)snprintf(path, sizeof(path), "%s/no/control", fuzz_folder());
    refuse(path, -ENOENT);
    (void)snprintf(path, sizeof(path), "%s/%0200d", fuzz_folder(), 0);
    refuse(path, -ENAMETOOLONG);
    start();
    control_server_stop(former);
    control_server_stop(server);
    start();
}

static void step(struct input *input)
{
    const uint8_t what = input_u8(input);
    const unsigned client = what >> 6;

    switch (what & 7U) {
    case 0:
        come(client);
        break;
    case 1:
    case 2:
        ask(client, input);
        break;
    case 3:
        hang_up(client);
        break;
    case 4:
        answer(input);
        break;
    case 5:
        read_reply(client);
        break;
    case 6:
        if (what & 8)
            fake_time_pass(client);
        else
            at_once = !at_once;
        break;
    default:
        if (what & 8)
            flood();
        else
            replace_server();
        break;
    }
    (void)ev_run(loop, EVRUN_NOWAIT);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)signal(SIGPIPE, SIG_IGN);
    log_set_level((enum log_level)0);
    loop = ev_loop_new(EVFLAG_AUTO);
    CHECK(loop != NULL);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", fuzz_folder());
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    const int before = fuzz_next_descriptor();

    memset(clients, 0xff, sizeof(clients));
    token_count = 0;
    at_once = false;
    start();
    for (unsigned i = 0; i < STEPS_MAX && input.left; i++)
        step(&input);
    control_server_stop(server);
    while (token_count) /* they outlive the server */
        control_reply(tokens[--token_count], 0, NULL);
    for (unsigned i = 0; i < CLIENTS; i++)
        hang_up(i);
    (void)ev_run(loop, EVRUN_NOWAIT);
    CHECK(fake_time_running() == 0);
    CHECK(fuzz_next_descriptor() == before);
    return 0;
}
