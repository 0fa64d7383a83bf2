/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The engines against a kernel that does less than it was asked for: short transfers,
 * interruptions, refused submissions, missing features.
 */
#include "faulty_kernel.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH      (ENGINE_BATCH - 1) /* what is submitted waits for the commit */
#define IMAGE_SIZE (2 * MIB)
#define PAGE       ((size_t)4096)

/* An engine under test with a file to work on. */
struct rig {
    const struct engine_ops *ops;
    struct engine *engine;
    struct test_image image;
    int fd;
};

static int set_up(void **state)
{
    struct rig *rig = *state;

    kernel = (struct faulty_kernel){0};
    rig->engine = NULL;
    rig->fd = -1;
    if (rig->ops->create(DEPTH, &rig->engine))
        return 0; /* each test then skips itself */
    assert_true(image_make(IMAGE_BUFFERED, IMAGE_SIZE, &rig->image));
    rig->fd = image_open(&rig->image, O_RDWR);
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    kernel = (struct faulty_kernel){0};
    engine_destroy(rig->engine);
    if (rig->fd >= 0)
        close(rig->fd);
    image_remove(&rig->image);
    return 0;
}

static struct rig *rig_of(void **state)
{
    struct rig *rig = *state;

    if (!rig->engine)
        skip();
    return rig;
}

static int run(const struct rig *rig, struct test_io *t)
{
    enum io_submit answer = rig->ops->submit(rig->engine, rig->fd, &t->io);

    assert_int_not_equal(answer, IO_BUSY);
    if (answer == IO_QUEUED) {
        assert_int_equal(rig->ops->commit(rig->engine), 0);
        engine_drain(rig->engine);
        assert_int_equal(t->done, 1);
    }
    return t->io.result;
}

/* Writes and reads back a vector of uneven entries; both must be whole, however it is cut up below.
 */
static void expect_whole_transfers(const struct rig *rig)
{
    static const size_t lengths[] = {512, 4096, 3, 1, 2048, 0, 700};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
    char *data = memory(16 * PAGE);
    char *found = memory(16 * PAGE);
    struct iovec iov[COUNT];
    struct test_io t;
    size_t length = 0;

    fill_pattern(data, 16 * PAGE, 5);
    for (unsigned i = 0; i < COUNT; i++) {
        iov[i] = (struct iovec){data + length, lengths[i]};
        length += lengths[i];
    }
    test_io_set_vector(&t, IO_WRITE, 1024, iov, COUNT);
    assert_int_equal(run(rig, &t), 0);
    image_peek(&rig->image, 1024, found, length);
    assert_memory_equal(found, data, length);

    memset(found, 0x55, 16 * PAGE);
    length = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        iov[i] = (struct iovec){found + length, lengths[i]};
        length += lengths[i];
    }
    test_io_set_vector(&t, IO_READ, 1024, iov, COUNT);
    assert_int_equal(run(rig, &t), 0);
    assert_memory_equal(found, data, length);
    assert_int_equal((unsigned char)found[length], 0x55);

    test_io_set(&t, IO_WRITE, 2 * PAGE, data, PAGE);
    assert_int_equal(run(rig, &t), 0);
    test_io_set(&t, IO_READ, 2 * PAGE, found, PAGE);
    assert_int_equal(run(rig, &t), 0);
    assert_memory_equal(found, data, PAGE);
    free(data);
    free(found);
}

