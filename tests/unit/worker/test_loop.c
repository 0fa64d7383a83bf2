/* SPDX-License-Identifier: BSD-2-Clause */
/* The worker's loop: timers in their order, sources that remove each other. */
#include "loop.h"
#include "testing.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct loop loop;
static char trace[64];
static unsigned turns;
static unsigned turns_wanted; /* more at once */

static unsigned readings; /* of a clock that may take a system call to read */

/* Instead of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    readings += clock != CLOCK_MONOTONIC_COARSE;
    return (int)syscall(SYS_clock_gettime, clock, now);
}

static void note(char letter)
{
    const size_t length = strlen(trace);

    assert_true(length + 1 < sizeof(trace));
    trace[length] = letter;
}

static bool turn(void *context)
{
    assert_ptr_equal(context, trace);
    turns++;
    if (!turns_wanted)
        return false;
    turns_wanted--;
    return true;
}

struct letter_timer {
    struct loop_timer timer; /* first */
    char letter;
};

static void fire(struct loop_timer *timer)
{
    note(((struct letter_timer *)timer)->letter);
}

static void fire_last(struct loop_timer *timer)
{
    fire(timer);
    loop.stopped = true;
}

static void stop_after_turns(struct loop_source *source)
{
    (void)source;
    loop.stopped = turns == 99; /* the turn that follows is the last */
}

static int set_up(void **state)
{
    (void)state;
    memset(trace, 0, sizeof(trace));
    turns = turns_wanted = 0;
    return loop_create(&loop, turn, trace);
}

static int tear_down(void **state)
{
    (void)state;
    loop_destroy(&loop);
    return 0;
}

static void timers_fire_in_the_order_of_their_times(void **state)
{
    struct letter_timer a = {{.fire = fire}, 'a'}, b = {{.fire = fire}, 'b'},
                        c = {{.fire = fire}, 'c'}, z = {{.fire = fire_last}, 'z'};
    (void)state;

    loop_start_timer(&loop, &z.timer, 30);
    loop_start_timer(&loop, &c.timer, 20);
    loop_start_timer(&loop, &a.timer, 1);
    loop_start_timer(&loop, &b.timer, 10);
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(trace, "abcz");
    assert_null(loop.timers);
}

static void a_timer_can_be_stopped_and_started_anew(void **state)
{
    struct letter_timer a = {{.fire = fire}, 'a'}, b = {{.fire = fire}, 'b'},
                        z = {{.fire = fire_last}, 'z'};
    (void)state;

    loop_stop_timer(&loop, &a.timer); /* never armed */
    loop_start_timer(&loop, &a.timer, 1);
    loop_start_timer(&loop, &b.timer, 2);
    loop_start_timer(&loop, &z.timer, 10);
    loop_start_timer(&loop, &a.timer, 5);
    loop_stop_timer(&loop, &b.timer);
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(trace, "az");
}

#define MANY 1000U

static struct loop_timer many[MANY];
static unsigned fired;
static uint64_t fired_due;

static void fire_in_order(struct loop_timer *timer)
{
    assert_false(timer->armed);
    assert_true(timer->due_ms >= fired_due);
    fired_due = timer->due_ms;
    fired++;
}

/* Started, moved and stopped at random: each that is left fires once, in the order of their times.
 */
static void many_timers(void **state)
{
    struct letter_timer last = {{.fire = fire_last}, 'z'};
    unsigned armed = 0;
    (void)state;

    srandom(1);
    fired = 0;
    fired_due = 0;
    for (unsigned i = 0; i < MANY; i++)
        many[i] = (struct loop_timer){.fire = fire_in_order};
    for (unsigned i = 0; i < 20 * MANY; i++) {
        struct loop_timer *timer = &many[(unsigned long)random() % MANY];

        if (random() % 3)
            loop_start_timer(&loop, timer, 20 + (unsigned long)random() % 60);
        else
            loop_stop_timer(&loop, timer);
    }
    for (unsigned i = 0; i < MANY; i++)
        armed += many[i].armed;
    assert_in_range(armed, MANY / 2, MANY);
    loop_start_timer(&loop, &last.timer, 300);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(fired, armed);
    assert_null(loop.timers);
}

