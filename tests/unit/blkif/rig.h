/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vbd of up to two queues with everything around it that is not the queue: frontends that fill
 * rings in memory, a store under the test's control, granted pages, event channels.
 */
#ifndef BLKBACK_TEST_RIG_H
#define BLKBACK_TEST_RIG_H

#include "blkback/queue.h"
#include "fake_store.h"
#include "fake_xen.h"
#include "queue_internal.h"
#include "testing.h"

#define RIG_QUEUES 2U

/* Ids are remembered by their lowest bits: how many slots a request has. */
#define FRONT_IDS 4096U

/* The frontend's end of a ring. */
struct front {
    uint8_t *pages;
    enum blkif_abi abi;
    uint32_t count;
    uint32_t slot_bytes;
    uint32_t req_prod; /* private */
    uint32_t rsp_cons;
    struct evtchn *evtchn;
    bool multi_block; /* requests with more than 11 segments span slots */
    uint8_t spans[FRONT_IDS];
};

struct rig_options {
    enum blkif_abi abi;
    uint32_t order;
    uint32_t max_requests; /* 0: as many as slots */
    uint32_t start;        /* of the ring's counters */
    unsigned buffers;      /* of the pool; 0: plenty */
    uint32_t max_segments; /* 0: 11 */
    uint32_t max_indirect_segments;
    uint32_t sector_size; /* 0: 512 */
    bool discard, discard_secure, read_only;
    bool persistent;
    bool copy_mapped;
    uint32_t grant_budget; /* pages that may stay mapped */
    uint32_t max_event_delay_ms;
    uint32_t work_per_turn;
};

struct rig {
    struct rig_options options;
    struct turn turn;
    struct slab slab;
    struct overlap_table *overlaps;
    struct grant_budget budget;
    struct fake_store store;
    struct front front[RIG_QUEUES];
    struct queue *queue[RIG_QUEUES];
    unsigned broken;
    unsigned io_failed;
    unsigned flush_failed; /* and was parked */
    unsigned io_parked;
    unsigned continued;
    unsigned drained;
    unsigned quiet;
    uint32_t delay_ms; /* that was asked for last; queue_end_delay() is the test's to call */
    bool destroy_when_drained; /* all queues, as a vbd does */
    bool was_connected[RIG_QUEUES];
    int recovered; /* what queue_connect() returned last */
};

struct rig_request {
    uint8_t operation;
    uint8_t segments; /* byte 1 of the slot: of a discard its flag */
    uint64_t id;
    uint64_t sector;
    uint32_t gref;                   /* of the first segment; the others follow */
    uint8_t last_sector;             /* of each segment; the first is 0 */
    const struct slab_segment *list; /* the segments, where they are not as said above */
    uint64_t discard_sectors;
};

/* An indirect request, and the page its segments are put into. */
struct rig_indirect {
    uint8_t operation; /* the inner one */
    uint16_t segments;
    uint64_t id;
    uint64_t sector;
    uint32_t page; /* granted, for the segments */
    uint32_t gref; /* of the first segment; the others follow */
    uint8_t last_sector;
    const struct slab_segment *list;
};

struct rig_response {
    uint64_t id;
    uint8_t operation;
    int16_t status;
};

/* With queue 0 connected and one turn taken. */
struct rig *rig_create(const struct rig_options *options);
void rig_connect(struct rig *rig, unsigned index);
void rig_destroy(struct rig *rig);

/* Kills the process at this moment: the slab, the rings and the disk stay. I/O in flight still
 * reaches the disk, or none of it does. */
void rig_kill(struct rig *rig, bool io_lands);

/* A successor takes up all queues. Returns 0 or what the first that can't be returned. */
int rig_take_up(struct rig *rig);

/* Puts a request into the ring; the backend sees it after front_push(). */
void front_put(struct front *front, const struct rig_request *request);
void front_put_indirect(struct front *front, const struct rig_indirect *request);
void front_push(struct front *front);
/* Shows all but the last `held_back` slots of what was put. */
void front_push_but(struct front *front, uint32_t held_back);
/* The next response, if there is one; goes on behind all slots of its request. */
bool front_take(struct front *front, struct rig_response *out);

/* One whole-page transfer, pushed. */
void rig_transfer(struct rig *rig, uint8_t operation, uint64_t id, uint64_t sector, uint32_t gref);
/* An operation without data, pushed. */
void rig_bare(struct rig *rig, uint8_t operation, uint64_t id);

/* The event reaches the queue, as after the frontend's notification. */
void rig_event(struct rig *rig, unsigned index);

/* The time that queues see, in milliseconds; the test's to set. */
extern uint64_t rig_now_ms;

/* Turns until no queue is ready. Fails when that takes more than a few: then the loop would spin.
 */
unsigned rig_settle(struct rig *rig);

/* The next response of queue 0 must be this one, or there must be none. */
void rig_expect(struct rig *rig, uint64_t id, uint8_t operation, int16_t status);
void rig_expect_none(struct rig *rig);

/* Pushes what was put on the first ring, and lets everything happen that needs no completion. */
void rig_run(struct rig *rig);

/* The same, and completes all I/O, well, until there is none. */
void rig_run_to_the_end(struct rig *rig);

/* Every answer of a ring that is at rest was taken, and producer and consumer agree about slots. */
void rig_expect_rest(struct rig *rig);

#endif
