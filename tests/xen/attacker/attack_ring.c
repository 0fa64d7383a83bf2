/* SPDX-License-Identifier: BSD-2-Clause */
/* Attacks by single requests and by the ring's words. */
#include "attacker.h"

#include <stddef.h>
#include <string.h>
#include <xen/io/blkif.h>

#define FORGE_MS 20u

/* The disk serves, whatever was before. */
static int nothing(struct attacker *a)
{
    (void)a;
    return 0;
}

static int producer_ahead(struct attacker *a)
{
    a->words[REQ_PROD] = a->words[RSP_PROD] + RING_SLOTS + 1 + random_below(a, 1u << 30);
    front_notify(a->queue);
    return 0;
}

static int producer_backwards(struct attacker *a)
{
    a->words[REQ_PROD] = a->words[RSP_PROD] - 1 - random_below(a, 1u << 30);
    front_notify(a->queue);
    return 0;
}

/* While right requests are served. The last word is one that no backend may believe. */
static int producer_races(struct attacker *a)
{
    struct front_segment segment;
    struct front_request request = plain_request(a, BLKIF_OP_READ, &segment);
    uint64_t end = now_ms() + FORGE_MS;

    for (uint32_t i = 0; i < RING_SLOTS; i++)
        if (put(a, &request, BLKIF_OP_READ, BLKIF_RSP_OKAY))
            return -1;
    front_push(a->queue);
    while (now_ms() < end) {
        a->words[REQ_PROD] = random_word(a);
        front_notify(a->queue);
    }
    return producer_ahead(a);
}

static int unknown_operations(struct attacker *a)
{
    struct front_segment segment;

    for (uint32_t op = 0; op < 256; op++) {
        struct front_request request = plain_request(a, (uint8_t)op, &segment);

        if (op <= BLKIF_OP_FLUSH_DISKCACHE || op == BLKIF_OP_DISCARD || op == BLKIF_OP_INDIRECT)
            continue;
        if (put(a, &request, (uint8_t)op, BLKIF_RSP_EOPNOTSUPP))
            return -1;
        if (a->unanswered == RING_SLOTS && settle(a))
            return -1;
    }
    return settle(a);
}

static int segment_counts(struct attacker *a)
{
    static const uint8_t counts[] = {0, 12, 13, 128, 255};
    struct front_segment segment[FRONT_SEGMENTS_PER_REQUEST];

    for (uint32_t i = 0; i < FRONT_SEGMENTS_PER_REQUEST; i++)
        segment[i] = (struct front_segment){.ref = a->page_ref, .first = 0, .last = 7};
    for (uint8_t op = BLKIF_OP_READ; op <= BLKIF_OP_WRITE; op++)
        for (uint32_t i = 0; i < sizeof(counts); i++) {
            struct front_request request = {.op = op,
                                            .byte1 = counts[i],
                                            .segments = FRONT_SEGMENTS_PER_REQUEST,
                                            .segment = segment};

            if (put(a, &request, op, BLKIF_RSP_ERROR))
                return -1;
        }
    return settle(a);
}

/* At each end of a full request. */
static int segment_sectors(struct attacker *a)
{
    static const uint8_t wrong[][2] = {{4, 3}, {7, 0}, {0, 8}, {8, 8}, {0, 255}, {255, 255}};
    struct front_segment segment[FRONT_SEGMENTS_PER_REQUEST];

    for (uint32_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]) * 4; i++) {
        uint32_t place = i % 2 ? FRONT_SEGMENTS_PER_REQUEST - 1 : 0;
        uint8_t op = i % 4 < 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE;
        struct front_request request = {.op = op,
                                        .byte1 = FRONT_SEGMENTS_PER_REQUEST,
                                        .segments = FRONT_SEGMENTS_PER_REQUEST,
                                        .segment = segment};

        for (uint32_t j = 0; j < FRONT_SEGMENTS_PER_REQUEST; j++)
            segment[j] = (struct front_segment){.ref = a->page_ref, .first = 0, .last = 7};
        segment[place].first = wrong[i / 4][0];
        segment[place].last = wrong[i / 4][1];
        if (put(a, &request, op, BLKIF_RSP_ERROR))
            return -1;
    }
    return settle(a);
}

static int beyond_the_end(struct attacker *a)
{
    const uint64_t starts[] = {a->sectors,        a->sectors - 1,          a->sectors - 7,
                               UINT64_C(1) << 55, (UINT64_C(1) << 55) - 1, INT64_MAX,
                               UINT64_C(1) << 63, UINT64_MAX - 7,          UINT64_MAX};
    static const uint8_t ops[] = {BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_DISCARD};
    struct front_segment segment;

    for (uint32_t i = 0; i < sizeof(starts) / sizeof(starts[0]) * sizeof(ops); i++) {
        uint8_t op = ops[i % sizeof(ops)];
        struct front_request request = plain_request(a, op, &segment);

        request.sector = starts[i / sizeof(ops)];
        if (op == BLKIF_OP_DISCARD) {
            request.byte1 = 0;
            request.nr_sectors = i % 2 ? UINT64_MAX : 8;
        }
        if (put(a, &request, op, BLKIF_RSP_ERROR))
            return -1;
    }
    return settle(a);
}

