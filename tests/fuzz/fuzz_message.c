/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages between broker and worker as they come out of the socket: what is none is refused with
 * its descriptors, and what is one has its text terminated and no more descriptors than it may.
 */
#include "fuzz.h"

#include "blkback/worker_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 16U
#define MESSAGES_MAX    8U

static void send_raw(int socket, const void *bytes, size_t size, unsigned descriptors)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } space;
    char copy[2 * sizeof(struct worker_message)];
    struct iovec iov = {.iov_base = copy, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    memcpy(copy, bytes, size);
    memset(&space, 0, sizeof(space));
    if (descriptors) {
        header.msg_control = space.bytes;
        header.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
        CMSG_FIRSTHDR(&header)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&header)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&header)->cmsg_len = CMSG_LEN(descriptors * sizeof(int));
        for (unsigned i = 0; i < descriptors; i++)
            memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)) + i * sizeof(int), &socket, sizeof(int));
    }
    CHECK(sendmsg(socket, &header, MSG_NOSIGNAL) == (ssize_t)size);
}

static void check_text(const struct worker_message *message)
{
    switch (message->type) {
    case WORKER_OPEN_STORE:
    case WORKER_CHANGE_STORE:
        CHECK(fuzz_terminated(message->u.open_store.vdev, sizeof(message->u.open_store.vdev)));
        return;
    case WORKER_STORE_OPENED:
    case WORKER_STORE_CHANGED:
    case WORKER_SIZE:
        CHECK(fuzz_terminated(message->u.store_opened.engine,
                              sizeof(message->u.store_opened.engine)));
        return;
    case WORKER_STORE_FAILED:
    case WORKER_QUEUE_FAILED:
    case WORKER_RING_BROKEN:
    case WORKER_STORE_ALERT:
        CHECK(fuzz_terminated(message->u.text, sizeof(message->u.text)));
        return;
    default:
        CHECK(message->type >= WORKER_READY && message->type < WORKER_MESSAGE_TYPES);
    }
}

static void receive(int socket, size_t size, unsigned sent)
{
    const int before = fuzz_next_descriptor();
    struct worker_message message;
    struct worker_message untouched;
    int fds[WORKER_MESSAGE_MAX_FDS] = {-7, -7};

    memset(&message, 0x5a, sizeof(message));
    memset(&untouched, 0x5a, sizeof(untouched));
    const int rc = worker_message_receive(socket, &message, fds);

    if (rc) {
        CHECK(rc == -EBADMSG || (rc == -ECONNRESET && size == 0));
        CHECK(memcmp(&message, &untouched, sizeof(message)) == 0 && fds[0] == -7 && fds[1] == -7);
    } else {
        CHECK(size == sizeof(message) && sent <= WORKER_MESSAGE_MAX_FDS);
        CHECK(message.magic == WORKER_PROTOCOL_MAGIC && message.version == WORKER_PROTOCOL_VERSION);
        check_text(&message);
        for (unsigned i = 0; i < WORKER_MESSAGE_MAX_FDS; i++) {
            CHECK((fds[i] >= 0) == (i < sent));
            CHECK(fds[i] < 0 || (fcntl(fds[i], F_GETFD) & FD_CLOEXEC));
            if (fds[i] >= 0)
                (void)close(fds[i]);
        }
    }
    CHECK(fuzz_next_descriptor() == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    const int before = fuzz_next_descriptor();
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    for (unsigned i = 0; i < MESSAGES_MAX && input.left; i++) {
        struct worker_message message[2];
        const uint8_t how = input_u8(&input);
        const unsigned descriptors = how & 1 ? input_u8(&input) % (DESCRIPTORS_MAX + 1) : 0;
        size_t length = sizeof(message[0]);

        memset(message, how & 2 ? 'x' : 0, sizeof(message));
        message[0].magic = WORKER_PROTOCOL_MAGIC;
        message[0].version = WORKER_PROTOCOL_VERSION;
        message[0].type = input_u8(&input) & 31U;
        message[0].vbd = input_u8(&input);
        if (how & 4)
            input_patches(&input, message, sizeof(message[0]), 4);
        if (how & 8)
            length = input_u16(&input) % (sizeof(message) + 1);
        send_raw(ends[0], message, length, length ? descriptors : 0);
        receive(ends[1], length, descriptors);
    }
    (void)close(ends[0]);
    receive(ends[1], 0, 0);
    (void)close(ends[1]);
    CHECK(fuzz_next_descriptor() == before);
    return 0;
}
