/* SPDX-License-Identifier: BSD-2-Clause */
/* A vbd from the inside, for the two files that make it up: vbd.c (life, rings) and vbd_store.c
 * (opening and changing the store). */
#ifndef BLKBACK_WORKER_VBD_INTERNAL_H
#define BLKBACK_WORKER_VBD_INTERNAL_H

#include "blkback/log.h"
#include "vbd.h"

/* A connected ring. */
struct vbd_queue {
    struct loop_source event; /* first: the loop's callback casts back */
    struct vbd *vbd;
    struct queue *queue; /* NULL: not connected */
    void *pages;
    unsigned page_count;
};

/* A store on its way: the first one of the vbd, or one that takes another's place. */
struct store_opening {
    struct worker_open_store wanted;
    int image_fd; /* until the store owns it; -1: none */
    struct loop_timer fence_timer;
    struct store *ready; /* opened; waits until the I/O on the old one is over */
    bool active;
};

struct vbd {
    struct vbd *next;
    struct worker *worker;
    uint32_t number;
    struct worker_open_store parameters; /* of the store in use */
    struct slab slab;
    struct store *store; /* NULL until the first one is open */
    struct store_opening opening;
    struct overlap_table *overlaps;
    struct vbd_queue queues[STATE_MAX_QUEUES];
    struct loop_timer flush_timer;
    struct log_limit log_limit;
    bool recovering;    /* not all queues of a predecessor are connected yet: the others wait */
    bool finishing;     /* to be disconnected when the rings are empty */
    bool disconnecting; /* DRAINED is owed */
    bool closing;       /* STORE_CLOSED is owed */
};

/* vbd.c */

/* Closes what it has and frees it. Nothing may be in flight. */
void vbd_forget(struct vbd *vbd);

unsigned vbd_in_flight(const struct vbd *vbd);

/* vbd_store.c */

/* Takes the fence, opens the store, answers. A vbd without a store that can't have it is forgotten.
 * Descriptors it keeps are set to -1. */
void vbd_store_open(struct vbd *vbd, const struct worker_open_store *wanted, int *fds);

/* The queues go on with the store in use, unless they wait for something else. */
void vbd_store_resume(struct vbd *vbd);

/* The queues hold; puts the new store in the old one's place if nothing needs that any more. */
void vbd_store_quiet(struct vbd *vbd);

/* A flush of the store in use failed and waits for it: it can't be changed. */
void vbd_store_paused(struct vbd *vbd);

/* The page cache has lost data of the store in use: that is never forgotten while it is open. */
void vbd_store_lost_data(struct vbd *vbd);

/* Gives up a store that is on its way. */
void vbd_store_abandon(struct vbd *vbd);

#endif