static void short_transfers(void **state)
{
    struct rig *rig = rig_of(state);

    for (size_t at_most = 2048; at_most > 40; at_most = at_most / 3 + 1) {
        kernel.at_most = at_most;
        expect_whole_transfers(rig);
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
        assert_int_equal(run(rig, &t), 0);
        assert_int_equal(kernel.attempts, (ENTRIES * PAGE + pieces[p] - 1) / pieces[p]);
        image_peek(&rig->image, PAGE, found, ENTRIES * PAGE);
        assert_memory_equal(found, data, ENTRIES * PAGE);

        memset(found, 0x55, ENTRIES * PAGE);
        for (size_t i = 0; i < ENTRIES; i++)
            iov[i] = (struct iovec){found + i * PAGE, PAGE};
        test_io_set_vector(&t, IO_READ, PAGE, iov, ENTRIES);
        assert_int_equal(run(rig, &t), 0);
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
    expect_whole_transfers(rig);
    assert_int_equal(kernel.errors, 0);
    kernel.errors = 3;
    kernel.error = -EAGAIN;
    expect_whole_transfers(rig);
    assert_int_equal(kernel.errors, 0);

    kernel.errors = 1;
    kernel.error = -EINTR;
    test_io_set(&t, IO_FLUSH, 0, NULL, 0);
    assert_int_equal(run(rig, &t), 0);
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
        assert_int_equal(run(rig, &t), errors[i]);
        kernel.errors = 1;
        test_io_set(&t, IO_FLUSH, 0, NULL, 0);
        assert_int_equal(run(rig, &t), errors[i]);
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

static void put_off_submission_is_kept(void **state)
{
    struct rig *rig = rig_of(state);
    char *data = memory(DEPTH * PAGE);
    struct test_io ios[DEPTH + 1];

    kernel.submit_error = -EAGAIN;
    kernel.submit_errors = 2;
    for (unsigned i = 0; i < DEPTH; i++) {
        test_io_set(&ios[i], IO_READ, i * PAGE, data + i * PAGE, PAGE);
        assert_int_equal(rig->ops->submit(rig->engine, rig->fd, &ios[i].io), IO_QUEUED);
    }
    assert_int_equal(rig->ops->commit(rig->engine), -EAGAIN);
    assert_int_equal(rig->ops->reap(rig->engine), 0);
    assert_int_equal(rig->ops->commit(rig->engine), -EAGAIN);
    assert_int_equal(rig->engine->in_flight, DEPTH);
    /* What is kept fills the engine like what is in flight. */
    test_io_set(&ios[DEPTH], IO_READ, 0, data, PAGE);
    assert_int_equal(rig->ops->submit(rig->engine, rig->fd, &ios[DEPTH].io), IO_BUSY);
    assert_int_equal(rig->ops->commit(rig->engine), 0);
    engine_drain(rig->engine);
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_int_equal(ios[i].done, 1);
        assert_int_equal(ios[i].io.result, 0);
    }
    free(data);
}

/* Writes a batch that fills the engine, committed `commits` times, and sees that all of it is done
 * and on disk. */
static void expect_whole_batch(const struct rig *rig, unsigned commits)
{
    char *data = memory(DEPTH * PAGE);
    char *found = memory(DEPTH * PAGE);
    struct test_io ios[DEPTH];

    fill_pattern(data, DEPTH * PAGE, 2);
    for (unsigned i = 0; i < DEPTH; i++) {
        test_io_set(&ios[i], IO_WRITE, i * PAGE, data + i * PAGE, PAGE);
        assert_int_equal(rig->ops->submit(rig->engine, rig->fd, &ios[i].io), IO_QUEUED);
    }
    for (unsigned i = 1; i < commits; i++)
        assert_int_equal(rig->ops->commit(rig->engine), -EAGAIN);
    assert_int_equal(rig->ops->commit(rig->engine), 0);
    engine_drain(rig->engine);
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_int_equal(ios[i].done, 1);
        assert_int_equal(ios[i].io.result, 0);
    }
    image_peek(&rig->image, 0, found, DEPTH * PAGE);
    assert_memory_equal(found, data, DEPTH * PAGE);
    free(data);
    free(found);
}

static void short_transfers_in_a_batch(void **state)
{
    struct rig *rig = rig_of(state);

    kernel.at_most = 1000;
    expect_whole_batch(rig, 1);
}

