/* SPDX-License-Identifier: BSD-2-Clause */
/* A hash table: see table.h. */
#include "blkback/table.h"

#include <stddef.h>

/* Multiplied by 2^64 over the golden ratio, numbers that follow each other, or differ in any bits,
 * fall into different buckets (Knuth, TAOCP 3, 6.4). */
static unsigned bucket_of(uint64_t key)
{
    return (unsigned)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 54);
}

_Static_assert(TABLE_BUCKETS == 1U << (64 - 54), "a bucket's number is the upper bits");

void table_add(struct table *table, uint64_t key, struct table_link *link)
{
    struct table_link **at = &table->buckets[bucket_of(key)];

    link->key = key;
    link->next = *at;
    link->at = at;
    if (link->next)
        link->next->at = &link->next;
    *at = link;
}

void table_remove(struct table_link *link)
{
    if (!link->at)
        return;
    *link->at = link->next;
    if (link->next)
        link->next->at = link->at;
    link->next = NULL;
    link->at = NULL;
}

static struct table_link *from(struct table_link *link, uint64_t key)
{
    while (link && link->key != key)
        link = link->next;
    return link;
}

struct table_link *table_find(const struct table *table, uint64_t key)
{
    return from(table->buckets[bucket_of(key)], key);
}

struct table_link *table_find_next(const struct table_link *link)
{
    return from(link->next, link->key);
}
