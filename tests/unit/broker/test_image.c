/* SPDX-License-Identifier: BSD-2-Clause */
/* Who gets an image: other domains, other processes, the same guest, and what is no image at all.
 */
#include "testing.h"

#include "blkback/worker_protocol.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[TEST_PATH_MAX];
static char path[TEST_PATH_MAX];
static char why[IMAGE_WHY_MAX];
static struct image_table *table;

static int set_up(void **state)
{
    (void)state;
    test_folder_make(folder);
    test_file_write(test_path(folder, "image", path), "data", 4);
    return image_table_create(&table);
}

static int tear_down(void **state)
{
    (void)state;
    image_table_destroy(table);
    test_folder_remove(folder);
    return 0;
}

static struct image_user user(uint32_t domid, const char *uuid)
{
    struct image_user made = {.domid = domid, .devid = 51712, .target_domid = domid};

    (void)snprintf(made.uuid, sizeof(made.uuid), "%s", uuid);
    return made;
}

static int acquire(enum image_mode mode, const struct image_user *who, struct image **out)
{
    *out = NULL;
    return image_acquire(table, path, mode, who, why, out);
}

/* What another process gets that wants the image in this way. */
static int elsewhere(bool exclusive)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        _exit(-image_lock(fd, IMAGE_LOCK_OWNERSHIP, exclusive));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return -WEXITSTATUS(status);
}

static void a_second_writer_is_refused_and_told_which_domain(void **state)
{
    struct image_user first = user(5, "a");
    struct image_user second = user(6, "b");
    struct image *image, *other;
    char expected[IMAGE_WHY_MAX];

    (void)state;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &first, &image), 0);
    (void)snprintf(expected, sizeof(expected), "%.200s: in use by domain 5", path);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &second, &other), -EBUSY);
    assert_string_equal(why, expected);
    assert_int_equal(acquire(IMAGE_READ_ONLY, &second, &other), -EBUSY);
    assert_int_equal(acquire(IMAGE_SHARED, &second, &other), -EBUSY);
    assert_null(other);
    image_release(table, image);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &second, &other), 0);
    image_release(table, other);
}

static void a_writer_is_refused_while_another_domain_reads(void **state)
{
    struct image_user first = user(5, "a");
    struct image_user second = user(6, "b");
    struct image *image, *other;

    (void)state;
    assert_int_equal(acquire(IMAGE_READ_ONLY, &first, &image), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &second, &other), -EBUSY);
    assert_int_equal(acquire(IMAGE_READ_ONLY, &second, &other), 0);
    image_release(table, image);
    image_release(table, other);
}

static void shared_writers_and_readers_coexist(void **state)
{
    struct image_user first = user(5, "a");
    struct image_user second = user(6, "b");
    struct image_user third = user(7, "c");
    struct image *image, *other, *reader;

    (void)state;
    assert_int_equal(acquire(IMAGE_SHARED, &first, &image), 0);
    assert_int_equal(acquire(IMAGE_SHARED, &second, &other), 0);
    assert_int_equal(acquire(IMAGE_READ_ONLY, &third, &reader), 0);
    assert_int_equal(elsewhere(false), 0);
    assert_int_equal(elsewhere(true), -EAGAIN);
    image_release(table, image);
    image_release(table, other);
    image_release(table, reader);
    assert_int_equal(elsewhere(true), 0);
}

static void other_processes_are_kept_out_and_keep_us_out(void **state)
{
    struct image_user who = user(5, "a");
    struct image *image;

    (void)state;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &who, &image), 0);
    assert_int_equal(elsewhere(true), -EAGAIN);
    assert_int_equal(elsewhere(false), -EAGAIN);
    image_release(table, image);
    assert_int_equal(elsewhere(true), 0);

    int ours = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(image_lock(ours, IMAGE_LOCK_OWNERSHIP, false), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &who, &image), -EBUSY);
    assert_non_null(strstr(why, ": locked by another process"));
    assert_int_equal(acquire(IMAGE_READ_ONLY, &who, &image), 0);
    image_release(table, image);
    (void)close(ours);
}

static void a_stub_domain_shares_with_its_guest(void **state)
{
    struct image_user guest = user(5, "a");
    struct image_user stub = user(6, "b");
    struct image_user stranger = user(7, "c");
    struct image *image, *other, *third;

    (void)state;
    stub.target_domid = 5;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &stub, &other), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &guest, &image), 0);
    assert_false(image_held_by_twin(table, image));
    /* The lock stays when the one that took it goes. */
    image_release(table, other);
    assert_int_equal(elsewhere(false), -EAGAIN);
    assert_int_equal(acquire(IMAGE_READ_ONLY, &stranger, &third), -EBUSY);
    image_release(table, image);
    assert_int_equal(elsewhere(true), 0);
}

