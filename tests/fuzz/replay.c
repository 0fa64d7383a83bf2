/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs a fuzz target over files and over the files of folders, without libFuzzer: any compiler. */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* As libFuzzer's own -max_len of the time-boxed run, and more. */
#define INPUT_BYTES_MAX ((size_t)1 << 20)

#pragma weak LLVMFuzzerInitialize

static unsigned inputs;

static int run_file(const char *path)
{
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    FILE *file = fopen(path, "re");

    if (!file || !data) {
        perror(path);
        free(data);
        return 1;
    }
    const size_t size = fread(data, 1, INPUT_BYTES_MAX, file);

    (void)fclose(file);
    /* One of its own size, so that a sanitizer sees what is read behind it. */
    uint8_t *input = malloc(size ? size : 1);

    if (!input)
        abort();
    memcpy(input, data, size);
    free(data);
    (void)LLVMFuzzerTestOneInput(input, size);
    free(input);
    inputs++;
    return 0;
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int run_folder(const char *path)
{
    struct dirent **entries = NULL;
    const int count = scandir(path, &entries, visible, alphasort);
    int status = 0;

    if (count < 0)
        return errno == ENOTDIR ? run_file(path) : 1;
    for (int i = 0; i < count; i++) {
        char file[4096];

        (void)snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        status |= run_file(file);
        free(entries[i]);
    }
    free(entries);
    return status;
}

int main(int argc, char **argv)
{
    int status = 0;

    if (LLVMFuzzerInitialize)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        status |= run_folder(argv[i]);
    (void)printf("%u inputs\n", inputs);
    return status || inputs == 0;
}
