/* SPDX-License-Identifier: BSD-2-Clause */
/* An engine under test: see engine_rig.h. */
#include "engine_rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TESTS_MAX 32

static int set_up(void **state)
{
    struct rig *rig = *state;

    kernel = (struct faulty_kernel){0};
    rig->engine = NULL;
    rig->fd = -1;
    if (rig->ops->create(DEPTH, NULL, &rig->engine))
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

struct rig *rig_of(void **state)
{
    struct rig *rig = *state;

    if (!rig->engine)
        skip();
    return rig;
}

int rig_run(const struct rig *rig, struct test_io *t)
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

void rig_expect_whole_transfers(const struct rig *rig)
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
    assert_int_equal(rig_run(rig, &t), 0);
    image_peek(&rig->image, 1024, found, length);
    assert_memory_equal(found, data, length);

    memset(found, 0x55, 16 * PAGE);
    length = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        iov[i] = (struct iovec){found + length, lengths[i]};
        length += lengths[i];
    }
    test_io_set_vector(&t, IO_READ, 1024, iov, COUNT);
    assert_int_equal(rig_run(rig, &t), 0);
    assert_memory_equal(found, data, length);
    assert_int_equal((unsigned char)found[length], 0x55);

    test_io_set(&t, IO_WRITE, 2 * PAGE, data, PAGE);
    assert_int_equal(rig_run(rig, &t), 0);
    test_io_set(&t, IO_READ, 2 * PAGE, found, PAGE);
    assert_int_equal(rig_run(rig, &t), 0);
    assert_memory_equal(found, data, PAGE);
    free(data);
    free(found);
}

int rig_run_suite(const struct engine_test *suite, size_t count)
{
    const struct engine_ops *const engines[] = {&engine_uring, &engine_aio, &engine_inline};
    int failed = 0;

    assert_true(count <= TESTS_MAX);
    for (unsigned e = 0; e < 3; e++) {
        struct CMUnitTest tests[TESTS_MAX];
        struct rig rig = {.ops = engines[e], .image = {.loop = -1}, .fd = -1};
        size_t own = 0;

        for (size_t i = 0; i < count; i++) {
            if (suite[i].engines & (1U << e))
                tests[own++] = (struct CMUnitTest){.name = suite[i].name,
                                                   .test_func = suite[i].run,
                                                   .setup_func = set_up,
                                                   .teardown_func = tear_down,
                                                   .initial_state = &rig};
        }
        failed += _cmocka_run_group_tests(rig.ops->name, tests, own, NULL, NULL);
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
