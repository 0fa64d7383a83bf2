/* SPDX-License-Identifier: BSD-2-Clause */
/* An io_uring with data buffers that can be registered with it, and an image on a disk. */
#ifndef TEST_STORE_BUFFERS_RIG_H
#define TEST_STORE_BUFFERS_RIG_H

#include "harness.h"

#define BUFFER  ((size_t)64 * 1024)
#define BUFFERS 100U /* more than are taken out of the table at once */
#define PAGE    ((size_t)4096)
#define MANY    64U /* uses that pay in any case */

struct buffers_rig {
    struct test_image image; /* of 2 MiB */
    int fd;
    struct engine_memory memory;
    struct engine *engine; /* NULL at first; destroyed by tear_down() */
};

extern struct buffers_rig rig;

char *buffer(unsigned index);

/* Skips the test where the kernel has no io_uring. */
struct engine *make(const struct engine_memory *memory);

int set_up(void **state);
int tear_down(void **state);

/* Returns the result; `registered`: how the last attempt went. */
int run(struct test_io *t, bool *registered);

/* Of memory in one piece; returns whether it was registered. */
bool transfer(enum io_operation operation, uint64_t offset, void *data, size_t length);

/* Reads until so much of the buffer is registered; returns false when it never is. */
bool use_bytes(unsigned index, size_t bytes);
bool use(unsigned index);

#endif
