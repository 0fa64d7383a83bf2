/* SPDX-License-Identifier: BSD-2-Clause */
/* Which bytes a discard is about, what an image is found to discard, and that asking costs it
 * nothing. */
#include "harness.h"

#include "discard.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRANULE ((uint64_t)4096)

/* The names are the linker's. */
/* NOLINTBEGIN(bugprone-reserved-identifier) */
int __real_fallocate(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t length);
int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);

static int punch_error;   /* 0: the truth */
static int discard_error; /* of BLKDISCARD; 0: the truth */
static int secure_error;  /* of BLKSECDISCARD */
static bool destructive;  /* a range was asked for that a device could discard */

/* Ranges that a device was told to discard. */
static struct {
    uint64_t start, length;
} told[16];
static unsigned told_count;
/* Holes that io_uring was asked for: how many, and the largest. */
static unsigned holes;
static uint64_t largest_hole;

int __wrap_io_uring_submit(struct io_uring *ring)
{
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        const struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];

        if (sqe->opcode != IORING_OP_FALLOCATE)
            continue;
        holes++;
        /* Its length, says io_uring_prep_fallocate(). */
        largest_hole = sqe->addr > largest_hole ? sqe->addr : largest_hole;
    }
    return __real_io_uring_submit(ring);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (punch_error) {
        errno = punch_error;
        return -1;
    }
    return __real_fallocate(fd, mode, offset, length);
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
    int error = request == BLKDISCARD ? discard_error : request == BLKSECDISCARD ? secure_error : 0;

    if (request == BLKDISCARD || request == BLKSECDISCARD) {
        const uint64_t *range = argument;

        destructive = destructive || range[0] % 512 == 0;
        if (range[0] % 512 == 0 && told_count < sizeof(told) / sizeof(told[0])) {
            told[told_count].start = range[0];
            told[told_count++].length = range[1];
        }
    }
    if (error) {
        errno = error;
        return -1;
    }
    return __real_ioctl(fd, request, argument);
}
/* NOLINTEND(bugprone-reserved-identifier) */

static struct {
    struct engine_set engines;
    struct test_image image;
    struct store *store;
    struct store_params params;
} rig;

static int set_up(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    rig.image.loop = -1;
    rig.params.fd = -1;
    rig.params.engines = &rig.engines;
    punch_error = 0;
    discard_error = 0;
    secure_error = 0;
    destructive = false;
    told_count = 0;
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

static void make_image(enum image_kind kind, uint64_t size)
{
    if (!image_make(kind, size, &rig.image))
        skip();
    rig.params.fd = image_open(&rig.image, O_RDWR);
    if (image_is_device(kind))
        assert_int_equal(discard_limits_read(rig.params.fd, &rig.params.discard_limits), 0);
}

static const struct store_caps *open_store(void)
{
    char why[128] = "";

    assert_int_equal(store_file.open(&rig.params, why, sizeof(why), &rig.store), 0);
    return &rig.store->caps;
}

static const struct {
    uint64_t offset, length, start, end; /* start == end: nothing */
    uint32_t granularity, alignment;
} ranges[] = {
    {0, 4096, 0, 4096, 4096, 0},
    {0, 4095, 0, 0, 4096, 0},
    {1, 4096, 0, 0, 4096, 0},
    {1, 8191, 4096, 8192, 4096, 0},
    {512, 512, 512, 1024, 512, 0},
    {512, 3 * GRANULE, 4096, 3 * GRANULE, 4096, 0},
    {0, 100, 0, 0, 4096, 1024}, /* ends before the first granule begins */
    {0, 1024, 0, 0, 4096, 1024},
    {0, 1024 + GRANULE, 1024, 1024 + GRANULE, 4096, 1024},
    {1024, 4095, 0, 0, 4096, 1024},
    {1025, 2 * GRANULE, 5120, 5120 + GRANULE, 4096, 1024},
    {7, 5000, 1000, 5000, 1000, 0}, /* no power of two */
    {7, 5000, 300, 4300, 1000, 300},
    {UINT64_C(1) << 62, 4096, UINT64_C(1) << 62, (UINT64_C(1) << 62) + 4096, 4096, 0},
    {(UINT64_C(1) << 62) - 1, 8192, UINT64_C(1) << 62, (UINT64_C(1) << 62) + 4096, 4096, 0},
};

static void rounded_inwards(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        struct discard_rules rules = {.possible = true,
                                      .granularity = ranges[i].granularity,
                                      .alignment = ranges[i].alignment,
                                      .chunk = (uint64_t)ranges[i].granularity * 10};
        struct test_io t;

        test_io_set_discard(&t, ranges[i].offset, ranges[i].length);
        assert_int_equal(discard_prepare(&rules, &t.io), ranges[i].start < ranges[i].end);
        /* The owner's part is not touched: it is submitted again after BUSY. */
        assert_int_equal(t.io.offset, ranges[i].offset);
        assert_int_equal(t.io.length, ranges[i].length);
        if (ranges[i].start == ranges[i].end)
            continue;
        assert_int_equal(t.io.engine.position, ranges[i].start);
        assert_int_equal(t.io.engine.left, ranges[i].end - ranges[i].start);
    }
}

