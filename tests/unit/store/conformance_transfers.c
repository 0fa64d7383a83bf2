/* SPDX-License-Identifier: BSD-2-Clause */
/* Conformance: data goes where it should and comes back, one I/O at a time and many in flight. */
#include "conformance.h"

#include <stdlib.h>
#include <string.h>

void write_and_read_back(void **state)
{
    struct subject *s = subject_of(state);
    static const size_t lengths[] = {1, 2, 7, 8, 11, 64, 256};
    char *data = memory(MIB);

    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t length = lengths[i] * s->sector;
        uint64_t offset = (uint64_t)i * 77 * s->sector;

        fill_pattern(data, length, i);
        assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, offset, data, length), 0);
        expect_read(s, offset, data, length);
    }
    free(data);
}

void write_reaches_the_image(void **state)
{
    struct subject *s = subject_of(state);
    size_t length = 16 * s->sector;
    char *data = memory(length);
    char *found = memory(length + 2 * s->sector);
    char *zeros = calloc(1, s->sector);

    fill_pattern(data, length, 3);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, 5 * s->sector, data, length), 0);
    assert_int_equal(run_simple(s->store, &s->engines, IO_FLUSH, 0, NULL, 0), 0);
    image_peek(&s->image, 4 * s->sector, found, length + 2 * s->sector);
    assert_memory_equal(found, zeros, s->sector); /* and its neighbours are untouched */
    assert_memory_equal(found + s->sector, data, length);
    assert_memory_equal(found + s->sector + length, zeros, s->sector);
    free(data);
    free(found);
    free(zeros);
}

void first_and_last_sector(void **state)
{
    struct subject *s = subject_of(state);
    char *data = memory(s->sector);

    fill_pattern(data, s->sector, 1);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, 0, data, s->sector), 0);
    expect_read(s, 0, data, s->sector);
    fill_pattern(data, s->sector, 2);
    assert_int_equal(
        run_simple(s->store, &s->engines, IO_WRITE, IMAGE_SIZE - s->sector, data, s->sector), 0);
    expect_read(s, IMAGE_SIZE - s->sector, data, s->sector);
    free(data);
}

void vectors(void **state)
{
    struct subject *s = subject_of(state);
    static const size_t sectors[11] = {1, 8, 2, 8, 8, 3, 1, 1, 5, 8, 4};
    char *data = memory(11 * ENTRY_MAX);
    char *flat = memory(11 * ENTRY_MAX);
    char *zeros = calloc(11, ENTRY_MAX);
    struct iovec iov[11];
    struct test_io t;
    size_t length = 0;

    fill_pattern(data, 11 * ENTRY_MAX, 9);
    /* Backwards in memory, so that entries can't be taken for one run. */
    for (unsigned i = 0; i < 11; i++) {
        iov[i] = (struct iovec){data + (10 - i) * ENTRY_MAX, sectors[i] * s->sector};
        memcpy(flat + length, iov[i].iov_base, iov[i].iov_len);
        length += iov[i].iov_len;
    }
    test_io_set_vector(&t, IO_WRITE, 3 * s->sector, iov, 11);
    assert_int_equal(run_io(s->store, &s->engines, &t), 0);
    expect_read(s, 3 * s->sector, flat, length);

    memset(data, 0x55, 11 * ENTRY_MAX);
    for (unsigned i = 0; i < 11; i++)
        iov[i] = (struct iovec){data + i * ENTRY_MAX, sectors[i] * s->sector};
    test_io_set_vector(&t, IO_READ, 3 * s->sector, iov, 11);
    assert_int_equal(run_io(s->store, &s->engines, &t), 0);
    length = 0;
    for (unsigned i = 0; i < 11; i++) {
        size_t bytes = sectors[i] * s->sector;

        assert_memory_equal(data + i * ENTRY_MAX, s->kind == IMAGE_NULL ? zeros : flat + length,
                            bytes);
        /* Nothing beyond the entry is written. */
        if (bytes < ENTRY_MAX)
            assert_int_equal((unsigned char)data[i * ENTRY_MAX + bytes], 0x55);
        length += bytes;
    }
    free(data);
    free(flat);
    free(zeros);
}

