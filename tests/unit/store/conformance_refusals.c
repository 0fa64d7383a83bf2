/* SPDX-License-Identifier: BSD-2-Clause */
/* Conformance: what a store refuses, and what it reports when the image is not what it was. */
#include "conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Everything here must be refused before it reaches an engine, whatever the data path let through.
 */
static void expect_refused(struct subject *s, uint64_t offset, uint64_t length, char *buffer,
                           size_t bytes)
{
    struct test_io t;

    test_io_set(&t, IO_WRITE, offset, buffer, bytes);
    t.io.length = length;
    assert_int_equal(store_submit(s->store, &t.io), IO_DONE);
    assert_int_equal(t.io.result, -EINVAL);
    assert_int_equal(t.done, 0);
}

void unaligned_is_refused(void **state)
{
    struct subject *s = subject_of(state);
    size_t sector = s->sector;
    char *buffer = memory(2 * sector);

    expect_refused(s, 1, sector, buffer, sector);
    expect_refused(s, sector / 2, sector, buffer, sector);
    expect_refused(s, 0, sector - 1, buffer, sector - 1);
    expect_refused(s, 0, sector + 1, buffer, sector + 1);
    expect_refused(s, 0, 2 * sector, buffer, sector); /* a vector shorter than the length */
    expect_refused(s, 0, sector, buffer, 2 * sector); /* and longer */
    if (s->store->caps.memory_alignment > 1)
        expect_refused(s, 0, sector, buffer + 1, sector);
    free(buffer);
}

void past_the_end_is_refused(void **state)
{
    struct subject *s = subject_of(state);
    size_t sector = s->sector;
    char *buffer = memory(2 * sector);
    struct stat status = {0};

    expect_refused(s, IMAGE_SIZE, sector, buffer, sector);
    expect_refused(s, IMAGE_SIZE - sector, 2 * sector, buffer, 2 * sector);
    expect_refused(s, UINT64_MAX - sector + 1, sector, buffer, sector);
    expect_refused(s, UINT64_MAX - 2 * sector + 1, 2 * sector, buffer, 2 * sector);
    expect_refused(s, (uint64_t)1 << 63, sector, buffer, sector);
    expect_refused(s, 0, UINT64_MAX - sector + 1, buffer, sector);
    if (s->kind != IMAGE_NULL) {
        assert_int_equal(stat(s->image.path, &status), 0);
        assert_int_equal(status.st_size, IMAGE_SIZE); /* it has not grown */
    }
    free(buffer);
}

void nothing_to_transfer(void **state)
{
    struct subject *s = subject_of(state);

    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, 0, NULL, 0), 0);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, IMAGE_SIZE, NULL, 0), 0);
}

void truncated_underneath(void **state)
{
    struct subject *s = subject_of(state);
    char *buffer = memory(4 * PAGE);

    /* Once at a page, once in the middle of a sector. */
    assert_int_equal(truncate(s->image.path, 8192), 0);
    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, 0, buffer, 8192), 0);
    memset(buffer, 0x55, 4 * PAGE);
    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, 8192, buffer, PAGE), -EIO);
    assert_int_equal((unsigned char)buffer[0], 0x55); /* no zeros made up */
    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, PAGE, buffer, 8192), -EIO);
    assert_int_equal(truncate(s->image.path, PAGE + 700), 0);
    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, PAGE, buffer, PAGE), -EIO);
    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, 0, buffer, 4 * PAGE), -EIO);
    free(buffer);
}
