/* SPDX-License-Identifier: BSD-2-Clause */
/* The one suite that every store passes with every engine. A new driver is added as a kind of
 * image. */
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct engine *engine_of(const struct subject *s)
{
    if (s->ops == &engine_uring)
        return s->engines.uring;
    return s->ops == &engine_aio ? s->engines.aio : s->engines.inline_;
}

struct subject *subject_of(void **state)
{
    struct subject *s = *state;

    if (!s->store)
        skip();
    return s;
}

void expect_read(struct subject *s, uint64_t offset, const char *expected, size_t length)
{
    char *found = memory(length);
    char *zeros = calloc(1, length);

    assert_non_null(zeros);
    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, offset, found, length), 0);
    assert_memory_equal(found, s->kind == IMAGE_NULL ? zeros : expected, length);
    free(found);
    free(zeros);
}

static int open_store(struct subject *s, bool read_only)
{
    struct store_params params = {.fd = image_open(&s->image, read_only ? O_RDONLY : O_RDWR),
                                  .read_only = read_only,
                                  .direct = image_is_direct(s->kind),
                                  .sector_size = s->kind == IMAGE_DIRECT_4K ? 4096 : 0,
                                  .size = IMAGE_SIZE,
                                  .engine = s->ops,
                                  .engines = &s->engines};
    const struct store_driver *driver = s->kind == IMAGE_NULL ? &store_null : &store_file;
    char why[128] = "";
    int error = 0;

    if (image_is_device(s->kind))
        assert_int_equal(discard_limits_read(params.fd, &params.discard_limits), 0);
    error = driver->open(&params, why, sizeof(why), &s->store);

    if (error) {
        print_error("%s\n", why);
        return error;
    }
    s->fd = params.fd;
    s->sector = s->store->caps.sector_size;
    return 0;
}

static int set_up(void **state)
{
    struct subject *s = *state;

    s->store = NULL;
    assert_int_equal(engine_set_create(DEPTH, NULL, &s->engines), 0);
    if (!engine_of(s) || !image_make(s->kind, IMAGE_SIZE, &s->image))
        return 0; /* each test then skips itself */
    return open_store(s, false);
}

static int tear_down(void **state)
{
    struct subject *s = *state;

    store_close(s->store);
    image_remove(&s->image);
    engine_set_destroy(&s->engines);
    return 0;
}

static void capabilities(void **state)
{
    struct subject *s = subject_of(state);
    const struct store_caps *caps = &s->store->caps;
    bool is_4k = s->kind == IMAGE_DIRECT_4K || s->kind == IMAGE_LOOP_4K;

    assert_int_equal(caps->size, IMAGE_SIZE);
    assert_int_equal(caps->sector_size, is_4k ? 4096 : 512);
    assert_true(caps->physical_sector_size >= caps->sector_size);
    assert_int_equal(caps->direct, image_is_direct(s->kind));
    assert_true(caps->memory_alignment >= 1 && caps->memory_alignment <= 4096);
    assert_false(caps->read_only);
    assert_true(caps->flush);
    /* ext4, xfs, tmpfs and loop devices on them all do. */
    assert_true(caps->discard);
    assert_false(caps->discard_secure);
    assert_true(caps->discard_granularity >= caps->sector_size);
    assert_true(caps->discard_alignment < caps->discard_granularity);
    assert_string_equal(caps->engine, s->kind == IMAGE_NULL ? "null" : s->ops->name);
    if (s->kind != IMAGE_NULL)
        assert_int_equal((fcntl(s->fd, F_GETFL) & O_DIRECT) != 0, caps->direct);
}

static void read_only(void **state)
{
    struct subject *s = subject_of(state);
    char *data = memory(PAGE);
    char *found = memory(PAGE);

    store_close(s->store);
    s->store = NULL;
    fill_pattern(data, PAGE, 12);
    if (s->kind != IMAGE_NULL)
        image_poke(&s->image, PAGE, data, PAGE);
    assert_int_equal(open_store(s, true), 0);
    assert_true(s->store->caps.read_only);

    expect_read(s, PAGE, data, PAGE);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, PAGE, found, PAGE), -EROFS);
    assert_false(s->store->caps.discard);
    assert_int_equal(run_discard(s->store, &s->engines, 0, IMAGE_SIZE), -EROFS);
    assert_int_equal(run_simple(s->store, &s->engines, IO_FLUSH, 0, NULL, 0), 0);
    if (s->kind != IMAGE_NULL) {
        image_peek(&s->image, PAGE, found, PAGE);
        assert_memory_equal(found, data, PAGE);
    }
    free(data);
    free(found);
}

