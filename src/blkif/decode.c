/* SPDX-License-Identifier: BSD-2-Clause */
/* From private copies of slots to a checked request: see decode.h. */
#include "decode.h"

#include "blkback/gnttab.h"
#include "blkback/parse.h"

#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define SECTOR_BYTES     512U
#define LAST_PAGE_SECTOR (GNTTAB_PAGE_SIZE / SECTOR_BYTES - 1)

/*
 * Where the members of a request lie in its first slot. In every ABI the operation is at 0; at 1
 * nr_segments, a discard's flag or an indirect request's inner operation; at 2 that one's
 * nr_segments.
 */
struct slot_layout {
    uint8_t id, sector, segments, discard_sectors, indirect_refs;
};

static const struct slot_layout *layout_of(enum blkif_abi abi)
{
    static const struct slot_layout wide = {
        .id = 8, .sector = 16, .segments = 24, .discard_sectors = 24, .indirect_refs = 28};
    static const struct slot_layout packed = {
        .id = 4, .sector = 12, .segments = 20, .discard_sectors = 20, .indirect_refs = 24};

    return abi == BLKIF_ABI_X86_32 ? &packed : &wide;
}

static uint64_t load_u64(const struct ring_slot *slot, unsigned offset)
{
    uint64_t value;

    memcpy(&value, slot->bytes + offset, sizeof(value));
    return value;
}

static bool may_span_slots(uint8_t operation)
{
    return operation == BLKIF_OP_READ || operation == BLKIF_OP_WRITE ||
           operation == BLKIF_OP_WRITE_BARRIER;
}

uint32_t decode_slots(const struct ring_slot *first, const struct decode_limits *limits)
{
    /* A count beyond what was settled on is refused, but the frontend put it into that many slots.
     */
    return limits->max_segments > BLKIF_SEGMENTS_IN_HEADER && may_span_slots(first->bytes[0])
               ? multi_block_slots(first->bytes[1])
               : 1;
}

/* Copies the segments out of the slots: 11 of the first, then blocks of 14. */
static void copy_segments(const struct ring_slot *slots, const struct slot_layout *layout,
                          unsigned count, struct slab_segment *to)
{
    const unsigned head = count < BLKIF_SEGMENTS_IN_HEADER ? count : BLKIF_SEGMENTS_IN_HEADER;

    memcpy(to, slots[0].bytes + layout->segments, head * sizeof(*to));
    for (unsigned done = head, slot = 1; done < count; done += BLKIF_SEGMENTS_IN_BLOCK, slot++) {
        const unsigned left = count - done;

        memcpy(to + done, slots[slot].bytes,
               (left < BLKIF_SEGMENTS_IN_BLOCK ? left : BLKIF_SEGMENTS_IN_BLOCK) * sizeof(*to));
    }
}

/* Checks the segments and sums their length. */
static bool segments_valid(const struct decode_limits *limits, struct slab_segment *segments,
                           struct decoded_request *out)
{
    uint32_t sectors = 0;

