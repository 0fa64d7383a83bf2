/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket's listener and its clients: each sends one request and gets one reply. */
#include "control_server.h"

#include "blkback/control_protocol.h"
#include "blkback/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 32U

/* Seconds that a client has to send its request: it does so right after connecting. */
#define REQUEST_SECONDS 2.0

struct control_client {
    struct control_server *server;
    struct control_client *next;
    struct control_client **link;     /* what points to this one */
    struct control_call_token *token; /* the request that is being worked on; NULL: none has come */
    ev_io readable;
    ev_timer deadline; /* runs until the request has come */
};

struct control_call_token {
    struct control_client *client; /* NULL once it has gone away */
};

struct control_server {
    struct ev_loop *loop;
    struct control_handlers handlers;
    ev_io acceptable; /* stopped while there are CLIENTS_MAX: the rest wait in the backlog */
    struct control_client *clients;
    unsigned client_count;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void drop_client(struct control_client *client)
{
    struct control_server *server = client->server;

    *client->link = client->next;
    if (client->next)
        client->next->link = client->link;
    if (client->token)
        client->token->client = NULL;
    ev_io_stop(server->loop, &client->readable);
    ev_timer_stop(server->loop, &client->deadline);
    (void)close(client->readable.fd);
    free(client);
    server->client_count--;
    ev_io_start(server->loop, &server->acceptable);
}

/* Sends a reply and ends the connection. A client that does not read it has itself to blame. */
static void answer(struct control_client *client, int error, uint32_t value, const char *text)
{
    struct control_reply reply;

    memset(&reply, 0, sizeof(reply));
    reply.magic = CONTROL_MAGIC;
    reply.version = CONTROL_VERSION;
    reply.error = error;
    reply.value = value;
    (void)snprintf(reply.text, sizeof(reply.text), "%s", text ? text : "");
    if (send(client->readable.fd, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("control: a client did not take its reply: %s", strerror(errno));
    drop_client(client);
}

void control_reply(struct control_call_token *token, int error, const char *text)
{
    if (token->client) {
        token->client->token = NULL;
        answer(token->client, error, 0, text);
    }
    free(token);
}

static void call_handler(const struct control_handlers *handlers,
                         const struct control_request *request, struct control_call_token *token)
{
    switch ((enum control_command)request->command) {
    case CONTROL_ATTACH:
        handlers->attach(handlers->context, request->path, token);
        return;
    case CONTROL_DETACH:
        handlers->detach(handlers->context, request->path, token);
        return;
    case CONTROL_RELOAD:
        handlers->reload(handlers->context, token);
        return;
    case CONTROL_RESIZE:
        handlers->resize(handlers->context, request->path, token);
        return;
    case CONTROL_RESUME:
    case CONTROL_RESUME_AND_LOSE:
        handlers->resume(handlers->context, request->path,
                         request->command == CONTROL_RESUME_AND_LOSE, token);
        return;
    case CONTROL_INSERT:
        handlers->insert(handlers->context, request->path, request->target, token);
        return;
    case CONTROL_EJECT:
        handlers->insert(handlers->context, request->path, "", token);
        return;
    case CONTROL_LIMIT:
        handlers->limit(handlers->context, request->path, request->target, token);
        return;
    case CONTROL_PING:
    case CONTROL_COMMANDS:
        break;
    }
    control_reply(token, -EINVAL, "no such command");
}

static bool takes_target(uint16_t command)
{
    return command == CONTROL_INSERT || command == CONTROL_LIMIT;
}

static void dispatch(struct control_client *client, const struct control_request *request)
{
    const struct control_handlers *handlers = &client->server->handlers;

    if (request->command == CONTROL_PING) {
        answer(client, 0, (uint32_t)getpid(), BLKBACKD_VERSION);
        return;
    }
    if (request->command != CONTROL_RELOAD && request->path[0] == '\0') {
        answer(client, -EINVAL, 0, "no backend path was given");
        return;
    }
    if (takes_target(request->command) != (request->target[0] != '\0')) {
        answer(client, -EINVAL, 0, "a target is for inserting, limits are for limiting, only");
        return;
    }
    struct control_call_token *token = calloc(1, sizeof(*token));
    if (!token) {
        answer(client, -ENOMEM, 0, "out of memory");
        return;
    }
    token->client = client;
    client->token = token;
    /* The handler may answer at once, which frees the client. */
    call_handler(handlers, request, token);
}

static bool request_valid(const struct control_request *request)
{
    return request->magic == CONTROL_MAGIC && request->version == CONTROL_VERSION &&
           request->command >= CONTROL_PING && request->command < CONTROL_COMMANDS &&
           memchr(request->path, '\0', sizeof(request->path)) != NULL &&
           memchr(request->target, '\0', sizeof(request->target)) != NULL;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct control_client *client = watcher->data;
    struct control_request request;
    struct iovec iov = {.iov_base = &request, .iov_len = sizeof(request)};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    (void)events;
    /* No room for descriptors: the kernel drops those that come along and says MSG_CTRUNC. */
    ssize_t got = recvmsg(watcher->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (client->token || got <= 0) {
        /* Hung up, or sends more before its answer came. What it asked for goes on. */
        drop_client(client);
        return;
    }
    if (got != sizeof(request) || header.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
        !request_valid(&request)) {
        log_debug("control: cut off a client that sent a malformed request");
        drop_client(client);
        return;
    }
    ev_timer_stop(loop, &client->deadline);
    dispatch(client, &request);
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    log_debug("control: cut off a client that sent no request");
    drop_client(watcher->data);
}

/* Root, or whoever runs this broker. */
static bool peer_allowed(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct control_server *server = watcher->data;
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)events;
    if (fd < 0)
        return;
    struct control_client *client = peer_allowed(fd) ? calloc(1, sizeof(*client)) : NULL;
    if (!client) {
        (void)close(fd);
        return;
    }
    client->server = server;
    client->next = server->clients;
    client->link = &server->clients;
    if (client->next)
        client->next->link = &client->next;
    server->clients = client;
    ev_io_init(&client->readable, on_readable, fd, EV_READ);
    client->readable.data = client;
    ev_io_start(loop, &client->readable);
    ev_timer_init(&client->deadline, on_deadline, REQUEST_SECONDS, 0.);
    client->deadline.data = client;
    ev_timer_start(loop, &client->deadline);
    if (++server->client_count >= CLIENTS_MAX)
        ev_io_stop(loop, &server->acceptable);
}

/* A listening socket, or -errno. */
static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    size_t length = strlen(path);

    if (length >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, length + 1);
    if (lstat(path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode))
            return -EEXIST;
        if (unlink(path))
            return -errno;
    }
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* The mode is there from the start, not only after a chmod(). */
    mode_t mask = umask(0177);
    int rc = bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
    (void)umask(mask);
    if (rc == 0 && listen(fd, SOMAXCONN))
        rc = -errno;
    if (rc) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

int control_server_start(struct ev_loop *loop, const char *path,
                         const struct control_handlers *handlers, struct control_server **out)
{
    struct control_server *server = calloc(1, sizeof(*server));

    if (!server)
        return -ENOMEM;
    int fd = listen_at(path);
    if (fd < 0) {
        free(server);
        return fd;
    }
    server->loop = loop;
    server->handlers = *handlers;
    memcpy(server->path, path, strlen(path) + 1);
    ev_io_init(&server->acceptable, on_acceptable, fd, EV_READ);
    server->acceptable.data = server;
    ev_io_start(loop, &server->acceptable);
    *out = server;
    return 0;
}

void control_server_stop(struct control_server *server)
{
    if (!server)
        return;
    for (struct control_client *client = server->clients, *next; client; client = next) {
        next = client->next;
        drop_client(client);
    }
    ev_io_stop(server->loop, &server->acceptable);
    (void)close(server->acceptable.fd);
    (void)unlink(server->path);
    free(server);
}
