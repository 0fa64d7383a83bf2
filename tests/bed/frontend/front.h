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
    uint8_t byte1;     /* nr_segments, DISCARD's flag, INDIRECT's inner operation: sent as it is */
    uint16_t handle;   /* INDIRECT: nr_segments */
    uint32_t segments; /* in segment; those beyond 11 go into the slots that follow */
    const struct front_segment *segment;
    uint32_t slots;         /* of the request; 0: as many as its segments need */
    uint32_t indirect_refs; /* INDIRECT: pages with segments; 0: send segments as others do */
    uint32_t indirect_ref[8];
};

struct front_response {
    uint64_t id;
    uint8_t op;
    uint8_t pad;
    int16_t status;
    uint32_t pad2;
};

uint32_t front_slot_size(enum front_abi abi);
/* Slots of a request with that many segments, by FreeBSD's rule of 2010. */
uint32_t front_slots_of(uint32_t segments);
/* The request's first slot, of front_slot_size() bytes; index 1 and on: the arrays behind it. */
void front_encode(enum front_abi abi, const struct front_request *request, uint32_t index,
                  uint8_t *slot);
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
/* Writes the request's slots; -ENOSPC when there are not so many. */
int front_put(struct front_queue *q, const struct front_request *request);
int front_put_raw(struct front_queue *q, const void *bytes, uint32_t size);
/* The request with that id, one of those put, has that many slots: its answer, too. */
int front_remember_slots(struct front_queue *q, uint64_t id, uint32_t slots);
/* Publishes the next slots of what was put, no more: a request can be there in part. */
int front_push_slots(struct front_queue *q, uint32_t slots);
/* Publishes what was put, and notifies when the backend asked for it. Returns whether it notified.
 */
int front_push(struct front_queue *q);
int front_notify(struct front_queue *q);
/* 1 and the response, or 0; -EPROTO: the backend's producer did not advance by all its slots. */
int front_take(struct front_queue *q, struct front_response *response);
/* Waits for an event when there is no response: 1 there is one, 0 none in time; -ETIME: there is
 * one, but no event came. */
int front_wait(struct front_queue *q, uint32_t timeout_ms);
/* For a wait on several queues: asks for an event, and whether there is a response already; what is
 * readable then; takes the event. */
bool front_arm(struct front_queue *q);
int front_fd(const struct front_queue *q);
void front_take_event(struct front_queue *q);
uint32_t front_queue_domid(const struct front_queue *q);
uint32_t front_queue_backend(const struct front_queue *q);

/* pool.c: granted pages that are used again and again. */
struct front_pool;
/* aliases: every page has a read-only reference besides. */
struct front_pool *front_pool_new(uint32_t domid, uint32_t backend, uint32_t pages, bool aliases);
/* Ends the grants; returns how many references the backend still had mapped. Accepts NULL. */
int front_pool_free(struct front_pool *pool);
uint32_t front_pool_pages(const struct front_pool *pool);
uint32_t front_pool_ref(const struct front_pool *pool, uint32_t page, bool readonly);

/* exercise.c: random requests, every byte checked against a model of the disk. */
struct front_exercise {
    uint8_t *model; /* the contents of the sectors from base on, kept up to date */
    uint64_t base, sectors;
    uint64_t seed;
    uint32_t requests, depth;
    uint32_t max_segments; /* in the ring's own slots; over 11: multi-block */
    uint32_t max_indirect; /* in an indirect request; 0: there are none */
    /* how often each is chosen */
    uint32_t weight_read, weight_write, weight_flush, weight_barrier, weight_discard;
    uint32_t discard_unit;    /* sectors: discards begin and end at multiples of it */
    uint32_t discard_flag;    /* 1: secure */
    uint32_t timeout_ms;      /* longest time without a response */
    uint32_t tolerate_errors; /* 1: ERROR answers are counted only */
    uint32_t alignment;      /* sectors: start and length of requests are multiples of it, 1 or 8 */
    struct front_pool *pool; /* pages to use, not ended afterwards; NULL: a set of one's own */
    uint32_t readonly;       /* 1: what the backend only reads is granted read-only */
    uint32_t shuffle;        /* 1: any page may be the next, else the one that was free last */
    /* what happened */
    uint32_t reads, writes, flushes, barriers, discards, indirect, multi_block, errors, reordered;
    uint64_t bytes;
    char message[256]; /* what was wrong, empty when nothing was */
};
int front_exercise(struct front_queue *q, struct front_exercise *e);

/* history.c: random requests that may overlap, over several queues, every write stamped; what is
 * read must be explained by some order of everything that was asked for. */
#define FRONT_HISTORY_QUEUES 8u
struct front_history {
    struct front_queue *queue[FRONT_HISTORY_QUEUES];
    struct front_pool *pool;
    uint64_t sectors, seed, requests; /* requests: to stop after; 0: none */
    uint32_t queues, depth;           /* of each queue */
    uint32_t max_segments, max_indirect;
    uint32_t weight_read, weight_write, weight_flush, weight_barrier, weight_discard;
    uint32_t discard_unit, alignment, readonly; /* as in front_exercise */
    uint32_t timeout_ms;
    int32_t image;         /* the image, to be read from outside */
    _Atomic uint32_t stop; /* set from outside: what is in flight is waited for */
    uint32_t pad;
    /* what happened */
    _Atomic uint64_t answered;
    uint64_t reads, writes, flushes, barriers, discards, indirect, multi_block;
    uint64_t outside, torn, overlapping;
    char message[256];
};
/* Fills the contents that a disk must have at first, in whole sectors. */
void front_history_fill(uint8_t *contents, uint64_t sectors);
int front_history(struct front_history *h);

/* bench.c */
struct front_bench {
    uint64_t sectors; /* of the disk */
    uint64_t seed;
    uint32_t write, sequential;
    uint32_t size; /* bytes of an I/O; split into requests of max_segments pages */
    uint32_t depth, max_segments, milliseconds;
    uint32_t indirect; /* 1: requests of more than 11 segments are indirect, else multi-block */
    uint64_t ios, nanoseconds, errors;
    double mean_us, p50_us, p99_us;
};
int front_bench(struct front_queue *q, struct front_bench *b);

#endif