void more_entries_than_the_kernel_takes(void **state)
{
    struct subject *s = subject_of(state);
    enum { ENTRIES = 1030 };
    static struct iovec iov[ENTRIES];
    char *data = memory((size_t)ENTRIES * 512);
    struct test_io t;

    fill_pattern(data, (size_t)ENTRIES * 512, 4);
    for (unsigned i = 0; i < ENTRIES; i++)
        iov[i] = (struct iovec){data + (size_t)i * 512, 512};
    test_io_set_vector(&t, IO_WRITE, 512, iov, ENTRIES);
    assert_int_equal(run_io(s->store, &s->engines, &t), 0);
    expect_read(s, 512, data, (size_t)ENTRIES * 512);
    free(data);
}

/* As many segments as a request or several merged ones can have, each in a page of its own. */
void merged_requests(void **state)
{
    struct subject *s = subject_of(state);
    enum { ENTRIES = 512 };
    static struct iovec iov[ENTRIES];
    char *data = memory((size_t)ENTRIES * 2 * PAGE);
    char *flat = memory((size_t)ENTRIES * PAGE);
    size_t length = 0;
    struct test_io t;

    fill_pattern(data, (size_t)ENTRIES * 2 * PAGE, 14);
    for (size_t i = 0; i < ENTRIES; i++) {
        /* Whole pages, and a part of one here and there, as at the ends of requests. */
        size_t bytes = i % 100 == 99 ? s->sector : PAGE;

        iov[i] = (struct iovec){data + (ENTRIES - 1 - i) * 2 * PAGE, bytes};
        memcpy(flat + length, iov[i].iov_base, bytes);
        length += bytes;
    }
    assert_true(length > MIB);
    test_io_set_vector(&t, IO_WRITE, 9 * s->sector, iov, ENTRIES);
    assert_int_equal(run_io(s->store, &s->engines, &t), 0);
    expect_read(s, 9 * s->sector, flat, length);

    memset(data, 0x55, (size_t)ENTRIES * 2 * PAGE);
    for (size_t i = 0; i < ENTRIES; i++)
        iov[i] =
            (struct iovec){data + (ENTRIES - 1 - i) * 2 * PAGE, i % 100 == 99 ? s->sector : PAGE};
    test_io_set_vector(&t, IO_READ, 9 * s->sector, iov, ENTRIES);
    assert_int_equal(run_io(s->store, &s->engines, &t), 0);
    length = 0;
    for (size_t i = 0; i < ENTRIES; i++) {
        const char *place = data + (ENTRIES - 1 - i) * 2 * PAGE;
        size_t bytes = i % 100 == 99 ? s->sector : PAGE;

        if (s->kind != IMAGE_NULL)
            assert_memory_equal(place, flat + length, bytes);
        assert_int_equal((unsigned char)place[bytes], 0x55); /* nothing beyond the entry */
        length += bytes;
    }
    free(data);
    free(flat);
}

/* Submits reads of `buffers` until BUSY or `most`; returns how many were queued. */
static unsigned submit_reads(struct subject *s, struct test_io *ios, char *buffers, unsigned most)
{
    unsigned queued = 0;

    for (unsigned i = 0; i < most; i++) {
        enum io_submit answer = IO_DONE;

        test_io_set(&ios[i], IO_READ, i * PAGE, buffers + i * PAGE, PAGE);
        answer = store_submit(s->store, &ios[i].io);
        assert_int_equal(ios[i].done, 0); /* never from within submit */
        if (answer == IO_BUSY)
            return queued;
        if (answer == IO_QUEUED)
            queued++;
        else
            assert_int_equal(ios[i].io.result, 0);
    }
    return queued;
}

