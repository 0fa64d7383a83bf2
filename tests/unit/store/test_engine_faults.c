/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The engines against a kernel that does less than it was asked for: short transfers,
 * interruptions, errors, missing features.
 */
#include "engine_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void short_transfers(void **state)
{
    struct rig *rig = rig_of(state);

    for (size_t at_most = 2048; at_most > 40; at_most = at_most / 3 + 1) {
        kernel.at_most = at_most;
        rig_expect_whole_transfers(rig);
    }
}

/* A merged request that the kernel cuts up, at borders of entries and within them. */
static void short_transfers_of_many_entries(void **state)
{
    struct rig *rig = rig_of(state);
    static const size_t pieces[] = {512,       PAGE - 512,     PAGE,   10000, 65536, 5 * PAGE + 100,
                                    MIB - 512, MIB + 3 * PAGE, 4 * MIB};
    enum { ENTRIES = 300 };
    static struct iovec iov[ENTRIES];
    char *data = memory(ENTRIES * PAGE);
    char *found = memory(ENTRIES * PAGE);
    struct test_io t;

    for (unsigned p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
        kernel.at_most = pieces[p];
        kernel.attempts = 0;
        fill_pattern(data, ENTRIES * PAGE, p);
        for (size_t i = 0; i < ENTRIES; i++)
            iov[i] = (struct iovec){data + i * PAGE, PAGE};
        test_io_set_vector(&t, IO_WRITE, PAGE, iov, ENTRIES);
        assert_int_equal(rig_run(rig, &t), 0);
        assert_int_equal(kernel.attempts, (ENTRIES * PAGE + pieces[p] - 1) / pieces[p]);
        image_peek(&rig->image, PAGE, found, ENTRIES * PAGE);
        assert_memory_equal(found, data, ENTRIES * PAGE);

        memset(found, 0x55, ENTRIES * PAGE);
        for (size_t i = 0; i < ENTRIES; i++)
            iov[i] = (struct iovec){found + i * PAGE, PAGE};
        test_io_set_vector(&t, IO_READ, PAGE, iov, ENTRIES);
        assert_int_equal(rig_run(rig, &t), 0);
        assert_memory_equal(found, data, ENTRIES * PAGE);
    }
    free(data);
    free(found);
}

static void interrupted_and_put_off(void **state)
{
    struct rig *rig = rig_of(state);
    struct test_io t;

    kernel.errors = 3;
    kernel.error = -EINTR;
    rig_expect_whole_transfers(rig);
    assert_int_equal(kernel.errors, 0);
    kernel.errors = 3;
    kernel.error = -EAGAIN;
    rig_expect_whole_transfers(rig);
    assert_int_equal(kernel.errors, 0);

    kernel.errors = 1;
    kernel.error = -EINTR;
    test_io_set(&t, IO_FLUSH, 0, NULL, 0);
    assert_int_equal(rig_run(rig, &t), 0);
}

static void errors_are_passed_on(void **state)
{
    struct rig *rig = rig_of(state);
    static const int errors[] = {-EIO, -ENOSPC};
    char *data = memory(PAGE);
    struct test_io t;

    for (unsigned i = 0; i < 2; i++) {
        kernel.error = errors[i];
        kernel.errors = 1;
        test_io_set(&t, IO_WRITE, 0, data, PAGE);
        assert_int_equal(rig_run(rig, &t), errors[i]);
        kernel.errors = 1;
        test_io_set(&t, IO_FLUSH, 0, NULL, 0);
        assert_int_equal(rig_run(rig, &t), errors[i]);
    }
    assert_int_equal(rig->engine->in_flight, 0);
    free(data);
}

