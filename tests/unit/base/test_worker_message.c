/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages between broker and worker, with the other end as an attacker. */
#include "testing.h"

#include "blkback/worker_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int ours, theirs;

static int set_up(void **state)
{
    int ends[2];

    (void)state;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return -1;
    ours = ends[0];
    theirs = ends[1];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)close(ours);
    if (theirs >= 0)
        (void)close(theirs);
    return 0;
}

/* Sends `size` bytes with `count` copies of a descriptor, with no regard for the rules. */
static void send_raw(const void *bytes, size_t size, unsigned count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } space;
    char copy[2 * sizeof(struct worker_message)];
    struct iovec iov = {.iov_base = copy, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    memcpy(copy, bytes, size);
    if (count) {
        memset(&space, 0, sizeof(space));
        header.msg_control = space.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *control = CMSG_FIRSTHDR(&header);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(count * sizeof(int));
        for (unsigned i = 0; i < count; i++)
            memcpy(CMSG_DATA(control) + i * sizeof(int), &theirs, sizeof(int));
    }
    assert_int_equal(sendmsg(theirs, &header, MSG_NOSIGNAL), size);
}

static void a_message_arrives_with_its_descriptors(void **state)
{
    struct worker_message sent = worker_message(WORKER_OPEN_STORE, 7);
    struct worker_message message;
    int pipe_ends[2];
    int fds[WORKER_MESSAGE_MAX_FDS] = {55, 55};
    char byte = 0;

    (void)state;
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
    sent.u.open_store.size = 12345;
    (void)strcpy(sent.u.open_store.vdev, "xvda");
    assert_int_equal(worker_message_send(theirs, &sent, pipe_ends, 2), 0);
    assert_int_equal(worker_message_receive(ours, &message, fds), 0);
    assert_memory_equal(&message, &sent, sizeof(sent));
    /* They are the same pipe, and not inherited by programs that are started. */
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    for (unsigned i = 0; i < 2; i++) {
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        (void)close(fds[i]);
        (void)close(pipe_ends[i]);
    }
}

static void unused_places_are_minus_one(void **state)
{
    struct worker_message sent = worker_message(WORKER_CONNECT_QUEUE, 7);
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS] = {55, 55};

    (void)state;
    assert_int_equal(worker_message_send(theirs, &sent, &theirs, 1), 0);
    assert_int_equal(worker_message_receive(ours, &message, fds), 0);
    assert_true(fds[0] >= 0);
    assert_int_equal(fds[1], -1);
    (void)close(fds[0]);
    assert_int_equal(worker_message_send(theirs, &sent, NULL, 0), 0);
    assert_int_equal(worker_message_receive(ours, &message, fds), 0);
    assert_int_equal(fds[0], -1);
}

static void nothing_waiting_and_hang_up(void **state)
{
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];

    (void)state;
    assert_int_equal(worker_message_receive(ours, &message, fds), -EAGAIN);
    (void)close(theirs);
    theirs = -1;
    assert_int_equal(worker_message_receive(ours, &message, fds), -ECONNRESET);
    message = worker_message(WORKER_READY, 0);
    assert_int_equal(worker_message_send(ours, &message, NULL, 0), -EPIPE);
}

static void a_full_socket_does_not_block(void **state)
{
    struct worker_message message = worker_message(WORKER_READY, 0);
    int rc = 0;

    (void)state;
    (void)fcntl(ours, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = worker_message_send(ours, &message, NULL, 0);
    assert_int_equal(rc, -EAGAIN);
}

/* What is wrong is refused as a whole, descriptors and all, and the next message is fine. */
static void expect_bad(const char *what, const void *bytes, size_t size, unsigned fd_count)
{
    struct worker_message good = worker_message(WORKER_READY, 1);
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS] = {55, 55};

    memset(&message, 0x5a, sizeof(message));
    send_raw(bytes, size, fd_count);
    unsigned before = test_count_descriptors();
    int rc = worker_message_receive(ours, &message, fds);
    if (rc != -EBADMSG)
        fail_msg("%s: %d", what, rc);
    assert_int_equal(test_count_descriptors(), before);
    assert_int_equal(message.magic, 0x5a5a5a5a);
    assert_int_equal(fds[0], 55);
    send_raw(&good, sizeof(good), 0);
    assert_int_equal(worker_message_receive(ours, &message, fds), 0);
}

static void malformed_messages_are_refused_with_their_descriptors(void **state)
{
    const struct worker_message good = worker_message(WORKER_READY, 1);
    struct worker_message bad;
    char large[sizeof(good) + 1] = {0};

    (void)state;
    memcpy(large, &good, sizeof(good));
    expect_bad("too short", &good, sizeof(good) - 1, 0);
    expect_bad("one byte with descriptors", &good, 1, 2);
    expect_bad("too long", large, sizeof(large), 1);
    expect_bad("too many descriptors", &good, sizeof(good), 3);
    expect_bad("far too many descriptors", &good, sizeof(good), 16);
    bad = good;
    bad.magic++;
    expect_bad("magic", &bad, sizeof(bad), 1);
    bad = good;
    bad.version++;
    expect_bad("version", &bad, sizeof(bad), 2);
    bad = good;
    bad.type = 0;
    expect_bad("type 0", &bad, sizeof(bad), 0);
    bad.type = WORKER_MESSAGE_TYPES;
    expect_bad("unknown type", &bad, sizeof(bad), 0);
    bad.type = UINT16_MAX;
    expect_bad("last type", &bad, sizeof(bad), 0);
}

static void text_is_terminated(void **state)
{
    static const enum worker_message_type with_text[] = {WORKER_STORE_FAILED, WORKER_QUEUE_FAILED,
                                                         WORKER_RING_BROKEN, WORKER_STORE_ALERT};
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        message = worker_message(with_text[i], 1);
        memset(&message.u, 'x', sizeof(message.u));
        send_raw(&message, sizeof(message), 0);
        assert_int_equal(worker_message_receive(ours, &message, fds), 0);
        assert_int_equal(strnlen(message.u.text, sizeof(message.u.text)),
                         sizeof(message.u.text) - 1);
    }
    message = worker_message(WORKER_STORE_OPENED, 1);
    memset(&message.u, 'x', sizeof(message.u));
    send_raw(&message, sizeof(message), 0);
    assert_int_equal(worker_message_receive(ours, &message, fds), 0);
    assert_int_equal(strnlen(message.u.store_opened.engine, 16), 15);
    message = worker_message(WORKER_OPEN_STORE, 1);
    memset(&message.u, 'x', sizeof(message.u));
    send_raw(&message, sizeof(message), 0);
    assert_int_equal(worker_message_receive(ours, &message, fds), 0);
    assert_int_equal(strnlen(message.u.open_store.vdev, 32), 31);
}

static void too_many_descriptors_are_not_sent(void **state)
{
    struct worker_message message = worker_message(WORKER_READY, 1);
    const int fds[3] = {ours, ours, ours};

    (void)state;
    assert_int_equal(worker_message_send(ours, &message, fds, 3), -EINVAL);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_arrives_with_its_descriptors),
        TEST(unused_places_are_minus_one),
        TEST(nothing_waiting_and_hang_up),
        TEST(a_full_socket_does_not_block),
        TEST(malformed_messages_are_refused_with_their_descriptors),
        TEST(text_is_terminated),
        TEST(too_many_descriptors_are_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
