/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Data buffers that are registered with an io_uring: which transfers use them, that the data is the
 * buffers', what the ring lets be registered, and what becomes of it all where the kernel refuses.
 */
#include "buffers_rig.h"
#include "faulty_kernel.h"
#include "uring_buffers.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum registered { PLAIN, REGISTERED, EITHER };

static void expect_transfer(enum io_operation operation, uint64_t offset, void *data, size_t length,
                            enum registered how)
{
    const bool registered = transfer(operation, offset, data, length);

    if (how != EITHER)
        assert_int_equal(registered, how == REGISTERED);
}

/* The data of a transfer is what the buffer holds, both ways, at every place in it. */
static void expect_right_data(unsigned index, enum registered how)
{
    char *found = memory(BUFFER);

    for (size_t at = 0; at < BUFFER; at += 5 * PAGE) {
        const size_t length = BUFFER - at < 3 * PAGE ? BUFFER - at : 3 * PAGE;

        fill_pattern(buffer(index) + at, length, (unsigned)at + index);
        memcpy(found, buffer(index) + at, length);
        expect_transfer(IO_WRITE, MIB + at, buffer(index) + at, length, how);
        memset(buffer(index) + at, 0x55, length);
        expect_transfer(IO_READ, MIB + at, buffer(index) + at, length, how);
        assert_memory_equal(buffer(index) + at, found, length);
    }
    free(found);
}

static void what_is_used_often_is_registered(void **state)
{
    (void)state;
    rig.engine = make(&rig.memory);
    assert_int_equal(engine_uring_registers(rig.engine), 0);
    assert_false(transfer(IO_READ, 0, buffer(3), BUFFER)); /* one use does not pay */
    assert_true(use(3));
    assert_true(use(BUFFERS - 1));
    expect_right_data(3, REGISTERED);
    expect_right_data(BUFFERS - 1, REGISTERED);
    assert_false(transfer(IO_READ, 0, buffer(4), PAGE));
    assert_true(transfer(IO_READ, 0, buffer(3), BUFFER));
}

static size_t resident(void);

/* And no memory is taken for the rest. */
static void as_many_pages_as_are_used(void **state)
{
    (void)state;
    rig.engine = make(&rig.memory);
    assert_true(use_bytes(3, PAGE));
    assert_int_equal(resident(), PAGE);
    assert_false(transfer(IO_READ, 0, buffer(3) + 5 * PAGE, 512));
    assert_false(transfer(IO_READ, 0, buffer(3), 2 * PAGE));
    assert_true(transfer(IO_READ, 0, buffer(3) + 512, PAGE - 512));
    assert_true(use_bytes(3, 2 * PAGE));
    /* Some way up there were six pages once: so many it had better be. */
    assert_true(transfer(IO_READ, 0, buffer(3) + 5 * PAGE, 512));
    assert_false(transfer(IO_READ, 0, buffer(3) + 5 * PAGE, PAGE + 512));
    assert_int_equal(resident(), 7 * PAGE);
}

/* Buffers that are none. */
static void sizes_that_can_not_be(void **state)
{
    struct engine_memory memory = rig.memory;
    static const uint64_t sizes[] = {0, 512, 3 * PAGE, MIB};
    (void)state;

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        memory.buffer_bytes = sizes[i];
        rig.engine = make(&memory);
        assert_int_equal(engine_uring_registers(rig.engine), -EINVAL);
        assert_false(use(0));
        engine_destroy(rig.engine);
        rig.engine = NULL;
    }
}

/* Memory of others, more than one buffer, a vector. */
static void other_memory_works_as_ever(void **state)
{
    char *other = memory(BUFFER);
    struct test_io t;
    bool registered = true;
    (void)state;

    rig.engine = make(&rig.memory);
    assert_true(use(0));
    assert_true(use(1));
    for (unsigned i = 0; i < MANY; i++)
        assert_false(transfer(IO_READ, 0, other, PAGE));
    assert_false(transfer(IO_WRITE, 0, buffer(0) + PAGE, BUFFER));
    struct iovec iov[] = {{buffer(0), PAGE}, {buffer(1), PAGE}};

    test_io_set_vector(&t, IO_READ, 0, iov, 2);
    assert_int_equal(run(&t, &registered), 0);
    assert_false(registered);
    free(other);
}

static void short_transfers_go_on_within_the_buffer(void **state)
{
    (void)state;
    rig.engine = make(&rig.memory);
    assert_true(use(2));
    kernel.at_most = PAGE;
    kernel.attempts = 0;
    expect_right_data(2, REGISTERED);
    assert_int_equal(kernel.attempts, 2 * 10); /* pages, written and read */
}

/* Bytes of ours that are in memory. */
static size_t resident(void)
{
    static unsigned char pages[BUFFERS * BUFFER / PAGE];
    size_t sum = 0;

    assert_int_equal(mincore(rig.memory.start, BUFFERS * BUFFER, pages), 0);
    for (size_t i = 0; i < sizeof(pages); i++)
        sum += pages[i] & 1U ? PAGE : 0;
    return sum;
}

/* As the worker does when it was idle: the memory is given back, and what is read into the buffers
 * afterwards is found there, not in the pages of before. */
