/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers, sizes and booleans: the whole string or nothing, and the output untouched when nothing.
 */
#include "testing.h"

#include "blkback/parse.h"

#include <errno.h>

static void decimal_numbers_within_the_maximum(void **state)
{
    uint64_t value = 7;

    (void)state;
    assert_int_equal(parse_u64("0", 10, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(parse_u64("10", 10, &value), 0);
    assert_int_equal(value, 10);
    assert_int_equal(parse_u64("007", 10, &value), 0);
    assert_int_equal(value, 7);
    assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &value), 0);
    assert_true(value == UINT64_MAX);
}

static void numbers_over_the_maximum_are_out_of_range(void **state)
{
    uint64_t value = 7;
    uint32_t narrow = 7;

    (void)state;
    assert_int_equal(parse_u64("11", 10, &value), -ERANGE);
    assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &value), -ERANGE);
    assert_int_equal(parse_u64("99999999999999999999999", UINT64_MAX, &value), -ERANGE);
    assert_int_equal(parse_u32("4294967296", UINT32_MAX, &narrow), -ERANGE);
    assert_int_equal(parse_u32("4294967295", UINT32_MAX, &narrow), 0);
    assert_int_equal(narrow, UINT32_MAX);
    assert_int_equal(value, 7);
}

static void anything_else_is_invalid(void **state)
{
    static const char *const bad[] = {
        "",    " ",  "-1", "+1",  "1 ",  " 1",  "1x",
        "0x1", "1K", "1.", "\n1", "abc", "1\n", "99999999999999999999999x"};
    uint64_t value = 7;
    uint32_t narrow = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse_u64(bad[i], 10, &value), -EINVAL);
        assert_int_equal(parse_u32(bad[i], 10, &narrow), -EINVAL);
    }
    assert_int_equal(value, 7);
    assert_int_equal(narrow, 7);
}

static void sizes_take_a_power_of_1024(void **state)
{
    uint64_t size = 0;

    (void)state;
    assert_int_equal(parse_size("512", &size), 0);
    assert_int_equal(size, 512);
    assert_int_equal(parse_size("3K", &size), 0);
    assert_int_equal(size, 3072);
    assert_int_equal(parse_size("2M", &size), 0);
    assert_int_equal(size, 2 << 20);
    assert_int_equal(parse_size("10G", &size), 0);
    assert_true(size == UINT64_C(10) << 30);
    assert_int_equal(parse_size("16777215T", &size), 0);
    assert_true(size == UINT64_C(16777215) << 40);
}

static void sizes_do_not_wrap(void **state)
{
    uint64_t size = 7;

    (void)state;
    assert_int_equal(parse_size("16777216T", &size), -ERANGE);
    assert_int_equal(parse_size("18446744073709551616", &size), -ERANGE);
    assert_int_equal(parse_size("18014398509481984K", &size), -ERANGE);
    assert_int_equal(size, 7);
}

static void bad_sizes(void **state)
{
    static const char *const bad[] = {"", "K", "1k", "1KB", "1 K", "1KK", "-1K", "1.5G", "1P"};
    uint64_t size = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse_size(bad[i], &size), -EINVAL);
    assert_int_equal(size, 7);
}

static void booleans(void **state)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};
    bool value = false;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        value = false;
        assert_int_equal(parse_bool(yes[i], &value), 0);
        assert_true(value);
        assert_int_equal(parse_bool(no[i], &value), 0);
        assert_false(value);
    }
    assert_int_equal(parse_bool("YES", &value), -EINVAL);
    assert_int_equal(parse_bool("", &value), -EINVAL);
    assert_int_equal(parse_bool("2", &value), -EINVAL);
}

static void ranges_never_overflow(void **state)
{
    (void)state;
    assert_true(range_within(0, 10, 10));
    assert_true(range_within(10, 0, 10));
    assert_false(range_within(1, 10, 10));
    assert_false(range_within(11, 0, 10));
    assert_false(range_within(UINT64_MAX, 2, 10));
    assert_false(range_within(UINT64_MAX - 1, UINT64_MAX, UINT64_MAX));
    assert_true(range_within(UINT64_MAX - 1, 1, UINT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimal_numbers_within_the_maximum),
        cmocka_unit_test(numbers_over_the_maximum_are_out_of_range),
        cmocka_unit_test(anything_else_is_invalid),
        cmocka_unit_test(sizes_take_a_power_of_1024),
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(bad_sizes),
        cmocka_unit_test(booleans),
        cmocka_unit_test(ranges_never_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