static void the_other_end_of_a_local_migration_shares_and_waits(void **state)
{
    struct image_user source = user(5, "a");
    struct image_user destination = user(6, "a");
    struct image *image, *other;

    (void)state;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &source, &image), 0);
    assert_false(image_held_by_twin(table, image));
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &destination, &other), 0);
    assert_true(image_held_by_twin(table, other));
    image_release(table, image);
    assert_false(image_held_by_twin(table, other));
    assert_int_equal(elsewhere(true), -EAGAIN);
    image_release(table, other);
}

static void unknown_uuids_and_domain_0_are_never_the_same_guest(void **state)
{
    struct image_user first = user(5, "");
    struct image_user second = user(6, "");
    struct image_user host = user(0, "0000");
    struct image *image, *other;

    (void)state;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &first, &image), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &second, &other), -EBUSY);
    image_release(table, image);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &host, &image), 0);
    host.devid++;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &host, &other), -EBUSY);
    image_release(table, image);
}

/* A guest's read-only and writable disks on one image, in both orders, and their going in both
 * orders. */
static void disks_of_one_guest_hand_the_lock_over(void **state)
{
    struct image_user who = user(5, "a");
    struct image *reader, *writer;

    (void)state;
    assert_int_equal(acquire(IMAGE_READ_ONLY, &who, &reader), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &who, &writer), 0);
    assert_int_equal(elsewhere(false), -EAGAIN);
    image_release(table, writer);
    assert_int_equal(elsewhere(false), 0); /* readers only */
    assert_int_equal(elsewhere(true), -EAGAIN);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &who, &writer), 0);
    image_release(table, reader);
    assert_int_equal(elsewhere(false), -EAGAIN);
    assert_int_equal(acquire(IMAGE_READ_ONLY, &who, &reader), 0);
    image_release(table, writer);
    assert_int_equal(elsewhere(false), 0);
    assert_int_equal(elsewhere(true), -EAGAIN);
    image_release(table, reader);
    assert_int_equal(elsewhere(true), 0);
}

static void a_failed_upgrade_leaves_the_readers_their_lock(void **state)
{
    struct image_user who = user(5, "a");
    struct image *reader, *writer;
    int ours = open(path, O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(acquire(IMAGE_READ_ONLY, &who, &reader), 0);
    assert_int_equal(image_lock(ours, IMAGE_LOCK_OWNERSHIP, false), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &who, &writer), -EBUSY);
    (void)close(ours);
    assert_int_equal(elsewhere(true), -EAGAIN);
    image_release(table, reader);
}

static void hard_links_and_symlinks_are_the_same_image(void **state)
{
    struct image_user first = user(5, "a");
    struct image_user second = user(6, "b");
    struct image *image, *other;
    char other_path[TEST_PATH_MAX];

    (void)state;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &first, &image), 0);
    assert_int_equal(link(path, test_path(folder, "hard", other_path)), 0);
    assert_int_equal(image_acquire(table, other_path, IMAGE_EXCLUSIVE, &second, why, &other),
                     -EBUSY);
    assert_int_equal(symlink(path, test_path(folder, "soft", other_path)), 0);
    assert_int_equal(image_acquire(table, other_path, IMAGE_EXCLUSIVE, &second, why, &other),
                     -EBUSY);
    image_release(table, image);
}

static void the_worker_gets_the_same_file_whatever_the_path_names_by_then(void **state)
{
    struct image_user who = user(5, "a");
    struct image *image;
    char moved[TEST_PATH_MAX];
    char bytes[4];

    (void)state;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &who, &image), 0);
    assert_int_equal(rename(path, test_path(folder, "moved", moved)), 0);
    test_file_write(path, "trap", 4);
    int fd = image_open_for_worker(image);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, 4, 0), 4);
    assert_memory_equal(bytes, "data", 4);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    /* It is a description of its own: its fence is not the broker's. */
    int broker_like = open(moved, O_RDWR | O_CLOEXEC);
    assert_int_equal(image_lock(fd, image_fence_offset(5, 51712), true), 0);
    assert_int_equal(image_lock(broker_like, image_fence_offset(5, 51712), true), -EAGAIN);
    (void)close(fd);
    assert_int_equal(image_lock(broker_like, image_fence_offset(5, 51712), true), 0);
    (void)close(broker_like);
    image_release(table, image);
}