    for (unsigned i = 0; i < out->segments; i++) {
        struct slab_segment *segment = &segments[i];

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

/* READ, WRITE, WRITE_BARRIER and a flush that carries data, once their segments are there. */
static int16_t check_transfer(const struct decode_limits *limits, struct slab_segment *segments,
                              struct decoded_request *out)
{
    if (out->operation != BLKIF_OP_READ && limits->read_only)
        return BLKIF_RSP_ERROR;
    if (!segments_valid(limits, segments, out))
        return BLKIF_RSP_ERROR;
    if (out->sector % limits->sector_units ||
        !range_within(out->sector, out->bytes / SECTOR_BYTES, limits->sectors))
        return BLKIF_RSP_ERROR;
    return BLKIF_RSP_OKAY;
}

static uint32_t most_segments(const struct decode_limits *limits)
{
    const uint32_t most =
        limits->abi == BLKIF_ABI_X86_32 ? BLKIF_MULTI_BLOCK_MAX_X86_32 : BLKIF_MULTI_BLOCK_MAX;

    return limits->max_segments < most ? limits->max_segments : most;
}

/* How many data segments there are to look at, or the answer to a count that can't be. */
static int16_t count_segments(uint8_t claimed, const struct decode_limits *limits,
                              struct decoded_request *out)
{
    const bool fits = claimed <= most_segments(limits);

    switch (out->operation) {
    case BLKIF_OP_WRITE_BARRIER:
        /* Without data it is a barrier alone: Linux's frontends sent such. */
        if (!fits || limits->read_only)
            return BLKIF_RSP_ERROR;
        break;
    case BLKIF_OP_FLUSH_DISKCACHE:
        /* NetBSD leaves the count unset and Linux the sector number: a count that can't be is no
         * data. It has one slot in any case. */
        out->segments = fits && claimed <= BLKIF_SEGMENTS_IN_HEADER ? claimed : 0;
        return BLKIF_RSP_OKAY;
    default:
        if (!fits || claimed == 0)
            return BLKIF_RSP_ERROR;
        break;
    }
    out->segments = claimed;
    return BLKIF_RSP_OKAY;
}

static int16_t decode_transfer(const struct ring_slot *slots, const struct slot_layout *layout,
                               const struct decode_limits *limits, struct slab_segment *segments,
                               struct decoded_request *out)
{
    const int16_t status = count_segments(slots[0].bytes[1], limits, out);

    if (status != BLKIF_RSP_OKAY || out->segments == 0)
        return status;
    copy_segments(slots, layout, out->segments, segments);
    return check_transfer(limits, segments, out);
}

static int16_t check_discard(const struct decode_limits *limits, const struct decoded_request *out)
{
    if (limits->read_only || !range_within(out->sector, out->discard_sectors, limits->sectors))
        return BLKIF_RSP_ERROR;
    /* A hint is rounded; the promise that all of it is erased can't be. */
    if (out->secure && (out->sector | out->discard_sectors) % limits->sector_units)
        return BLKIF_RSP_ERROR;
    return BLKIF_RSP_OKAY;
}

static int16_t decode_discard(const struct ring_slot *slot, const struct slot_layout *layout,
                              const struct decode_limits *limits, struct decoded_request *out)
{
    if (!limits->discard)
        return BLKIF_RSP_EOPNOTSUPP;
    out->discard_sectors = load_u64(slot, layout->discard_sectors);
    /* The flag means nothing to a backend that did not offer it (blkif.h). */
    out->secure = limits->discard_secure && (slot->bytes[1] & BLKIF_DISCARD_SECURE) != 0;
    return check_discard(limits, out);
}

/* The part of an indirect request that is in the slot. The answer carries the inner operation: some
 * frontends crash on 6. */
static int16_t decode_indirect_slot(const struct ring_slot *slot, const struct slot_layout *layout,
                                    const struct decode_limits *limits, struct decoded_request *out)
{
    uint16_t segments;

    out->operation = slot->bytes[1];
    out->response_operation = out->operation;
    if (limits->max_indirect_segments == 0)
        return BLKIF_RSP_EOPNOTSUPP;
    if (out->operation != BLKIF_OP_READ && out->operation != BLKIF_OP_WRITE)
        return BLKIF_RSP_ERROR;
    memcpy(&segments, slot->bytes + 2, sizeof(segments));
    if (segments == 0 || segments > limits->max_indirect_segments)
        return BLKIF_RSP_ERROR;
    memcpy(&out->indirect_ref, slot->bytes + layout->indirect_refs, sizeof(out->indirect_ref));
    out->segments = segments;
    out->indirect = true;
    return BLKIF_RSP_OKAY;
}

static int16_t decode(const struct ring_slot *slots, const struct decode_limits *limits,
                      struct slab_segment *segments, struct decoded_request *out)
{
    const struct slot_layout *layout = layout_of(limits->abi);

    out->id = load_u64(&slots[0], layout->id);
    out->sector = load_u64(&slots[0], layout->sector);
    switch (out->operation) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
    case BLKIF_OP_WRITE_BARRIER:
    case BLKIF_OP_FLUSH_DISKCACHE:
        return decode_transfer(slots, layout, limits, segments, out);
    case BLKIF_OP_DISCARD:
        return decode_discard(&slots[0], layout, limits, out);
    case BLKIF_OP_INDIRECT:
        return decode_indirect_slot(&slots[0], layout, limits, out);
    default:
        return BLKIF_RSP_EOPNOTSUPP; /* not an operation at all */
    }
}

void decode_refuse(struct decoded_request *request, int16_t status)
{
    request->status = status;
    request->segments = 0;
    request->bytes = 0;
    request->discard_sectors = 0;
    request->indirect = false;
}

static void settle(struct decoded_request *request, int16_t status)
{
    request->status = status;
    if (status != BLKIF_RSP_OKAY)
        decode_refuse(request, status);
}

void decode_request(const struct ring_slot *slots, const struct decode_limits *limits,
                    struct slab_segment *segments, struct decoded_request *out)
{
    *out = (struct decoded_request){
        .operation = slots[0].bytes[0],
        .response_operation = slots[0].bytes[0],
        .slots = (uint8_t)decode_slots(&slots[0], limits),
    };
    settle(out, decode(slots, limits, segments, out));
}

void decode_indirect(const struct decode_limits *limits, struct slab_segment *segments,
                     struct decoded_request *request)
{
    request->indirect = false;
    settle(request, check_transfer(limits, segments, request));
}

/* Only a flush, and a barrier on a disk that can be written to, may have no data. */
static bool may_be_bare(const struct decode_limits *limits, uint8_t operation)
{
    return operation == BLKIF_OP_FLUSH_DISKCACHE ||
           (operation == BLKIF_OP_WRITE_BARRIER && !limits->read_only);
}

static int16_t recheck(const struct decode_limits *limits, struct slab_segment *segments,
                       struct decoded_request *recorded)
{
    switch (recorded->operation) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
    case BLKIF_OP_WRITE_BARRIER:
    case BLKIF_OP_FLUSH_DISKCACHE:
        if (recorded->segments)
            return check_transfer(limits, segments, recorded);
        if (may_be_bare(limits, recorded->operation))
            return BLKIF_RSP_OKAY;
        return BLKIF_RSP_ERROR;
    case BLKIF_OP_DISCARD:
        recorded->segments = 0;
        if (limits->discard)
            return check_discard(limits, recorded);
        return BLKIF_RSP_EOPNOTSUPP;
    default:
        return BLKIF_RSP_EOPNOTSUPP;
    }
}

void decode_recheck(const struct decode_limits *limits, struct slab_segment *segments,
                    struct decoded_request *recorded)
{
    recorded->bytes = 0;
    recorded->indirect = false;
    settle(recorded, recheck(limits, segments, recorded));
}
