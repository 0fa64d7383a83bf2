/* SPDX-License-Identifier: BSD-2-Clause */
/* From the private copy of a slot to a checked request: see decode.h. */
#include "decode.h"

#include "blkback/gnttab.h"
#include "blkback/parse.h"

#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define SECTOR_BYTES     512U
#define LAST_PAGE_SECTOR (GNTTAB_PAGE_SIZE / SECTOR_BYTES - 1)

/* Where the members of a request lie in a slot; operation is at 0 and nr_segments at 1 in every
 * ABI. */
struct slot_layout {
    uint8_t id, sector, segments;
};

static const struct slot_layout *layout_of(enum blkif_abi abi)
{
    static const struct slot_layout wide = {.id = 8, .sector = 16, .segments = 24};
    static const struct slot_layout packed = {.id = 4, .sector = 12, .segments = 20};

    return abi == BLKIF_ABI_X86_32 ? &packed : &wide;
}

static uint64_t load_u64(const struct ring_slot *slot, unsigned offset)
{
    uint64_t value;

    memcpy(&value, slot->bytes + offset, sizeof(value));
    return value;
}

/* Copies the segments and sums their length. Returns false when one does not lie in its page or is
 * not aligned. */
static bool take_segments(const struct ring_slot *slot, unsigned offset,
                          const struct decode_limits *limits, struct decoded_request *out)
{
    uint32_t sectors = 0;

    for (unsigned i = 0; i < out->segments; i++) {
        struct slab_segment *segment = &out->segment[i];

        memcpy(segment, slot->bytes + offset + i * sizeof(*segment), sizeof(*segment));
        segment->pad = 0;
        if (segment->first_sector > segment->last_sector || segment->last_sector > LAST_PAGE_SECTOR)
            return false;
        if (segment->first_sector % limits->sector_units ||
            (segment->last_sector + 1U) % limits->sector_units)
            return false;
        sectors += segment->last_sector - segment->first_sector + 1U;
    }
    out->bytes = sectors * SECTOR_BYTES;
    return true;
}

static bool range_valid(const struct decoded_request *request, const struct decode_limits *limits)
{
    return request->sector % limits->sector_units == 0 &&
           range_within(request->sector, request->bytes / SECTOR_BYTES, limits->sectors);
}

/* READ, WRITE, WRITE_BARRIER and a flush that carries data. */
static int16_t check_transfer(const struct ring_slot *slot, const struct slot_layout *layout,
                              const struct decode_limits *limits, struct decoded_request *out)
{
    if (out->operation != BLKIF_OP_READ && limits->read_only)
        return BLKIF_RSP_ERROR;
    if (!take_segments(slot, layout->segments, limits, out) || !range_valid(out, limits))
        return BLKIF_RSP_ERROR;
    return BLKIF_RSP_OKAY;
}

static int16_t check(const struct ring_slot *slot, const struct slot_layout *layout,
                     const struct decode_limits *limits, struct decoded_request *out)
{
    const uint8_t claimed = slot->bytes[1];
    const bool fits = claimed <= limits->max_segments && claimed <= BLKIF_MAX_DIRECT_SEGMENTS;

    switch (out->operation) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
        if (claimed == 0 || !fits)
            return BLKIF_RSP_ERROR;
        out->segments = claimed;
        break;
    case BLKIF_OP_WRITE_BARRIER:
        if (!fits || limits->read_only)
            return BLKIF_RSP_ERROR;
        /* Without data it is a barrier alone: Linux's frontends sent such. */
        out->segments = claimed;
        break;
    case BLKIF_OP_FLUSH_DISKCACHE:
        /* NetBSD leaves the count unset and Linux the sector number: a count that can't be is no
         * data. */
        out->segments = fits ? claimed : 0;
        break;
    default:
        /* Not offered by us, or not an operation at all. */
        return BLKIF_RSP_EOPNOTSUPP;
    }
    if (out->segments)
        return check_transfer(slot, layout, limits, out);
    return BLKIF_RSP_OKAY;
}

void decode_request(const struct ring_slot *slot, enum blkif_abi abi,
                    const struct decode_limits *limits, struct decoded_request *out)
{
    const struct slot_layout *layout = layout_of(abi);

    out->operation = slot->bytes[0];
    out->response_operation = out->operation;
    out->id = load_u64(slot, layout->id);
    out->sector = load_u64(slot, layout->sector);
    out->segments = 0;
    out->bytes = 0;
    out->status = check(slot, layout, limits, out);
    if (out->status != BLKIF_RSP_OKAY) {
        out->segments = 0;
        out->bytes = 0;
    }
}
