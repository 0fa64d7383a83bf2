/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests of any contents, in every ABI: what decoding lets through is what everything behind it
 * relies on. Slots and segments lie in memory of exactly their size, so that a sanitizer sees what
 * goes beyond.
 */
#include "fuzz.h"

#include "decode.h"

#include <stdlib.h>
#include <xen/io/blkif.h>

#define PAGE_SECTORS 8U

static struct decode_limits take_limits(struct input *input)
{
    const uint8_t flags = input_u8(input);
    const uint8_t more = input_u8(input);
    const uint8_t shift = input_u8(input);

    return (struct decode_limits){
        .abi = (enum blkif_abi)(flags % BLKIF_ABIS),
        .sectors = (uint64_t)input_u16(input) << (shift % 49),
        .sector_units = flags & 4 ? 8 : 1,
        .max_segments = more < 11 ? 11 : more,
        .max_indirect_segments = flags & 8    ? 0
                                 : flags & 16 ? 256
                                              : 32,
        .read_only = flags & 32,
        .discard = flags & 64,
        .discard_secure = flags & 128,
    };
}

static void check_segments(const struct decode_limits *limits, const struct slab_segment *segments,
                           const struct decoded_request *request)
{
    uint64_t sectors = 0;

    for (unsigned i = 0; i < request->segments; i++) {
        const struct slab_segment *segment = &segments[i];

        CHECK(segment->first_sector <= segment->last_sector);
        CHECK(segment->last_sector < PAGE_SECTORS);
        CHECK(segment->first_sector % limits->sector_units == 0);
        CHECK((segment->last_sector + 1U) % limits->sector_units == 0);
        CHECK(segment->pad == 0);
        sectors += segment->last_sector - segment->first_sector + 1U;
    }
    CHECK(request->bytes == sectors * 512);
    if (request->segments) {
        CHECK(request->sector % limits->sector_units == 0);
        CHECK(request->sector <= limits->sectors && sectors <= limits->sectors - request->sector);
    }
}

static void check_discard(const struct decode_limits *limits, const struct decoded_request *request)
{
    CHECK(limits->discard && !limits->read_only);
    CHECK(request->segments == 0 && request->bytes == 0);
    CHECK(request->sector <= limits->sectors);
    CHECK(request->discard_sectors <= limits->sectors - request->sector);
    if (request->secure)
        CHECK((request->sector | request->discard_sectors) % limits->sector_units == 0);
}

/* Of a request that is settled: all of its segments have been looked at. */
static void check_settled(const struct decode_limits *limits, const struct slab_segment *segments,
                          const struct decoded_request *request)
{
    CHECK(!request->indirect);
    if (request->status != BLKIF_RSP_OKAY) {
        CHECK(request->status == BLKIF_RSP_ERROR || request->status == BLKIF_RSP_EOPNOTSUPP);
        CHECK(request->segments == 0 && request->bytes == 0 && request->discard_sectors == 0);
        return;
    }
    switch (request->operation) {
    case BLKIF_OP_READ:
        CHECK(request->segments > 0);
        break;
    case BLKIF_OP_WRITE:
        CHECK(request->segments > 0 && !limits->read_only);
        break;
    case BLKIF_OP_WRITE_BARRIER:
        CHECK(!limits->read_only);
        break;
    case BLKIF_OP_FLUSH_DISKCACHE:
        CHECK(request->segments == 0 || !limits->read_only);
        break;
    case BLKIF_OP_DISCARD:
        check_discard(limits, request);
        return;
    default:
        CHECK(false);
    }
    check_segments(limits, segments, request);
}

/* What was let through once is let through again, unchanged, as after a worker's death. */
static void check_again(const struct decode_limits *limits, struct slab_segment *segments,
                        const struct decoded_request *request)
{
    struct decoded_request again = *request;

    decode_recheck(limits, segments, &again);
    CHECK(again.status == request->status && again.segments == request->segments);
    CHECK(again.bytes == request->bytes && again.discard_sectors == request->discard_sectors);
    check_settled(limits, segments, &again);
}

static void go_on_with_indirect(const struct decode_limits *limits, struct input *input,
                                struct decoded_request *request)
{
    CHECK(limits->max_indirect_segments > 0);
    CHECK(request->segments > 0 && request->segments <= limits->max_indirect_segments);
    CHECK(request->operation == BLKIF_OP_READ || request->operation == BLKIF_OP_WRITE);

    const size_t bytes = request->segments * sizeof(struct slab_segment);
    struct slab_segment *segments = malloc(bytes);

    CHECK(segments != NULL);
    input_bytes(input, segments, bytes);
    decode_indirect(limits, segments, request);
    check_settled(limits, segments, request);
    if (request->status == BLKIF_RSP_OKAY)
        check_again(limits, segments, request);
    free(segments);
}

static void decode_slots_of(const struct decode_limits *limits, struct input *input)
{
    struct ring_slot first;

    input_bytes(input, first.bytes, sizeof(first.bytes));
    const uint32_t count = decode_slots(&first, limits);

    CHECK(count >= 1 && count <= BLKIF_SLOTS_MAX);
    struct ring_slot *slots = malloc(count * sizeof(*slots));
    struct slab_segment *segments = malloc(limits->max_segments * sizeof(*segments));

    CHECK(slots != NULL && segments != NULL);
    slots[0] = first;
    for (uint32_t i = 1; i < count; i++)
        input_bytes(input, slots[i].bytes, sizeof(slots[i].bytes));
    memset(segments, 0xee, limits->max_segments * sizeof(*segments));
    struct decoded_request request;

    decode_request(slots, limits, segments, &request);
    CHECK(request.slots == count);
    CHECK(request.response_operation ==
          (first.bytes[0] == BLKIF_OP_INDIRECT ? first.bytes[1] : first.bytes[0]));
    if (request.indirect) {
        go_on_with_indirect(limits, input, &request);
    } else {
        check_settled(limits, segments, &request);
        CHECK(request.segments <= limits->max_segments);
        if (request.status == BLKIF_RSP_OKAY)
            check_again(limits, segments, &request);
    }
    free(segments);
    free(slots);
}

/* What a predecessor may have recorded, if it was somebody else's by then. */
static void recheck_anything(const struct decode_limits *limits, struct input *input)
{
    struct decoded_request request = {
        .id = input_u64(input),
        .sector = input_u64(input),
        .discard_sectors = input_u64(input),
        .bytes = input_u32(input),
        .segments = input_u8(input),
        .operation = input_u8(input),
        .status = (int16_t)input_u16(input),
        .secure = input_u8(input) & 1,
        .indirect = true,
    };
    const size_t bytes = request.segments * sizeof(struct slab_segment);
    struct slab_segment *segments = malloc(bytes ? bytes : 1);

    CHECK(segments != NULL);
    input_bytes(input, segments, bytes);
    decode_recheck(limits, segments, &request);
    check_settled(limits, segments, &request);
    free(segments);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    const struct decode_limits limits = take_limits(&input);

    if (input_u8(&input) & 1)
        recheck_anything(&limits, &input);
    else
        decode_slots_of(&limits, &input);
    return 0;
}
