/* SPDX-License-Identifier: BSD-2-Clause */
/* The client's side of the control socket: one request, one reply, within a time. */
#include "blkback/control_protocol.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

/* A connected socket, or -errno. A broker that does not accept is waited for as long as
 * `timeout_ms`. */
static int connect_to(const char *socket_path, unsigned timeout_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = timeout_ms / 1000U,
                              .tv_usec = (suseconds_t)(timeout_ms % 1000U) * 1000};
    size_t length = strlen(socket_path);

    if (length >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, socket_path, length + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)))
        rc = errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (rc) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int wait_readable(int fd, uint64_t deadline_ms)
{
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        uint64_t now = now_ms();
        uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
        int rc = poll(&ready, 1, left > 1000000 ? 1000000 : (int)left);

        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR)
            return -errno;
        if (rc == 0 && now_ms() >= deadline_ms)
            return -ETIMEDOUT;
    }
}

static int exchange(int fd, const struct control_request *request, uint64_t deadline_ms,
                    struct control_reply *out)
{
    struct control_reply reply;
    ssize_t count = send(fd, request, sizeof(*request), MSG_NOSIGNAL);

    if (count < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    int rc = wait_readable(fd, deadline_ms);
    if (rc)
        return rc;
    count = recv(fd, &reply, sizeof(reply), MSG_TRUNC);
    if (count < 0)
        return -errno;
    if (count == 0)
        return -ECONNRESET;
    if (count != sizeof(reply) || reply.magic != CONTROL_MAGIC || reply.version != CONTROL_VERSION)
        return -EPROTO;
    reply.text[sizeof(reply.text) - 1] = '\0';
    *out = reply;
    return 0;
}

int control_call(const char *socket_path, const struct control_request *request,
                 unsigned timeout_ms, struct control_reply *out)
{
    uint64_t deadline_ms = now_ms() + timeout_ms;
    int fd = connect_to(socket_path, timeout_ms);

    if (fd < 0)
        return fd;
    int rc = exchange(fd, request, deadline_ms, out);
    (void)close(fd);
    return rc;
}
