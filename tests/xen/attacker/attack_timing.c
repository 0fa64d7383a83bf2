/* SPDX-License-Identifier: BSD-2-Clause */
/* Attacks by changing what is shared while the backend, on another processor, looks at it. */
#include "attacker.h"

#include <string.h>
#include <xen/io/blkif.h>

#define SHAPES      64u
#define SCRIBBLE_MS 3u
#define FLOOD_MS    60000u

/* Slots that are nearly right, right and senseless. */
static void make_shapes(struct attacker *a, uint8_t (*shape)[SLOT_SIZE])
{
    static const uint8_t ops[] = {BLKIF_OP_READ,          BLKIF_OP_WRITE,
                                  BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE,
                                  BLKIF_OP_DISCARD,       BLKIF_OP_INDIRECT};
    static const uint8_t counts[] = {0, 1, 1, 11, 11, 12, 255};
    struct front_segment segment[FRONT_SEGMENTS_PER_REQUEST];

    for (uint32_t i = 0; i < SHAPES; i++) {
        struct front_request request = {.id = i,
                                        .op = ops[random_below(a, sizeof(ops))],
                                        .byte1 = counts[random_below(a, sizeof(counts))],
                                        .handle = (uint16_t)random_below(a, 300),
                                        .sector =
                                            random_below(a, 2) ? 0 : (uint64_t)random_word(a) << 12,
                                        .nr_sectors = random_below(a, 32),
                                        .segments = FRONT_SEGMENTS_PER_REQUEST,
                                        .segment = segment,
                                        .slots = 1};

        for (uint32_t j = 0; j < FRONT_SEGMENTS_PER_REQUEST; j++)
            segment[j] =
                (struct front_segment){.ref = random_below(a, 8) ? a->page_ref : random_word(a),
                                       .first = (uint8_t)random_below(a, 4),
                                       .last = (uint8_t)random_below(a, 9)};
        if (request.op == BLKIF_OP_INDIRECT && random_below(a, 4)) {
            request.indirect_refs = 1;
            request.indirect_ref[0] = a->list_ref;
            request.byte1 = (uint8_t)random_below(a, 3);
        }
        front_encode(FRONT_ABI_X86_64, &request, 0, shape[i]);
    }
}

/* All slots, and the list of indirect segments, again and again until every request is answered. */
static int scribble_until_answered(struct attacker *a, uint8_t (*shape)[SLOT_SIZE])
{
    uint8_t *slots = front_queue_memory(a->queue) + SLOTS_OFFSET;
    uint64_t end = now_ms() + ANSWER_MS;

    while (a->words[RSP_PROD] != a->words[REQ_PROD]) {
        for (uint32_t i = 0; i < RING_SLOTS; i++)
            memcpy(slots + i * SLOT_SIZE, shape[random_below(a, SHAPES)], SLOT_SIZE);
        memcpy(a->list + random_below(a, 30) * SLOT_SIZE, shape[random_below(a, SHAPES)],
               SLOT_SIZE);
        if (now_ms() > end)
            return reject(a, "%u of %u requests are not answered within %u s",
                          a->words[REQ_PROD] - a->words[RSP_PROD], RING_SLOTS, ANSWER_MS / 1000u);
    }
    a->count += RING_SLOTS;
    return 0;
}

/* No answer is taken either: what the backend keeps is bounded by the ring. */
static int slots_change(struct attacker *a)
{
    uint8_t shape[SHAPES][SLOT_SIZE] = {{0}};

    do {
        make_shapes(a, shape);
        for (uint32_t turn = 0; turn < 8; turn++) {
            for (uint32_t i = 0; i < RING_SLOTS; i++)
                memcpy(front_queue_memory(a->queue) + SLOTS_OFFSET + i * SLOT_SIZE,
                       shape[random_below(a, SHAPES)], SLOT_SIZE);
            __atomic_store_n(&a->words[REQ_PROD], a->words[RSP_PROD] + RING_SLOTS,
                             __ATOMIC_RELEASE);
            front_notify(a->queue);
            if (scribble_until_answered(a, shape))
                return -1;
        }
    } while (!time_over(a));
    return 0;
}

/* The same right request in every slot, of which so many more are published. */
static void publish_right_ones(struct attacker *a, uint32_t count)
{
    struct front_segment segment;
    struct front_request request = plain_request(a, BLKIF_OP_READ, &segment);
    uint8_t *slots = front_queue_memory(a->queue) + SLOTS_OFFSET;

    for (uint32_t i = 0; i < RING_SLOTS; i++)
        front_encode(FRONT_ABI_X86_64, &request, 0, slots + i * SLOT_SIZE);
    __atomic_store_n(&a->words[REQ_PROD], a->words[REQ_PROD] + count, __ATOMIC_RELEASE);
    front_notify(a->queue);
}

static int await_answers(struct attacker *a)
{
    uint64_t end = now_ms() + ANSWER_MS;

    while (a->words[RSP_PROD] != a->words[REQ_PROD])
        if (now_ms() > end)
            return reject(a, "rsp_prod is %u, not %u", a->words[RSP_PROD], a->words[REQ_PROD]);
    return 0;
}

static int answers_untaken(struct attacker *a)
{
    do {
        publish_right_ones(a, RING_SLOTS);
        if (await_answers(a))
            return -1;
        a->count += RING_SLOTS;
    } while (!time_over(a));
    return 0;
}

/* The backend's own counters are the only ones: its next publication puts rsp_prod right. */
static int backends_words(struct attacker *a)
{
    do {
        uint64_t end = now_ms() + SCRIBBLE_MS;

        publish_right_ones(a, RING_SLOTS / 2);
        while (now_ms() < end) {
            a->words[REQ_EVENT] = random_word(a);
            a->words[RSP_PROD] = random_word(a);
            a->words[RSP_EVENT] = random_word(a);
        }
        /* by now these may be answered or not; one more is answered after the last scribble */
        __atomic_store_n(&a->words[REQ_PROD], a->words[REQ_PROD] + 1, __ATOMIC_RELEASE);
        front_notify(a->queue);
        if (await_answers(a))
            return -1;
        a->count += RING_SLOTS / 2 + 1;
    } while (!time_over(a));
    return 0;
}

/* For a domain that is to be destroyed under it. */
static int flood(struct attacker *a)
{
    a->deadline_ms = now_ms() + FLOOD_MS;
    return slots_change(a);
}

const struct attack timing_attacks[] = {
    {"slots-change", slots_change, SCRIBBLES,
     "slots and lists rewritten after they were published"},
    {"answers-untaken", answers_untaken, SCRIBBLES, "answers that nobody takes"},
    {"backends-words", backends_words, SCRIBBLES, "rsp_prod, req_event and rsp_event overwritten"},
    {"flood", flood, GONE, "slots-change for a minute"},
    {NULL, NULL, STOPS, NULL},
};
