/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread that serves queues: its loop with everything that its queues share. The first one of a
 * worker is the process's main thread, which alone speaks with the broker and owns the vbds. A
 * queue's state is its thread's; what the main thread wants of a queue it has that thread do, and
 * waits for it. A thread never waits for the main one: what it has to tell is posted. A worker with
 * one thread takes no lock and makes no system call for any of this.
 */
#ifndef BLKBACK_WORKER_IO_THREAD_H
#define BLKBACK_WORKER_IO_THREAD_H

#include "blkback/gnttab.h"
#include "blkback/log.h"
#include "blkback/queue.h"
#include "blkback/store.h"
#include "loop.h"
#include "poll_window.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct io_thread;

/* An engine's descriptor in the loop. */
struct engine_source {
    struct loop_source source;
    struct engine *engine;
    struct io_thread *thread;
};

/* A connected queue with its event channel's descriptor, while a thread serves it. */
struct served_queue {
    struct loop_source event; /* first: the loop's callback casts back */
    struct queue *queue;      /* NULL: not connected */
    struct served_queue *next;
    struct served_queue **at; /* what points to it; NULL: not served */
};

/* Something to be run on a thread soon. Intrusive; zero-initialised but for `run`. */
struct io_post {
    void (*run)(struct io_post *post);
    struct io_post *next;
    bool posted;
};

/* How other threads reach one. */
struct io_mailbox {
    struct loop_source event; /* an eventfd; -1: there are no other threads */
    pthread_mutex_t lock;     /* of everything below */
    pthread_cond_t answered;  /* or ended */
    bool ended;
    void (*function)(void *context); /* NULL: no call is waiting */
    void *context;
    struct io_post *posts;
};

struct io_thread {
    struct loop loop;
    struct turn turn;
    uint32_t domid;
    struct gnttab *gnttab; /* a handle of its own: copies of several threads don't wait for each
                              other */
    struct engine_set engines;
    struct engine_source engine_sources[3];
    struct served_queue *queues;
    struct poll_window window;
    uint64_t asleep_since;          /* ns; 0: it did not go to sleep; see io_thread.c */
    struct loop_timer idle_timer;   /* gives memory back */
    struct loop_timer commit_timer; /* has what the kernel refused committed again */
    struct log_limit log_limit;
    struct io_mailbox mailbox;
    unsigned number; /* 0: the main thread */
    unsigned load;   /* queues that are its own; the main thread's to count */
    pthread_t id;    /* of one that io_thread_start() started */
    bool started;
    struct io_post stop;
    struct io_post trim;
};

struct io_thread_params {
    uint32_t domid;
    unsigned number;       /* of this thread: 0 is the main one */
    unsigned threads;      /* of the worker */
    uint64_t buffer_bytes; /* its share of the budget */
    unsigned depth;        /* I/Os in flight at once in each engine */
    uint32_t poll_us; /* how long to look for work before sleeping, while that pays; 0: never */
    struct grant_budget *budget;
};

/*
 * Opens and allocates what a thread needs: loop, grant device, buffers, engines. Needs privileges.
 * `out` stays where it is from here on. Returns 0, or -errno with what failed logged.
 */
int io_thread_create(const struct io_thread_params *params, struct io_thread *out);

/*
 * Starts the thread, with every signal blocked and no way to gain privileges, and waits until it
 * runs. Not for the main one, which calls loop_run(). Returns 0 or -errno.
 */
int io_thread_start(struct io_thread *thread);

/*
 * Ends the thread if it was started, and releases everything but engines and buffers, which I/O in
 * flight may still use: the process ends next. Returns false when the thread hangs in a system
 * call: then nothing is released, and nothing that it may still use may be.
 */
bool io_thread_destroy(struct io_thread *thread);

/*
 * Has `function` run on the thread, between two turns of its loop, and waits until it has. Called
 * by the main thread only; for the main thread's own queues it is a plain call.
 */
void io_thread_call(struct io_thread *thread, void (*function)(void *context), void *context);

/* Has `post` run on the thread, soon, and once however often it is posted before that. From any
 * other thread. */
void io_thread_post(struct io_thread *thread, struct io_post *post);

/* Takes it back if it was not run yet. On the thread that would run it. */
void io_thread_take_back(struct io_thread *thread, struct io_post *post);

/* On the thread: serves the queue, whose event source is filled in; stops serving it. Returns 0 or
 * -errno. */
int io_thread_serve(struct io_thread *thread, struct served_queue *served);
void io_thread_leave(struct io_thread *thread, struct served_queue *served);

/* Has the thread unmap granted pages that are out of use or over the budget, soon: one that hangs
 * in a system call is not waited for. By the main thread. */
void io_thread_trim_grants(struct io_thread *thread);

#endif
