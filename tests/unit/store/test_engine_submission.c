/* SPDX-License-Identifier: BSD-2-Clause */
/* How the asynchronous engines hand I/O to the kernel and learn of its end, when the kernel puts
 * off, takes a part, or tells late. */
#include "engine_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

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

    assert_int_equal(rig->ops->create(COUNT, NULL, &engine), 0);
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

    assert_int_equal(rig->ops->create(5, NULL, &engine), 0);
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

static const struct engine_test suite[] = {
    {"put_off_submission_is_kept", put_off_submission_is_kept, QUEUED},
    {"short_transfers_in_a_batch", short_transfers_in_a_batch, QUEUED},
    {"depth_is_a_limit_across_commits", depth_is_a_limit_across_commits, QUEUED},
    {"handed_over_before_the_commit", handed_over_before_the_commit, QUEUED},
    {"partly_taken_submission", partly_taken_submission, AIO},
    {"partly_taken_and_then_put_off", partly_taken_and_then_put_off, AIO},
    {"events_later_than_their_signals", events_later_than_their_signals, AIO},
    {"event_descriptor", event_descriptor, QUEUED},
};

int main(void)
{
    return rig_run_suite(suite, sizeof(suite) / sizeof(suite[0]));
}