static void a_read_only_user_gets_a_read_only_descriptor(void **state)
{
    struct image_user who = user(5, "a");
    struct image *reader, *writer;

    (void)state;
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &who, &writer), 0);
    assert_int_equal(acquire(IMAGE_READ_ONLY, &who, &reader), 0);
    int fd = image_open_for_worker(reader);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    (void)close(fd);
    image_release(table, reader);
    image_release(table, writer);
}

static void identity_is_device_and_inode(void **state)
{
    struct image_user who = user(5, "a");
    struct image *image;
    struct stat status;
    uint64_t device, inode;

    (void)state;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(acquire(IMAGE_READ_ONLY, &who, &image), 0);
    image_identity(image, &device, &inode);
    assert_int_equal(device, status.st_dev);
    assert_int_equal(inode, status.st_ino);
    assert_false(image_is_block_device(image));
    image_release(table, image);
}

static void expect_refusal(const char *what, int error, const char *reason)
{
    struct image_user who = user(5, "a");
    struct image *image = NULL;
    int rc = image_acquire(table, what, IMAGE_EXCLUSIVE, &who, why, &image);

    if (rc != error || !strstr(why, reason) || strncmp(why, what, strlen(what)) != 0)
        fail_msg("%s: %d, %s", what, rc, why);
    assert_null(image);
}

/* Opening the fifo would hang, and run into the test's time-out. */
static void what_is_no_image_is_refused_by_name(void **state)
{
    char fifo[TEST_PATH_MAX];
    char missing[TEST_PATH_MAX];
    unsigned before = test_count_descriptors();

    (void)state;
    expect_refusal(folder, -EISDIR, ": is a folder");
    expect_refusal("/dev/null", -ENOTBLK, ": is neither a regular file nor a block device");
    expect_refusal(test_path(folder, "missing", missing), -ENOENT, ": No such file or directory");
    assert_int_equal(mkfifo(test_path(folder, "fifo", fifo), 0600), 0);
    expect_refusal(fifo, -ENOTBLK, ": is neither a regular file nor a block device");
    assert_int_equal(test_count_descriptors(), before);
}

/* /proc/sys has files that not even root may write. */
static void a_read_only_file_says_so(void **state)
{
    (void)state;
    expect_refusal("/proc/sys/kernel/ostype", -EACCES,
                   ": is read-only and can't be opened for writing");
}

static void a_long_path_leaves_room_for_the_reason(void **state)
{
    struct image_user who = user(5, "a");
    struct image *image = NULL;
    char longest[1000];

    (void)state;
    for (unsigned i = 0; i < sizeof(longest); i++)
        longest[i] = i % 100 ? 'x' : '/';
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(image_acquire(table, longest, IMAGE_EXCLUSIVE, &who, why, &image), -ENOENT);
    assert_non_null(strstr(why, "...: No such file or directory"));
}

static void nothing_is_left_open(void **state)
{
    struct image_user first = user(5, "a");
    struct image_user second = user(6, "a");
    struct image *image, *other, *third;
    unsigned before = test_count_descriptors();

    (void)state;
    assert_int_equal(acquire(IMAGE_READ_ONLY, &first, &image), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &first, &other), 0);
    assert_int_equal(acquire(IMAGE_EXCLUSIVE, &second, &third), 0);
    image_release(table, other);
    image_release(table, image);
    image_release(table, third);
    image_release(table, NULL);
    assert_int_equal(test_count_descriptors(), before);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_second_writer_is_refused_and_told_which_domain),
        TEST(a_writer_is_refused_while_another_domain_reads),
        TEST(shared_writers_and_readers_coexist),
        TEST(other_processes_are_kept_out_and_keep_us_out),
        TEST(a_stub_domain_shares_with_its_guest),
        TEST(the_other_end_of_a_local_migration_shares_and_waits),
        TEST(unknown_uuids_and_domain_0_are_never_the_same_guest),
        TEST(disks_of_one_guest_hand_the_lock_over),
        TEST(a_failed_upgrade_leaves_the_readers_their_lock),
        TEST(hard_links_and_symlinks_are_the_same_image),
        TEST(the_worker_gets_the_same_file_whatever_the_path_names_by_then),
        TEST(a_read_only_user_gets_a_read_only_descriptor),
        TEST(identity_is_device_and_inode),
        TEST(what_is_no_image_is_refused_by_name),
        TEST(a_read_only_file_says_so),
        TEST(a_long_path_leaves_room_for_the_reason),
        TEST(nothing_is_left_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
