/* SPDX-License-Identifier: BSD-2-Clause */
/* What all fuzz targets share: see fuzz.h. */
#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

_Noreturn void fuzz_check_failed(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

void input_bytes(struct input *input, void *out, size_t size)
{
    const size_t there = size < input->left ? size : input->left;

    if (size == 0)
        return;
    memset(out, 0, size);
    if (there == 0)
        return;
    memcpy(out, input->at, there);
    input->at += there;
    input->left -= there;
}

uint8_t input_u8(struct input *input)
{
    uint8_t value;

    input_bytes(input, &value, sizeof(value));
    return value;
}

uint16_t input_u16(struct input *input)
{
    uint16_t value;

    input_bytes(input, &value, sizeof(value));
    return value;
}

uint32_t input_u32(struct input *input)
{
    uint32_t value;

    input_bytes(input, &value, sizeof(value));
    return value;
}

uint64_t input_u64(struct input *input)
{
    uint64_t value;

    input_bytes(input, &value, sizeof(value));
    return value;
}

void input_text(struct input *input, char *out, size_t size)
{
    char text[256];
    const size_t length = input_u8(input);
    const size_t kept = length < size ? length : size - 1;

    input_bytes(input, text, length);
    memcpy(out, text, kept);
    out[kept] = '\0';
}

void input_patches(struct input *input, void *data, size_t size, unsigned most)
{
    for (unsigned i = 0; i < most && input->left; i++) {
        uint8_t bytes[15];
        const size_t offset = input_u16(input) % size;
        const size_t count = input_u8(input) & 15U;

        input_bytes(input, bytes, count);
        memcpy((char *)data + offset, bytes, count < size - offset ? count : size - offset);
    }
}

int fuzz_next_descriptor(void)
{
    const int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);

    CHECK(fd >= 0);
    (void)close(fd);
    return fd;
}

int fuzz_file(const void *bytes, size_t size)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);

    CHECK(fd >= 0);
    CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size);
    return fd;
}

static char folder[] = "/tmp/blkbackd-fuzz-XXXXXX";

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_folder(void)
{
    (void)nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
    static bool made;

    if (!made) {
        CHECK(mkdtemp(folder) != NULL);
        CHECK(atexit(remove_folder) == 0);
        made = true;
    }
    return folder;
}

bool fuzz_printable(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\0')
            return true;
        if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e)
            return false;
    }
    return false;
}
