/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that is there when it is first used: what a queue may need for as many requests as its
 * ring holds, and an idle one never touches. malloc() would give memory that was used before, and
 * touch it to clear it.
 */
#ifndef BLKBACK_BLKIF_LAZY_MEMORY_H
#define BLKBACK_BLKIF_LAZY_MEMORY_H

#include <stddef.h>

/* Zeroed; NULL when there is none. `bytes` is not 0. */
void *lazy_memory_get(size_t bytes);

/* With the same number of bytes. Accepts NULL. */
void lazy_memory_put(void *memory, size_t bytes);

#endif
