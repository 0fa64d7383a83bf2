/* SPDX-License-Identifier: BSD-2-Clause */
/* Token buckets, by a clock that stands still unless it is moved. */
#include "blkback/rate_limit.h"
#include "testing.h"

#include <pthread.h>

#define SECOND UINT64_C(1000000000)
#define MS     UINT64_C(1000000)
#define START  (UINT64_C(5) * SECOND)

static uint64_t now;
static struct rate_limit limit;

static unsigned set(uint64_t requests, uint64_t requests_burst, uint64_t bytes,
                    uint64_t bytes_burst)
{
    const struct rate_settings settings = {.requests = requests,
                                           .requests_burst = requests_burst,
                                           .bytes = bytes,
                                           .bytes_burst = bytes_burst};

    return rate_limit_set(&limit, &settings);
}

static int begin(void **state)
{
    (void)state;
    now = START;
    limit = (struct rate_limit){0};
    return 0;
}

static bool take(uint32_t bytes)
{
    if (rate_limit_ready_at(&limit, now) > now)
        return false;
    rate_limit_charge(&limit, now, bytes);
    return true;
}

/* How many requests of `bytes` pass now. */
static unsigned drain(uint32_t bytes)
{
    unsigned count = 0;

    while (take(bytes))
        count++;
    return count;
}

/* How long it takes from now until one may pass. */
static uint64_t wait(void)
{
    return rate_limit_ready_at(&limit, now) - now;
}

static void nothing_set_limits_nothing(void **state)
{
    (void)state;
    assert_false(rate_limit_is_set(&limit));
    assert_int_equal(set(0, 5, 0, 5), 0);
    assert_false(rate_limit_is_set(&limit));
    for (unsigned i = 0; i < 100000; i++)
        assert_true(take(UINT32_MAX));
}

static void a_burst_passes_and_then_the_rate(void **state)
{
    (void)state;
    set(100, 30, 0, 0);
    assert_true(rate_limit_is_set(&limit));
    assert_int_equal(drain(4096), 30);
    assert_int_equal(wait(), 10 * MS);
    now += 10 * MS - 1;
    assert_int_equal(drain(0), 0);
    now += 1;
    assert_int_equal(drain(0), 1);
    now += 45 * MS;
    assert_int_equal(drain(0), 4);
    now += 5 * MS;
    assert_int_equal(drain(0), 1);
    now += 3600 * SECOND; /* no more than the burst is saved */
    assert_int_equal(drain(0), 30);
}

static void bytes_go_into_debt(void **state)
{
    (void)state;
    set(0, 0, 1000000, 100000);
    /* 99 kB leave something, out of which a megabyte passes. */
    assert_true(take(99000));
    assert_true(take(1000000));
    assert_false(take(1));
    assert_int_equal(wait(), 999 * MS + 1000); /* the debt, and a byte */
    now += wait();
    assert_true(take(1));
    assert_false(take(1));
}

static void each_of_both_buckets_can_hold_it_up(void **state)
{
    (void)state;
    set(100, 10, 1000000, 100000);
    assert_int_equal(drain(0), 10);
    assert_int_equal(wait(), 10 * MS);
    now += SECOND;
    assert_int_equal(drain(50000), 2);
    assert_int_equal(wait(), 1000); /* a byte's time, with eight requests left */
}

static void odd_rates_do_not_drift(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1, 3, 7, 999, 1001, 4801, 99991, 250007};

    for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        begin(NULL);
        set(rates[i], 0, 0, 0);
        uint64_t passed = 0;

        rate_limit_empty(&limit, RATE_LIMIT_REQUESTS, now);
        for (unsigned step = 0; step < 1000; step++) { /* ten seconds */
            now += 10 * MS;
            passed += drain(0);
        }
        assert_in_range(passed, 10 * rates[i] - 10 * rates[i] / 1000 - 1, 10 * rates[i]);
    }
}

static void the_least_burst_is_a_moments_worth(void **state)
{
    (void)state;
    set(10000, 1, 0, 0);
    assert_int_equal(drain(0), 101); /* 10 ms, and one */
    set(5, 0, 0, 0);
    rate_limit_empty(&limit, RATE_LIMIT_REQUESTS, now);
    now += 100 * SECOND;
    assert_int_equal(drain(0), 1); /* a tenth of a second would be half a request */
    set(1000, 0, 0, 0);
    rate_limit_empty(&limit, RATE_LIMIT_REQUESTS, now);
    now += 100 * SECOND;
    assert_int_equal(drain(0), 101); /* a tenth of a second's worth, and one */
}