static void bad_descriptor_fails_alone(void **state)
{
    struct rig *rig = rig_of(state);
    char *data = memory(3 * PAGE);
    struct test_io ios[3];
    int done = 0;

    for (unsigned i = 0; i < 3; i++) {
        test_io_set(&ios[i], IO_READ, i * PAGE, data + i * PAGE, PAGE);
        if (rig->ops->submit(rig->engine, i == 1 ? -1 : rig->fd, &ios[i].io) == IO_DONE)
            done++;
    }
    assert_int_equal(rig->ops->commit(rig->engine), 0);
    engine_drain(rig->engine);
    assert_int_equal(done, rig->ops == &engine_inline ? 3 : 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ios[i].io.result, i == 1 ? -EBADF : 0);
        assert_int_equal(ios[i].done, done ? 0 : 1);
    }
    free(data);
}

static void flush_where_aio_has_none(void **state)
{
    struct rig *rig = rig_of(state);
    char *data = memory(PAGE);
    struct test_io ios[3];

    kernel.no_fdsync = true;
    test_io_set(&ios[0], IO_WRITE, 0, data, PAGE);
    test_io_set(&ios[1], IO_FLUSH, 0, NULL, 0);
    test_io_set(&ios[2], IO_READ, PAGE, data, PAGE);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(rig->ops->submit(rig->engine, rig->fd, &ios[i].io), IO_QUEUED);
    assert_int_equal(rig->ops->commit(rig->engine), 0);
    assert_int_equal(ios[1].done, 0); /* from reap, not from commit */
    engine_drain(rig->engine);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ios[i].done, 1);
        assert_int_equal(ios[i].io.result, 0);
    }
    assert_int_equal(kernel.syncs, 1);

    kernel.error = -EIO;
    kernel.errors = 1;
    test_io_set(&ios[1], IO_FLUSH, 0, NULL, 0);
    assert_int_equal(rig_run(rig, &ios[1]), -EIO);
    free(data);
}

static void never_ending_put_off(void **state)
{
    struct rig *rig = rig_of(state);
    char *data = memory(PAGE);
    struct test_io t;

    kernel.error = -EAGAIN;
    kernel.errors = 1000000;
    test_io_set(&t, IO_READ, 0, data, PAGE);
    assert_int_equal(rig_run(rig, &t), -EIO);
    assert_true(kernel.attempts < 1000);
    free(data);
}

static void creation_fails(void **state)
{
    struct rig *rig = rig_of(state);
    static const int errors[] = {-EPERM, -ENOSYS, -EAGAIN, -ENOMEM};
    struct engine *engine = NULL;

    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        kernel.create_error = errors[i];
        assert_int_equal(rig->ops->create(DEPTH, NULL, &engine), errors[i]);
        assert_null(engine);
    }
    kernel.create_error = 0;
    assert_int_equal(rig->ops->create(0, NULL, &engine), -EINVAL);
}

static void older_io_uring(void **state)
{
    struct rig *rig = rig_of(state);
    struct engine *engine = NULL;

    kernel.no_opcodes = true;
    assert_int_equal(rig->ops->create(DEPTH, NULL, &engine), -ENOSYS);
    assert_null(engine);
    kernel.no_opcodes = false;

    kernel.refused_flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    assert_int_equal(rig->ops->create(DEPTH, NULL, &engine), 0);
    engine_destroy(rig->engine);
    rig->engine = engine;
    rig_expect_whole_transfers(rig);
}

static const struct engine_test suite[] = {
    {"short_transfers", short_transfers, ALL},
    {"short_transfers_of_many_entries", short_transfers_of_many_entries, ALL},
    {"interrupted_and_put_off", interrupted_and_put_off, ALL},
    {"errors_are_passed_on", errors_are_passed_on, ALL},
    {"bad_descriptor_fails_alone", bad_descriptor_fails_alone, ALL},
    {"flush_where_aio_has_none", flush_where_aio_has_none, AIO},
    {"never_ending_put_off", never_ending_put_off, INLINE},
    {"creation_fails", creation_fails, QUEUED},
    {"older_io_uring", older_io_uring, URING},
};

int main(void)
{
    return rig_run_suite(suite, sizeof(suite) / sizeof(suite[0]));
}