static struct front_request indirect_request(const struct attacker *a, uint8_t inner,
                                             uint16_t count)
{
    struct front_request request = {
        .op = BLKIF_OP_INDIRECT, .byte1 = inner, .handle = count, .indirect_refs = 1};

    request.indirect_ref[0] = a->list_ref;
    return request;
}

static void fill_list(struct attacker *a)
{
    struct front_segment good = {.ref = a->page_ref, .first = 0, .last = 7};

    for (uint32_t i = 0; i < PAGE; i += (uint32_t)sizeof(good))
        memcpy(a->list + i, &good, sizeof(good));
}

static int read_only_disk(struct attacker *a)
{
    static const uint8_t ops[] = {BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER};
    struct front_segment segment;
    struct front_request request;

    if (!a->read_only)
        return reject(a, "the disk is not read-only");
    for (uint32_t i = 0; i < sizeof(ops); i++) {
        request = plain_request(a, ops[i], &segment);
        if (put(a, &request, ops[i], BLKIF_RSP_ERROR))
            return -1;
    }
    request = (struct front_request){.op = BLKIF_OP_DISCARD, .nr_sectors = 8};
    if (put_either(a, &request, BLKIF_OP_DISCARD, BLKIF_RSP_ERROR, BLKIF_RSP_EOPNOTSUPP))
        return -1;
    fill_list(a);
    request = indirect_request(a, BLKIF_OP_WRITE, 32);
    if (put(a, &request, BLKIF_OP_WRITE, BLKIF_RSP_ERROR))
        return -1;
    return settle(a);
}

static int indirect_nonsense(struct attacker *a)
{
    static const uint8_t inner[] = {BLKIF_OP_INDIRECT, BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE,
                                    77};
    static const uint16_t counts[] = {0, 257, 512, 0xffff};
    const struct front_segment wrong = {.ref = 0x7fffffff, .first = 9, .last = 3, .pad = 0xffff};
    struct front_request request;

    fill_list(a);
    for (uint32_t i = 0; i < sizeof(inner); i++) {
        request = indirect_request(a, inner[i], 32);
        if (put_either(a, &request, inner[i], BLKIF_RSP_ERROR, BLKIF_RSP_EOPNOTSUPP))
            return -1;
    }
    for (uint32_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        request = indirect_request(a, BLKIF_OP_READ, counts[i]);
        if (put(a, &request, BLKIF_OP_READ, BLKIF_RSP_ERROR))
            return -1;
    }
    request = indirect_request(a, BLKIF_OP_READ, 32);
    request.indirect_ref[0] = 0x7fffffff;
    if (put(a, &request, BLKIF_OP_READ, BLKIF_RSP_ERROR) || settle(a))
        return -1;
    memcpy(a->list + sizeof(wrong) * 31, &wrong, sizeof(wrong));
    request = indirect_request(a, BLKIF_OP_READ, 32);
    if (expect_answer(a, &request, BLKIF_OP_READ, BLKIF_RSP_ERROR))
        return -1;
    request = indirect_request(a, BLKIF_OP_READ, 31);
    return expect_answer(a, &request, BLKIF_OP_READ, BLKIF_RSP_OKAY);
}

static int repeated_ids(struct attacker *a)
{
    struct front_segment segment;
    struct front_request request = plain_request(a, BLKIF_OP_READ, &segment);

    for (uint32_t i = 0; i < RING_SLOTS; i++) {
        request.id = UINT64_MAX;
        if (put(a, &request, BLKIF_OP_READ, BLKIF_RSP_OKAY))
            return -1;
    }
    return settle(a);
}

/* Without a request, from time to time one. */
static int event_storm(struct attacker *a)
{
    do {
        struct front_segment segment;
        struct front_request request = plain_request(a, BLKIF_OP_READ, &segment);

        for (uint32_t i = 0; i < 2000; i++)
            front_notify(a->queue);
        if (expect_answer(a, &request, BLKIF_OP_READ, BLKIF_RSP_OKAY))
            return -1;
    } while (!time_over(a));
    return 0;
}

const struct attack ring_attacks[] = {
    {"nothing", nothing, SERVES, "no attack"},
    {"producer-ahead", producer_ahead, STOPS, "req_prod beyond the ring"},
    {"producer-backwards", producer_backwards, STOPS, "req_prod below what was answered"},
    {"producer-races", producer_races, STOPS, "req_prod at random under right requests"},
    {"unknown-operations", unknown_operations, SERVES, "all operations that there are not"},
    {"segment-counts", segment_counts, SERVES, "no segments, and too many"},
    {"segment-sectors", segment_sectors, SERVES, "sectors outside the page, or backwards"},
    {"beyond-the-end", beyond_the_end, SERVES, "sectors past the end, and ones that overflow"},
    {"read-only-disk", read_only_disk, SERVES, "writes, barriers, discards, on a read-only disk"},
    {"indirect-nonsense", indirect_nonsense, SERVES, "indirect in indirect, counts, lists"},
    {"repeated-ids", repeated_ids, SERVES, "the same id in all slots"},
    {"event-storm", event_storm, SERVES, "events without end on an empty ring"},
    {NULL, NULL, STOPS, NULL},
};