static void partly_taken_submission(void **state)
{
    struct rig *rig = rig_of(state);

    kernel.taken_at_most = 3;
    expect_whole_batch(rig, 1);
    assert_int_equal(kernel.submissions, 3);
}

static void partly_taken_and_then_put_off(void **state)
{
    struct rig *rig = rig_of(state);

    kernel.taken_at_most = 3;
    kernel.good_submissions = 1;
    kernel.submit_error = -EAGAIN;
    kernel.submit_errors = 1;
    expect_whole_batch(rig, 2);
}

/* Events that come between looking for them and reading the eventfd, which takes their signals
 * along. */
static void events_later_than_their_signals(void **state)
{
    struct rig *rig = rig_of(state);

    for (unsigned at_first = 1; at_first < DEPTH; at_first++) {
        kernel.events_at_first = at_first;
        expect_whole_batch(rig, 1);
    }
}

/* The storage begins while the rest of a long list is still being submitted. */
static void handed_over_before_the_commit(void **state)
{
    enum { COUNT = 2 * ENGINE_BATCH + 1 };
    struct rig *rig = rig_of(state);
    struct test_io ios[COUNT];
    struct engine *engine = NULL;
    char *data = memory(COUNT * PAGE);

    assert_int_equal(rig->ops->create(COUNT, &engine), 0);
    engine_destroy(rig->engine);
    rig->engine = engine;
    for (unsigned i = 0; i < COUNT; i++) {
        test_io_set(&ios[i], IO_READ, i * PAGE, data + i * PAGE, PAGE);
        assert_int_equal(engine->ops->submit(engine, rig->fd, &ios[i].io), IO_QUEUED);
        assert_int_equal(kernel.submissions, (i + 1) / ENGINE_BATCH);
    }
    assert_int_equal(engine->ops->commit(engine), 0);
    assert_int_equal(kernel.submissions, 3);
    engine_drain(engine);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(ios[i].done, 1);
        assert_int_equal(ios[i].io.result, 0);
    }
    free(data);
}

static void depth_is_a_limit_across_commits(void **state)
{
    struct rig *rig = rig_of(state);
    char *data = memory(DEPTH * PAGE);
    struct test_io ios[DEPTH];
    struct engine *engine = NULL;
    unsigned queued = 0;

    assert_int_equal(rig->ops->create(5, &engine), 0);
    for (unsigned i = 0; i < DEPTH; i++) {
        test_io_set(&ios[i], IO_READ, i * PAGE, data + i * PAGE, PAGE);
        queued += rig->ops->submit(engine, rig->fd, &ios[i].io) == IO_QUEUED;
        assert_int_equal(rig->ops->commit(engine), 0);
    }
    assert_int_equal(queued, 5);
    assert_int_equal(engine->in_flight, 5);
    engine_drain(engine);
    assert_int_equal(ios[4].done, 1);
    engine_destroy(engine);
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
    assert_int_equal(run(rig, &ios[1]), -EIO);
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
    assert_int_equal(run(rig, &t), -EIO);
    assert_true(kernel.attempts < 1000);
    free(data);
}

static bool readable(int fd)
{
    struct pollfd event = {.fd = fd, .events = POLLIN};

    return poll(&event, 1, 0) == 1;
}

static void event_descriptor(void **state)
{
    struct rig *rig = rig_of(state);
    int fd = rig->ops->event_fd(rig->engine);
    char *data = memory(DEPTH * PAGE);
    struct test_io ios[DEPTH];

    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_false(readable(fd));
    for (int round = 0; round < 50; round++) {
        for (unsigned i = 0; i < DEPTH; i++) {
            test_io_set(&ios[i], IO_READ, i * PAGE, data + i * PAGE, PAGE);
            assert_int_equal(rig->ops->submit(rig->engine, rig->fd, &ios[i].io), IO_QUEUED);
        }
        assert_int_equal(rig->ops->commit(rig->engine), 0);
        engine_drain(rig->engine);
        /* A signal that was late costs one wake-up, and no more: the loop would spin. */
        (void)rig->ops->reap(rig->engine);
        assert_false(readable(fd));
    }
    kernel.submissions = 0;
    assert_int_equal(rig->ops->commit(rig->engine), 0);
    assert_int_equal(kernel.submissions, 0); /* nothing to hand over, no system call */
    free(data);
}

