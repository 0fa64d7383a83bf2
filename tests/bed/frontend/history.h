/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What may be read from each sector, given everything that was asked for: each write has a stamp of
 * its own, so that what was read names the write it comes from. Times are a counter of events.
 */
#ifndef BED_HISTORY_H
#define BED_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define STAMP_ZERO  0u /* a discarded sector */
#define STAMP_FIRST 1u /* as it was at the beginning */
#define STAMP_TORN  UINT64_MAX

struct history;

struct history *history_new(uint64_t sectors);
void history_free(struct history *h);

/* A sector as the write with that stamp makes it, and back; STAMP_TORN: it is of no write alone. */
void history_stamp(uint8_t *sector, uint64_t number, uint64_t stamp);
uint64_t history_stamp_of(const uint8_t *sector, uint64_t number);

/* Notes a write that is asked for at `now`. False, and nothing is noted: too many are not decided
 * yet. `oldest`: when the oldest request in flight was asked for. */
bool history_write(struct history *h, uint64_t sector, uint32_t count, uint64_t stamp, uint64_t now,
                   uint64_t oldest);

/* A sector was seen with that stamp, or written with it, by something that began at `asked` and
 * ended at `answered`. NULL, or what is wrong. */
const char *history_seen(struct history *h, uint64_t sector, uint64_t stamp, uint64_t asked,
                         uint64_t answered);

/* Whether a write of the sector was under way after `asked`: it may be seen in part. */
bool history_changing(const struct history *h, uint64_t sector, uint64_t asked);

#endif
