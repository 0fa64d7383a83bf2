/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hash table of things that are found by a number: intrusive, so that adding never fails, and of
 * one size, which keeps chains short up to some thousands of entries. Several may have the same
 * key.
 */
#ifndef BLKBACK_TABLE_H
#define BLKBACK_TABLE_H

#include <stdint.h>

#define TABLE_BUCKETS 1024U

/* Within what is found; zero-initialised: in no table. */
struct table_link {
    struct table_link *next;
    struct table_link **at; /* what points to it; NULL: in no table */
    uint64_t key;
};

/* Zero-initialised: empty. */
struct table {
    struct table_link *buckets[TABLE_BUCKETS];
};

/* `link` is in no table. */
void table_add(struct table *table, uint64_t key, struct table_link *link);

/* Nothing if it is in no table. */
void table_remove(struct table_link *link);

/* The first with that key, in no particular order, or NULL; and the one after it. */
struct table_link *table_find(const struct table *table, uint64_t key);
struct table_link *table_find_next(const struct table_link *link);

#endif