static void a_file_that_can(void **state)
{
    const struct store_caps *caps = NULL;
    struct stat before;
    struct stat after;
    char *data = memory(MIB);
    char *found = memory(MIB);
    (void)state;

    make_image(IMAGE_BUFFERED, MIB);
    fill_pattern(data, MIB, 1);
    image_poke(&rig.image, 0, data, MIB);
    assert_int_equal(stat(rig.image.path, &before), 0);
    caps = open_store();
    assert_true(caps->discard);
    assert_false(caps->discard_secure);
    assert_true(caps->discard_granularity >= 512 && caps->discard_granularity % 512 == 0);
    assert_int_equal(caps->discard_alignment, 0);
    /* Asking has changed nothing. */
    assert_int_equal(stat(rig.image.path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(after.st_blocks, before.st_blocks);
    image_peek(&rig.image, 0, found, MIB);
    assert_memory_equal(found, data, MIB);
    free(data);
    free(found);
}

static void a_file_that_cannot(void **state)
{
    static const int errors[] = {EOPNOTSUPP, ENOSYS, EPERM, ETXTBSY};
    (void)state;

    make_image(IMAGE_BUFFERED, MIB);
    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        const struct store_caps *caps = NULL;

        punch_error = errors[i];
        caps = open_store();
        assert_false(caps->discard);
        assert_int_equal(caps->discard_granularity, 0);
        assert_int_equal(run_discard(rig.store, &rig.engines, 0, MIB), -ENOTSUP);
        store_close(rig.store);
        rig.store = NULL;
        rig.params.fd = image_open(&rig.image, O_RDWR);
    }
    punch_error = EFBIG; /* says something about the place only */
    assert_true(open_store()->discard);
}

/* Only two engines do it, and one of them files only: the others would hold up the loop. */
static void engines_that_refuse(void **state)
{
    struct engine *const engines[] = {rig.engines.uring, rig.engines.aio, rig.engines.inline_};
    struct discard_rules rules = {
        .possible = true, .device = true, .granularity = 4096, .chunk = 4096};
    struct test_io t;
    (void)state;

    make_image(IMAGE_LOOP, MIB);
    for (unsigned i = 0; i < 3; i++) {
        if (!engines[i])
            continue;
        test_io_set_discard(&t, 0, MIB);
        assert_true(discard_prepare(&rules, &t.io));
        assert_int_equal(engines[i]->ops->submit(engines[i], rig.params.fd, &t.io), IO_DONE);
        assert_int_equal(t.io.result, -ENOTSUP);
        assert_int_equal(engines[i]->in_flight, 0);
    }
    assert_false(destructive);
}

static void not_without_an_engine(void **state)
{
    struct engine *slow = rig.engines.slow;
    (void)state;

    make_image(IMAGE_BUFFERED, MIB);
    rig.engines.slow = NULL;
    rig.params.engine = &engine_inline;
    assert_false(open_store()->discard);
    assert_int_equal(run_discard(rig.store, &rig.engines, 0, MIB), -ENOTSUP);
    rig.engines.slow = slow;
}

static void a_device_of_limits(void **state)
{
    const struct store_caps *caps = NULL;
    char *data = memory(MIB);
    char *found = memory(MIB);
    (void)state;

    make_image(IMAGE_LOOP, MIB);
    fill_pattern(data, MIB, 2);
    image_poke(&rig.image, 0, data, MIB);
    assert_true(rig.params.discard_limits.max_bytes > 0);
    assert_true(rig.params.discard_limits.granularity >= 512);
    rig.params.discard_limits.granularity = 65536;
    rig.params.discard_limits.alignment = 65536 + 512;
    caps = open_store();
    assert_true(caps->discard);
    assert_false(caps->discard_secure);
    assert_int_equal(caps->discard_granularity, 65536);
    assert_int_equal(caps->discard_alignment, 512);
    assert_false(destructive);
    image_peek(&rig.image, 0, found, MIB);
    assert_memory_equal(found, data, MIB);

    assert_int_equal(run_discard(rig.store, &rig.engines, 0, 65536), 0); /* no whole granule */
    image_peek(&rig.image, 0, found, MIB);
    assert_memory_equal(found, data, MIB);
    free(data);
    free(found);
}

/* A device may take less at once than it is asked for, and no whole number of granules. */
static void in_pieces_that_a_device_takes(void **state)
{
    static const struct {
        uint64_t most, piece;
    } limits[] = {
        {UINT64_C(4294966784), 15 * (uint64_t)65536}, {200000, 3 * (uint64_t)65536}, {512, 65536}};
    (void)state;

    make_image(IMAGE_LOOP, MIB);
    rig.params.discard_limits.granularity = 65536;
    rig.params.discard_limits.alignment = 512;
    for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        uint64_t next = 512;

        rig.params.discard_limits.max_bytes = limits[i].most;
        (void)open_store();
        told_count = 0;
        assert_int_equal(run_discard(rig.store, &rig.engines, 0, MIB), 0);
        assert_int_equal(told_count, UINT64_C(15) * 65536 / limits[i].piece);
        for (unsigned p = 0; p < told_count; p++) {
            assert_int_equal(told[p].start, next);
            assert_int_equal(told[p].length, limits[i].piece);
            next += limits[i].piece;
        }
        store_close(rig.store);
        rig.store = NULL;
        rig.params.fd = image_open(&rig.image, O_RDWR);
    }
}

