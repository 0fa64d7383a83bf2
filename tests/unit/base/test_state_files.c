/* SPDX-License-Identifier: BSD-2-Clause */
/* State files: what is written is read back, and no damage gets through. */
#include "testing.h"

#include "blkback/state_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[TEST_PATH_MAX];
static int dir_fd;
static const char name[] = "3-51712.conn";

static int set_up(void **state)
{
    (void)state;
    test_folder_make(folder);
    dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)close(dir_fd);
    test_folder_remove(folder);
    return 0;
}

static struct connection_file example(void)
{
    struct connection_file connection;

    memset(&connection, 0, sizeof(connection));
    connection.domid = 3;
    connection.devid = 51712;
    connection.backend_state = 4;
    connection.ring_order = 2;
    connection.queue_count = 1;
    connection.size_bytes = UINT64_C(10) << 30;
    (void)strcpy(connection.vdev, "xvda");
    (void)strcpy(connection.target, "/srv/guest.img");
    connection.queues[0].remote_port = 17;
    connection.queues[0].ring_refs[3] = 99;
    connection_seal(&connection);
    return connection;
}

static int open_it(void)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int read_it(struct connection_file *out)
{
    int fd = open_it();
    int rc = connection_read(fd, out);

    (void)close(fd);
    return rc;
}

static void store_bytes(const void *bytes, size_t size)
{
    char path[TEST_PATH_MAX];

    test_file_write(test_path(folder, name, path), bytes, size);
}

