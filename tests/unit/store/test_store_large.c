/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks of more than 2 TiB, where 32-bit numbers of sectors end. The images are sparse. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE      ((size_t)4096)
#define TIB       (UINT64_C(1) << 40)
#define DISK_SIZE (3 * TIB)

struct subject {
    enum image_kind kind;
    const struct engine_ops *ops;
    struct engine_set engines;
    struct test_image image;
    struct store *store;
};

static int set_up(void **state)
{
    struct subject *s = *state;
    struct store_params params = {.direct = image_is_direct(s->kind),
                                  .sector_size = s->kind == IMAGE_DIRECT_4K ? 4096 : 0,
                                  .size = DISK_SIZE,
                                  .engine = s->ops,
                                  .engines = &s->engines};
    const struct store_driver *driver = s->kind == IMAGE_NULL ? &store_null : &store_file;
    char why[128] = "";

    s->store = NULL;
    s->image = (struct test_image){.kind = s->kind, .loop = -1};
    assert_int_equal(engine_set_create(8, NULL, &s->engines), 0);
    if (!image_make(s->kind, DISK_SIZE, &s->image))
        return 0; /* each test then skips itself */
    params.fd = image_open(&s->image, O_RDWR);
    if (image_is_device(s->kind))
        assert_int_equal(discard_limits_read(params.fd, &params.discard_limits), 0);
    /* An engine that this machine has not: skipped too. */
    if (driver->open(&params, why, sizeof(why), &s->store))
        print_message("%s\n", why);
    return 0;
}

static int tear_down(void **state)
{
    struct subject *s = *state;

    store_close(s->store);
    image_remove(&s->image);
    engine_set_destroy(&s->engines);
    return 0;
}

static struct subject *subject_of(void **state)
{
    struct subject *s = *state;

    if (!s->store)
        skip();
    return s;
}

static void far_sectors(void **state)
{
    struct subject *s = subject_of(state);
    /* Where 32 bits of sectors end, and beyond; each also where a cut number would put it. */
    static const uint64_t places[] = {0,
                                      UINT64_C(1) << 31,
                                      UINT64_C(1) << 32,
                                      2 * TIB - PAGE,
                                      2 * TIB,
                                      2 * TIB + (UINT64_C(5) << 32),
                                      DISK_SIZE - PAGE};
    enum { COUNT = sizeof(places) / sizeof(places[0]) };
    char *data = memory(PAGE);
    char *found = memory(PAGE);

    assert_int_equal(s->store->caps.size, DISK_SIZE);
    for (unsigned i = 0; i < COUNT; i++) {
        fill_pattern(data, PAGE, i);
        assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, places[i], data, PAGE), 0);
    }
    assert_int_equal(run_simple(s->store, &s->engines, IO_FLUSH, 0, NULL, 0), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        fill_pattern(data, PAGE, i);
        assert_int_equal(run_simple(s->store, &s->engines, IO_READ, places[i], found, PAGE), 0);
        if (s->kind == IMAGE_NULL)
            continue;
        assert_memory_equal(found, data, PAGE);
        image_peek(&s->image, places[i], found, PAGE);
        assert_memory_equal(found, data, PAGE);
    }
    /* Across the border in one. */
    char *wide = memory(16 * PAGE);
    char *read = memory(16 * PAGE);

    fill_pattern(wide, 16 * PAGE, 99);
    assert_int_equal(
        run_simple(s->store, &s->engines, IO_WRITE, 2 * TIB - 8 * PAGE, wide, 16 * PAGE), 0);
    assert_int_equal(
        run_simple(s->store, &s->engines, IO_READ, 2 * TIB - 8 * PAGE, read, 16 * PAGE), 0);
    if (s->kind != IMAGE_NULL)
        assert_memory_equal(read, wide, 16 * PAGE);
    assert_int_equal(run_simple(s->store, &s->engines, IO_READ, DISK_SIZE, found, PAGE), -EINVAL);
    free(wide);
    free(read);
    free(data);
    free(found);
}

/* Many system calls, one completion; and what lies around the range stays. */
static void huge_discard(void **state)
{
    struct subject *s = subject_of(state);
    static const uint64_t inside[] = {TIB, TIB + (UINT64_C(32) << 20), 2 * TIB,
                                      2 * TIB + (UINT64_C(4) << 30) - PAGE};
    enum { COUNT = sizeof(inside) / sizeof(inside[0]) };
    const uint64_t end = 2 * TIB + (UINT64_C(4) << 30);
    char *data = memory(PAGE);
    char *found = memory(PAGE);
    char *zeros = calloc(1, PAGE);

    fill_pattern(data, PAGE, 1);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, inside[i], data, PAGE), 0);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, TIB - PAGE, data, PAGE), 0);
    assert_int_equal(run_simple(s->store, &s->engines, IO_WRITE, end, data, PAGE), 0);

    assert_int_equal(run_discard(s->store, &s->engines, TIB, end - TIB), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(run_simple(s->store, &s->engines, IO_READ, inside[i], found, PAGE), 0);
        assert_memory_equal(found, zeros, PAGE);
    }
    if (s->kind != IMAGE_NULL) {
        assert_int_equal(run_simple(s->store, &s->engines, IO_READ, TIB - PAGE, found, PAGE), 0);
        assert_memory_equal(found, data, PAGE);
        assert_int_equal(run_simple(s->store, &s->engines, IO_READ, end, found, PAGE), 0);
        assert_memory_equal(found, data, PAGE);
    }
    free(data);
    free(found);
    free(zeros);
}

int main(void)
{
    static const enum image_kind kinds[] = {IMAGE_TMPFS,     IMAGE_BUFFERED, IMAGE_DIRECT,
                                            IMAGE_DIRECT_4K, IMAGE_LOOP,     IMAGE_NULL};
    static const struct engine_ops *const engines[] = {&engine_uring, &engine_aio, &engine_inline};
    int failed = 0;

    for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (unsigned e = 0; e < (kinds[k] == IMAGE_NULL ? 1 : 3); e++) {
            struct subject s = {.kind = kinds[k], .ops = engines[e]};
            const struct CMUnitTest tests[] = {
                {"far_sectors", far_sectors, set_up, tear_down, &s},
                {"huge_discard", huge_discard, set_up, tear_down, &s},
            };
            char name[64];

            (void)snprintf(name, sizeof(name), "%s, %s", image_kind_name(s.kind), s.ops->name);
            failed += _cmocka_run_group_tests(name, tests, 2, NULL, NULL);
        }
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
