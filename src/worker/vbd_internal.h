/* SPDX-License-Identifier: BSD-2-Clause */
/* A vbd from the inside, for the files that make it up: vbd.c (life, rings), vbd_queue.c (a ring on
 * its thread), vbd_store.c (opening and changing the store), vbd_pause.c (a store that fails) and
 * vbd_limit.c (what it may do per second). All of it is the main thread's, but for what vbd_queue.c
 * does on others. */
#ifndef BLKBACK_WORKER_VBD_INTERNAL_H
#define BLKBACK_WORKER_VBD_INTERNAL_H

#include "blkback/log.h"
#include "vbd.h"

/* A connected ring. */
struct vbd_queue {
    struct served_queue served;
    struct vbd *vbd;
    struct io_thread *thread; /* whose it is */
    void *pages;              /* NULL: it was let go of */
    unsigned page_count;
    struct io_post report;         /* to the main thread, from another */
    _Atomic unsigned reports;      /* what it is about */
    _Atomic int flush_failure;     /* -errno of the flush that is reported as parked */
    _Atomic int io_failure;        /* the same of other I/O, */
    _Atomic int io_failed;         /* which was this enum io_operation */
    struct loop_timer delay;       /* of its thread: the frontend's next event is left alone */
    struct loop_timer limit_timer; /* of its thread: the vbd's limit lets it go on */
};

/* A store on its way: the first one of the vbd, or one that takes another's place. */
struct store_opening {
    struct worker_open_store wanted;
    int image_fd; /* until the store owns it; -1: none */
    struct loop_timer fence_timer;
    struct store *ready; /* opened; waits until the I/O on the old one is over */
    bool active;
};

/* Requests that the store failed wait for it. */
struct vbd_pause {
    bool paused;
    bool answer_owed;        /* to RESUME */
    char reason[80];         /* as was told last */
    struct loop_timer timer; /* when they are tried again */
    unsigned delay_ms;       /* of the timer when it was started last */
};

struct vbd {
    struct vbd *next;
    struct vbd **at; /* what points to it */
    struct table_link by_number;
    struct worker *worker;
    uint32_t number;
    struct worker_open_store parameters; /* of the store in use */
    struct slab slab;
    struct store *store; /* NULL until the first one is open */
    struct store_opening opening;
    struct overlap_table *overlaps;
    struct vbd_queue queues[STATE_MAX_QUEUES];
    struct vbd_pause pause;
    uint32_t weight;            /* of its queues; 0: the standard one */
    struct rate_limit limit;    /* the queues' threads take from it */
    struct log_limit log_limit; /* threads share it */
    char vdev[32];              /* for log lines; never changes */
    bool recovering;            /* not all queues of a predecessor are connected yet: the others
                                   wait */
    bool finishing;             /* to be disconnected when the rings are empty */
    bool finished;              /* that has happened; until a ring is connected again */
    bool disconnecting;         /* DRAINED is owed */
    bool limits_known;          /* the first ones have come */
    bool closing;               /* STORE_CLOSED is owed */
};

/* vbd.c */

/* Closes what it has and frees it. Nothing may be in flight. */
void vbd_forget(struct vbd *vbd);

unsigned vbd_in_flight(struct vbd *vbd);

/* What a ring has reported, on the main thread. The vbd may be gone after vbd_queue_drained(). */
void vbd_ring_broken(struct vbd *vbd);
void vbd_queue_quiet(struct vbd *vbd);
void vbd_queue_drained(struct vbd *vbd);

/* vbd_pause.c */

void vbd_pause_init(struct vbd *vbd);

/* Of the queues' reports: the store failed a request that waits for it now; nothing waits any more.
 */
void vbd_parked(struct vbd *vbd, enum io_operation operation, int error);
void vbd_continued(struct vbd *vbd);

/* What fails waits, or is answered with an error, as was asked for with the store in use. */
void vbd_pause_policy(struct vbd *vbd);

/* The frontend is leaving: what waits is tried once more, and what fails is answered. But flushes.
 */
void vbd_pause_no_more(struct vbd *vbd);

/* The rings are let go of, and what waited with them. */
void vbd_pause_end(struct vbd *vbd);

/* The frontend to which a flush was owed that can't be done has left, and will not ask again. One
 * that comes back with another ring, having been suspended, would. */
void vbd_forget_loss(struct vbd *vbd);

/* vbd_queue.c: each is carried out on the ring's thread, which is waited for. All but the first
 * two: of a ring that is connected. */

/* Chooses a thread for the ring and maps it. Returns 0 or -errno. */
int vbd_queue_map(struct vbd *vbd, const struct worker_connect_queue *wanted);

/*
 * Starts serving a ring that was mapped; `held` as by vbd_queue_hold(). `fds[0]`, its event
 * channel, is set to -1 when it was adopted. Returns 0; or -errno with the ring unmapped.
 */
int vbd_queue_start(struct vbd_queue *mine, const struct worker_connect_queue *wanted, bool held,
                    int *fds);

/* Gives ring and event channel back; nothing if that was done. */
void vbd_queue_disconnect(struct vbd_queue *mine);

/* With nothing in flight. */
void vbd_queue_destroy(struct vbd_queue *mine);

/* As the functions of queue.h. */
unsigned vbd_queue_in_flight(struct vbd_queue *mine);
unsigned vbd_queue_unfinished(struct vbd_queue *mine);
bool vbd_queue_idle(struct vbd_queue *mine);
void vbd_queue_hold(struct vbd_queue *mine);
void vbd_queue_resume(struct vbd_queue *mine, struct store *store);
void vbd_queue_finish_all(struct vbd_queue *mine);
void vbd_queue_retry(struct vbd_queue *mine);

/* Comes back when the thread is between two turns of its loop. */
void vbd_queue_synchronize(struct vbd_queue *mine);
void vbd_queue_limit_changed(struct vbd_queue *mine);
void vbd_queue_set_weight(struct vbd_queue *mine);
void vbd_queue_let_through(struct vbd_queue *mine);

/* vbd_store.c */

/* Takes the fence, opens the store, answers. A vbd without a store that can't have it is forgotten.
 * Descriptors it keeps are set to -1. */
void vbd_store_open(struct vbd *vbd, const struct worker_open_store *wanted, int *fds);

/* The queues go on with the store in use, unless they wait for something else. */
void vbd_store_resume(struct vbd *vbd);

/* The queues hold; puts the new store in the old one's place if nothing needs that any more. */
void vbd_store_quiet(struct vbd *vbd);

/* Requests wait for the store in use to recover: it can't be changed. */
void vbd_store_paused(struct vbd *vbd);

/* Gives up a store that is on its way. */
void vbd_store_abandon(struct vbd *vbd);

#endif
