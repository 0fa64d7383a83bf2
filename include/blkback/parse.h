/* SPDX-License-Identifier: BSD-2-Clause */
/* Strict parsing of numbers and sizes, and arithmetic that says when it overflows. */
#ifndef BLKBACK_PARSE_H
#define BLKBACK_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Parses a whole decimal string without sign, space or suffix, at most `max`.
 * Returns 0, -EINVAL for anything else than digits (an empty string too), -ERANGE if it is over
 * `max`.
 */
int parse_u64(const char *text, uint64_t max, uint64_t *out);
int parse_u32(const char *text, uint32_t max, uint32_t *out);

/* A number of bytes with an optional K, M, G or T (powers of 1024). Returns as parse_u64(). */
int parse_size(const char *text, uint64_t *out);

/* "yes"/"no", "true"/"false", "on"/"off", "1"/"0". Returns 0 or -EINVAL. */
int parse_bool(const char *text, bool *out);

/* Whether [start, start + count) lies within [0, size); never overflows. */
static inline bool range_within(uint64_t start, uint64_t count, uint64_t size)
{
    return count <= size && start <= size - count;
}

#endif
