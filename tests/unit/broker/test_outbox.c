/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages that are more than a socket takes arrive all the same, in order and with their
 * descriptors. */
#include "testing.h"

#include "outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGES 3000U /* some dozens fit into a socket */

static struct ev_loop *loop;
static struct outbox outbox;
static int ends[2];
static unsigned failures;
static unsigned taken;

static void on_failure(void *context)
{
    assert_ptr_equal(context, &outbox);
    failures++;
    ev_break(loop, EVBREAK_ALL);
}

static int set_up(void **state)
{
    (void)state;
    failures = taken = 0;
    loop = ev_loop_new(EVFLAG_AUTO);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends),
                     0);
    outbox_init(&outbox, loop, ends[0], on_failure, &outbox);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    outbox_clear(&outbox);
    close(ends[0]);
    close(ends[1]);
    ev_loop_destroy(loop);
    return 0;
}

static void send_one(unsigned number, int fd)
{
    struct worker_message message = worker_message(WORKER_CLOSE_STORE, number);
    assert_int_equal(outbox_send(&outbox, &message, &fd, fd >= 0), 0);
}

static bool same_file(int a, int b)
{
    struct stat of_a;
    struct stat of_b;
    assert_int_equal(fstat(a, &of_a), 0);
    assert_int_equal(fstat(b, &of_b), 0);
    return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

/* Takes everything that is there, each with `fd`'s file, or none where that is -1. */
static void take(int fd)
{
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];

    while (worker_message_receive(ends[1], &message, fds) == 0) {
        assert_int_equal(message.vbd, taken++);
        assert_int_equal(fds[0] >= 0, fd >= 0);
        if (fd >= 0) {
            assert_true(same_file(fds[0], fd));
            close(fds[0]);
        }
    }
}

static void all_arrive_in_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MESSAGES; i++)
        send_one(i, -1);
    assert_true(outbox.count > 0);
    for (unsigned turns = 0; taken < MESSAGES && turns < MESSAGES; turns++) {
        take(-1);
        ev_run(loop, EVRUN_NOWAIT);
    }
    assert_int_equal(taken, MESSAGES);
    assert_int_equal(outbox.count, 0);
    assert_false(ev_is_active(&outbox.writable));
    assert_false(ev_is_active(&outbox.patience));
    send_one(MESSAGES, -1);
    take(-1);
    assert_int_equal(taken, MESSAGES + 1);
    assert_int_equal(failures, 0);
}

/* The sender has closed its own long before. */
static void descriptors_arrive_and_none_is_kept(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    unsigned before = test_count_descriptors();
    (void)state;

    for (unsigned i = 0; i < 600; i++) {
        int lent = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        send_one(i, lent);
        close(lent);
    }
    assert_true(outbox.count > 0);
    for (unsigned turns = 0; taken < 600 && turns < 600; turns++) {
        take(fd);
        ev_run(loop, EVRUN_NOWAIT);
    }
    assert_int_equal(taken, 600);
    assert_int_equal(test_count_descriptors(), before);
    close(fd);
}

static void what_is_dropped_leaves_no_descriptor(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    (void)state;

    for (unsigned i = 0; i < 600; i++)
        send_one(i, fd);
    unsigned with_letters = test_count_descriptors();
    unsigned waiting = outbox.count;
    assert_true(waiting > 0);
    outbox_clear(&outbox);
    assert_int_equal(test_count_descriptors(), with_letters - waiting);
    close(fd);
}

static void a_worker_that_hangs_up_is_noticed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MESSAGES; i++)
        send_one(i, -1);
    close(ends[1]);
    ev_run(loop, EVRUN_ONCE);
    assert_int_equal(failures, 1);
    ends[1] = -1;
}

/* However little it takes at a time, it is waited for; one that takes nothing is not. */
static void one_that_takes_nothing_is_given_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MESSAGES; i++)
        send_one(i, -1);
    outbox.patience.repeat = 0.05;
    ev_timer_again(loop, &outbox.patience);
    ev_run(loop, 0);
    assert_int_equal(failures, 1);
}

static void there_is_an_end_to_it(void **state)
{
    struct worker_message message = worker_message(WORKER_CLOSE_STORE, 1);
    int error = 0;
    (void)state;

    for (unsigned i = 0; error == 0 && i < 2 * OUTBOX_MESSAGES_MAX; i++)
        error = outbox_send(&outbox, &message, NULL, 0);
    assert_int_equal(error, -EAGAIN);
    assert_int_equal(outbox.count, OUTBOX_MESSAGES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_arrive_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(descriptors_arrive_and_none_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_dropped_leaves_no_descriptor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_worker_that_hangs_up_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_takes_nothing_is_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(there_is_an_end_to_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
