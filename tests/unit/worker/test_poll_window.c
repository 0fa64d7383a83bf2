/* SPDX-License-Identifier: BSD-2-Clause */
/* When a thread looks for work before it sleeps. */
#include "poll_window.h"
#include "testing.h"

#define MAX_NS  50000U
#define FOREVER UINT64_MAX

static void sleep_shortly(struct poll_window *window, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        poll_window_slept(window, MAX_NS - 1);
}

/* Returns after how many short sleeps it opened. */
static unsigned sleeps_until_open(struct poll_window *window)
{
    unsigned sleeps = 0;

    for (; !window->open; sleeps++) {
        assert_true(sleeps < 1000000);
        sleep_shortly(window, 1);
    }
    return sleeps;
}

static void miss_until_closed(struct poll_window *window)
{
    unsigned misses = 0;

    for (; window->open; misses++)
        poll_window_missed(window);
    assert_in_range(misses, 1, 4); /* what a failure costs at most */
}

static void opens_when_looking_would_have_paid(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};

    (void)state;
    assert_in_range(sleeps_until_open(&window), 2, 20);
}

/* The clock is read for sleeps that decide something, and for no others. */
static void judges_sleeps_until_it_opens_and_after_its_rest(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};
    const struct poll_window off = {.max_ns = 0};

    (void)state;
    assert_false(poll_window_judges(&off));
    assert_true(poll_window_judges(&window));
    (void)sleeps_until_open(&window);
    assert_false(poll_window_judges(&window));
    miss_until_closed(&window);
    for (unsigned sleeps = 0; !poll_window_judges(&window); sleeps++) {
        assert_true(sleeps < 1000);
        /* Nor does it matter then what is said of it. */
        poll_window_slept(&window, sleeps % 2 ? 0 : FOREVER);
        assert_false(window.open);
    }
    assert_in_range(sleeps_until_open(&window), 2, 20);
}

/* Each measured sleep costs two readings of the clock. */
static void long_sleeps_are_seldom_measured(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};
    unsigned judged = 0;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        judged += poll_window_judges(&window);
        poll_window_slept(&window, MAX_NS);
    }
    assert_in_range(judged, 1, 1000 / 8);
    /* It is noticed soon that they have become short. */
    assert_in_range(sleeps_until_open(&window), 2, 20);
}

static void stays_closed_when_sleeps_are_long(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        poll_window_slept(&window, MAX_NS + 1);
    assert_false(window.open);
    /* Nor do short ones between long ones open it. */
    for (unsigned i = 0; i < 1000; i++) {
        sleep_shortly(&window, 3);
        poll_window_slept(&window, FOREVER);
    }
    assert_false(window.open);
}

static void never_opens_when_told_not_to(void **state)
{
    struct poll_window window = {.max_ns = 0};

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        poll_window_slept(&window, 0);
    assert_false(window.open);
}

static void stays_open_while_it_finds_something(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};

    (void)state;
    (void)sleeps_until_open(&window);
    for (unsigned i = 0; i < 100000; i++) {
        poll_window_hit(&window);
        if (i % 10 == 0)
            poll_window_missed(&window);
    }
    assert_true(window.open);
}

static void closes_when_it_finds_too_little(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};

    (void)state;
    (void)sleeps_until_open(&window);
    for (unsigned i = 0; i < 1000 && window.open; i++) {
        poll_window_hit(&window);
        poll_window_hit(&window);
        poll_window_missed(&window);
    }
    assert_false(window.open);
}

static void rests_longer_after_each_failure(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};
    unsigned sleeps = sleeps_until_open(&window);

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        const unsigned before = sleeps;

        miss_until_closed(&window);
        sleeps = sleeps_until_open(&window);
        assert_true(sleeps > before || sleeps > 60000);
    }
    /* It is still tried, now and then: frontends move to other CPUs. */
    assert_in_range(sleeps, 60000, 70000);
}

static void success_is_remembered(void **state)
{
    struct poll_window window = {.max_ns = MAX_NS};

    (void)state;
    (void)sleeps_until_open(&window);
    for (unsigned i = 0; i < 10; i++) {
        miss_until_closed(&window);
        (void)sleeps_until_open(&window);
    }
    for (unsigned i = 0; i < 100; i++)
        poll_window_hit(&window);
    miss_until_closed(&window);
    assert_in_range(sleeps_until_open(&window), 2, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_when_looking_would_have_paid),
        cmocka_unit_test(judges_sleeps_until_it_opens_and_after_its_rest),
        cmocka_unit_test(long_sleeps_are_seldom_measured),
        cmocka_unit_test(stays_closed_when_sleeps_are_long),
        cmocka_unit_test(never_opens_when_told_not_to),
        cmocka_unit_test(stays_open_while_it_finds_something),
        cmocka_unit_test(closes_when_it_finds_too_little),
        cmocka_unit_test(rests_longer_after_each_failure),
        cmocka_unit_test(success_is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
