/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The worker's event loop: a small interface over epoll. It is the data path's own, since waiting,
 * submitting and reaping belong together: after the events of a turn have been looked at, one
 * function pumps the queues and commits the engines.
 */
#ifndef BLKBACK_WORKER_LOOP_H
#define BLKBACK_WORKER_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_EVENTS 64

struct loop_source {
    int fd;
    void (*ready)(struct loop_source *source); /* readable, or hung up */
};

/* One shot, on CLOCK_MONOTONIC. Zero-initialised but for `fire`. */
struct loop_timer {
    void (*fire)(struct loop_timer *timer);
    uint64_t due_ms;
    bool armed;
    /* Its place in a pairing heap, where none is due before its parent. */
    struct loop_timer *child; /* the first */
    struct loop_timer *next;  /* child of the same parent */
    struct loop_timer *back;  /* the child before it, or else the parent; NULL: due first of all */
};

struct loop {
    int epoll_fd;
    bool stopped;
    /* Ends each turn; returns true when it wants another at once. */
    bool (*turn)(void *context);
    void *context;
    struct loop_timer *timers; /* the one that is due first */
    int event_count;
    struct epoll_event events[LOOP_EVENTS];
};

/* Returns 0 or -errno. */
int loop_create(struct loop *loop, bool (*turn)(void *context), void *context);

/* Watches source->fd until loop_remove(), which may be called from any callback, for any source. */
int loop_add(struct loop *loop, struct loop_source *source);
void loop_remove(struct loop *loop, struct loop_source *source);

/* (Re)arms; fires once after `milliseconds`. Stopping one that is not armed does nothing. */
void loop_start_timer(struct loop *loop, struct loop_timer *timer, uint64_t milliseconds);
void loop_stop_timer(struct loop *loop, struct loop_timer *timer);

/* The timers' clock. */
uint64_t loop_now_ms(void);

/* Runs until loop->stopped is set. Returns 0 or -errno of epoll. */
int loop_run(struct loop *loop);

void loop_destroy(struct loop *loop);

#endif
