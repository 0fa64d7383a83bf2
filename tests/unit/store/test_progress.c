/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel may answer to an attempt, and what every engine then does: all outcomes, made up.
 */
#include "harness.h"
#include "progress.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static char bytes[4096];

static struct test_io started(enum io_operation operation, struct iovec *iov, unsigned count)
{
    struct test_io t;

    test_io_set_vector(&t, operation, 8192, iov, count);
    progress_start(&t.io, 7);
    return t;
}

static void whole_transfer_is_over(void **state)
{
    struct iovec iov[] = {{bytes, 512}, {bytes + 512, 1024}};
    struct test_io t = started(IO_READ, iov, 2);

    (void)state;
    assert_int_equal(t.io.engine.fd, 7);
    assert_int_equal(t.io.engine.left, 1536);
    assert_true(progress_over(&t.io, 1536));
    assert_int_equal(t.io.result, 0);
}

static void short_transfer_goes_on_where_it_ended(void **state)
{
    struct iovec iov[] = {{bytes, 512}, {bytes + 512, 1024}, {bytes + 2048, 512}};
    struct test_io t = started(IO_WRITE, iov, 3);

    (void)state;
    assert_false(progress_over(&t.io, 100)); /* within the first entry */
    assert_int_equal(t.io.engine.position, 8292);
    assert_ptr_equal(t.io.engine.iov[0].iov_base, bytes + 100);
    assert_int_equal(t.io.engine.iov[0].iov_len, 412);
    assert_int_equal(progress_iov_count(&t.io), 3);

    assert_false(progress_over(&t.io, 412)); /* to its very end */
    assert_ptr_equal(t.io.engine.iov[0].iov_base, bytes + 512);
    assert_int_equal(t.io.engine.iov[0].iov_len, 1024);
    assert_int_equal(progress_iov_count(&t.io), 2);

    assert_false(progress_over(&t.io, 1025)); /* into the one after the next */
    assert_int_equal(t.io.engine.position, 8192 + 1537);
    assert_ptr_equal(t.io.engine.iov[0].iov_base, bytes + 2049);
    assert_int_equal(t.io.engine.left, 511);
    assert_int_equal(progress_span(&t.io), 511);

    assert_true(progress_over(&t.io, 511));
    assert_int_equal(t.io.result, 0);
}

static void byte_by_byte(void **state)
{
    struct iovec iov[] = {{bytes, 3}, {bytes + 3, 0}, {bytes + 3, 1}, {bytes + 4, 4}};
    struct test_io t = started(IO_READ, iov, 4);

    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        assert_ptr_equal(t.io.engine.iov[0].iov_base, bytes + i);
        assert_false(progress_over(&t.io, 1));
    }
    assert_true(progress_over(&t.io, 1));
    assert_int_equal(t.io.result, 0);
}

static void no_progress_is_an_error(void **state)
{
    struct iovec iov = {bytes, 1024};
    struct test_io t = started(IO_READ, &iov, 1);

    (void)state;
    assert_true(progress_over(&t.io, 0));
    assert_int_equal(t.io.result, -EIO);

    iov = (struct iovec){bytes, 1024};
    t = started(IO_READ, &iov, 1);
    assert_false(progress_over(&t.io, 512));
    assert_true(progress_over(&t.io, 0));
    assert_int_equal(t.io.result, -EIO);
}

static void more_than_asked_for_is_an_error(void **state)
{
    struct iovec iov = {bytes, 1024};
    struct test_io t = started(IO_READ, &iov, 1);

    (void)state;
    assert_true(progress_over(&t.io, 1025));
    assert_int_equal(t.io.result, -EIO);
}

static void errors_end_it(void **state)
{
    static const int errors[] = {-EIO, -ENOSPC, -EINVAL, -ENXIO};
    struct iovec iov = {bytes, 1024};

    (void)state;
    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct test_io t = started(IO_WRITE, &iov, 1);

        assert_true(progress_over(&t.io, errors[i]));
        assert_int_equal(t.io.result, errors[i]);
    }
}

static void an_odd_end_is_reported_as_io_error(void **state)
{
    struct iovec iov = {bytes, 1024};
    struct test_io t = started(IO_READ, &iov, 1);

    (void)state;
    assert_false(progress_over(&t.io, 100));
    assert_true(progress_over(&t.io, -EINVAL));
    assert_int_equal(t.io.result, -EIO);
}

static void interruptions_are_asked_again(void **state)
{
    struct iovec iov = {bytes, 1024};
    struct test_io t = started(IO_READ, &iov, 1);

    (void)state;
    assert_false(progress_over(&t.io, -EINTR));
    assert_false(progress_over(&t.io, -EAGAIN));
    assert_int_equal(t.io.engine.left, 1024);
    assert_int_equal(t.io.engine.position, 8192);
    assert_true(progress_over(&t.io, 1024));
}

static void flush_is_over_at_once(void **state)
{
    struct test_io t = started(IO_FLUSH, NULL, 0);

    (void)state;
    assert_false(progress_over(&t.io, -EINTR));
    assert_true(progress_over(&t.io, 0));
    assert_int_equal(t.io.result, 0);

    t = started(IO_FLUSH, NULL, 0);
    assert_true(progress_over(&t.io, -EINVAL)); /* not taken for an odd end */
    assert_int_equal(t.io.result, -EINVAL);
}

static void limits_of_one_attempt(void **state)
{
    static struct iovec many[IOV_MAX + 10];
    struct iovec huge = {bytes, (size_t)6 << 30}; /* never touched */
    struct test_io t;

    (void)state;
    for (unsigned i = 0; i < IOV_MAX + 10; i++)
        many[i] = (struct iovec){bytes, 1};
    t = started(IO_READ, many, IOV_MAX + 10);
    assert_int_equal(progress_iov_count(&t.io), IOV_MAX);
    assert_false(progress_over(&t.io, IOV_MAX));
    assert_int_equal(progress_iov_count(&t.io), 10);

    t = started(IO_READ, &huge, 1);
    assert_int_equal(progress_span(&t.io), 1 << 30);
    assert_false(progress_over(&t.io, 1 << 30));
    assert_int_equal(t.io.engine.left, (size_t)5 << 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_transfer_is_over),
        cmocka_unit_test(short_transfer_goes_on_where_it_ended),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(no_progress_is_an_error),
        cmocka_unit_test(more_than_asked_for_is_an_error),
        cmocka_unit_test(errors_end_it),
        cmocka_unit_test(an_odd_end_is_reported_as_io_error),
        cmocka_unit_test(interruptions_are_asked_again),
        cmocka_unit_test(flush_is_over_at_once),
        cmocka_unit_test(limits_of_one_attempt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
