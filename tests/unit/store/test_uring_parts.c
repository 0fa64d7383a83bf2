/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transfers of several data buffers that are registered with an io_uring: they are taken apart, the
 * data is in its places all the same, and they are over once, with one result, whatever becomes of
 * the parts.
 */
#include "buffers_rig.h"
#include "faulty_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH  8U /* of make()'s engine */
#define PIECES 4U
#define WORTH  ((size_t)48 * 1024) /* bytes of a part, on the average */

static const unsigned places[PIECES] = {7, 2, 40, 3}; /* not in the order of the memory */

/* A transfer of `count` buffers, of which the last is of `last` bytes. */
static void set_pieces(struct test_io *t, enum io_operation operation, struct iovec *iov,
                       unsigned count, size_t last)
{
    for (unsigned i = 0; i < count; i++)
        iov[i] = (struct iovec){buffer(places[i]), i + 1 < count ? BUFFER : last};
    test_io_set_vector(t, operation, 0, iov, count);
    t->io.direct = true;
}

/* Returns whether it went by registered buffers. */
static bool transfer_pieces(enum io_operation operation, unsigned count, size_t last)
{
    struct iovec iov[PIECES];
    struct test_io t;
    bool registered = false;

    set_pieces(&t, operation, iov, count, last);
    assert_int_equal(run(&t, &registered), 0);
    assert_int_equal(t.done, 1);
    return registered;
}

static void register_all(void)
{
    rig.engine = make(&rig.memory);
    for (unsigned i = 0; i < PIECES; i++)
        assert_true(use(places[i]));
}

static void fill_pieces(unsigned seed)
{
    for (unsigned i = 0; i < PIECES; i++)
        fill_pattern(buffer(places[i]), BUFFER, seed + i);
}

static void expect_pieces(unsigned count, size_t last, unsigned seed)
{
    char *wanted = memory(BUFFER);

    for (unsigned i = 0; i < count; i++) {
        fill_pattern(wanted, BUFFER, seed + i);
        assert_memory_equal(buffer(places[i]), wanted, i + 1 < count ? BUFFER : last);
    }
    free(wanted);
}

static void expect_right_data(unsigned count, size_t last, bool registered)
{
    fill_pieces(count);
    assert_int_equal(transfer_pieces(IO_WRITE, count, last), registered);
    fill_pieces(99);
    assert_int_equal(transfer_pieces(IO_READ, count, last), registered);
    expect_pieces(count, last, count);
}

static void the_data_is_in_its_places(void **state)
{
    (void)state;
    register_all();
    for (unsigned count = 2; count <= PIECES; count++) {
        const size_t whole = (count - 1) * BUFFER;

        expect_right_data(count, BUFFER, true);
        expect_right_data(count, 12 * PAGE, true);
        expect_right_data(count, 3 * PAGE, whole + 3 * PAGE >= count * WORTH);
        expect_right_data(count, 512, whole + 512 >= count * WORTH);
    }
    assert_int_equal(rig.engine->in_flight, 0);
}

/* One that is used for large transfers alone. */
static void they_are_registered_by_such_transfers(void **state)
{
    (void)state;
    rig.engine = make(&rig.memory);
    assert_false(transfer_pieces(IO_READ, PIECES, BUFFER));
    for (unsigned i = 0; i < MANY; i++)
        (void)transfer_pieces(IO_READ, PIECES, BUFFER);
    expect_right_data(PIECES, BUFFER, true);
}

static void short_transfers_go_on(void **state)
{
    (void)state;
    register_all();
    kernel.at_most = 3 * PAGE;
    expect_right_data(PIECES, BUFFER, true);
}

/* What does not pay, or is nothing to be taken apart. */
static void others_go_whole(void **state)
{
    struct iovec iov[PIECES];
    struct test_io t;
    bool registered = true;
    (void)state;

    register_all();
    for (unsigned i = 0; i < PIECES; i++)
        iov[i] = (struct iovec){buffer(places[i]), 4 * PAGE};
    test_io_set_vector(&t, IO_READ, 0, iov, PIECES);
    t.io.direct = true;
    assert_int_equal(run(&t, &registered), 0);
    assert_false(registered);

    set_pieces(&t, IO_READ, iov, PIECES, BUFFER);
    t.io.direct = false; /* by the page cache, which pins nothing */
    assert_int_equal(run(&t, &registered), 0);
    assert_false(registered);

    iov[0] = (struct iovec){memory(BUFFER), BUFFER}; /* none of the buffers */
    test_io_set_vector(&t, IO_READ, 0, iov, 2);
    t.io.direct = true;
    assert_int_equal(run(&t, &registered), 0);
    assert_false(registered);
    free(iov[0].iov_base);
}

/* One part of several failed: so has the whole, once, and not before the others are over. */
static void a_part_that_fails(void **state)
{
    struct iovec iov[PIECES];
    struct test_io t;
    bool registered;
    (void)state;

    register_all();
    for (unsigned failing = 1; failing <= PIECES; failing++) {
        kernel.error = -EIO;
        kernel.errors = failing;
        set_pieces(&t, IO_WRITE, iov, PIECES, BUFFER);
        assert_int_equal(run(&t, &registered), -EIO);
        assert_int_equal(t.done, 1);
        assert_int_equal(rig.engine->in_flight, 0);
    }
    expect_right_data(PIECES, BUFFER, true);
}

/* Past the end of the image, which was truncated. */
static void an_image_that_ends_within(void **state)
{
    struct iovec iov[PIECES];
    struct test_io t;
    bool registered;
    (void)state;

    register_all();
    assert_int_equal(ftruncate(rig.fd, (off_t)(2 * BUFFER + PAGE)), 0);
    set_pieces(&t, IO_READ, iov, PIECES, BUFFER);
    assert_int_equal(run(&t, &registered), -EIO);
    assert_int_equal(t.done, 1);
}

/* No more is in flight than the engine was made for: what does not fit as parts goes whole, and
 * what does not fit at all waits. */
static void the_depth_is_kept(void **state)
{
    struct iovec iov[DEPTH + 1][PIECES];
    struct test_io t[DEPTH + 1];
    unsigned queued = 0;
    (void)state;

    register_all();
    for (unsigned i = 0; i < DEPTH + 1; i++)
        set_pieces(&t[i], IO_READ, iov[i], 3, BUFFER);
    while (queued < DEPTH + 1 &&
           engine_uring.submit(rig.engine, rig.fd, &t[queued].io) == IO_QUEUED) {
        queued++;
        assert_true(rig.engine->in_flight <= DEPTH);
    }
    /* Twice three parts, and two vectors. */
    assert_int_equal(queued, 4);
    assert_int_equal(rig.engine->in_flight, DEPTH);
    assert_int_equal(engine_uring.commit(rig.engine), 0);
    engine_drain(rig.engine);
    for (unsigned i = 0; i < queued; i++) {
        assert_int_equal(t[i].done, 1);
        assert_int_equal(t[i].io.result, 0);
        assert_int_equal(t[i].io.registered, i < 2);
    }
    expect_right_data(PIECES, BUFFER, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_data_is_in_its_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(they_are_registered_by_such_transfers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(short_transfers_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(others_go_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_part_that_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_image_that_ends_within, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_depth_is_kept, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