void many_in_flight(void **state)
{
    struct subject *s = subject_of(state);
    struct test_io ios[DEPTH + 2];
    char *expected = memory((DEPTH + 2) * PAGE);
    char *buffers = memory((DEPTH + 2) * PAGE);

    fill_pattern(expected, (DEPTH + 2) * PAGE, 6);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, 0, expected, (DEPTH + 2) * PAGE),
                     0);
    for (int round = 0; round < 20; round++) {
        bool inline_ = s->kind == IMAGE_NULL || s->ops == &engine_inline;
        unsigned queued = 0;

        memset(buffers, 0x55, (DEPTH + 2) * PAGE);
        queued = submit_reads(s, ios, buffers, DEPTH + 2);
        /* Full at exactly the depth, and usable again when what was in flight is over. */
        assert_int_equal(queued, inline_ ? 0 : DEPTH);
        assert_int_equal(engine_of(s)->in_flight, queued);
        settle(&s->engines);
        for (unsigned i = 0; i < queued; i++) {
            assert_int_equal(ios[i].done, 1);
            assert_int_equal(ios[i].io.result, 0);
        }
        if (s->kind != IMAGE_NULL)
            assert_memory_equal(buffers, expected, (queued ? queued : DEPTH + 2) * PAGE);
    }
    free(expected);
    free(buffers);
}

/* Submits one more from within `done`, until `left` is used up. */
struct chain {
    struct test_io t;
    struct subject *subject;
    unsigned left;
    char *buffer;
};

static void chain_done(struct io *io)
{
    struct chain *chain = (struct chain *)io;
    unsigned left = chain->left;

    assert_int_equal(io->result, 0);
    if (left == 0)
        return;
    test_io_set(&chain->t, IO_READ, left * PAGE, chain->buffer, PAGE);
    chain->t.io.done = chain_done;
    chain->left = left - 1;
    if (store_submit(chain->subject->store, io) == IO_DONE)
        chain_done(io);
}

void submission_from_a_completion(void **state)
{
    struct subject *s = subject_of(state);
    char *buffers = memory(DEPTH * PAGE);
    struct chain chains[DEPTH];
    struct engine *engine = engine_of(s);

    for (unsigned i = 0; i < DEPTH; i++) {
        chains[i] = (struct chain){.subject = s, .left = 50, .buffer = buffers + i * PAGE};
        chain_done(&chains[i].t.io);
    }
    while (engine->in_flight > 0) {
        assert_int_equal(engine_set_commit(&s->engines), 0);
        engine_wait(engine);
        (void)engine->ops->reap(engine);
    }
    for (unsigned i = 0; i < DEPTH; i++)
        assert_int_equal(chains[i].left, 0);
    assert_int_equal(engine->in_flight, 0);
    free(buffers);
}

/* What writes the page cache is known to be a kernel thread's, while it is in flight. */
static void expect_by_threads(const struct subject *s, unsigned writes)
{
    const bool by_thread =
        s->ops == &engine_uring && s->kind != IMAGE_NULL && !s->store->caps.direct;

    if (s->engines.uring)
        assert_int_equal(s->engines.uring->by_thread, by_thread ? writes : 0);
}

void mixed_batch(void **state)
{
    struct subject *s = subject_of(state);
    unsigned writes = 0;
    char *data = memory(4 * PAGE);
    struct test_io ios[DEPTH];

    fill_pattern(data, 4 * PAGE, 8);
    for (unsigned i = 0; i < DEPTH; i++) {
        enum io_operation operation = i % 4 == 3 ? IO_FLUSH : IO_WRITE;

        test_io_set(&ios[i], operation, i * PAGE, data + (i % 4) * PAGE, PAGE);
        ios[i].done = store_submit(s->store, &ios[i].io) == IO_DONE;
        writes += operation == IO_WRITE;
    }
    expect_by_threads(s, writes);
    settle(&s->engines);
    expect_by_threads(s, 0);
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_int_equal(ios[i].done, 1);
        assert_int_equal(ios[i].io.result, 0);
    }
    expect_read(s, 0, data, 3 * PAGE);
    expect_read(s, 4 * PAGE, data, 3 * PAGE);
    free(data);
}
