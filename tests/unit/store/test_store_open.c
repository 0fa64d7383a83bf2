/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening a store: what it finds out about an image, which engine it takes, and what it says when
 * it refuses. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The names are the linker's. */
/* NOLINTBEGIN(bugprone-reserved-identifier) */
int __real_statx(int fd, const char *path, int flags, unsigned mask, struct statx *out);
int __wrap_statx(int fd, const char *path, int flags, unsigned mask, struct statx *out);
ssize_t __real_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset);
/* The same call when built with _FORTIFY_SOURCE. */
ssize_t __wrap___pread_chk(int fd, void *buffer, size_t length, off_t offset, size_t room);

/* What the kernel says of direct I/O: the truth, nothing (before Linux 6.1), or this. */
static enum { SAYS_TRUTH, SAYS_NOTHING, SAYS_ALIGNMENT } statx_says;
static unsigned said_offset, said_memory;
static bool reads_fail; /* as a direct read does that is not aligned enough */

int __wrap_statx(int fd, const char *path, int flags, unsigned mask, struct statx *out)
{
    int result = __real_statx(fd, path, flags, mask, out);

    if (statx_says == SAYS_NOTHING) {
        out->stx_mask &= ~STATX_DIOALIGN;
    } else if (statx_says == SAYS_ALIGNMENT) {
        out->stx_mask |= STATX_DIOALIGN;
        out->stx_dio_offset_align = said_offset;
        out->stx_dio_mem_align = said_memory;
    }
    return result;
}

ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset)
{
    if (reads_fail) {
        errno = EINVAL;
        return -1;
    }
    return __real_pread(fd, buffer, length, offset);
}

ssize_t __wrap___pread_chk(int fd, void *buffer, size_t length, off_t offset, size_t room)
{
    assert_true(length <= room);
    return __wrap_pread(fd, buffer, length, offset);
}
/* NOLINTEND(bugprone-reserved-identifier) */

static struct {
    struct engine_set engines;
    struct test_image image;
    struct store *store;
    struct store_params params;
    char why[160];
} rig;

static int set_up(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    rig.image.loop = -1;
    rig.params.fd = -1;
    rig.params.engines = &rig.engines;
    statx_says = SAYS_TRUTH;
    reads_fail = false;
    return engine_set_create(8, NULL, &rig.engines);
}

static int tear_down(void **state)
{
    (void)state;
    if (rig.store)
        store_close(rig.store);
    else if (rig.params.fd >= 0)
        close(rig.params.fd);
    image_remove(&rig.image);
    engine_set_destroy(&rig.engines);
    return 0;
}

/* Makes the image and opens its descriptor; the test is skipped where that is not possible. */
static void image(enum image_kind kind, uint64_t size, int flags)
{
    if (!image_make(kind, size, &rig.image))
        skip();
    rig.params.fd = image_open(&rig.image, flags);
}

static void close_store(void)
{
    store_close(rig.store);
    rig.store = NULL;
    rig.params.fd = -1;
}

static void expect_open(void)
{
    int error = store_file.open(&rig.params, rig.why, sizeof(rig.why), &rig.store);

    if (error)
        print_error("%s\n", rig.why);
    assert_int_equal(error, 0);
    assert_non_null(rig.store);
}

static void expect_refusal(int error, const char *why)
{
    assert_int_equal(store_file.open(&rig.params, rig.why, sizeof(rig.why), &rig.store), error);
    assert_string_equal(rig.why, why);
    assert_null(rig.store);
    if (rig.params.fd >= 0)
        assert_true(fcntl(rig.params.fd, F_GETFD) >= 0); /* still the caller's */
}

static void empty_image(void **state)
{
    (void)state;
    image(IMAGE_BUFFERED, 0, O_RDWR);
    expect_refusal(-EINVAL, "the image is empty");
}

static void image_smaller_than_a_sector(void **state)
{
    (void)state;
    image(IMAGE_BUFFERED, 1000, O_RDWR);
    rig.params.sector_size = 4096;
    expect_refusal(-EINVAL, "the image is smaller than a sector of 4096 bytes");
}

static void neither_file_nor_device(void **state)
{
    (void)state;
    rig.params.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    expect_refusal(-EINVAL, "the image is neither a regular file nor a block device");
    close(rig.params.fd);
    rig.params.fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    expect_refusal(-EINVAL, "the image is neither a regular file nor a block device");
}

static void no_descriptor(void **state)
{
    (void)state;
    expect_refusal(-EBADF, "the image can't be examined: Bad file descriptor");
}

static void odd_size_is_rounded_down(void **state)
{
    (void)state;
    image(IMAGE_BUFFERED, 5 * 512 + 100, O_RDWR);
    expect_open();
    assert_int_equal(rig.store->caps.size, 5 * 512);
    assert_int_equal(rig.store->caps.sector_size, 512);
    assert_int_equal(rig.store->caps.physical_sector_size, 4096);
}

