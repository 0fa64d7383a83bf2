/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A queue: one ring with its event channel, from the first look at the ring to the last
 * notification. A queue belongs to one thread; the queues of a thread share a `struct turn`.
 */
#ifndef BLKBACK_QUEUE_H
#define BLKBACK_QUEUE_H

#include "blkback/abi.h"
#include "blkback/buffer_pool.h"
#include "blkback/evtchn.h"
#include "blkback/guest_memory.h"
#include "blkback/rate_limit.h"
#include "blkback/slab.h"
#include "blkback/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct queue;
struct overlap_table;

/* Granted pages that may stay mapped, over all queues of a worker. */
struct grant_budget {
    _Atomic uint32_t limit;
    _Atomic uint32_t used;
};

/* What the queues of one thread share while the loop turns. */
struct turn {
    struct queue *ready;   /* have something to do before the loop may sleep */
    struct queue *running; /* were ready when the turn began and had no pass yet */
    struct queue
        *stalled; /* wait for a buffer, for room in an engine or for another queue's write */
    struct queue *unarmed;  /* have nothing to do and did not ask their frontend for an event */
    bool polling;           /* queues are not to ask for events: see turn_poll() */
    struct queue *claimant; /* waits for more buffers than its share: the others take none until it
                               had a pass and got them, or does not want them any more */
    unsigned queues;        /* connected ones, which share the buffers */
    unsigned weights;       /* of these, added up */
    bool freed; /* a buffer was given back, a write ended, or there is room in an engine: the
                   stalled      may try again */
    struct buffer_pool *buffers;
    struct guest_memory *memory;
    struct gnttab
        *gnttab; /* for persistent grants; the last three only where these are negotiated */
    uint32_t domid;
    struct grant_budget *budget;
    const struct engine_set *engines; /* of this thread; NULL: those that stores were opened with */
    /* Has `freed` set and turn_run() called soon; called from other threads, for a queue that waits
     * for another's write. NULL where there is one thread. */
    void (*wake)(struct turn *turn);
    uint64_t (*now_ms)(void); /* CLOCK_MONOTONIC, for fruitless events */
};

/* What a queue tells its owner, on the queue's thread, never from within queue_connect(). Only
 * `drained` and `quiet` may disconnect or destroy queues. */
struct queue_events {
    /* The frontend broke the protocol of the ring: nothing more is consumed or answered. */
    void (*ring_broken)(void *context);
    /* A read or write of the store failed and was answered with an error. */
    void (*io_failed)(void *context, enum io_operation operation, uint64_t sector, int error);
    /* The store failed a request that is parked, for the first time or again: all queues of the
     * store wait. See queue_retry(). */
    void (*parked)(void *context, enum io_operation operation, uint64_t sector, int error);
    /* The last parked request of the store has been answered: every queue of it is to be told, by
     * queue_retry(). */
    void (*continued)(void *context);
    /* After a queue_disconnect() that left I/O in flight: the last of it is over. This and other
     * queues may be destroyed from within. */
    void (*drained)(void *context);
    /* After a queue_hold() that left requests unfinished: the last of them is over. After
     * queue_finish_all(): the queue is idle; this and other queues may be disconnected and
     * destroyed from within. */
    void (*quiet)(void *context);
    /* The frontend's next event is left alone: queue_end_delay() is to be called after so many
     * milliseconds. Asked for again before that, the later time counts. */
    void (*delay_events)(void *context, uint32_t milliseconds);
    /* Requests are in the ring that may not be taken before `at`, a time by rate_clock(), in
     * nanoseconds: queue_limit_over() is to be called then. Each call replaces the last. */
    void (*wait_until)(void *context, uint64_t at);
};

/* A queue's weight, unless another is said, and the greatest. */
#define QUEUE_WEIGHT_STANDARD 100U
#define QUEUE_WEIGHT_MAX      1000U

struct queue_params {
    struct turn *turn;
    struct store *store;
    struct slab *slab;
    struct overlap_table *overlaps; /* of the vbd */
    struct rate_limit *limit;       /* of the vbd; NULL: none */
    const struct queue_events *events;
    void *context;
    struct evtchn *evtchn; /* owned by the queue once connected */
    void *ring_pages;      /* mapped; the owner unmaps after queue_disconnect() */
    uint32_t index;
    enum blkif_abi abi;
    uint32_t ring_order;
    uint32_t max_requests; /* in flight at once */
    uint32_t max_segments; /* per request in slots, at most 255; over 11: multi-block requests */
    bool discard;          /* DISCARD was offered */
    bool persistent;       /* the frontend keeps its grants: they may stay mapped */
    bool copy_mapped;      /* then data is copied from and to them; else I/O is done on them */
    uint32_t max_indirect_segments; /* per indirect request, at most 256; 0: none of them */
    uint32_t max_event_delay_ms;    /* after events that bring nothing; 0: none */
    uint32_t weight;                /* beside the thread's other queues; 0: QUEUE_WEIGHT_STANDARD */
    uint32_t work_per_turn; /* bytes, of one pass while the thread has other queues; 0: any */
    bool recover; /* go on with what a predecessor left in the slab, if it had this queue; begins
                     held: no queue of a vbd may start anything before all of them are connected */
};