/* A busy host wakes the queue 80 ms after the bucket has enough, again and again. */
static void being_late_costs_nothing_at_low_rates(void **state)
{
    (void)state;
    unsigned passed = 0;

    set(10, 0, 0, 0);
    rate_limit_empty(&limit, RATE_LIMIT_REQUESTS, now);
    const uint64_t end = now + 100 * SECOND;

    while (now < end) {
        now += wait() + 80 * MS;
        passed += drain(0);
    }
    assert_in_range(passed, 998, 1002);
}

static void a_change_while_something_waits(void **state)
{
    (void)state;
    assert_int_equal(set(1, 10, 4096, 0), RATE_LIMIT_REQUESTS | RATE_LIMIT_BYTES);
    assert_true(take(1U << 20)); /* a debt of minutes */
    assert_true(wait() > 200 * SECOND);
    assert_int_equal(set(1, 10, 4096, 0), 0); /* the same again changes nothing */
    assert_true(wait() > 200 * SECOND);
    assert_int_equal(set(1, 10, 1000000, 0), RATE_LIMIT_BYTES);
    rate_limit_empty(&limit, RATE_LIMIT_BYTES, now);
    assert_int_equal(wait(), 1000);
    now += 1000;
    assert_true(take(0)); /* nine requests were left, and still are */
    assert_int_equal(set(1, 20, 0, 0), RATE_LIMIT_REQUESTS | RATE_LIMIT_BYTES);
    assert_true(take(UINT32_MAX));
    assert_int_equal(set(0, 0, 0, 0), RATE_LIMIT_REQUESTS);
    assert_true(take(UINT32_MAX));
}

static void too_much_charged_is_given_back(void **state)
{
    (void)state;
    set(0, 0, 1000000, 100000);
    rate_limit_charge(&limit, now, 1000000);
    rate_limit_refund(&limit, 950000);
    assert_int_equal(drain(50000), 1);
    rate_limit_refund(&limit, UINT64_MAX); /* and never more than all */
    assert_int_equal(wait(), 0);
    assert_int_equal(drain(100000), 1);
}

static void huge_values_do_not_wrap(void **state)
{
    (void)state;
    now = UINT64_MAX / 32; /* half of what the clock can say */
    set(UINT64_MAX, UINT64_MAX, 1, UINT64_MAX);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(take(UINT32_MAX) || i > 0);
    for (unsigned i = 0; i < 1000; i++)
        rate_limit_charge(&limit, now, UINT32_MAX);
    assert_true(wait() > SECOND);
    now += 1000 * SECOND;
    assert_true(wait() > SECOND);
    rate_limit_refund(&limit, UINT64_MAX);
    assert_int_equal(wait(), 0);
    /* The highest rate, by the smallest requests. */
    begin(NULL);
    set(0, 0, RATE_LIMIT_MAX, 1U << 30);
    rate_limit_empty(&limit, RATE_LIMIT_BYTES, now);
    now += MS;
    assert_in_range(drain(512), (RATE_LIMIT_MAX / 1000 / 512) * 98 / 100,
                    RATE_LIMIT_MAX / 1000 / 512 + 1);
}

/* ---- threads ---- */

#define THREADS 4U
#define TAKES   50000U

static void *charge(void *context)
{
    (void)context;
    for (unsigned i = 0; i < TAKES; i++) {
        rate_limit_charge(&limit, now, 100);
        (void)rate_limit_ready_at(&limit, now);
        rate_limit_refund(&limit, 50);
    }
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    (void)state;
    pthread_t threads[THREADS];

    set(1000, 1, 1000000, 1);
    rate_limit_empty(&limit, RATE_LIMIT_REQUESTS | RATE_LIMIT_BYTES, now);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, charge, NULL), 0);
    for (unsigned i = 0; i < 100; i++) /* settings may change meanwhile */
        set(1000, 1, 1000000, 1 + i % 2);
    for (unsigned i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    /* All requests, and half of the bytes. */
    assert_int_equal(wait(), THREADS * TAKES * MS + MS);
    set(0, 0, 1000000, 1);
    assert_int_equal(wait(), (uint64_t)THREADS * TAKES * 50 * 1000 + 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_set_limits_nothing, begin),
        cmocka_unit_test_setup(a_burst_passes_and_then_the_rate, begin),
        cmocka_unit_test_setup(bytes_go_into_debt, begin),
        cmocka_unit_test_setup(each_of_both_buckets_can_hold_it_up, begin),
        cmocka_unit_test_setup(odd_rates_do_not_drift, begin),
        cmocka_unit_test_setup(the_least_burst_is_a_moments_worth, begin),
        cmocka_unit_test_setup(being_late_costs_nothing_at_low_rates, begin),
        cmocka_unit_test_setup(a_change_while_something_waits, begin),
        cmocka_unit_test_setup(too_much_charged_is_given_back, begin),
        cmocka_unit_test_setup(huge_values_do_not_wrap, begin),
        cmocka_unit_test_setup(threads_lose_nothing, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