static void closing_gives_the_descriptor_back(void **state)
{
    struct subject *s = subject_of(state);

    store_close(s->store);
    s->store = NULL;
    if (s->kind != IMAGE_NULL) {
        assert_int_equal(fcntl(s->fd, F_GETFD), -1);
        assert_int_equal(errno, EBADF);
    }
    store_close(NULL);
}

static bool always(enum image_kind kind)
{
    (void)kind;
    return true;
}

static bool stores_bytes(enum image_kind kind)
{
    return kind != IMAGE_NULL;
}

static bool stores_no_bytes(enum image_kind kind)
{
    return kind == IMAGE_NULL;
}

static bool has_small_sectors(enum image_kind kind)
{
    return kind != IMAGE_DIRECT_4K && kind != IMAGE_LOOP_4K;
}

static bool is_file(enum image_kind kind)
{
    return kind != IMAGE_NULL && !image_is_device(kind);
}

static const struct {
    const char *name;
    CMUnitTestFunction run;
    bool (*applies)(enum image_kind kind);
} suite[] = {
    {"capabilities", capabilities, always},
    {"write_and_read_back", write_and_read_back, always},
    {"write_reaches_the_image", write_reaches_the_image, stores_bytes},
    {"first_and_last_sector", first_and_last_sector, always},
    {"vectors", vectors, always},
    {"more_entries_than_the_kernel_takes", more_entries_than_the_kernel_takes, has_small_sectors},
    {"merged_requests", merged_requests, always},
    {"discard_gives_space_back", discard_gives_space_back, stores_bytes},
    {"discard_of_whole_granules_only", discard_of_whole_granules_only, stores_bytes},
    {"discard_among_other_io", discard_among_other_io, stores_bytes},
    {"discard_refusals", discard_refusals, always},
    {"discard_is_forgotten", discard_is_forgotten, stores_no_bytes},
    {"many_in_flight", many_in_flight, always},
    {"submission_from_a_completion", submission_from_a_completion, always},
    {"mixed_batch", mixed_batch, always},
    {"unaligned_is_refused", unaligned_is_refused, always},
    {"past_the_end_is_refused", past_the_end_is_refused, always},
    {"nothing_to_transfer", nothing_to_transfer, always},
    {"truncated_underneath", truncated_underneath, is_file},
    {"read_only", read_only, always},
    {"closing_gives_the_descriptor_back", closing_gives_the_descriptor_back, always},
};

#define SUITE_SIZE (sizeof(suite) / sizeof(suite[0]))
#define ENGINES    3U

static int run_subject(struct subject *s)
{
    static char names[SUITE_SIZE][96];
    struct CMUnitTest tests[SUITE_SIZE];
    unsigned count = 0;

    (void)snprintf(s->name, sizeof(s->name), "%s, %s", image_kind_name(s->kind),
                   s->kind == IMAGE_NULL ? "no engine" : s->ops->name);
    for (unsigned i = 0; i < SUITE_SIZE; i++) {
        if (!suite[i].applies(s->kind))
            continue;
        (void)snprintf(names[count], sizeof(names[count]), "%s (%s)", suite[i].name, s->name);
        tests[count] = (struct CMUnitTest){.name = names[count],
                                           .test_func = suite[i].run,
                                           .setup_func = set_up,
                                           .teardown_func = tear_down,
                                           .initial_state = s};
        count++;
    }
    return _cmocka_run_group_tests(s->name, tests, count, NULL, NULL);
}

int main(void)
{
    const struct engine_ops *const engines[ENGINES] = {&engine_uring, &engine_aio, &engine_inline};
    int failed = 0;

    for (unsigned kind = 0; kind < IMAGE_KINDS; kind++) {
        for (unsigned i = 0; i < (kind == IMAGE_NULL ? 1 : ENGINES); i++) {
            struct subject s = {.kind = (enum image_kind)kind, .ops = engines[i], .fd = -1};

            s.image.loop = -1;
            failed += run_subject(&s);
        }
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