static void creation_fails(void **state)
{
    struct rig *rig = rig_of(state);
    static const int errors[] = {-EPERM, -ENOSYS, -EAGAIN, -ENOMEM};
    struct engine *engine = NULL;

    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        kernel.create_error = errors[i];
        assert_int_equal(rig->ops->create(DEPTH, &engine), errors[i]);
        assert_null(engine);
    }
    kernel.create_error = 0;
    assert_int_equal(rig->ops->create(0, &engine), -EINVAL);
}

static void older_io_uring(void **state)
{
    struct rig *rig = rig_of(state);
    struct engine *engine = NULL;

    kernel.no_opcodes = true;
    assert_int_equal(rig->ops->create(DEPTH, &engine), -ENOSYS);
    assert_null(engine);
    kernel.no_opcodes = false;

    kernel.refused_flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    assert_int_equal(rig->ops->create(DEPTH, &engine), 0);
    engine_destroy(rig->engine);
    rig->engine = engine;
    expect_whole_transfers(rig);
}

/* Which engines a test is about. */
enum { URING = 1, AIO = 2, INLINE = 4, QUEUED = URING | AIO, ALL = 7 };

static const struct {
    const char *name;
    CMUnitTestFunction run;
    unsigned engines;
} suite[] = {
    {"short_transfers", short_transfers, ALL},
    {"short_transfers_of_many_entries", short_transfers_of_many_entries, ALL},
    {"interrupted_and_put_off", interrupted_and_put_off, ALL},
    {"errors_are_passed_on", errors_are_passed_on, ALL},
    {"bad_descriptor_fails_alone", bad_descriptor_fails_alone, ALL},
    {"put_off_submission_is_kept", put_off_submission_is_kept, QUEUED},
    {"short_transfers_in_a_batch", short_transfers_in_a_batch, QUEUED},
    {"depth_is_a_limit_across_commits", depth_is_a_limit_across_commits, QUEUED},
    {"handed_over_before_the_commit", handed_over_before_the_commit, QUEUED},
    {"partly_taken_submission", partly_taken_submission, AIO},
    {"partly_taken_and_then_put_off", partly_taken_and_then_put_off, AIO},
    {"events_later_than_their_signals", events_later_than_their_signals, AIO},
    {"flush_where_aio_has_none", flush_where_aio_has_none, AIO},
    {"never_ending_put_off", never_ending_put_off, INLINE},
    {"event_descriptor", event_descriptor, QUEUED},
    {"creation_fails", creation_fails, QUEUED},
    {"older_io_uring", older_io_uring, URING},
};

#define SUITE_SIZE (sizeof(suite) / sizeof(suite[0]))

int main(void)
{
    const struct engine_ops *const engines[] = {&engine_uring, &engine_aio, &engine_inline};
    int failed = 0;

    for (unsigned e = 0; e < 3; e++) {
        struct CMUnitTest tests[SUITE_SIZE];
        struct rig rig = {.ops = engines[e], .image = {.loop = -1}, .fd = -1};
        unsigned count = 0;

        for (unsigned i = 0; i < SUITE_SIZE; i++) {
            if (suite[i].engines & (1U << e))
                tests[count++] = (struct CMUnitTest){.name = suite[i].name,
                                                     .test_func = suite[i].run,
                                                     .setup_func = set_up,
                                                     .teardown_func = tear_down,
                                                     .initial_state = &rig};
        }
        failed += _cmocka_run_group_tests(rig.ops->name, tests, count, NULL, NULL);
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
