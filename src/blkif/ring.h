/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The consuming half of a blkif ring. The stock macros of xen/io/ring.h read guest-writable words
 * more than once and decide by the ring's own rsp_prod; here both counters are private, every slot
 * is copied once, and of what the guest can write only req_prod (range checked) and rsp_event
 * (decides a notification, nothing else) are read.
 */
#ifndef BLKBACK_BLKIF_RING_H
#define BLKBACK_BLKIF_RING_H

#include "blkback/abi.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The shared header, as in xen/io/ring.h. */
struct ring_shared {
    _Atomic uint32_t req_prod;
    _Atomic uint32_t req_event;
    _Atomic uint32_t rsp_prod;
    _Atomic uint32_t rsp_event;
    uint8_t pad[48];
};

_Static_assert(sizeof(struct ring_shared) == BLKIF_RING_HEADER_BYTES, "layout of xen/io/ring.h");

struct ring {
    struct ring_shared *shared; /* mapped from the guest */
    volatile uint8_t *slots;
    uint32_t slot_bytes;
    uint32_t count; /* of slots, a power of two */
    uint32_t req_cons;
    uint32_t rsp_prod;      /* private: responses put so far */
    uint32_t rsp_published; /* what the shared rsp_prod was set to last */
};

/* A private copy of a slot, aligned for any member. */
struct ring_slot {
    _Alignas(8) uint8_t bytes[BLKIF_SLOT_BYTES_MAX];
};

/*
 * Attaches to mapped pages. A frontend may have used the ring before (it kept it while the backend
 * went away): both counters start at the shared rsp_prod, as Linux's BACK_RING_ATTACH does. Returns
 * 0 or -EPROTO when req_prod is out of range.
 */
int ring_init(struct ring *ring, void *pages, enum blkif_abi abi, uint32_t order);

/* Reads on at `req_cons`, where a predecessor's requests end that are not all answered. Returns 0
 * or -EPROTO. */
int ring_resume(struct ring *ring, uint32_t req_cons);

/* Number of slots to be taken; -EPROTO when the frontend's req_prod ran ahead or backwards. */
int ring_available(const struct ring *ring, uint32_t *out);

/*
 * Copies the slot `ahead` of the next one to be consumed, each word loaded once. Only for slots
 * that ring_available() counted.
 */
void ring_copy_slot(const struct ring *ring, uint32_t ahead, struct ring_slot *out);

/*
 * Has the slot `ahead` of the next one brought near, for ring_copy_slot() soon: a frontend on
 * another CPU has its lines, which come one after the other when they are asked for one by one.
 * Loads nothing.
 */
void ring_prefetch(const struct ring *ring, uint32_t ahead);

/* Takes that many slots off the ring: all slots of a request at once, after each has been copied.
 */
void ring_consume(struct ring *ring, uint32_t slots);

/*
 * Writes a response into the next slot and advances the private producer by `slots`, as many as the
 * request had. Not seen by the frontend before ring_publish().
 */
void ring_put_response(struct ring *ring, uint64_t id, uint8_t operation, int16_t status,
                       uint32_t slots);

/* Lets the frontend see all responses that were put: one 32-bit store, the commit point of the
 * journal. */
void ring_publish(struct ring *ring);

/*
 * Whether the frontend asked to be notified of what the last ring_publish() calls since `before`
 * (value of rsp_published then) let it see.
 */
bool ring_must_notify(const struct ring *ring, uint32_t before);

/* Whether there is more in the ring than the `left` slots after those consumed; for looking often:
 * one load, and nothing that it reads is relied on. */
bool ring_has_more(const struct ring *ring, uint32_t left);

/*
 * Asks for an event at the next request and looks once more: true when requests came meanwhile, so
 * that the caller goes on instead of sleeping. `left`: slots that are there and are left alone
 * until more of their request has come.
 */
bool ring_arm(struct ring *ring, uint32_t left);

#endif
