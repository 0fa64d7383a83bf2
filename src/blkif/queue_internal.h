/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue from the inside, for the files that make it up: queue.c (life, passes), queue_intake.c
 * (ring to store), queue_answer.c (store to ring), queue_park.c (a store that fails),
 * queue_recover.c (after a kill), queue_limit.c (a vbd's limit), turn.c, time_share.c. */
#ifndef BLKBACK_BLKIF_QUEUE_INTERNAL_H
#define BLKBACK_BLKIF_QUEUE_INTERNAL_H

#include "blkback/queue.h"
#include "decode.h"
#include "event_storm.h"
#include "journal.h"
#include "merge.h"
#include "overlap.h"
#include "persistent.h"
#include "request.h"
#include "ring.h"

/* A request whose slots were consumed and which is not in the journal yet. */
struct staged {
    uint32_t tag;
    struct decoded_request decoded;
};

struct queue {
    struct turn *turn;
    struct store *store;
    struct overlap_table *overlaps;
    struct overlap_waiter overlap_waiter;
    const struct queue_events *events;
    void *context;
    struct evtchn *evtchn;
    struct ring ring;
    struct journal journal;
    struct decode_limits limits;
    struct slab_statistics *statistics;
    struct request *requests; /* by tag */
    struct iovec *iov;        /* of all requests */
    uint8_t **buffer_places;  /* of all requests */
    size_t iov_bytes;         /* of these two, which are lazy memory */
    size_t places_bytes;
    struct persistent *persistent; /* NULL: every grant is copied by the hypervisor */
    bool copy_mapped;              /* no I/O is done on mapped pages */
    struct merger *merger;
    struct staged *staged; /* requests of this pass between the ring and the journal */
    uint32_t incomplete;   /* slots left in the ring because the rest of their request is missing */

    struct rate_limit *limit; /* of the vbd; NULL: none */
    uint64_t limited_since;   /* while `limited`: what was waited before is counted already */
    uint64_t taken_at;        /* time of the request that was let through last */
    uint64_t charged;         /* bytes of the requests staged in this pass */
    uint32_t let_through;     /* slots that pass in any case */
    bool limited;             /* requests stay in the ring for the limit's sake */

    /* Where requests are between the ring and the answer; each in one list at most. */
    struct request_list waiting;     /* TAKEN, in the order of the ring; before them STARTED ones
                                        that are parked or a predecessor's */
    struct request_list unsubmitted; /* started, the engine was busy */
    struct request_list returned;    /* a step of I/O is over */
    uint16_t *answers;               /* tags that are DONE and not published */
    uint32_t answer_count;

    unsigned started;        /* dispatched and not finished: what a barrier waits for */
    unsigned buffers;        /* of the pool, that its requests hold */
    unsigned submitted;      /* I/Os that the store holds or that are in `returned` */
    struct request *barrier; /* under way: nothing overtakes it */
    bool held;               /* by its owner, to change the store */
    bool finishing;          /* its owner waits until it is idle */
    bool broken;
    bool disconnected;
    bool must_notify; /* in any case, once */
    bool masked;      /* an event was taken and the port not unmasked yet */
    bool fruitful;    /* requests were taken since an event was judged */
    bool delayed;     /* the last event brought nothing, and the port stays masked for a while */
    bool delay_over;  /* it has: the port is to be unmasked without a judgement */
    struct event_storm storm;

    uint32_t work_per_turn;
    uint32_t weight;
    int64_t work_left; /* of this pass, bytes; between two: what is left over, or owed if < 0 */

    bool is_ready;
    bool is_stalled;
    bool is_unarmed;
    struct queue *next_ready;
    struct queue *next_stalled;
    struct queue *next_unarmed;
};

/* turn.c */
void turn_mark_ready(struct queue *queue);
void turn_mark_stalled(struct queue *queue);
void turn_mark_unarmed(struct queue *queue);
/* All buffers that the request's data needs, or none: then the queue is stalled until some are
 * free. */
bool turn_get_buffers(struct queue *queue, struct request *request);
void turn_forget(struct queue *queue);

/* time_share.c */

/* What taking, starting or answering a request costs besides its data, as so many bytes moved: the
 * three of them take about as long as moving 6 KiB (docs/performance.md, in memory: CPU per I/O of
 * 4k and of 64k). */
#define QUEUE_STEP_COST 2048

/* Accounts for a step of a request, and for so many bytes of its data that are moved in it. */
static inline void queue_worked(struct queue *queue, uint64_t bytes)
{
    queue->work_left -= (int64_t)bytes + QUEUE_STEP_COST;
}

/* The same for data that is moved once more, between our buffers and the guest. */
static inline void queue_copied(struct queue *queue, uint64_t bytes)
{
    queue->work_left -= (int64_t)bytes;
}

/* Whether there is time for more in this pass. */
static inline bool queue_has_time(const struct queue *queue)
{
    return queue->work_left > 0;
}

/* Gives the queue the work of a turn. Returns whether it may have a pass; else it still owes. */
bool queue_begin_work(struct queue *queue);
/* After a pass. What is left over is kept, up to a pass's worth, while there is `more` that could
 * have been done; a queue that has nothing to do saves nothing up. */
void queue_end_work(struct queue *queue, bool more);
/* Of those that are ready, linked by next_ready: lets the turns go by in which all of them would
 * pause. */
void turn_skip_pauses(struct queue *ready);

/* queue.c: whether it could take requests from the ring, and there are some. */
bool queue_has_requests(const struct queue *queue);
/* Nothing to do until the frontend or the store has something: asks the frontend for an event,
 * unless the thread is polling. */
void queue_wait(struct queue *queue);

/* queue_intake.c: takes what the ring has; starts what may start. */
void queue_take(struct queue *queue);
void queue_dispatch(struct queue *queue);
/* Copies a request's data between the guest's memory and our buffers: at once where its pages are
 * mapped, else by the next guest_memory_run(). */
void queue_copy(struct queue *queue, struct request *request);
/* Submits the current step of a request. */
void queue_submit_step(struct queue *queue, struct request *request);
/* The same once it is prepared. */
void queue_submit_prepared(struct queue *queue, struct request *request);
/* Tries again what the engine had no room for. */
void queue_resubmit(struct queue *queue);

/* queue_limit.c: of a queue with a limit that is set. */

/* Whether a request may be taken now; if not, the owner is told until when to wait. */
bool queue_may_take(struct queue *queue);
/* A request was staged: it counts. */
void queue_charge(struct queue *queue, const struct decoded_request *request);
/* All that were staged are decoded: those with fewer bytes than was thought get the rest back. */
void queue_refund(struct queue *queue, uint32_t staged_count);

/* queue_recover.c: takes up what a predecessor left in the journal. Returns 0, or -EPROTO for what
 * none leaves. */
int queue_recover(struct queue *queue, const struct journal_recovered *recovered);

/* queue_park.c */

/* Whether the policy is to wait for the store to recover from that error, not to answer with it. */
bool queue_must_park(const struct queue *queue, const struct io *io);
/* A flush failed: what the page cache lost is lost for all rings, and for a successor. */
void queue_note_loss(struct queue *queue);
/* Puts a request that the store failed back before those that wait, for queue_retry(). */
void queue_park(struct queue *queue, struct request *request, int error);
/* It is not parked any more. Returns true if it was the last of the store. */
bool queue_unpark(struct queue *queue, struct request *request);

/* queue_answer.c: goes on with what came back from the store; publishes what is DONE. */
void queue_handle_returned(struct queue *queue);
void queue_finish(struct queue *queue, struct request *request, int16_t status);
void queue_publish(struct queue *queue);
/* Whether nothing at all may be taken and started because a flush of the store failed. */
bool queue_blocked(const struct queue *queue);
/* Gives back what a request holds besides its journal entry. */
void queue_release(struct queue *queue, struct request *request);
/* Of that its buffers, or mapped pages, alone. */
void queue_release_data(struct queue *queue, struct request *request);

#endif
