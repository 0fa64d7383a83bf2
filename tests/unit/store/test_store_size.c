/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks whose size changes while they are in use, and drives without a medium. */
#include "harness.h"
#include "store_null.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

static struct {
    struct engine_set engines;
    struct test_image image;
    struct store *store;
} rig;

static int set_up(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    rig.image.loop = -1;
    return engine_set_create(8, NULL, &rig.engines);
}

static int tear_down(void **state)
{
    (void)state;
    store_close(rig.store);
    rig.store = NULL;
    image_remove(&rig.image);
    engine_set_destroy(&rig.engines);
    return 0;
}

static void open_image(enum image_kind kind, uint64_t size, uint32_t sector)
{
    struct store_params params = {.direct = image_is_direct(kind),
                                  .size = size,
                                  .sector_size = sector,
                                  .engines = &rig.engines};
    const struct store_driver *driver = kind == IMAGE_NULL ? &store_null : &store_file;
    char why[128] = "";

    if (!image_make(kind, size, &rig.image))
        skip();
    params.fd = image_open(&rig.image, O_RDWR);
    if (image_is_device(kind))
        assert_int_equal(discard_limits_read(params.fd, &params.discard_limits), 0);
    assert_int_equal(driver->open(&params, why, sizeof(why), &rig.store), 0);
}

/* As an administrator does it: truncate the file, then losetup -c. */
static void resize(uint64_t size)
{
    if (rig.image.kind == IMAGE_NULL) {
        store_null_set_size(rig.store, size);
        return;
    }
    assert_int_equal(truncate(rig.image.path, (off_t)size), 0);
    if (rig.image.loop >= 0)
        assert_int_equal(ioctl(rig.image.loop, LOOP_SET_CAPACITY, 0), 0);
}

static void expect_refresh(int result, bool changed, uint64_t size)
{
    bool said = !changed;

    assert_int_equal(store_refresh_size(rig.store, &said), result);
    if (result == 0)
        assert_int_equal(said, changed);
    else
        assert_int_equal(said, !changed); /* untouched */
    assert_int_equal(rig.store->caps.size, size);
}

static void growing(void **state)
{
    enum image_kind kind = *(const enum image_kind *)*state;
    char *data = memory(MIB);
    char *found = memory(MIB);

    open_image(kind, MIB, 0);
    expect_refresh(0, false, MIB);
    fill_pattern(data, MIB, 1);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, 0, data, MIB), 0);
    resize(3 * MIB);
    /* Not before it was looked at: the guest has not been told either. */
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, MIB, data, PAGE), -EINVAL);
    expect_refresh(0, true, 3 * MIB);
    expect_refresh(0, false, 3 * MIB);

    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, 2 * MIB, data, MIB), 0);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, 2 * MIB, found, MIB), 0);
    if (kind != IMAGE_NULL)
        assert_memory_equal(found, data, MIB);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, 0, found, MIB), 0);
    if (kind != IMAGE_NULL)
        assert_memory_equal(found, data, MIB);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, 3 * MIB, found, PAGE), -EINVAL);

    assert_int_equal(run_discard(rig.store, &rig.engines, 2 * MIB, MIB), 0);
    memset(data, 0, MIB);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, 2 * MIB, found, MIB), 0);
    assert_memory_equal(found, data, MIB);
    free(data);
    free(found);
}

static void shrinking(void **state)
{
    enum image_kind kind = *(const enum image_kind *)*state;
    char *data = memory(MIB);

    open_image(kind, 2 * MIB, 0);
    resize(MIB);
    expect_refresh(-ERANGE, false, 2 * MIB);
    if (kind != IMAGE_NULL)
        assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, MIB, data, MIB), -EIO);
    resize(2 * MIB);
    expect_refresh(0, false, 2 * MIB);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, MIB, data, MIB), 0);
    free(data);
}

