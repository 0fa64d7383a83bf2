/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk in its worker: the store, the slab, and the queues while a frontend is connected. */
#ifndef BLKBACK_WORKER_VBD_H
#define BLKBACK_WORKER_VBD_H

#include "worker.h"

/* NULL if there is none of that number. */
struct vbd *vbd_find(const struct worker *worker, uint32_t number);

/*
 * WORKER_OPEN_STORE: takes the fence, opens the store, answers. Descriptors it keeps are set to -1
 * in `fds`.
 */
void vbd_open(struct worker *worker, const struct worker_message *message, int *fds);

/*
 * WORKER_CHANGE_STORE: opens another store, finishes what is in flight on the one in use, then puts
 * the new one in its place and answers. Descriptors it keeps are set to -1 in `fds`.
 */
void vbd_change_store(struct vbd *vbd, const struct worker_open_store *wanted, int *fds);

/* WORKER_REFRESH_SIZE: answers. */
void vbd_refresh_size(struct vbd *vbd);

/* WORKER_CONNECT_QUEUE: maps the ring, adopts the event channel in fds[0], answers. */
void vbd_connect_queue(struct vbd *vbd, const struct worker_connect_queue *parameters, int *fds);

/* Takes and starts nothing more: what was started is finished and answered. */
void vbd_hold(struct vbd *vbd);

/* WORKER_RESUME: has the store try again what it failed; `accept_loss`: also where it has lost data
 * for good. Answers. */
void vbd_resume(struct vbd *vbd, bool accept_loss);

/* WORKER_LIMITS: what it may do per second, from now on. */
void vbd_set_limits(struct vbd *vbd, const struct worker_limits *wanted);

/* Requests that were started and are not finished, over all queues. */
unsigned vbd_unfinished(struct vbd *vbd);

/* The vbd after this one, in no particular order; NULL: it is the last. */
struct vbd *vbd_next(const struct vbd *vbd);

/* WORKER_FINISH: serves what the rings hold until nothing is left, then disconnects. */
void vbd_finish(struct vbd *vbd);

/* WORKER_DISCONNECT: gives ring and event channel back at once, answers; answers again when the
 * last I/O is over. */
void vbd_disconnect(struct vbd *vbd);

/* WORKER_CLOSE_STORE: the same, then closes everything when the last I/O is over, answers once, and
 * is gone. */
void vbd_close(struct vbd *vbd);

#endif
