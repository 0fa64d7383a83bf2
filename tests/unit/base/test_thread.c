/* SPDX-License-Identifier: BSD-2-Clause */
/* What a thread is made with, and that its maker is left as it was. */
#include "testing.h"

#include "blkback/thread.h"

#include <pthread.h>
#include <signal.h>

struct seen {
    sigset_t blocked;
    size_t stack;
};

static void *look(void *context)
{
    struct seen *seen = context;
    pthread_attr_t attributes;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        (void)pthread_attr_getstacksize(&attributes, &seen->stack);
        (void)pthread_attr_destroy(&attributes);
    }
    return context;
}

static void a_thread_gets_no_signals_and_a_small_stack(void **state)
{
    struct seen seen = {.stack = 0};
    pthread_t id;
    void *result = NULL;

    (void)state;
    (void)sigemptyset(&seen.blocked);
    assert_int_equal(thread_start(look, &seen, &id), 0);
    assert_int_equal(pthread_join(id, &result), 0);
    assert_ptr_equal(result, &seen);
    assert_int_equal(sigismember(&seen.blocked, SIGTERM), 1);
    assert_int_equal(sigismember(&seen.blocked, SIGCHLD), 1);
    assert_int_equal(sigismember(&seen.blocked, SIGUSR1), 1);
    assert_int_equal(seen.stack, 256 * 1024);
}

static void its_maker_keeps_its_signals(void **state)
{
    struct seen seen;
    sigset_t mine;
    sigset_t after;
    pthread_t id;

    (void)state;
    (void)sigemptyset(&mine);
    (void)sigaddset(&mine, SIGUSR1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mine, NULL), 0);
    assert_int_equal(thread_start(look, &seen, &id), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    assert_int_equal(pthread_join(id, NULL), 0);
    assert_int_equal(sigismember(&after, SIGUSR1), 1);
    assert_int_equal(sigismember(&after, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_gets_no_signals_and_a_small_stack),
        cmocka_unit_test(its_maker_keeps_its_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
