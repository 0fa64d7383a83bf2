/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of the stores share: see harness.h. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

const char *image_kind_name(enum image_kind kind)
{
    static const char *const names[IMAGE_KINDS] = {"tmpfs", "buffered", "direct", "direct 4K",
                                                   "loop",  "loop 4K",  "null"};

    return names[kind];
}

bool image_is_device(enum image_kind kind)
{
    return kind == IMAGE_LOOP || kind == IMAGE_LOOP_4K;
}

bool image_is_direct(enum image_kind kind)
{
    return image_is_device(kind) || kind == IMAGE_DIRECT || kind == IMAGE_DIRECT_4K;
}

static bool on_tmpfs(const char *path)
{
    struct statfs status;

    return statfs(path, &status) == 0 && status.f_type == TMPFS_MAGIC;
}

/* Makes a block device of the file. Returns false where that isn't possible. */
static bool make_loop(struct test_image *image, uint32_t block_size)
{
    struct loop_config configuration = {.block_size = block_size,
                                        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file = open(image->path, O_RDWR | O_CLOEXEC);

    /* Another program may take the free device first. */
    for (int attempt = 0; control >= 0 && file >= 0 && attempt < 10 && image->loop < 0; attempt++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);

        (void)snprintf(image->node, sizeof(image->node), "/dev/loop%d", number);
        image->loop = number < 0 ? -1 : open(image->node, O_RDWR | O_CLOEXEC);
        configuration.fd = (uint32_t)file;
        if (image->loop >= 0 && ioctl(image->loop, LOOP_CONFIGURE, &configuration)) {
            close(image->loop);
            image->loop = -1;
        }
    }
    if (control >= 0)
        close(control);
    if (file >= 0)
        close(file);
    return image->loop >= 0;
}

static bool direct_possible(const char *path)
{
    int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

    if (fd < 0)
        return false;
    close(fd);
    return !on_tmpfs(path);
}

bool image_make(enum image_kind kind, uint64_t size, struct test_image *image)
{
    const char *folder = kind == IMAGE_TMPFS ? "/dev/shm" : ".";
    int fd = -1;
    bool made = true;

    *image = (struct test_image){.kind = kind, .loop = -1};
    if (kind == IMAGE_NULL)
        return true;
    if (kind == IMAGE_TMPFS && !on_tmpfs(folder))
        return false;
    (void)snprintf(image->path, sizeof(image->path), "%s/blkback-test-XXXXXX", folder);
    fd = mkostemp(image->path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);

    if (image_is_device(kind))
        made = make_loop(image, kind == IMAGE_LOOP ? 512 : 4096);
    else if (image_is_direct(kind))
        made = direct_possible(image->path);
    if (!made)
        image_remove(image);
    return made;
}

void image_remove(struct test_image *image)
{
    if (image->loop >= 0)
        close(image->loop);
    if (image->path[0])
        unlink(image->path);
    *image = (struct test_image){.kind = image->kind, .loop = -1};
}

int image_open(const struct test_image *image, int flags)
{
    int fd = -1;

    if (image->kind == IMAGE_NULL)
        return -1;
    fd = open(image->loop >= 0 ? image->node : image->path, flags | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* By number: what the C library has of these may be replaced, for the engines to see it fail. */
void image_peek(const struct test_image *image, uint64_t offset, void *buffer, size_t length)
{
    int fd = open(image->path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(syscall(SYS_pread64, fd, buffer, length, (off_t)offset), (ssize_t)length);
    close(fd);
}

void image_poke(const struct test_image *image, uint64_t offset, const void *buffer, size_t length)
{
    int fd = image_open(image, O_WRONLY);

    assert_int_equal(syscall(SYS_pwrite64, fd, buffer, length, (off_t)offset), (ssize_t)length);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

uint64_t image_allocated(const struct test_image *image)
{
    struct stat status;
    int fd = open(image->path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fstat(fd, &status), 0);
    close(fd);
    return (uint64_t)status.st_blocks * 512;
}

char *memory(size_t length)
{
    char *buffer = aligned_alloc(4096, (length + 4095) / 4096 * 4096);

    assert_non_null(buffer);
    memset(buffer, 0xAA, length);
    return buffer;
}

void fill_pattern(char *buffer, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = (char)(unsigned char)(i + (i >> 8) * 31 + (i >> 16) * 7 + (size_t)seed * 101);
}

static void count_done(struct io *io)
{
    ((struct test_io *)io)->done++;
}

void test_io_set_vector(struct test_io *t, enum io_operation operation, uint64_t offset,
                        struct iovec *iov, unsigned count)
{
    *t = (struct test_io){.io = {.operation = operation,
                                 .offset = offset,
                                 .iov = iov,
                                 .iov_count = count,
                                 .done = count_done,
                                 .result = 4711}};
    for (unsigned i = 0; i < count; i++)
        t->io.length += iov[i].iov_len;
}

void test_io_set(struct test_io *t, enum io_operation operation, uint64_t offset, void *buffer,
                 size_t length)
{
    struct iovec iov = {.iov_base = buffer, .iov_len = length};

    test_io_set_vector(t, operation, offset, &iov, operation == IO_FLUSH ? 0 : 1);
    t->single = iov;
    t->io.iov = &t->single;
}

void test_io_set_discard(struct test_io *t, uint64_t offset, uint64_t length)
{
    test_io_set_vector(t, IO_DISCARD, offset, NULL, 0);
    t->io.length = length;
}

void engine_wait(const struct engine *engine)
{
    struct pollfd event = {.fd = engine->ops->event_fd(engine), .events = POLLIN};
    int ready = -1;

    /* Completions of an io_uring interrupt a wait before they make the ring readable. */
    do {
        ready = poll(&event, 1, 10000);
    } while (ready < 0 && errno == EINTR);
    assert_int_equal(ready, 1);
}

void engine_drain(struct engine *engine)
{
    while (engine->in_flight > 0) {
        engine_wait(engine);
        (void)engine->ops->reap(engine);
    }
}

void settle(const struct engine_set *engines)
{
    assert_int_equal(engine_set_commit(engines), 0);
    if (engines->uring)
        engine_drain(engines->uring);
    if (engines->aio)
        engine_drain(engines->aio);
    if (engines->slow)
        engine_drain(engines->slow);
}

int run_io(struct store *store, const struct engine_set *engines, struct test_io *t)
{
    enum io_submit answer = store_submit(store, &t->io);

    assert_int_not_equal(answer, IO_BUSY);
    assert_int_equal(t->done, 0);
    if (answer == IO_DONE)
        return t->io.result;
    settle(engines);
    assert_int_equal(t->done, 1);
    return t->io.result;
}

int run_simple(struct store *store, const struct engine_set *engines, enum io_operation operation,
               uint64_t offset, void *buffer, size_t length)
{
    struct test_io t;

    test_io_set(&t, operation, offset, buffer, length);
    return run_io(store, engines, &t);
}

int run_discard(struct store *store, const struct engine_set *engines, uint64_t offset,
                uint64_t length)
{
    struct test_io t;

    test_io_set_discard(&t, offset, length);
    return run_io(store, engines, &t);
}
