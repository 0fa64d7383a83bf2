/* SPDX-License-Identifier: BSD-2-Clause */
/* Folders and files for tests. */
#include "testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void test_folder_make(char *path)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(path, TEST_PATH_MAX, "%s/blkbackd-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

void test_folder_remove(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_path(const char *folder, const char *name, char *path)
{
    assert_true(snprintf(path, TEST_PATH_MAX, "%s/%s", folder, name) < TEST_PATH_MAX);
    return path;
}

void test_file_write(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

char *test_file_read(const char *path)
{
    enum { BYTES_MAX = 1 << 20 };
    FILE *file = fopen(path, "re");

    if (!file)
        return NULL;
    char *text = malloc(BYTES_MAX + 1);
    assert_non_null(text);
    size_t size = fread(text, 1, BYTES_MAX, file);
    text[size] = '\0';
    (void)fclose(file);
    return text;
}

unsigned test_count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(folder);
    while (readdir(folder))
        count++;
    (void)closedir(folder);
    return count;
}