static void sector_size_of_a_file(void **state)
{
    static const uint32_t bad[] = {1, 256, 513, 1000, 8192, 1U << 31};

    (void)state;
    image(IMAGE_BUFFERED, 3 * 4096 + 512, O_RDWR);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        rig.params.sector_size = bad[i];
        assert_int_equal(store_file.open(&rig.params, rig.why, sizeof(rig.why), &rig.store),
                         -EINVAL);
    }
    rig.params.sector_size = 513;
    expect_refusal(-EINVAL, "513 is not a sector size");
    rig.params.sector_size = 4096;
    expect_open();
    assert_int_equal(rig.store->caps.size, 3 * 4096);
    assert_int_equal(rig.store->caps.sector_size, 4096);
    assert_int_equal(rig.store->caps.physical_sector_size, 4096);
}

static void sector_size_of_a_device(void **state)
{
    (void)state;
    image(IMAGE_LOOP_4K, MIB, O_RDWR);
    rig.params.sector_size = 512;
    expect_refusal(-EINVAL, "the device has sectors of 4096 bytes, 512 were asked for");
    rig.params.sector_size = 0;
    expect_open();
    assert_int_equal(rig.store->caps.sector_size, 4096);
    assert_int_equal(rig.store->caps.size, MIB);
}

static void device_in_larger_sectors(void **state)
{
    (void)state;
    image(IMAGE_LOOP, MIB, O_RDWR);
    rig.params.sector_size = 4096;
    expect_open();
    assert_int_equal(rig.store->caps.sector_size, 4096);
    assert_int_equal(rig.store->caps.physical_sector_size, 4096);
    /* Its node lies on a tmpfs; that does not make it a file in memory. */
    assert_string_not_equal(rig.store->caps.engine, "inline");
}

static void descriptor_is_read_only(void **state)
{
    (void)state;
    image(IMAGE_BUFFERED, MIB, O_RDONLY);
    expect_refusal(-EROFS, "the image is read-only");
    rig.params.read_only = true;
    expect_open();
    assert_true(rig.store->caps.read_only);
}

static void device_is_read_only(void **state)
{
    int on = 1;
    int off = 0;
    int error = 0;
    bool read_only = false;

    (void)state;
    image(IMAGE_LOOP, MIB, O_RDWR);
    /* The flag outlives the descriptor, so it is taken back before anything can fail. */
    assert_int_equal(ioctl(rig.params.fd, BLKROSET, &on), 0);
    error = store_file.open(&rig.params, rig.why, sizeof(rig.why), &rig.store);
    rig.params.read_only = true;
    if (error && store_file.open(&rig.params, rig.why, sizeof(rig.why), &rig.store) == 0)
        read_only = rig.store->caps.read_only;
    assert_int_equal(ioctl(rig.params.fd, BLKROSET, &off), 0);

    assert_int_equal(error, -EROFS);
    assert_string_equal(rig.why, "the image is read-only");
    assert_true(read_only);
}

static void direct_is_switched_off_too(void **state)
{
    (void)state;
    image(IMAGE_DIRECT, MIB, O_RDWR | O_DIRECT);
    rig.params.direct = false;
    expect_open();
    assert_false(rig.store->caps.direct);
    assert_int_equal(rig.store->caps.memory_alignment, 1);
    assert_int_equal(fcntl(rig.params.fd, F_GETFL) & O_DIRECT, 0);
}

static void direct_on_tmpfs_is_buffered(void **state)
{
    (void)state;
    image(IMAGE_TMPFS, MIB, O_RDWR);
    rig.params.direct = true;
    expect_open();
    assert_false(rig.store->caps.direct);
    assert_int_equal(fcntl(rig.params.fd, F_GETFL) & O_DIRECT, 0);
}

static void expect_direct(bool direct, unsigned memory_alignment)
{
    expect_open();
    assert_int_equal(rig.store->caps.direct, direct);
    assert_int_equal(rig.store->caps.memory_alignment, memory_alignment);
    assert_int_equal((fcntl(rig.params.fd, F_GETFL) & O_DIRECT) != 0, direct);
}

static void coarse_direct_alignment_is_buffered(void **state)
{
    (void)state;
    image(IMAGE_DIRECT, MIB, O_RDWR);
    rig.params.direct = true;
    statx_says = SAYS_ALIGNMENT;
    said_offset = 4096;
    said_memory = 512;
    expect_direct(false, 1);
    close_store();

    /* The same file is direct in sectors that fit. */
    rig.params.fd = image_open(&rig.image, O_RDWR);
    rig.params.sector_size = 4096;
    expect_direct(true, 512);
    close_store();

    rig.params.fd = image_open(&rig.image, O_RDWR);
    said_offset = 0; /* no direct I/O at all */
    said_memory = 0;
    expect_direct(false, 1);
}

static void direct_by_trying(void **state)
{
    (void)state;
    image(IMAGE_DIRECT, MIB, O_RDWR);
    rig.params.direct = true;
    rig.params.sector_size = 4096;
    statx_says = SAYS_NOTHING;
    expect_direct(true, 4096);
    close_store();

    rig.params.fd = image_open(&rig.image, O_RDWR);
    reads_fail = true;
    expect_direct(false, 1);
}

