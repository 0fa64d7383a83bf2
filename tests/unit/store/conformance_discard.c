/* SPDX-License-Identifier: BSD-2-Clause */
/* Conformance: what is discarded is given back, and nothing beside it is lost. */
#include "conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1024)

/* Fills the image with data; what was written is then to be seen in the file behind it. */
static char *fill_image(struct subject *s)
{
    char *data = memory(IMAGE_SIZE);

    fill_pattern(data, IMAGE_SIZE, 21);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, 0, data, IMAGE_SIZE), 0);
    assert_int_equal(run_simple(s->store, &s->engines, IO_FLUSH, 0, NULL, 0), 0);
    return data;
}

void discard_gives_space_back(void **state)
{
    struct subject *s = subject_of(state);
    char *data = fill_image(s);
    uint64_t full = image_allocated(&s->image);

    assert_true(full >= IMAGE_SIZE);
    assert_int_equal(run_discard(s->store, &s->engines, 256 * KIB, 512 * KIB), 0);
    /* The file system may need a block or two to write down where the hole is. */
    assert_true(full - image_allocated(&s->image) >= (512 - 16) * KIB);
    memset(data + 256 * KIB, 0, 512 * KIB);
    expect_read(s, 0, data, IMAGE_SIZE);

    /* The place can be used again. */
    fill_pattern(data + 300 * KIB, 64 * KIB, 22);
    assert_int_equal(
        run_simple(s->store, &s->engines, IO_WRITE, 300 * KIB, data + 300 * KIB, 64 * KIB), 0);
    expect_read(s, 0, data, IMAGE_SIZE);

    assert_int_equal(run_discard(s->store, &s->engines, 0, IMAGE_SIZE), 0);
    /* The file system may keep a block for what it knows about the file. */
    assert_true(image_allocated(&s->image) <= 16 * KIB);
    memset(data, 0, IMAGE_SIZE);
    expect_read(s, 0, data, IMAGE_SIZE);
    free(data);
}

void discard_of_whole_granules_only(void **state)
{
    struct subject *s = subject_of(state);
    uint64_t granule = s->store->caps.discard_granularity;
    char *data = fill_image(s);

    if (granule < 1024)
        skip();
    /* Within a granule, around a border of two, and one of which a byte is missing: nothing. */
    assert_int_equal(run_discard(s->store, &s->engines, 8 * granule + 512, 512), 0);
    assert_int_equal(run_discard(s->store, &s->engines, 9 * granule - 512, 1024), 0);
    assert_int_equal(run_discard(s->store, &s->engines, 8 * granule, granule - 512), 0);
    assert_int_equal(run_discard(s->store, &s->engines, 8 * granule + 512, granule - 512), 0);
    assert_int_equal(run_discard(s->store, &s->engines, 1, 1), 0);
    expect_read(s, 0, data, IMAGE_SIZE);
    /* Two whole ones, and parts of both their neighbours. */
    assert_int_equal(run_discard(s->store, &s->engines, 9 * granule - 512, 2 * granule + 1024), 0);
    memset(data + 9 * granule, 0, 2 * granule);
    expect_read(s, 0, data, IMAGE_SIZE);
    free(data);
}

/* In every place of 64 KiB one I/O: discards, reads and writes by turns, in batches over the depth.
 */
void discard_among_other_io(void **state)
{
    struct subject *s = subject_of(state);
    enum { PLACES = 64 };
    static struct test_io ios[PLACES];
    char *data = fill_image(s);
    char *found = memory(IMAGE_SIZE);
    size_t place = IMAGE_SIZE / PLACES;

    fill_pattern(found, IMAGE_SIZE, 23);
    for (size_t i = 0; i < PLACES; i++) {
        enum io_submit answer = IO_BUSY;

        while (answer == IO_BUSY) {
            if (i % 3 == 0)
                test_io_set_discard(&ios[i], i * place, place);
            else
                test_io_set(&ios[i], i % 3 == 1 ? IO_WRITE : IO_READ, i * place, found + i * place,
                            place);
            answer = store_submit(s->store, &ios[i].io);
            if (answer == IO_BUSY)
                settle(&s->engines);
        }
        if (answer == IO_DONE)
            ios[i].done++;
    }
    settle(&s->engines);
    for (size_t i = 0; i < PLACES; i++) {
        assert_int_equal(ios[i].done, 1);
        assert_int_equal(ios[i].io.result, 0);
        if (i % 3 == 0)
            memset(data + i * place, 0, place);
        else if (i % 3 == 1)
            memcpy(data + i * place, found + i * place, place);
        else
            assert_memory_equal(found + i * place, data + i * place, place);
    }
    expect_read(s, 0, data, IMAGE_SIZE);
    free(data);
    free(found);
}

void discard_refusals(void **state)
{
    struct subject *s = subject_of(state);
    struct test_io t;

    assert_int_equal(run_discard(s->store, &s->engines, IMAGE_SIZE, 512), -EINVAL);
    assert_int_equal(run_discard(s->store, &s->engines, IMAGE_SIZE - 512, 1024), -EINVAL);
    assert_int_equal(run_discard(s->store, &s->engines, UINT64_MAX - 511, 512), -EINVAL);
    assert_int_equal(run_discard(s->store, &s->engines, 4096, UINT64_MAX - 4095), -EINVAL);
    assert_int_equal(run_discard(s->store, &s->engines, 0, UINT64_MAX), -EINVAL);
    assert_int_equal(run_discard(s->store, &s->engines, 0, 0), 0);
    assert_int_equal(run_discard(s->store, &s->engines, IMAGE_SIZE, 0), 0);
    /* None of these images can promise that nothing is left on the medium. */
    test_io_set_discard(&t, 0, IMAGE_SIZE);
    t.io.secure = true;
    assert_int_equal(run_io(s->store, &s->engines, &t), -ENOTSUP);
}

void discard_is_forgotten(void **state)
{
    struct subject *s = subject_of(state);
    char *zeros = calloc(1, PAGE);

    assert_int_equal(run_discard(s->store, &s->engines, 0, IMAGE_SIZE), 0);
    expect_read(s, 0, zeros, PAGE);
    free(zeros);
}
