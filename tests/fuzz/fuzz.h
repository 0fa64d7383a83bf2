/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all fuzz targets share: a check that ends the process, an input that is taken apart piece by
 * piece, and a way to see that no descriptor was leaked. A target defines LLVMFuzzerTestOneInput();
 * it is linked with libFuzzer, or with replay.c, which runs it over its corpus.
 */
#ifndef BLKBACK_FUZZ_H
#define BLKBACK_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Optional: before the first input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Unlike assert(), in every build. */
#define CHECK(condition)                                       \
    do {                                                       \
        if (!(condition))                                      \
            fuzz_check_failed(#condition, __FILE__, __LINE__); \
    } while (0)

_Noreturn void fuzz_check_failed(const char *condition, const char *file, int line);

/* An input while it is used up; what is missing at its end is zero. */
struct input {
    const uint8_t *at;
    size_t left;
};

void input_bytes(struct input *input, void *out, size_t size);
uint8_t input_u8(struct input *input);
uint16_t input_u16(struct input *input);
uint32_t input_u32(struct input *input);
uint64_t input_u64(struct input *input);

/* Text of up to 255 bytes behind a byte with its length, cut to fit `size`, terminated. */
void input_text(struct input *input, char *out, size_t size);

/*
 * Changes bytes of `data`: each change is an offset (16 bits), a count (the lower 4 bits of a byte)
 * and the bytes; offsets beyond `size` wrap around. `most` changes, or until the input's end.
 */
void input_patches(struct input *input, void *data, size_t size, unsigned most);

/* The number that the next descriptor will get: the same before and after what leaks none. */
int fuzz_next_descriptor(void);

/* A file in memory with these bytes. */
int fuzz_file(const void *bytes, size_t size);

/* An empty folder for the life of the process, removed at its end; "/tmp/blkbackd-fuzz-XXXXXX". */
const char *fuzz_folder(void);

/* Whether the text ends within `size` bytes. */
static inline bool fuzz_terminated(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

/* Whether it is terminated and safe to be shown on a terminal. */
bool fuzz_printable(const char *text, size_t size);

#endif
