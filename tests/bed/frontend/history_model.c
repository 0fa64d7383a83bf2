/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linearizability of a sector, with writes that can be told apart. All that wrote or read one value
 * belong together: `first` is when the first of them was over, `last` when the last of them began.
 * A value whose `first` is before another's `last` must come before it; two that must each come
 * before the other have no order. (Gibbons and Korach, Testing Shared Memories, 1997.)
 */
#include "history.h"

#include "front.h"

#include <stdlib.h>
#include <string.h>

#define VALUES 24u /* of a sector that may still be read */
#define NEVER  UINT64_MAX

struct value {
    uint64_t stamp, first, last;
};

struct values {
    uint32_t count;
    struct value value[VALUES];
};

struct history {
    uint64_t sectors;
    struct values *of;
};

struct history *history_new(uint64_t sectors)
{
    struct history *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    h->sectors = sectors;
    h->of = calloc(sectors, sizeof(*h->of));
    if (!h->of) {
        free(h);
        return NULL;
    }
    for (uint64_t i = 0; i < sectors; i++) {
        h->of[i].count = 1;
        h->of[i].value[0] = (struct value){.stamp = STAMP_FIRST};
    }
    return h;
}

void history_free(struct history *h)
{
    if (!h)
        return;
    free(h->of);
    free(h);
}

static uint64_t word(uint64_t number, uint64_t stamp, uint64_t i)
{
    uint64_t x = (stamp << 20) + number * 64 + i;

    x = (x ^ x >> 31) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

void history_stamp(uint8_t *sector, uint64_t number, uint64_t stamp)
{
    uint64_t words[FRONT_SECTOR / 8] = {0};

    if (stamp != STAMP_ZERO) {
        words[0] = stamp;
        words[1] = number;
        for (uint64_t i = 2; i < FRONT_SECTOR / 8; i++)
            words[i] = word(number, stamp, i);
    }
    memcpy(sector, words, sizeof(words));
}

uint64_t history_stamp_of(const uint8_t *sector, uint64_t number)
{
    uint8_t whole[FRONT_SECTOR];
    uint64_t stamp;

    memcpy(&stamp, sector, sizeof(stamp));
    history_stamp(whole, number, stamp);
    return memcmp(whole, sector, sizeof(whole)) == 0 ? stamp : STAMP_TORN;
}

static bool must_precede(const struct value *one, const struct value *other)
{
    return one->first < other->last;
}

/* Values that nothing may read any more: one that comes after them was there before the oldest
 * request in flight was asked for. */
static void forget_old(struct values *values, uint64_t oldest)
{
    uint32_t kept = 0;
    bool over[VALUES] = {false};

    for (uint32_t i = 0; i < values->count; i++)
        for (uint32_t j = 0; !over[i] && j < values->count; j++)
            over[i] = i != j && values->value[j].first < oldest &&
                      must_precede(&values->value[i], &values->value[j]);
    for (uint32_t i = 0; i < values->count; i++)
        if (!over[i])
            values->value[kept++] = values->value[i];
    values->count = kept;
}

static struct value *find(struct values *values, uint64_t stamp)
{
    for (uint32_t i = 0; i < values->count; i++)
        if (values->value[i].stamp == stamp)
            return &values->value[i];
    return NULL;
}

bool history_write(struct history *h, uint64_t sector, uint32_t count, uint64_t stamp, uint64_t now,
                   uint64_t oldest)
{
    for (uint64_t i = sector; i < sector + count; i++) {
        forget_old(&h->of[i], oldest);
        /* Zeros can't be told apart: one discard at a time. */
        if (h->of[i].count == VALUES || find(&h->of[i], stamp))
            return false;
    }
    for (uint64_t i = sector; i < sector + count; i++)
        h->of[i].value[h->of[i].count++] =
            (struct value){.stamp = stamp, .first = NEVER, .last = now};
    return true;
}

const char *history_seen(struct history *h, uint64_t sector, uint64_t stamp, uint64_t asked,
                         uint64_t answered)
{
    struct values *values = &h->of[sector];
    struct value *value = find(values, stamp);

    if (!value)
        return "data that was overwritten before, or was never written";
    if (answered < value->first)
        value->first = answered;
    if (asked > value->last)
        value->last = asked;
    for (uint32_t i = 0; i < values->count; i++) {
        const struct value *other = &values->value[i];

        if (other != value && must_precede(value, other) && must_precede(other, value))
            return "data that an answered request had replaced: a write was lost or undone";
    }
    return NULL;
}

bool history_changing(const struct history *h, uint64_t sector, uint64_t asked)
{
    const struct values *values = &h->of[sector];

    for (uint32_t i = 0; i < values->count; i++)
        if (values->value[i].first > asked)
            return true;
    return false;
}
