/* SPDX-License-Identifier: BSD-2-Clause */
/* How long events that bring nothing are left alone, in a time of the test's own. */
#include "testing.h"

#include "event_storm.h"

/* As many fruitless events as cost nothing, at that time. */
static void use_up_what_is_free(struct event_storm *storm, uint64_t now)
{
    for (unsigned i = 0; i < EVENT_STORM_FREE; i++)
        assert_int_equal(event_storm_fruitless(storm, now), 0);
}

static void delays_double_up_to_the_limit(void **state)
{
    static const uint32_t expected[] = {1, 2, 4, 8, 10, 10};
    struct event_storm storm = {.max_delay_ms = 10};
    uint64_t now = 5000;

    (void)state;
    use_up_what_is_free(&storm, now);
    for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(event_storm_fruitless(&storm, now), expected[i]);
        now += expected[i];
    }
}

static void work_ends_a_storm(void **state)
{
    struct event_storm storm = {.max_delay_ms = 64};

    (void)state;
    use_up_what_is_free(&storm, 5000);
    assert_int_equal(event_storm_fruitless(&storm, 5000), 1);
    assert_int_equal(event_storm_fruitless(&storm, 5001), 2);
    event_storm_worked(&storm);
    use_up_what_is_free(&storm, 5003);
    assert_int_equal(event_storm_fruitless(&storm, 5003), 1);
}

/* Some frontends send one now and then; the time of a delay is no calm. */
static void calm_ends_a_storm(void **state)
{
    struct event_storm storm = {.max_delay_ms = 64};
    uint64_t now = 5000;

    (void)state;
    for (unsigned i = 0; i < 100; i++, now += EVENT_STORM_CALM_MS + 1)
        assert_int_equal(event_storm_fruitless(&storm, now), 0);
    use_up_what_is_free(&storm, now);
    for (uint32_t delay = 1; delay <= 64; now += delay, delay *= 2)
        assert_int_equal(event_storm_fruitless(&storm, now), delay);
    now += EVENT_STORM_CALM_MS; /* after the delay */
    assert_int_equal(event_storm_fruitless(&storm, now), 64);
    now += 64;
    assert_int_equal(event_storm_fruitless(&storm, now + EVENT_STORM_CALM_MS + 1), 0);
}

static void a_limit_of_nothing_never_delays(void **state)
{
    struct event_storm storm = {0};

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(event_storm_fruitless(&storm, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_double_up_to_the_limit),
        cmocka_unit_test(work_ends_a_storm),
        cmocka_unit_test(calm_ends_a_storm),
        cmocka_unit_test(a_limit_of_nothing_never_delays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
