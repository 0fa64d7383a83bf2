/* SPDX-License-Identifier: BSD-2-Clause */
/* cmocka with what it needs to be included first, and folders and files for tests. */
#ifndef BLKBACK_TEST_TESTING_H
#define BLKBACK_TEST_TESTING_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#define TEST_PATH_MAX 512

/* Makes an empty folder and puts its path into `path` (TEST_PATH_MAX bytes); removes it with
 * everything in it. */
void test_folder_make(char *path);
void test_folder_remove(const char *path);

/* "<folder>/<name>" into `path` (TEST_PATH_MAX bytes). Returns `path`. */
const char *test_path(const char *folder, const char *name, char *path);

void test_file_write(const char *path, const void *bytes, size_t size);
/* The file's contents with a terminator behind them, freed by the caller; NULL when there is none.
 */
char *test_file_read(const char *path);

/* Number of this process's open descriptors. */
unsigned test_count_descriptors(void);

#endif
