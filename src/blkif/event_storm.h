/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A frontend that sends events for which there is nothing in its ring costs a turn of the loop with
 * each, at no cost of its own. Some are right: requests may have been taken before their event
 * came. After so many in a row the port is unmasked later, each time twice as late; what is taken
 * from the ring makes everything good. Advisory XSA-332 is about backends that did not do so.
 */
#ifndef BLKBACK_BLKIF_EVENT_STORM_H
#define BLKBACK_BLKIF_EVENT_STORM_H

#include <stdint.h>

/* Events in a row that cost nothing but the turn. */
#define EVENT_STORM_FREE 8U

/* The count begins anew when none came for so long after the port was unmasked. */
#define EVENT_STORM_CALM_MS 100U

/* Zero-initialised but for `max_delay_ms`. */
struct event_storm {
    uint32_t max_delay_ms; /* 0: never delayed */
    uint32_t fruitless;    /* in a row; counted no further than needed */
    uint32_t delay_ms;     /* the last one */
    uint64_t calm_at_ms;
};

/* Requests were taken from the ring. */
void event_storm_worked(struct event_storm *storm);

/* An event brought nothing. Returns for how many milliseconds the port is to stay masked. `now_ms`
 * never goes back. */
uint32_t event_storm_fruitless(struct event_storm *storm, uint64_t now_ms);

#endif