static struct letter_timer other = {{.fire = fire}, 'o'};

static void fire_and_stop_other(struct loop_timer *timer)
{
    fire(timer);
    loop_stop_timer(&loop, &other.timer);
}

static void a_timer_may_stop_another_that_is_due(void **state)
{
    struct letter_timer a = {{.fire = fire_and_stop_other}, 'a'}, z = {{.fire = fire_last}, 'z'};
    const struct timespec pause = {.tv_nsec = 5000000};
    (void)state;

    loop_start_timer(&loop, &a.timer, 0);
    loop_start_timer(&loop, &other.timer, 0);
    loop_start_timer(&loop, &z.timer, 3);
    (void)nanosleep(&pause, NULL); /* all are due */
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(trace, "az");
}

static void a_turn_that_wants_another_is_not_kept_waiting(void **state)
{
    struct letter_timer a = {{.fire = fire}, 'a'}, z = {{.fire = fire_last}, 'z'};
    (void)state;

    turns_wanted = 1000;
    loop_start_timer(&loop, &a.timer, 0);
    loop_start_timer(&loop, &z.timer, 50);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(turns_wanted, 0);
    /* And one that does not sleeps until the timer. */
    assert_in_range(turns, 1001, 1010);
}

/* A worker at work has a timer that is seconds away. */
static void a_timer_far_away_costs_no_reading_of_the_clock(void **state)
{
    struct letter_timer a = {{.fire = fire}, 'a'};
    struct loop_source source = {.fd = eventfd(1, EFD_CLOEXEC), .ready = stop_after_turns};
    (void)state;

    assert_int_equal(loop_add(&loop, &source), 0);
    loop_start_timer(&loop, &a.timer, 5000);
    readings = 0;
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(turns, 100);
    assert_int_equal(readings, 0);
    assert_int_equal(close(source.fd), 0);
}

struct event_source {
    struct loop_source source; /* first */
    struct event_source *victim;
};

static void remove_the_other(struct loop_source *source)
{
    struct event_source *mine = (struct event_source *)source;
    uint64_t count;

    assert_int_equal(read(source->fd, &count, sizeof(count)), (ssize_t)sizeof(count));
    note('r');
    loop_remove(&loop, &mine->victim->source);
    memset(mine->victim, 0xff, sizeof(*mine->victim)); /* as if freed */
    loop.stopped = true;
}

/* Both are readable in the same batch; whichever comes first removes the other. */
static void a_source_removed_in_its_own_batch_is_not_called(void **state)
{
    struct event_source a = {{.fd = eventfd(1, EFD_CLOEXEC), .ready = remove_the_other}, NULL};
    struct event_source b = {{.fd = eventfd(1, EFD_CLOEXEC), .ready = remove_the_other}, NULL};
    const int fds[] = {a.source.fd, b.source.fd};
    (void)state;

    a.victim = &b;
    b.victim = &a;
    assert_int_equal(loop_add(&loop, &a.source), 0);
    assert_int_equal(loop_add(&loop, &b.source), 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(trace, "r");
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(close(fds[i]), 0);
}

static void what_cannot_be_watched_is_an_error(void **state)
{
    struct loop_source source = {.fd = -1};
    (void)state;

    assert_true(loop_add(&loop, &source) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_fire_in_the_order_of_their_times, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_timer_can_be_stopped_and_started_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_timers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_timer_may_stop_another_that_is_due, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_turn_that_wants_another_is_not_kept_waiting, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_timer_far_away_costs_no_reading_of_the_clock, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_source_removed_in_its_own_batch_is_not_called, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_watched_is_an_error, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
