/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk's target specification. */
#include "testing.h"

#include "blkback/target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static char why[256];

static int parse(const char *text, struct target *out)
{
    why[0] = '\0';
    return target_parse(text, why, sizeof(why), out);
}

static void paths(void **state)
{
    struct target target;
    char longest[TARGET_PATH_MAX];

    (void)state;
    assert_int_equal(parse("/srv/a disk;with:odd%names.qcow2", &target), 0);
    assert_int_equal(target.kind, TARGET_PATH);
    assert_string_equal(target.path, "/srv/a disk;with:odd%names.qcow2");
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(parse(longest, &target), 0);
    assert_string_equal(target.path, longest);
}

static void null_disks(void **state)
{
    struct target target;

    (void)state;
    assert_int_equal(parse("empty", &target), 0);
    assert_int_equal(target.kind, TARGET_EMPTY);
    assert_int_equal(parse("null:10G", &target), 0);
    assert_int_equal(target.kind, TARGET_NULL);
    assert_true(target.size == UINT64_C(10) << 30);
    assert_int_equal(parse("null:512", &target), 0);
    assert_int_equal(target.size, 512);
    assert_int_equal(parse("null:1048576T", &target), 0);
}

static void names_in_disks_d(void **state)
{
    struct target target;

    (void)state;
    assert_int_equal(parse("disk:Web-1_root.v2", &target), 0);
    assert_int_equal(target.kind, TARGET_DISK);
    assert_string_equal(target.name, "Web-1_root.v2");
}

static void everything_else_is_refused_with_a_reason(void **state)
{
    static const char *const bad[] = {
        "", "Empty", "empty ", "empty:", "img", "./img", "file:/img", "qcow2:/img", "null",
        "null:", "null:0", "null:511", "null:-1", "null:1P", "null:1048577T", "null:10G ",
        "disk:", "disk:.x", "disk:..", "disk:a/b", "disk:../x", "disk:a b", "disk:a%sb",
        "disk:\xc3\xa4", "/a\nb", "/a\x7f", "nbd://host/x", "Null:1G", " /x", "disk:a\n",
        /* 64 characters */
        "disk:0123456789012345678901234567890123456789012345678901234567890123"};
    struct target target;

    (void)state;
    memset(&target, 0x5a, sizeof(target));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (parse(bad[i], &target) != -EINVAL)
            fail_msg("'%s' was accepted", bad[i]);
        assert_true(why[0] != '\0');
    }
    assert_int_equal(target.size, UINT64_C(0x5a5a5a5a5a5a5a5a));
}

static void too_long_a_path_is_refused(void **state)
{
    struct target target;
    char path[TARGET_PATH_MAX + 1];

    (void)state;
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(parse(path, &target), -EINVAL);
    assert_string_equal(why, "the path is longer than 1023 bytes");
}

static void a_reason_fits_its_buffer(void **state)
{
    struct target target;
    char small[8] = "1234567";

    (void)state;
    assert_int_equal(target_parse("x", small, 4, &target), -EINVAL);
    assert_string_equal(small, "'x'");
    assert_int_equal(small[4], '5');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),
        cmocka_unit_test(null_disks),
        cmocka_unit_test(names_in_disks_d),
        cmocka_unit_test(everything_else_is_refused_with_a_reason),
        cmocka_unit_test(too_long_a_path_is_refused),
        cmocka_unit_test(a_reason_fits_its_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