static void growing_under_io(void **state)
{
    enum image_kind kind = *(const enum image_kind *)*state;
    char *data = memory(MIB);
    char *found = memory(MIB);
    struct test_io write;
    struct test_io discard;

    open_image(kind, 2 * MIB, 0);
    fill_pattern(data, MIB, 7);
    test_io_set(&write, IO_WRITE, 0, data, MIB);
    write.done = store_submit(rig.store, &write.io) == IO_DONE;
    test_io_set_discard(&discard, MIB, MIB);
    discard.done = store_submit(rig.store, &discard.io) == IO_DONE;
    resize(4 * MIB);
    expect_refresh(0, true, 4 * MIB);
    settle(&rig.engines);
    assert_int_equal(write.done, 1);
    assert_int_equal(write.io.result, 0);
    assert_int_equal(discard.done, 1);
    assert_int_equal(discard.io.result, 0);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, 0, found, MIB), 0);
    if (kind != IMAGE_NULL)
        assert_memory_equal(found, data, MIB);
    free(data);
    free(found);
}

static void less_than_a_sector(void **state)
{
    char *data = memory(PAGE);
    (void)state;

    /* Not even whole 512-byte sectors at first. */
    open_image(IMAGE_BUFFERED, 4 * PAGE + 700, 4096);
    assert_int_equal(rig.store->caps.size, 4 * PAGE);
    assert_int_equal(rig.store->caps.sector_size, 4096);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, 3 * PAGE, data, PAGE), 0);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, 4 * PAGE, data, PAGE), -EINVAL);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, 512, data, PAGE), -EINVAL);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, 0, data, 512), -EINVAL);
    resize(5 * PAGE - 1);
    expect_refresh(0, false, 4 * PAGE);
    resize(5 * PAGE);
    expect_refresh(0, true, 5 * PAGE);
    resize(5 * PAGE - 1); /* a byte of a sector is missing that the guest was told of */
    expect_refresh(-ERANGE, false, 5 * PAGE);
    free(data);
}

/* What is said of a file that is gone can't be said of one that is open: it still has its size. */
static void a_deleted_file(void **state)
{
    (void)state;
    open_image(IMAGE_BUFFERED, MIB, 0);
    assert_int_equal(unlink(rig.image.path), 0);
    expect_refresh(0, false, MIB);
}

static void without_a_medium(void **state)
{
    struct store_params params = {.fd = -1, .read_only = true};
    char why[128] = "";
    char *data = memory(PAGE);
    (void)state;

    assert_int_equal(store_empty.open(&params, why, sizeof(why), &rig.store), 0);
    assert_int_equal(rig.store->caps.size, 0);
    assert_int_equal(rig.store->caps.sector_size, 512);
    assert_true(rig.store->caps.read_only);
    assert_false(rig.store->caps.discard);
    assert_string_equal(rig.store->caps.engine, "empty");
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_READ, 0, data, 512), -ENOMEDIUM);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_WRITE, 0, data, 512), -ENOMEDIUM);
    assert_int_equal(run_discard(rig.store, &rig.engines, 0, 512), -ENOMEDIUM);
    assert_int_equal(run_simple(rig.store, &rig.engines, IO_FLUSH, 0, NULL, 0), 0);
    expect_refresh(0, false, 0);

    store_close(rig.store);
    rig.store = NULL;
    params.fd = STDIN_FILENO;
    assert_int_equal(store_empty.open(&params, why, sizeof(why), &rig.store), -EINVAL);
    params.fd = -1;
    params.sector_size = 1000;
    assert_int_equal(store_empty.open(&params, why, sizeof(why), &rig.store), -EINVAL);
    assert_string_equal(why, "1000 is not a sector size");
    free(data);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    static enum image_kind kinds[] = {IMAGE_TMPFS, IMAGE_BUFFERED, IMAGE_DIRECT,
                                      IMAGE_LOOP,  IMAGE_LOOP_4K,  IMAGE_NULL};
    const struct CMUnitTest tests[] = {TEST(less_than_a_sector), TEST(a_deleted_file),
                                       TEST(without_a_medium)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct CMUnitTest each[] = {
            {"growing", growing, set_up, tear_down, &kinds[i]},
            {"shrinking", shrinking, set_up, tear_down, &kinds[i]},
            {"growing_under_io", growing_under_io, set_up, tear_down, &kinds[i]},
        };

        failed += _cmocka_run_group_tests(image_kind_name(kinds[i]), each, 3, NULL, NULL);
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