/* A file is locked while it gets a hole: one as large as the disk must not hold up everything. */
static void in_pieces_of_a_file(void **state)
{
    (void)state;
    if (!rig.engines.uring)
        skip();
    make_image(IMAGE_BUFFERED, 1024 * MIB);
    rig.params.engine = &engine_uring;
    (void)open_store();
    holes = 0;
    largest_hole = 0;
    assert_int_equal(run_discard(rig.store, &rig.engines, 0, 1024 * MIB), 0);
    assert_true(holes >= 16 && holes <= 64);
    assert_true(largest_hole <= 64 * MIB);
}

static void a_device_that_cannot(void **state)
{
    (void)state;
    make_image(IMAGE_LOOP, MIB);
    discard_error = EOPNOTSUPP;
    assert_false(open_store()->discard);
    store_close(rig.store);
    rig.store = NULL;
    discard_error = 0;

    rig.params.fd = image_open(&rig.image, O_RDWR);
    rig.params.discard_limits = (struct discard_limits){.granularity = 4096};
    assert_false(open_store()->discard);
}

static void a_device_that_erases(void **state)
{
    const struct store_caps *caps = NULL;
    struct test_io t;
    (void)state;

    make_image(IMAGE_LOOP_4K, MIB);
    secure_error = EINVAL;
    caps = open_store();
    assert_true(caps->discard_secure);
    assert_false(destructive);
    /* What is not whole sectors can't be erased as it was promised. */
    test_io_set_discard(&t, 512, 4096);
    t.io.secure = true;
    assert_int_equal(run_io(rig.store, &rig.engines, &t), -EINVAL);
    test_io_set_discard(&t, 4096, 4096);
    t.io.secure = true;
    secure_error = EIO;
    assert_int_equal(run_io(rig.store, &rig.engines, &t), -EIO);
    assert_true(destructive);
}

static void limits_of_what_is_no_device(void **state)
{
    struct discard_limits limits = {.max_bytes = 5};
    (void)state;

    make_image(IMAGE_BUFFERED, MIB);
    assert_int_equal(discard_limits_read(rig.params.fd, &limits), -ENOTBLK);
    assert_int_equal(discard_limits_read(-1, &limits), -EBADF);
    assert_int_equal(limits.max_bytes, 5);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rounded_inwards),
        TEST(a_file_that_can),
        TEST(a_file_that_cannot),
        TEST(not_without_an_engine),
        TEST(engines_that_refuse),
        TEST(a_device_of_limits),
        TEST(a_device_that_cannot),
        TEST(a_device_that_erases),
        TEST(limits_of_what_is_no_device),
        TEST(in_pieces_that_a_device_takes),
        TEST(in_pieces_of_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
