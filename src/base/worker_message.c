/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages between broker and worker: one struct and its descriptors at a time, checked for form on
 * arrival. */
#include "blkback/worker_protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union descriptor_space {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(WORKER_MESSAGE_MAX_FDS * sizeof(int))];
};

struct worker_message worker_message(enum worker_message_type type, uint32_t vbd)
{
    struct worker_message message;

    memset(&message, 0, sizeof(message));
    message.magic = WORKER_PROTOCOL_MAGIC;
    message.version = WORKER_PROTOCOL_VERSION;
    message.type = (uint16_t)type;
    message.vbd = vbd;
    return message;
}

int worker_message_send(int socket, const struct worker_message *message, const int *fds,
                        unsigned fd_count)
{
    union descriptor_space space;
    struct worker_message copy = *message; /* iov_base is not const */
    struct iovec iov = {.iov_base = &copy, .iov_len = sizeof(copy)};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd_count > WORKER_MESSAGE_MAX_FDS)
        return -EINVAL;
    if (fd_count > 0) {
        memset(&space, 0, sizeof(space));
        header.msg_control = space.bytes;
        header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *control = CMSG_FIRSTHDR(&header);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(control), fds, fd_count * sizeof(int));
    }
    for (;;) {
        ssize_t sent = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)sizeof(copy))
            return 0;
        if (sent >= 0)
            return -EIO;
        if (errno != EINTR)
            return -errno;
    }
}

/* Takes the descriptors out of a received header; returns their number, which the control space
 * bounds. */
static unsigned take_descriptors(struct msghdr *header, int *fds)
{
    unsigned count = 0;

    for (unsigned i = 0; i < WORKER_MESSAGE_MAX_FDS; i++)
        fds[i] = -1;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control;
         control = CMSG_NXTHDR(header, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here && count < WORKER_MESSAGE_MAX_FDS; i++)
            memcpy(&fds[count++], CMSG_DATA(control) + i * sizeof(int), sizeof(int));
    }
    return count;
}

static void close_descriptors(int *fds)
{
    for (unsigned i = 0; i < WORKER_MESSAGE_MAX_FDS; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
        fds[i] = -1;
    }
}

static void terminate_strings(struct worker_message *message)
{
    switch ((enum worker_message_type)message->type) {
    case WORKER_OPEN_STORE:
    case WORKER_CHANGE_STORE:
        message->u.open_store.vdev[sizeof(message->u.open_store.vdev) - 1] = '\0';
        break;
    case WORKER_STORE_OPENED:
    case WORKER_STORE_CHANGED:
    case WORKER_SIZE:
        message->u.store_opened.engine[sizeof(message->u.store_opened.engine) - 1] = '\0';
        break;
    case WORKER_READY:
    case WORKER_STORE_FAILED:
    case WORKER_QUEUE_FAILED:
    case WORKER_RING_BROKEN:
    case WORKER_STORE_ALERT:
        message->u.text[sizeof(message->u.text) - 1] = '\0';
        break;
    case WORKER_CONNECT_QUEUE:
    case WORKER_QUEUE_CONNECTED:
    case WORKER_DISCONNECT:
    case WORKER_DISCONNECTED:
    case WORKER_DRAINED:
    case WORKER_CLOSE_STORE:
    case WORKER_STORE_CLOSED:
    case WORKER_REFRESH_SIZE:
    case WORKER_GRANT_BUDGET:
    case WORKER_FINISH:
    case WORKER_RESUME:
    case WORKER_STORE_CONTINUES:
    case WORKER_LIMITS:
    case WORKER_MESSAGE_TYPES:
        break;
    }
}

int worker_message_receive(int socket, struct worker_message *out, int *fds)
{
    struct worker_message message;
    union descriptor_space space;
    int received[WORKER_MESSAGE_MAX_FDS];
    struct iovec iov = {.iov_base = &message, .iov_len = sizeof(message)};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = space.bytes,
                            .msg_controllen = sizeof(space.bytes)};
    ssize_t got;

    do {
        got = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    (void)take_descriptors(&header, received);
    if (got == 0 || header.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || got != sizeof(message) ||
        message.magic != WORKER_PROTOCOL_MAGIC || message.version != WORKER_PROTOCOL_VERSION ||
        message.type < WORKER_READY || message.type >= WORKER_MESSAGE_TYPES) {
        close_descriptors(received);
        return got == 0 ? -ECONNRESET : -EBADMSG;
    }
    terminate_strings(&message);
    *out = message;
    memcpy(fds, received, sizeof(received));
    return 0;
}
