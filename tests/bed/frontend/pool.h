/* SPDX-License-Identifier: BSD-2-Clause */
/* What the library itself does with a pool: takes pages for requests and gives them back. */
#ifndef BED_POOL_H
#define BED_POOL_H

#include <stdint.h>

struct front_pool;

uint8_t *pool_memory(const struct front_pool *pool, uint32_t page);
uint32_t pool_available(const struct front_pool *pool);
/* A page that no request uses; there must be one. which: 0 the one given back last, else any. */
uint32_t pool_take(struct front_pool *pool, uint32_t which);
void pool_give(struct front_pool *pool, uint32_t page);

#endif
