/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether polling pays: see poll_window.h. */
#include "poll_window.h"

/* Sleeps in a row which looking would have saved, before it is tried. */
#define OPEN_AFTER 8U

/* Sleeps that are not measured after a long one: others are probably long, too, and measuring costs
 * two readings of the clock. */
#define REST_LONG 7U

/* A miss costs the whole window, a hit saves about one: fewer than four of five that hit close it.
 */
#define SCORE_FIRST 8
#define SCORE_FULL  16
#define SCORE_MISS  4

/* How many sleeps go by before it is tried again, doubled with each failure. */
#define REST_FIRST 64U
#define REST_MOST  65536U

bool poll_window_judges(const struct poll_window *window)
{
    return !window->open && window->max_ns > 0 && window->rest == 0;
}

void poll_window_slept(struct poll_window *window, uint64_t ns)
{
    if (window->open || window->max_ns == 0)
        return;
    if (window->rest > 0) {
        window->rest--;
        return;
    }
    if (ns >= window->max_ns) {
        window->short_sleeps = 0;
        window->rest = REST_LONG;
        return;
    }
    if (++window->short_sleeps < OPEN_AFTER)
        return;
    window->short_sleeps = 0;
    window->open = true;
    window->score = SCORE_FIRST;
}

void poll_window_hit(struct poll_window *window)
{
    if (window->score < SCORE_FULL)
        window->score++;
    else
        window->next_rest = 0; /* it paid: the next failure is a first one */
}

void poll_window_missed(struct poll_window *window)
{
    window->score -= SCORE_MISS;
    if (window->score > 0)
        return;
    window->open = false;
    window->rest = window->next_rest > 0 ? window->next_rest : REST_FIRST;
    window->next_rest = window->rest < REST_MOST ? window->rest * 2 : REST_MOST;
}
