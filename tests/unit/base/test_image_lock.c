/* SPDX-License-Identifier: BSD-2-Clause */
/* Lock bytes: they exclude other processes, last as long as the description, and differ between
 * disks. */
#include "testing.h"

#include "blkback/worker_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[TEST_PATH_MAX];
static char path[TEST_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    test_folder_make(folder);
    test_file_write(test_path(folder, "image", path), "x", 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static int open_image(void)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* What another process gets when it tries. */
static int elsewhere(int64_t offset, bool exclusive)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        _exit(-image_lock(fd, offset, exclusive));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return -WEXITSTATUS(status);
}

static void an_exclusive_lock_keeps_everyone_out(void **state)
{
    int fd = open_image();

    (void)state;
    assert_int_equal(image_lock(fd, IMAGE_LOCK_OWNERSHIP, true), 0);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, true), -EAGAIN);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, false), -EAGAIN);
    assert_int_equal(image_unlock(fd, IMAGE_LOCK_OWNERSHIP), 0);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, true), 0);
    (void)close(fd);
}

static void readers_share(void **state)
{
    int fd = open_image();

    (void)state;
    assert_int_equal(image_lock(fd, IMAGE_LOCK_OWNERSHIP, false), 0);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, false), 0);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, true), -EAGAIN);
    (void)close(fd);
}

/* POSIX locks vanish when any descriptor of the file is closed; these must not. */
static void closing_another_descriptor_changes_nothing(void **state)
{
    int fd = open_image();
    int other = open_image();

    (void)state;
    assert_int_equal(image_lock(fd, IMAGE_LOCK_OWNERSHIP, true), 0);
    assert_int_equal(image_lock(other, IMAGE_LOCK_OWNERSHIP, true), -EAGAIN);
    (void)close(other);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, true), -EAGAIN);
    int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    (void)close(fd);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, true), -EAGAIN);
    (void)close(duplicate);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, true), 0);
}

static void fences_of_different_disks_do_not_meet(void **state)
{
    int fd = open_image();
    int64_t fence = image_fence_offset(3, 51712);

    (void)state;
    assert_true(fence > IMAGE_LOCK_OWNERSHIP);
    assert_true(fence != image_fence_offset(3, 51728));
    assert_true(fence != image_fence_offset(4, 51712));
    assert_true(image_fence_offset(32751, UINT32_MAX) > 0);
    assert_int_equal(image_lock(fd, fence, true), 0);
    assert_int_equal(image_lock(fd, image_fence_offset(32751, UINT32_MAX), true), 0);
    assert_int_equal(elsewhere(fence, true), -EAGAIN);
    assert_int_equal(elsewhere(IMAGE_LOCK_OWNERSHIP, true), 0);
    assert_int_equal(elsewhere(image_fence_offset(3, 51728), true), 0);
    (void)close(fd);
}

static void errors_are_passed_on(void **state)
{
    (void)state;
    assert_int_equal(image_lock(-1, IMAGE_LOCK_OWNERSHIP, true), -EBADF);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_exclusive_lock_keeps_everyone_out),
        TEST(readers_share),
        TEST(closing_another_descriptor_changes_nothing),
        TEST(fences_of_different_disks_do_not_meet),
        TEST(errors_are_passed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