static void one_sector_is_enough_to_try(void **state)
{
    (void)state;
    image(IMAGE_DIRECT, 4096, O_RDWR);
    rig.params.direct = true;
    rig.params.sector_size = 4096;
    statx_says = SAYS_NOTHING;
    expect_direct(true, 4096);
}

static const char *engine_for(enum image_kind kind, struct engine_set engines)
{
    const char *name = NULL;

    image(kind, MIB, O_RDWR);
    rig.params.engines = &engines;
    expect_open();
    rig.params.engines = &rig.engines;
    name = rig.store->caps.engine;
    close_store();
    image_remove(&rig.image);
    return name;
}

static void engine_is_chosen(void **state)
{
    struct engine_set all = rig.engines;
    struct engine_set without_uring = {.aio = all.aio, .inline_ = all.inline_};
    struct engine_set only_inline = {.inline_ = all.inline_};

    (void)state;
    if (!all.uring || !all.aio)
        skip();
    assert_string_equal(engine_for(IMAGE_TMPFS, all), "inline");
    assert_string_equal(engine_for(IMAGE_BUFFERED, all), "uring");
    assert_string_equal(engine_for(IMAGE_BUFFERED, without_uring), "aio");
    assert_string_equal(engine_for(IMAGE_BUFFERED, only_inline), "inline");
    rig.params.engine = &engine_uring;
    assert_string_equal(engine_for(IMAGE_TMPFS, all), "uring");
    rig.params.engine = &engine_inline;
    assert_string_equal(engine_for(IMAGE_BUFFERED, all), "inline");
}

static void named_engine_is_missing(void **state)
{
    struct engine_set without_uring = {.aio = rig.engines.aio, .inline_ = rig.engines.inline_};

    (void)state;
    image(IMAGE_BUFFERED, MIB, O_RDWR);
    rig.params.engines = &without_uring;
    rig.params.engine = &engine_uring;
    expect_refusal(-ENOTSUP, "the kernel does not have or does not allow the engine uring");
    assert_int_equal(fcntl(rig.params.fd, F_GETFL) & O_DIRECT, 0);
}

static void engine_set_of_an_impossible_depth(void **state)
{
    struct engine_set set;

    (void)state;
    /* No kernel has queues of that size: what remains is the inline engine. */
    assert_int_equal(engine_set_create(UINT32_MAX, NULL, &set), 0);
    assert_null(set.uring);
    assert_null(set.aio);
    assert_non_null(set.inline_);
    assert_int_equal(engine_set_commit(&set), 0);
    engine_set_destroy(&set);
    engine_set_destroy(&set);
    engine_set_destroy(NULL);
}

static void engine_set_gives_everything_back(void **state)
{
    struct engine_set set;
    int uring = -1;
    int aio = -1;

    (void)state;
    assert_int_equal(engine_set_create(8, NULL, &set), 0);
    if (set.uring)
        uring = set.uring->ops->event_fd(set.uring);
    if (set.aio)
        aio = set.aio->ops->event_fd(set.aio);
    engine_set_destroy(&set);
    assert_int_equal(fcntl(uring, F_GETFD), -1);
    assert_int_equal(fcntl(aio, F_GETFD), -1);
}

static void null_store(void **state)
{
    (void)state;
    rig.params.size = 10 * 512 + 1;
    assert_int_equal(store_null.open(&rig.params, rig.why, sizeof(rig.why), &rig.store), 0);
    assert_int_equal(rig.store->caps.size, 10 * 512);
    assert_int_equal(rig.store->caps.sector_size, 512);
    assert_string_equal(rig.store->caps.engine, "null");
    close_store();

    rig.params.size = 511;
    assert_int_equal(store_null.open(&rig.params, rig.why, sizeof(rig.why), &rig.store), -EINVAL);
    assert_string_equal(rig.why, "the disk is smaller than a sector of 512 bytes");
    rig.params.sector_size = 100;
    assert_int_equal(store_null.open(&rig.params, rig.why, sizeof(rig.why), &rig.store), -EINVAL);
    assert_string_equal(rig.why, "100 is not a sector size");
    rig.params.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(store_null.open(&rig.params, rig.why, sizeof(rig.why), &rig.store), -EINVAL);
    assert_string_equal(rig.why, "a null disk has no image");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(empty_image),
        TEST(image_smaller_than_a_sector),
        TEST(neither_file_nor_device),
        TEST(no_descriptor),
        TEST(odd_size_is_rounded_down),
        TEST(sector_size_of_a_file),
        TEST(sector_size_of_a_device),
        TEST(device_in_larger_sectors),
        TEST(descriptor_is_read_only),
        TEST(device_is_read_only),
        TEST(direct_is_switched_off_too),
        TEST(direct_on_tmpfs_is_buffered),
        TEST(coarse_direct_alignment_is_buffered),
        TEST(direct_by_trying),
        TEST(one_sector_is_enough_to_try),
        TEST(engine_is_chosen),
        TEST(named_engine_is_missing),
        TEST(engine_set_of_an_impossible_depth),
        TEST(engine_set_gives_everything_back),
        TEST(null_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
