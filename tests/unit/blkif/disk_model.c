/* SPDX-License-Identifier: BSD-2-Clause */
/* What a disk may contain while requests are under way: see disk_model.h. */
#include "disk_model.h"

#include <string.h>

#define WORDS       (512U / 8)
#define SECTOR_BITS 16U
#define MULTIPLIER  UINT64_C(0x9e3779b97f4a7c15) /* odd: every bit of a stamp matters */

static uint64_t stamp_of(uint64_t number, uint64_t sector)
{
    return number << SECTOR_BITS | sector;
}

void model_fill(uint8_t *bytes, uint64_t number, uint64_t sector)
{
    uint64_t words[WORDS];

    for (unsigned i = 0; i < WORDS; i++)
        words[i] = i == 0 ? stamp_of(number, sector) : (stamp_of(number, sector) + i) * MULTIPLIER;
    memcpy(bytes, words, sizeof(words));
}

static bool is_filled(const uint8_t *bytes, uint64_t stamp)
{
    uint8_t expected[512];

    if (stamp == MODEL_DISCARDS)
        memset(expected, FAKE_DISCARDED, sizeof(expected));
    else
        model_fill(expected, stamp >> SECTOR_BITS, stamp & ((1U << SECTOR_BITS) - 1));
    return memcmp(bytes, expected, sizeof(expected)) == 0;
}

void model_init(struct disk_model *model, uint8_t *disk)
{
    memset(model, 0, sizeof(*model));
    for (uint64_t sector = 0; sector < MODEL_SECTORS; sector++) {
        model->stamps[sector] = stamp_of(0, sector);
        model_fill(disk + sector * 512, 0, sector);
    }
}

static struct model_change *change_at(struct disk_model *model, uint64_t number)
{
    return &model->change[number % MODEL_CHANGES];
}

uint64_t model_begin(struct disk_model *model, uint64_t sector, uint64_t sectors, bool discards)
{
    const uint64_t number = ++model->changes;

    *change_at(model, number) = (struct model_change){
        .number = number,
        .sector = sector,
        .sectors = sectors,
        .ended_at = MODEL_NEVER,
        .discards = discards,
    };
    return number;
}

void model_end(struct disk_model *model, uint64_t number, bool failed)
{
    struct model_change *change = change_at(model, number);

    change->ended_at = ++model->now;
    change->failed = failed;
    for (uint64_t i = 0; !failed && i < change->sectors; i++)
        model->stamps[change->sector + i] =
            change->discards ? MODEL_DISCARDS : stamp_of(number, change->sector + i);
}

static bool was_under_way(const struct model_change *change, uint64_t sector, uint64_t since)
{
    return change->number && !change->failed && change->ended_at > since &&
           sector - change->sector < change->sectors;
}

static bool was_discarded(const struct disk_model *model, uint64_t sector, uint64_t since)
{
    for (unsigned i = 0; i < MODEL_CHANGES; i++)
        if (model->change[i].discards && was_under_way(&model->change[i], sector, since))
            return true;
    return false;
}

bool model_plausible(const struct disk_model *model, const uint8_t *bytes, uint64_t sector,
                     uint64_t before, uint64_t issued_at)
{
    uint64_t stamp;

    if (is_filled(bytes, before))
        return true;
    if (is_filled(bytes, MODEL_DISCARDS))
        return was_discarded(model, sector, issued_at);
    memcpy(&stamp, bytes, sizeof(stamp));
    const struct model_change *change = &model->change[(stamp >> SECTOR_BITS) % MODEL_CHANGES];

    return stamp == stamp_of(change->number, sector) && !change->discards &&
           was_under_way(change, sector, issued_at) && is_filled(bytes, stamp);
}

bool model_settled(const struct disk_model *model, const uint8_t *disk, uint64_t *sector)
{
    for (uint64_t i = 0; i < MODEL_SECTORS; i++)
        if (!is_filled(disk + i * 512, model->stamps[i])) {
            *sector = i;
            return false;
        }
    return true;
}
