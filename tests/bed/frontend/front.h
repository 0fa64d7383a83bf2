/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libbedfront: the data plane of a paravirtual block frontend, and the bed's machine room (domains,
 * grants, counters). The tests load it with ctypes (bedlib/native.py repeats these structures);
 * XenStore is their side of the work. Functions return 0 or a count, or -errno.
 */
#ifndef BED_FRONT_H
#define BED_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hv;

#define FRONT_SEGMENTS_PER_REQUEST 11u /* in the slot itself */
#define FRONT_MAX_SEGMENTS         256u
#define FRONT_MAX_RING_PAGES       32u
#define FRONT_MAX_SLOTS            1024u
#define FRONT_SECTOR               512u

enum front_abi { FRONT_ABI_X86_64, FRONT_ABI_X86_32 };

/* machine.c: what a toolstack and a hypervisor do. */
int bed_create(const char *dir);
int bed_domain_create(uint32_t domid, const uint8_t uuid[16]);
/* Closes its event channels and makes its grants invalid; it is gone at once or, while mapped,
 * dying until then. */
int bed_domain_destroy(uint32_t domid);
int bed_domain_set(uint32_t domid, bool paused, bool shutdown, uint32_t reason);
/* Cleans up after processes that died; removes dying domains that nobody maps. */
int bed_reap(void);
/* Calls made by a domain since the bed was made: HV's counters in their order. Returns how many
 * there are. */
int bed_counters(uint32_t domid, uint64_t *values, uint32_t count);
/* How many mappings of the domain's pages exist. */
int64_t bed_mapped(uint32_t domid);
/* State of a port: 0 free, 1 unbound, 2 connected, 3 virq. */
int bed_port_state(uint32_t domid, uint32_t port);

/* Grants a fresh page, or count consecutive ones; returns the (first) reference. A reference is its
 * page's number. */
int64_t bed_grant(uint32_t domid, uint32_t to, uint32_t count, bool readonly);
/* Another reference to the page of ref. */
int64_t bed_grant_alias(uint32_t domid, uint32_t to, uint32_t ref, bool readonly);
/* Ends a grant; returns how often it is still mapped, and keeps it then. */
int bed_grant_end(uint32_t domid, uint32_t ref);
uint8_t *bed_page(uint32_t domid, uint32_t ref);

/* slot.c: requests and responses as bytes. */
struct front_segment {
    uint32_t ref;
    uint8_t first, last;
    uint16_t pad;
};

struct front_request {
    uint64_t id;
    uint64_t sector;
    uint64_t nr_sectors; /* DISCARD */
    uint8_t op;
    uint8_t byte1; /* nr_segments, or DISCARD's flag: sent as it is */
    uint16_t handle;
    uint32_t segments; /* in segment, of which at most 11 are sent in a slot */
    const struct front_segment *segment;
};

struct front_response {
    uint64_t id;
    uint8_t op;
    uint8_t pad;
    int16_t status;
    uint32_t pad2;
};

uint32_t front_slot_size(enum front_abi abi);
/* slot has front_slot_size() bytes. */
void front_encode(enum front_abi abi, const struct front_request *request, uint8_t *slot);
void front_decode(const uint8_t *slot, struct front_response *response);

/* queue.c: one ring and its event channel. */
struct front_queue;
struct front_queue *front_queue_new(uint32_t domid, uint32_t backend, uint32_t order, uint32_t abi);
/* Closes the channel and ends the grants; returns how many ring pages the backend still had mapped.
 */
int front_queue_free(struct front_queue *q);
uint32_t front_queue_slots(const struct front_queue *q);
uint32_t front_queue_ref(const struct front_queue *q, uint32_t page);
uint32_t front_queue_port(const struct front_queue *q);
uint32_t front_queue_free_slots(const struct front_queue *q);
/* The shared ring's words req_prod, req_event, rsp_prod, rsp_event, and its slots behind 64 bytes.
 */
uint8_t *front_queue_memory(struct front_queue *q);
/* Writes the next slot; -ENOSPC when the ring is full. */
int front_put(struct front_queue *q, const struct front_request *request);
int front_put_raw(struct front_queue *q, const void *bytes, uint32_t size);
/* Publishes what was put, and notifies when the backend asked for it. Returns whether it notified.
 */
int front_push(struct front_queue *q);
int front_notify(struct front_queue *q);
/* 1 and the response, or 0. */
int front_take(struct front_queue *q, struct front_response *response);
/* Waits for an event when there is no response: 1 there is one, 0 none in time; -ETIME: there is
 * one, but no event came. */
int front_wait(struct front_queue *q, uint32_t timeout_ms);
uint32_t front_queue_domid(const struct front_queue *q);
uint32_t front_queue_backend(const struct front_queue *q);

/* exercise.c: random requests, every byte checked against a model of the disk. */
struct front_exercise {
    uint8_t *model; /* the disk's contents, kept up to date */
    uint64_t sectors;
    uint64_t seed;
    uint32_t requests, depth, max_segments;
    uint32_t weight_read, weight_write, weight_flush, weight_barrier; /* how often each is chosen */
    uint32_t timeout_ms;      /* longest time without a response */
    uint32_t tolerate_errors; /* 1: ERROR answers are counted only */
    uint32_t alignment; /* sectors: start and length of requests are multiples of it, 1 or 8 */
    /* what happened */
    uint32_t reads, writes, flushes, barriers, errors, reordered;
    uint64_t bytes;
    char message[256]; /* what was wrong, empty when nothing was */
};
int front_exercise(struct front_queue *q, struct front_exercise *e);

/* bench.c */
struct front_bench {
    uint64_t sectors; /* of the disk */
    uint64_t seed;
    uint32_t write, sequential;
    uint32_t size; /* bytes of an I/O; split into requests of max_segments pages */
    uint32_t depth, max_segments, milliseconds;
    uint64_t ios, nanoseconds, errors;
    double mean_us, p50_us, p99_us;
};
int front_bench(struct front_queue *q, struct front_bench *b);

#endif