static void what_is_written_is_read_back(void **state)
{
    struct connection_file connection = example();
    struct connection_file back;
    struct stat status;

    (void)state;
    assert_int_equal(connection_write(dir_fd, name, &connection), 0);
    assert_int_equal(read_it(&back), 0);
    assert_memory_equal(&back, &connection, sizeof(back));
    assert_int_equal(fstatat(dir_fd, name, &status, 0), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void a_second_write_replaces_the_first_and_leaves_nothing_else(void **state)
{
    struct connection_file connection = example();
    struct connection_file back;
    char path[TEST_PATH_MAX];

    (void)state;
    /* One that a killed writer left. */
    test_file_write(test_path(folder, ".3-51712.conn.new", path), "x", 1);
    assert_int_equal(connection_write(dir_fd, name, &connection), 0);
    connection.backend_state = 5;
    connection_seal(&connection);
    assert_int_equal(connection_write(dir_fd, name, &connection), 0);
    assert_int_equal(read_it(&back), 0);
    assert_int_equal(back.backend_state, 5);
    assert_int_equal(access(path, F_OK), -1);
}

static void an_open_file_keeps_its_contents_over_a_write(void **state)
{
    struct connection_file connection = example();
    struct connection_file back;

    (void)state;
    assert_int_equal(connection_write(dir_fd, name, &connection), 0);
    int fd = open_it();
    connection.backend_state = 6;
    connection_seal(&connection);
    assert_int_equal(connection_write(dir_fd, name, &connection), 0);
    assert_int_equal(connection_read(fd, &back), 0);
    assert_int_equal(back.backend_state, 4);
    (void)close(fd);
}

static void names_that_leave_the_folder_are_refused(void **state)
{
    struct connection_file connection = example();

    (void)state;
    assert_int_equal(connection_write(dir_fd, "../x", &connection), -EINVAL);
    assert_int_equal(connection_write(dir_fd, "a/b", &connection), -EINVAL);
}

static void every_changed_byte_is_noticed(void **state)
{
    struct connection_file connection = example();
    struct connection_file back;
    unsigned char bytes[sizeof(connection)];

    (void)state;
    memset(&back, 0x5a, sizeof(back));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        memcpy(bytes, &connection, sizeof(bytes));
        bytes[i] ^= 0x01;
        store_bytes(bytes, sizeof(bytes));
        int rc = read_it(&back);
        if (rc != -EBADMSG && rc != -EPROTO)
            fail_msg("byte %zu: %d", i, rc);
    }
    /* Untouched by all the failures. */
    assert_int_equal(back.domid, 0x5a5a5a5a);
}

static void truncated_and_extended_files_are_damaged(void **state)
{
    struct connection_file connection = example();
    struct connection_file back;
    unsigned char bytes[sizeof(connection) + 8] = {0};

    (void)state;
    memcpy(bytes, &connection, sizeof(connection));
    store_bytes(bytes, 0);
    assert_int_equal(read_it(&back), -EBADMSG);
    store_bytes(bytes, sizeof(connection) - 1);
    assert_int_equal(read_it(&back), -EBADMSG);
    store_bytes(bytes, sizeof(connection) + 8);
    assert_int_equal(read_it(&back), -EBADMSG);
}

static void another_major_version_is_told_from_damage(void **state)
{
    struct connection_file connection = example();
    struct connection_file back;

    (void)state;
    connection.version_major = 2;
    connection.checksum = connection_checksum(&connection);
    store_bytes(&connection, sizeof(connection));
    assert_int_equal(read_it(&back), -EPROTO);
}

/* FNV-1a, as in the header, for a file that is longer than the struct. */
static uint32_t checksum(const unsigned char *bytes, size_t size)
{
    uint32_t hash = UINT32_C(2166136261);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT32_C(16777619);
    return hash;
}

static void a_later_minor_version_that_appends_is_read(void **state)
{
    struct connection_file connection = example();
    struct connection_file back;
    unsigned char bytes[sizeof(connection) + 64];

    (void)state;
    connection.version_minor = 9;
    connection.size = sizeof(bytes);
    connection.checksum = 0;
    memset(bytes, 0xee, sizeof(bytes));
    memcpy(bytes, &connection, sizeof(connection));
    connection.checksum = checksum(bytes, sizeof(bytes));
    memcpy(bytes, &connection, sizeof(connection));
    store_bytes(bytes, sizeof(bytes));
    assert_int_equal(read_it(&back), 0);
    assert_int_equal(back.domid, 3);
    assert_string_equal(back.target, "/srv/guest.img");
}

static void sealed_values_are_checked_all_the_same(void **state)
{
    struct connection_file good = example();
    struct connection_file bad;
    struct connection_file back;

    (void)state;
    bad = good;
    bad.queue_count = STATE_MAX_QUEUES + 1;
    connection_seal(&bad);
    store_bytes(&bad, sizeof(bad));
    assert_int_equal(read_it(&back), -EBADMSG);
    bad = good;
    bad.ring_order = 6;
    connection_seal(&bad);
    store_bytes(&bad, sizeof(bad));
    assert_int_equal(read_it(&back), -EBADMSG);
    bad = good;
    bad.ring_order = UINT32_MAX;
    connection_seal(&bad);
    store_bytes(&bad, sizeof(bad));
    assert_int_equal(read_it(&back), -EBADMSG);
    bad = good;
    memset(bad.reason, 'x', sizeof(bad.reason));
    connection_seal(&bad);
    store_bytes(&bad, sizeof(bad));
    assert_int_equal(read_it(&back), -EBADMSG);
}

static void reading_what_is_no_file_fails(void **state)
{
    struct connection_file back;

    (void)state;
    assert_int_equal(connection_read(-1, &back), -EBADF);
    assert_int_equal(connection_read(dir_fd, &back), -EISDIR);
}

/* ---- slab ---- */

static struct slab_header *slab_example(void)
{
    const size_t entries = 32 * sizeof(struct slab_entry);
    struct slab_header *header = calloc(1, sizeof(*header));

    assert_non_null(header);
    header->magic = SLAB_MAGIC;
    header->version_major = STATE_VERSION_MAJOR;
    header->version_minor = STATE_VERSION_MINOR;
    header->queue_count = 2;
    header->entries_end = (uint32_t)(sizeof(*header) + 2 * entries);
    header->file_size = header->entries_end + 4096U;
    for (unsigned i = 0; i < 2; i++) {
        header->queues[i].slots = 32;
        header->queues[i].entries = 32;
        header->queues[i].entries = 32;
        header->queues[i].entries_offset = (uint32_t)(sizeof(*header) + i * entries);
        header->queues[i].in_flight = 3 + i;
        header->queues[i].statistics.reads = 100 + i;
        header->queues[i].statistics.flushes_parked = 1;
    }
    return header;
}

static int read_slab(const struct slab_header *header, size_t size, struct slab_header *out)
{
    store_bytes(header, size);
    int fd = open_it();
    int rc = slab_read_header(fd, out);
    (void)close(fd);
    return rc;
}

static void slab_header_is_read_and_summed(void **state)
{
    struct slab_header *header = slab_example();
    struct slab_header *back = calloc(1, sizeof(*back));
    struct slab_statistics sum;
    uint32_t in_flight = 0;

    (void)state;
    assert_int_equal(read_slab(header, sizeof(*header), back), 0);
    slab_sum(back, &sum, &in_flight);
    assert_int_equal(in_flight, 7);
    assert_int_equal(sum.reads, 201);
    assert_int_equal(sum.flushes_parked, 2);
    assert_int_equal(sum.writes, 0);
    free(header);
    free(back);
}

static void expect_slab(const char *what, const struct slab_header *header, size_t size, int rc)
{
    struct slab_header *back = calloc(1, sizeof(*back));
    int got = read_slab(header, size, back);

    if (got != rc)
        fail_msg("%s: %d instead of %d", what, got, rc);
    assert_int_equal(back->magic, 0);
    free(back);
}

static void slab_headers_that_lie_are_refused(void **state)
{
    struct slab_header *header = slab_example();
    const struct slab_header good = *header;

    (void)state;
    expect_slab("short", header, sizeof(*header) - 1, -EBADMSG);
    expect_slab("empty", header, 0, -EBADMSG);
    header->magic++;
    expect_slab("magic", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->version_major++;
    expect_slab("version", header, sizeof(*header), -EPROTO);
    memcpy(header, &good, sizeof(good));
    header->queue_count = STATE_MAX_QUEUES + 1;
    expect_slab("queues", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->queues[1].slots = 2 * STATE_MAX_SLOTS;
    expect_slab("slots", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->queues[1].entries = 33;
    expect_slab("more entries than slots", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->queues[1].slots = 33;
    expect_slab("slots not a power of two", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->queues[1].entries = 33;
    expect_slab("more entries than slots", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->queues[0].entries_offset = 64;
    expect_slab("entries in the header", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->queues[0].entries_offset = UINT32_MAX - 8;
    expect_slab("entries beyond the end", header, sizeof(*header), -EBADMSG);
    memcpy(header, &good, sizeof(good));
    header->file_size = header->entries_end - 1U;
    expect_slab("size", header, sizeof(*header), -EBADMSG);
    free(header);
}

static void a_sum_never_reads_beyond_the_queues(void **state)
{
    struct slab_header *header = slab_example();
    struct slab_statistics sum;
    uint32_t in_flight = 0;

    (void)state;
    header->queue_count = UINT32_MAX;
    slab_sum(header, &sum, &in_flight);
    assert_int_equal(in_flight, 7);
    free(header);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read_back),
        TEST(a_second_write_replaces_the_first_and_leaves_nothing_else),
        TEST(an_open_file_keeps_its_contents_over_a_write),
        TEST(names_that_leave_the_folder_are_refused),
        TEST(every_changed_byte_is_noticed),
        TEST(truncated_and_extended_files_are_damaged),
        TEST(another_major_version_is_told_from_damage),
        TEST(a_later_minor_version_that_appends_is_read),
        TEST(sealed_values_are_checked_all_the_same),
        TEST(reading_what_is_no_file_fails),
        TEST(slab_header_is_read_and_summed),
        TEST(slab_headers_that_lie_are_refused),
        TEST(a_sum_never_reads_beyond_the_queues),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