static void what_is_forgotten_is_used_anew(void **state)
{
    (void)state;
    rig.engine = make(&rig.memory);
    for (unsigned i = 0; i < BUFFERS; i++)
        assert_true(use(i));
    assert_int_equal(resident(), BUFFERS * BUFFER);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(madvise(rig.memory.start, BUFFERS * BUFFER, MADV_DONTNEED), 0);
        engine_uring_forget(rig.engine, rig.memory.start, rig.memory.bytes);
        assert_int_equal(resident(), 0);
        assert_false(transfer(IO_READ, 0, buffer(70), PAGE));
        expect_right_data(70, EITHER);
        assert_true(use(70));
        expect_right_data(70, REGISTERED);
        assert_true(resident() <= 2 * BUFFER);
    }
    engine_uring_forget(rig.engine, rig.memory.start, rig.memory.bytes); /* without any use */
    engine_uring_forget(rig.engine, rig.memory.start, rig.memory.bytes);
}

/* As it does while others are in use, after a burst: only those lose their memory, by few calls. */
static void some_are_forgotten(void **state)
{
    const unsigned first = 3, count = BUFFERS - 10;
    (void)state;
    rig.engine = make(&rig.memory);
    for (unsigned i = 0; i < BUFFERS; i++)
        assert_true(use(i));
    kernel.registrations = 0;
    assert_int_equal(madvise(buffer(first), count * BUFFER, MADV_DONTNEED), 0);
    engine_uring_forget(rig.engine, buffer(first), count * BUFFER);
    assert_int_equal(kernel.registrations, 2);
    assert_int_equal(resident(), (BUFFERS - count) * BUFFER);
    engine_uring_forget(rig.engine, buffer(first), count * BUFFER);
    assert_int_equal(kernel.registrations, 2); /* nothing of them is left */
    expect_right_data(first - 1, REGISTERED);
    expect_right_data(first + count, REGISTERED);
    assert_false(transfer(IO_READ, 0, buffer(first), PAGE));
    assert_false(transfer(IO_READ, 0, buffer(first + count - 1), PAGE));
    assert_true(use(first));
    expect_right_data(first, REGISTERED);
    /* Memory that is none of them. */
    engine_uring_forget(rig.engine, buffer(BUFFERS), BUFFER);
    engine_uring_forget(rig.engine, buffer(0) - BUFFER, BUFFER);
    expect_right_data(0, REGISTERED);
    expect_right_data(BUFFERS - 1, REGISTERED);
}

static void nothing_else_can_be_registered(void **state)
{
    const int fds[] = {rig.fd};
    const struct iovec iov = {buffer(0), BUFFER};
    (void)state;

    rig.engine = make(&rig.memory);
    if (!engine_uring_restricted(rig.engine))
        skip();
    const int ring = engine_uring.event_fd(rig.engine);
    const struct {
        const void *argument;
        unsigned what;
        unsigned count;
    } refused[] = {{&iov, IORING_REGISTER_BUFFERS, 1},
                   {NULL, IORING_UNREGISTER_BUFFERS, 0},
                   {fds, IORING_REGISTER_FILES, 1},
                   {fds, IORING_REGISTER_EVENTFD, 1},
                   {NULL, IORING_REGISTER_PERSONALITY, 0}};

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_int_equal(syscall(SYS_io_uring_register, ring, refused[i].what, refused[i].argument,
                                 refused[i].count),
                         -1);
        assert_int_equal(errno, EACCES);
    }
    assert_true(use(0));
}

static void expect_plain(int error)
{
    assert_false(use(0));
    assert_int_equal(engine_uring_registers(rig.engine), error);
    expect_right_data(0, PLAIN);
}

/* Without memory, or where the kernel has no table that begins empty. */
static void without_a_table(void **state)
{
    (void)state;
    rig.engine = make(NULL);
    expect_plain(-EINVAL);
    engine_destroy(rig.engine);
    kernel.no_table = -EINVAL;
    rig.engine = make(&rig.memory);
    expect_plain(-EINVAL);
    engine_uring_forget(rig.engine, rig.memory.start, rig.memory.bytes);
    expect_plain(-EINVAL);
}

/* Locked memory may be limited: what is registered stays in use, and after a time of idleness it is
 * tried again. */
static void no_more_is_registered_than_the_kernel_lets(void **state)
{
    (void)state;
    rig.engine = make(&rig.memory);
    assert_true(use(5));
    kernel.register_error = -ENOMEM;
    assert_false(use(6));
    assert_int_equal(engine_uring_registers(rig.engine), -ENOMEM);
    kernel.registrations = 0;
    assert_false(use(6));
    assert_false(use(7));
    assert_int_equal(kernel.registrations, 0); /* it is not asked again and again */
    expect_right_data(5, REGISTERED);
    expect_right_data(6, PLAIN);
    kernel.register_error = 0;
    engine_uring_forget(rig.engine, rig.memory.start, rig.memory.bytes);
    assert_int_equal(engine_uring_registers(rig.engine), 0);
    assert_true(use(6));
    expect_right_data(6, REGISTERED);
}

/* The table still has the old memory: it must not be used. */
static void what_could_not_be_taken_out_is_not_used(void **state)
{
    (void)state;
    rig.engine = make(&rig.memory);
    assert_true(use(5));
    kernel.register_error = -ENOMEM;
    assert_int_equal(madvise(rig.memory.start, BUFFERS * BUFFER, MADV_DONTNEED), 0);
    engine_uring_forget(rig.engine, rig.memory.start, rig.memory.bytes);
    kernel.register_error = 0;
    assert_false(transfer(IO_READ, 0, buffer(5), PAGE));
    expect_right_data(5, EITHER);
    assert_true(use(5)); /* anew, in the place of the old */
    expect_right_data(5, REGISTERED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_used_often_is_registered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(as_many_pages_as_are_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_memory_works_as_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sizes_that_can_not_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(short_transfers_go_on_within_the_buffer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_forgotten_is_used_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(some_are_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_else_can_be_registered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_more_is_registered_than_the_kernel_lets, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_could_not_be_taken_out_is_not_used, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
