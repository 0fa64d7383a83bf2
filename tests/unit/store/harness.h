/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of the stores share: images of every kind, engines, and running an I/O to its end.
 */
#ifndef TEST_STORE_HARNESS_H
#define TEST_STORE_HARNESS_H

#include "blkback/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

/* The kinds of image that a store can be given. */
enum image_kind {
    IMAGE_TMPFS,     /* a file in memory */
    IMAGE_BUFFERED,  /* a file on a disk, through the page cache */
    IMAGE_DIRECT,    /* the same with O_DIRECT, 512-byte sectors */
    IMAGE_DIRECT_4K, /* the same, 4096-byte sectors */
    IMAGE_LOOP,      /* a block device, 512-byte sectors */
    IMAGE_LOOP_4K,   /* a block device, 4096-byte sectors */
    IMAGE_NULL,
    IMAGE_KINDS
};

/* An image that exists, and what is needed to look at it and to remove it. */
struct test_image {
    enum image_kind kind;
    char path[128]; /* of the file; empty for null */
    char node[32];  /* of the block device, or empty */
    int loop;       /* keeps the block device until closed; -1: none */
};

const char *image_kind_name(enum image_kind kind);
bool image_is_device(enum image_kind kind);
bool image_is_direct(enum image_kind kind);

/*
 * Makes an image of `size` bytes of zeros. Returns false where this machine can't (no tmpfs, no
 * file system with direct I/O, no loop devices or not root): the test is to be skipped.
 */
bool image_make(enum image_kind kind, uint64_t size, struct test_image *image);
void image_remove(struct test_image *image);

/* Opens the image as the broker would: the device if there is one. */
int image_open(const struct test_image *image, int flags);
/* Reads or overwrites what is behind the store's back, past every cache. */
void image_peek(const struct test_image *image, uint64_t offset, void *buffer, size_t length);
void image_poke(const struct test_image *image, uint64_t offset, const void *buffer, size_t length);

/* Bytes that the file takes on its file system; for a device, of the file behind it. */
uint64_t image_allocated(const struct test_image *image);

/* Page-aligned memory, freed with free(). */
char *memory(size_t length);
/* Fills with bytes that depend on their place and on `seed`, so that swapped and shifted blocks are
 * seen. */
void fill_pattern(char *buffer, size_t length, unsigned seed);

/* An I/O and what was seen of it. */
struct test_io {
    struct io io;
    struct iovec single;
    unsigned done; /* calls of `done` */
};

void test_io_set(struct test_io *t, enum io_operation operation, uint64_t offset, void *buffer,
                 size_t length);
void test_io_set_vector(struct test_io *t, enum io_operation operation, uint64_t offset,
                        struct iovec *iov, unsigned count);

void test_io_set_discard(struct test_io *t, uint64_t offset, uint64_t length);

/* Waits for the engine's event descriptor, as a loop would; fails the test after 10 s. */
void engine_wait(const struct engine *engine);
/* Waits and reaps until nothing is in flight in `engine`. */
void engine_drain(struct engine *engine);
/* Submits one I/O to the store, sees it to its end and returns its result. */
int run_io(struct store *store, const struct engine_set *engines, struct test_io *t);
int run_simple(struct store *store, const struct engine_set *engines, enum io_operation operation,
               uint64_t offset, void *buffer, size_t length);
int run_discard(struct store *store, const struct engine_set *engines, uint64_t offset,
                uint64_t length);
/* Commits and drains every engine of the set. */
void settle(const struct engine_set *engines);

#endif
