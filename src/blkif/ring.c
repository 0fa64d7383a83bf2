/* SPDX-License-Identifier: BSD-2-Clause */
/* The consuming half of a blkif ring: see ring.h. */
#include "ring.h"

#include <errno.h>
#include <string.h>

/* Layout of a response, the same in every ABI: id at 0, operation at 8, status at 10. */
#define RESPONSE_OPERATION 8U
#define RESPONSE_STATUS    10U

#define CACHE_LINE_BYTES 64U

int ring_init(struct ring *ring, void *pages, enum blkif_abi abi, uint32_t order)
{
    struct ring_shared *shared = pages;
    const uint32_t start = atomic_load_explicit(&shared->rsp_prod, memory_order_relaxed);

    *ring = (struct ring){
        .shared = shared,
        .slots = (volatile uint8_t *)pages + BLKIF_RING_HEADER_BYTES,
        .slot_bytes = blkif_abi_slot_bytes(abi),
        .count = blkif_abi_ring_slots(abi, order),
        .req_cons = start,
        .rsp_prod = start,
        .rsp_published = start,
    };
    uint32_t available;

    return ring_available(ring, &available);
}

int ring_resume(struct ring *ring, uint32_t req_cons)
{
    uint32_t available;

    ring->req_cons = req_cons;
    return ring_available(ring, &available);
}

int ring_available(const struct ring *ring, uint32_t *out)
{
    /* Pairs with the frontend's barrier between filling slots and raising req_prod. */
    const uint32_t produced = atomic_load_explicit(&ring->shared->req_prod, memory_order_acquire);

    /*
     * At most `count` requests can be unanswered. One unsigned test, against private counters,
     * finds a producer that ran ahead or backwards: a backward step below req_cons makes the
     * difference to rsp_published smaller than what was taken.
     */
    const uint32_t unanswered = produced - ring->rsp_published;
    const uint32_t taken = ring->req_cons - ring->rsp_published;

    if (unanswered > ring->count || unanswered < taken)
        return -EPROTO;
    *out = unanswered - taken;
    return 0;
}

static volatile uint8_t *slot_at(const struct ring *ring, uint32_t index)
{
    return ring->slots + (size_t)(index & (ring->count - 1)) * ring->slot_bytes;
}

/* Volatile makes each load single. */
static void copy_words(const volatile uint8_t *slot, uint32_t bytes, struct ring_slot *out)
{
    const volatile uint32_t *from = (const volatile uint32_t *)slot;

    for (uint32_t i = 0; i < bytes / sizeof(*from); i++) {
        const uint32_t word = from[i];

        memcpy(out->bytes + i * sizeof(word), &word, sizeof(word));
    }
}

/* The same for a slot of the greatest size, which is aligned to it in any ring of such. */
static void copy_long_words(const volatile uint8_t *slot, struct ring_slot *out)
{
    const volatile uint64_t *from = (const volatile uint64_t *)slot;

    for (uint32_t i = 0; i < BLKIF_SLOT_BYTES_MAX / sizeof(*from); i++) {
        const uint64_t word = from[i];

        memcpy(out->bytes + i * sizeof(word), &word, sizeof(word));
    }
}

void ring_copy_slot(const struct ring *ring, uint32_t ahead, struct ring_slot *out)
{
    const volatile uint8_t *slot = slot_at(ring, ring->req_cons + ahead);

    _Static_assert(BLKIF_RING_HEADER_BYTES % 8 == 0 && BLKIF_SLOT_BYTES_MAX % 8 == 0,
                   "the longest slots are aligned to 8 bytes; the others to 4");
    if (ring->slot_bytes == BLKIF_SLOT_BYTES_MAX)
        copy_long_words(slot, out);
    else
        copy_words(slot, ring->slot_bytes, out);
}

void ring_prefetch(const struct ring *ring, uint32_t ahead)
{
    const uint32_t slot = (ring->req_cons + ahead) & (ring->count - 1);
    const uint8_t *at = (const uint8_t *)(ring->shared + 1) + (size_t)slot * ring->slot_bytes;

    __builtin_prefetch(at);
    __builtin_prefetch(at + CACHE_LINE_BYTES);
}

void ring_consume(struct ring *ring, uint32_t slots)
{
    ring->req_cons += slots;
}

void ring_put_response(struct ring *ring, uint64_t id, uint8_t operation, int16_t status,
                       uint32_t slots)
{
    volatile uint8_t *to = slot_at(ring, ring->rsp_prod);
    volatile uint32_t *words = (volatile uint32_t *)to;

    /* 64-bit members are only 4-byte aligned in x86_32. Padding is written as zero: no old memory
     * goes to the guest. */
    words[0] = (uint32_t)id;
    words[1] = (uint32_t)(id >> 32);
    words[2] = (uint32_t)operation | (uint32_t)(uint16_t)status << 16;
    _Static_assert(RESPONSE_OPERATION == 8 && RESPONSE_STATUS == 10,
                   "third word: operation, zero, status");
    ring->rsp_prod += slots;
}

void ring_publish(struct ring *ring)
{
    /* Pairs with the frontend's barrier between reading rsp_prod and reading responses. */
    atomic_store_explicit(&ring->shared->rsp_prod, ring->rsp_prod, memory_order_release);
    ring->rsp_published = ring->rsp_prod;
}

bool ring_must_notify(const struct ring *ring, uint32_t before)
{
    /* Pairs with the frontend's full barrier between setting rsp_event and its last look at
     * rsp_prod. */
    atomic_thread_fence(memory_order_seq_cst);
    const uint32_t event = atomic_load_explicit(&ring->shared->rsp_event, memory_order_relaxed);

    return ring->rsp_published - event < ring->rsp_published - before;
}

bool ring_has_more(const struct ring *ring, uint32_t left)
{
    return atomic_load_explicit(&ring->shared->req_prod, memory_order_relaxed) !=
           ring->req_cons + left;
}

bool ring_arm(struct ring *ring, uint32_t left)
{
    const uint32_t seen = ring->req_cons + left;

    atomic_store_explicit(&ring->shared->req_event, seen + 1, memory_order_relaxed);
    /* Pairs with the frontend's full barrier between raising req_prod and reading req_event. */
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&ring->shared->req_prod, memory_order_relaxed) != seen;
}
