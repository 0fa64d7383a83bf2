/* SPDX-License-Identifier: BSD-2-Clause */
/* What is said of another version's state files, and of damaged ones. */
#include "testing.h"

#include "blkback/state_files.h"
#include "check_upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[TEST_PATH_MAX];
static char said[4096];

static int set_up(void **state)
{
    (void)state;
    test_folder_make(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static void put_connection(const char *name, const struct connection_file *file)
{
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    assert_int_equal(connection_write(dir, name, file), 0);
    (void)close(dir);
}

static struct connection_file connected(void)
{
    struct connection_file file = {.domid = 3, .devid = 51712, .queue_count = 1};
    connection_seal(&file);
    return file;
}

static void put_slab(const char *name, uint16_t major)
{
    char path[TEST_PATH_MAX];
    struct slab_header *header = calloc(1, sizeof(*header));
    assert_non_null(header);
    header->magic = SLAB_MAGIC;
    header->version_major = major;
    header->version_minor = 4;
    header->file_size = sizeof(*header);
    test_file_write(test_path(folder, name, path), header, sizeof(*header));
    free(header);
}

static struct check_upgrade look(void)
{
    struct check_upgrade found = {.disks = 99};
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    assert_non_null(lines);
    assert_int_equal(check_upgrade(folder, lines, &found), 0);
    (void)fclose(lines);
    (void)snprintf(said, sizeof(said), "%s", text);
    free(text);
    return found;
}

static void expect(unsigned disks, unsigned wrong, const char *name, const char *why)
{
    struct check_upgrade found = look();
    if (found.disks != disks || found.wrong != wrong || strstr(said, name) == NULL ||
        strstr(said, why) == NULL)
        fail_msg("%u of %u: %s", found.wrong, found.disks, said);
}

static void nothing_to_take_up(void **state)
{
    struct connection_file file = connected();
    (void)state;
    expect(0, 0, "", "");
    file.queue_count = 0; /* its slab is nobody's need */
    connection_seal(&file);
    put_connection("3-51712.conn", &file);
    put_connection("other.text", &file);
    expect(0, 0, "", "");
    assert_string_equal(said, "");
    test_folder_remove(folder);
    expect(0, 0, "", "");
    test_folder_make(folder);
}

static void all_can_be_taken_up(void **state)
{
    struct connection_file file = connected();
    (void)state;
    put_connection("3-51712.conn", &file);
    put_slab("3-51712.slab", STATE_VERSION_MAJOR);
    put_connection("3-51728.conn", &file);
    put_slab("3-51728.slab", STATE_VERSION_MAJOR);
    expect(2, 0, "", "");
    assert_string_equal(said, "");
}

static void another_major_version_is_named(void **state)
{
    struct connection_file file = connected();
    (void)state;
    put_connection("3-51712.conn", &file);
    put_slab("3-51712.slab", STATE_VERSION_MAJOR + 1);
    expect(1, 1, "/3-51712.slab: ", "version 2.4, ");
    file.version_major = 7;
    put_connection("3-51712.conn", &file);
    expect(1, 1, "/3-51712.conn: ", "version 7.");
}

static void files_that_are_damaged_or_missing_are_named(void **state)
{
    struct connection_file file = connected();
    char path[TEST_PATH_MAX];
    (void)state;
    put_connection("3-51712.conn", &file);
    expect(1, 1, "/3-51712.slab: ", "No such file");
    test_file_write(test_path(folder, "3-51712.slab", path), "short", 5);
    expect(1, 1, "/3-51712.slab: ", "damaged");
    file.domid++;
    put_connection("3-51712.conn", &file);
    expect(1, 1, "/3-51712.conn: ", "damaged");
    assert_int_equal(unlink(test_path(folder, "3-51712.conn", path)), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    expect(1, 1, "/3-51712.conn: ", "symbolic links");
}

static void one_that_xenstore_has_lost_is_named(void **state)
{
    struct connection_file file = connected();
    (void)state;
    file.forgotten = 1;
    connection_seal(&file);
    put_connection("3-51712.conn", &file);
    put_slab("3-51712.slab", STATE_VERSION_MAJOR);
    expect(1, 1, "/3-51712.conn: ", "XenStore has lost");
}

static void a_folder_that_can_not_be_read(void **state)
{
    struct check_upgrade found;
    char path[TEST_PATH_MAX];
    (void)state;
    test_file_write(test_path(folder, "file", path), "", 0);
    assert_int_equal(check_upgrade(path, stderr, &found), -ENOTDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_to_take_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_can_be_taken_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_major_version_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_that_are_damaged_or_missing_are_named, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_that_xenstore_has_lost_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_can_not_be_read, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
