/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a disk may contain while requests are under way. Every sector that is written says which
 * request wrote it, so that a sector that is read can be judged: it was there when the read was
 * issued, or came from a request that was under way since then.
 */
#ifndef BLKBACK_TEST_DISK_MODEL_H
#define BLKBACK_TEST_DISK_MODEL_H

#include "fake_store.h"

#include <stdbool.h>
#include <stdint.h>

#define MODEL_SECTORS  (FAKE_DISK_BYTES / 512)
#define MODEL_CHANGES  8192U /* requests that write or discard and are remembered */
#define MODEL_NEVER    UINT64_MAX
#define MODEL_DISCARDS UINT64_MAX /* stamp of a sector that was discarded */

struct model_change {
    uint64_t number; /* from 1 on */
    uint64_t sector, sectors;
    uint64_t ended_at; /* MODEL_NEVER while under way */
    bool discards;
    bool failed;
};

struct disk_model {
    uint64_t now;                   /* counts what happens */
    uint64_t changes;               /* so far */
    uint64_t stamps[MODEL_SECTORS]; /* what was answered last */
    struct model_change change[MODEL_CHANGES];
};

/* Fills `disk` with sectors of change 0. */
void model_init(struct disk_model *model, uint8_t *disk);

/* A request that changes sectors is issued; returns its number. */
uint64_t model_begin(struct disk_model *model, uint64_t sector, uint64_t sectors, bool discards);
/* And is answered. */
void model_end(struct disk_model *model, uint64_t number, bool failed);

/* A sector's contents as change `number` writes them. */
void model_fill(uint8_t *bytes, uint64_t number, uint64_t sector);

/*
 * Whether a read that was issued at `issued_at`, when the sector was `before`, may have found these
 * bytes in `sector`.
 */
bool model_plausible(const struct disk_model *model, const uint8_t *bytes, uint64_t sector,
                     uint64_t before, uint64_t issued_at);

/* Whether nothing but what was answered is on the disk, when nothing is under way. Else `sector` is
 * one that differs. */
bool model_settled(const struct disk_model *model, const uint8_t *disk, uint64_t *sector);

#endif
