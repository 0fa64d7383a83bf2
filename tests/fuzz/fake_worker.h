/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Takes the place of worker_process.c: a worker that is no process. It gets what the broker sends,
 * and does what an honest worker does when the fuzz input says so, in part or late; or it lies.
 */
#ifndef BLKBACK_FUZZ_FAKE_WORKER_H
#define BLKBACK_FUZZ_FAKE_WORKER_H

#include "fuzz.h"
#include "worker_process.h"

#define FAKE_WORKERS 4U

/* Forgets what other inputs left; no worker may live. */
void fake_worker_reset(void);

unsigned fake_workers_alive(void);

/* The next starts fail with this; 0: they don't. */
extern int fake_worker_start_error;

/* Each concerns the `index`th living worker, if there is one. */

/* It says that it is ready, or takes one of the broker's messages and prepares its answer, which
 * the input chooses where there is a choice. Returns whether there was something to do. */
bool fake_worker_work(unsigned index, struct input *input);

/* The broker gets the oldest of what it has said. */
bool fake_worker_speak(unsigned index);

/* It finishes I/O that was in flight, or requests that were unanswered. */
bool fake_worker_finish(unsigned index);

/* Something breaks that an honest worker reports: a ring or the store. */
void fake_worker_trouble(unsigned index, struct input *input);

/* It says anything. From then on its end by the broker is no failure. */
void fake_worker_lie(unsigned index, struct input *input);

/* It stops reading, dies, or leaves if it was asked to. */
void fake_worker_clog(unsigned index);
void fake_worker_die(unsigned index);
bool fake_worker_killed(unsigned index); /* and still there */
bool fake_worker_leave(unsigned index);

#endif
