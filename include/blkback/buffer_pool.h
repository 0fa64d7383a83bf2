/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Data buffers of a worker, shared by its queues: one byte budget, buffers of one size used last-in
 * first-out so that the busy ones stay in the caches and the others can be given back to the
 * kernel.
 */
#ifndef BLKBACK_BUFFER_POOL_H
#define BLKBACK_BUFFER_POOL_H

#include "blkback/engine.h"

#include <stdbool.h>
#include <stdint.h>

/* Holds the data of a request of 11 segments; larger ones, of up to a mebibyte, take several. */
#define BUFFER_BYTES (UINT64_C(64) * 1024)

struct buffer_pool;

/* `bytes`: the budget. Memory is reserved, not touched. Returns 0; -EINVAL when that is less than
 * one buffer; -ENOMEM. */
int buffer_pool_create(uint64_t bytes, struct buffer_pool **out);

/* Page-aligned, BUFFER_BYTES long, contents undefined (our own old data, which is always
 * overwritten before it goes anywhere); NULL when the budget is used up. */
uint8_t *buffer_pool_get(struct buffer_pool *pool);
void buffer_pool_put(struct buffer_pool *pool, uint8_t *buffer);

/* How many there are in all, and how many can be had now. */
uint32_t buffer_pool_count(const struct buffer_pool *pool);
uint32_t buffer_pool_free(const struct buffer_pool *pool);

/* Where they lie, for an engine to register. */
struct engine_memory buffer_pool_memory(const struct buffer_pool *pool);

enum buffer_trim {
    BUFFER_TRIM_DONE,  /* no buffer that is not in use has memory */
    BUFFER_TRIM_LATER, /* those that were needed lately have: to be looked at after another while */
    BUFFER_TRIM_MORE,  /* others have, too, of which so many were given back that it takes time */
};

/* 16 MiB: a thread that serves queues spends about a millisecond on them. */
#define BUFFER_TRIM_MOST 256U

/* The memory of some buffers was given back: an engine that has registered them has to forget them
 * before they are used again, and holds the old memory until then. */
typedef void buffer_given_back(void *context, const void *start, uint64_t bytes);

/*
 * Returns memory to the kernel, called again and again while the worker is in use: where no buffer
 * is, that of all; else that of those which were not needed since the last call, however many were
 * in use at once, BUFFER_TRIM_MOST at a time. `told` hears which.
 */
enum buffer_trim buffer_pool_trim(struct buffer_pool *pool, buffer_given_back *told, void *context);

void buffer_pool_destroy(struct buffer_pool *pool);

#endif