/* An empty overlap table, shared by the queues of a vbd; `threads`: which may be served by several.
 * Returns 0 or -ENOMEM. */
int overlap_table_create(bool threads, struct overlap_table **out);
void overlap_table_destroy(struct overlap_table *table);

/*
 * Connects to a ring; the queue is ready at once, for requests may be there already. Returns 0;
 * -EPROTO for a ring that is broken from the start, or a slab that none of ours can have left;
 * -ENOBUFS when there are fewer buffers than the largest request needs; -ENOSPC, -ENOMEM.
 */
int queue_connect(const struct queue_params *params, struct queue **out);

/* The event channel became readable. */
void queue_on_event(struct queue *queue);

/* What delay_events() asked for is over. */
void queue_end_delay(struct queue *queue);

/*
 * One pass: answers what has completed, takes what is in the ring, hands it to the store. Engines
 * are committed by the caller after all queues had their pass. Called by turn_run().
 */
void queue_pump(struct queue *queue);

/*
 * Pumps every queue that is ready, each once, and lets stalled ones try again if something was
 * freed. Look at `ready` afterwards, when the engines have been committed: while a queue is ready,
 * the loop must not sleep.
 */
void turn_run(struct turn *turn);

/*
 * While `polling` is set, queues that have nothing to do don't ask their frontends for events,
 * which saves both sides a notification; the thread has to look by itself, by turn_poll(), and to
 * call turn_arm() before it sleeps.
 *
 * Returns whether a queue is ready, after a look at the rings that wait for the frontend: a load
 * each.
 */
bool turn_poll(struct turn *turn);

/* Ends polling: asks for the events, after which the thread may sleep unless a queue is ready. */
void turn_arm(struct turn *turn);
/* What the thread's buffers and its time are shared by among queues that want more than there is.
 */
void queue_set_weight(struct queue *queue, uint32_t weight);

/* The time that `wait_until` named has come. */
void queue_limit_over(struct queue *queue);

/* What is in the ring by now does not wait for the limit, but counts. */
void queue_let_through(struct queue *queue);

/* The vbd's limit is another: what it would have had to wait for counts no more. */
void queue_limit_changed(struct queue *queue);

/* Tries what is parked once more; where nothing is any more, the queue goes on. */
void queue_retry(struct queue *queue);

/*
 * Lets go of the ring: takes, answers and notifies no more and closes the event channel. I/O in
 * flight goes on in our own buffers: if queue_in_flight() is not 0 then, `drained` is called when
 * it is over.
 */
void queue_disconnect(struct queue *queue);

/*
 * Holds the ring: nothing more is taken or started until queue_resume(). What was started is
 * finished on the store it was started on and answered; if queue_unfinished() is not 0 then,
 * `quiet` is called when it is.
 */
void queue_hold(struct queue *queue);

/* Goes on with `store`, or with the one it has, whose size may have changed. */
void queue_resume(struct queue *queue, struct store *store);

/*
 * From now on `quiet` is called whenever the queue becomes idle: the frontend is leaving, and is
 * waiting for the answers to everything it asked for.
 */
void queue_finish_all(struct queue *queue);

/* Whether the ring is empty and everything that was in it is answered. */
bool queue_idle(const struct queue *queue);

/*
 * Unmaps granted pages that have not been used for some calls, or over the budget. Returns whether
 * some stay mapped: then call again, seconds later.
 */
bool queue_trim(struct queue *queue);

/* Requests whose I/O is in flight, or over but not looked at yet. */
unsigned queue_in_flight(const struct queue *queue);

/*
 * Requests that were started and are not finished: those in flight, those that wait for room in an
 * engine; not those that are parked. Of a queue that was disconnected: those in flight.
 */
unsigned queue_unfinished(const struct queue *queue);

/* Only when drained. Accepts NULL. */
void queue_destroy(struct queue *queue);

#endif
