/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether a thread looks for work for a moment before it sleeps. A wake-up across CPUs costs both
 * sides tens of microseconds, looking costs this thread's time; so it looks only while it nearly
 * always finds something, and gives up, for longer each time, when it does not. Where the frontend
 * runs on the same CPU, which looking keeps from it, nothing is ever found.
 *
 * Arithmetic alone: the thread has the clock.
 */
#ifndef BLKBACK_WORKER_POLL_WINDOW_H
#define BLKBACK_WORKER_POLL_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct poll_window {
    uint64_t max_ns; /* how long to look; 0: never */
    bool open;
    int score;             /* of an open one: closes at 0 */
    unsigned short_sleeps; /* in a row; of a closed one: many open it */
    uint32_t rest;         /* sleeps before the next try */
    uint32_t next_rest;
};

/* max_ns alone need be set, in a zeroed one. */

/* Whether it matters how long a sleep lasts that begins now: if not, the clock need not be read. */
bool poll_window_judges(const struct poll_window *window);

/* The thread slept for so long without having looked before, and was woken by work. */
void poll_window_slept(struct poll_window *window, uint64_t ns);

/* It looked, and found something in time; or did not. Only while the window is open. */
void poll_window_hit(struct poll_window *window);
void poll_window_missed(struct poll_window *window);

#endif
