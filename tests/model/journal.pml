/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal of one ring (src/blkif/journal.h), store by store, with an honest frontend, a store
 * that carries out I/O in any order, and a killer that ends the worker between any two stores, in
 * recovery too. tests/model/run checks it with spin; docs/testing.md says what that shows.
 *
 * An inline is named after the function it stands for. Each statement outside atomic and d_step is
 * one store that a successor or the frontend can see. Counters do not wrap: they are the 64-bit
 * ones.
 *
 * Requests start in any order that range locks and barriers allow. One queue starts them in the
 * order of the ring; several queues with one overlap table do not.
 *
 * A macro named BUG_* plants a bug; each must be found.
 */
#ifndef SLOTS
#define SLOTS 4 /* of the ring: a power of two */
#endif
#ifndef ENTRIES
#define ENTRIES 3 /* of the journal */
#endif
#ifndef REQUESTS
#define REQUESTS 4 /* that the frontend makes: up to 6 */
#endif
#ifndef MOST_SLOTS
#define MOST_SLOTS 3 /* of a request */
#endif
#ifndef KILLS
#define KILLS 2
#endif

/* What a request has the store do, as bits, from the right: sectors 0 and 1, a flush after them, a
 * flush before them. */
#define SECTOR_0 1
#define SECTOR_1 2
#define SECTORS  3
#define FLUSH    4
#define PREFLUSH 8
#define BARRIER  (PREFLUSH | SECTOR_0 | FLUSH)

/* ---- the ring, in guest memory ---- */

#define REQUEST      16 /* first slot of a request; the lower four bits are its id */
#define CONTINUATION 32 /* each other slot */
#define RESPONSE     64

byte ring_slot[SLOTS];
byte ring_req_prod, ring_rsp_prod;
#ifdef EVENTS
byte ring_req_event = 1, ring_rsp_event = 1;
#endif

#define id_of(word)   ((word) & 15)
#define kind_of(word) ((word) & 240)
#define at(counter)   ((counter) % SLOTS)

/* ---- the slab: outlives the worker ---- */

mtype = { FREE, TAKEN, STARTED, DONE };

typedef slab_entry {
    mtype state = FREE;
    byte seq;
    byte id;
    byte slots
};

slab_entry entry[ENTRIES];
byte req_cons, rsp_prod;
byte publishing[SLOTS]; /* entry + 1 */

/* ---- the frontend ---- */

byte made;           /* requests */
byte consumed;       /* their responses, a bit for each id */
byte slots[REQUESTS];
byte work[REQUESTS];
byte before[REQUESTS]; /* of a flush: what had been answered when it was made */
byte rsp_cons;

/* ---- the store ---- */

byte content[2];       /* id + 1 of the write that a reader of the sector finds */
byte landed[2];        /* writes that a reader may have found, a bit for each id */
byte stable;           /* writes that a flush has covered */
byte io[REQUESTS];     /* what is left of the I/O of the worker that lives */
byte dead_io[REQUESTS]; /* and of those before it */

#define bit(n)      (1 << (n))
#define writes(n)   (work[n] & SECTORS)
#define barrier(n)  (work[n] & PREFLUSH)
#define has_landed(n)                                                                              \
    ((!(work[n] & SECTOR_0) || (landed[0] & bit(n))) &&                                            \
     (!(work[n] & SECTOR_1) || (landed[1] & bit(n))))

/* ---- the worker's memory: lost with it ---- */

byte ring_req_cons, ring_rsp_put; /* struct ring's req_cons, rsp_prod */
byte locked;                      /* sectors that are in an overlap range */
byte submitted;                   /* entries whose I/O was submitted */
byte holding;                     /* entries that hold theirs */
byte answers[ENTRIES];            /* entries that are DONE, in the order in which they got so */
byte answer_count;
#ifdef BUG_BARRIER_FORGOTTEN
byte recovered; /* entries of the predecessor */
#endif
bool killed;
byte kills;

/* ---- the event channel; without EVENTS both sides look all the time ---- */

#ifdef EVENTS
bool bound;            /* the worker has its end: otherwise what the frontend sends is lost */
bool event_to_worker;
bool event_to_frontend;
bool polling;          /* the frontend looks for responses */
bool awake;            /* the worker looks for requests */
#define IF_EVENTS(statement) statement
#else
#define awake   true
#define polling true
#define IF_EVENTS(statement) skip
#endif

/* What would be seen from inside only: not asked where a bug is planted, for its effect is to be
 * seen outside. */
#ifdef VISIBLE_ONLY
#define inside(condition) true
#else
#define inside(condition) (condition)
#endif

#include "frontend.pml"
#include "store.pml"
#include "queue.pml"
#include "recover.pml"

active proctype worker()
{
    byte tag, id, seq, count, k;

restart:
    {
        journal_recover();
end_idle:
        do
        :: queue_take()
        :: queue_dispatch(0)
        :: replay(0)
        :: queue_finish(0)
        :: queue_dispatch(1)
        :: replay(1)
        :: queue_finish(1)
#if ENTRIES > 2
        :: queue_dispatch(2)
        :: replay(2)
        :: queue_finish(2)
#endif
#ifdef BUG_UNLOCK_BEFORE_DONE
        :: atomic { is_over(0) && (holding & bit(0)) -> overlap_release(0) }
        :: atomic { is_over(1) && (holding & bit(1)) -> overlap_release(1) }
#endif
#ifdef BUG_REUSE_BEFORE_RSP_PROD
        :: rsp_prod != ring_rsp_prod -> rsp_prod = ring_rsp_prod
#endif
        :: journal_publish()
#ifdef EVENTS
        :: wait_for_event()
        :: atomic { event_to_worker -> event_to_worker = false; awake = true }
#endif
        od
    } unless {
        atomic {
            killed ->
            killed = false;
            tag = 0; id = 0; seq = 0; count = 0; k = 0;
            goto restart
        }
    }
}


/* The I/O of the dead goes on, but only the step that was submitted. */
inline abandon(n)
{
    dead_io[n] = dead_io[n] | (io[n] & PREFLUSH -> PREFLUSH : (io[n] & SECTORS -> io[n] & SECTORS : io[n]));
    io[n] = 0
}

active proctype killer()
{
    byte k;

    do
    :: atomic {
        kills < KILLS && !killed ->
        d_step {
            killed = true;
            kills++;
            for (k : 0 .. REQUESTS - 1) {
                abandon(k)
            }
            for (k : 0 .. ENTRIES - 1) {
                answers[k] = 0
            }
            k = 0;
            ring_req_cons = 0; ring_rsp_put = 0; locked = 0; holding = 0; submitted = 0;
            answer_count = 0;
            IF_EVENTS(bound = false; event_to_worker = false; awake = false)
#ifdef BUG_BARRIER_FORGOTTEN
            ; recovered = 0
#endif
        }
    }
    :: break
    od
}

/* When nothing can happen any more. */
active proctype auditor()
{
    timeout ->
    assert(made == REQUESTS && consumed == bit(REQUESTS) - 1); /* no request is lost */
    assert(inside(rsp_prod == ring_rsp_prod && req_cons == rsp_prod && req_cons == ring_req_prod));
    assert(inside(locked == 0 && submitted == 0 && answer_count == 0))
}
