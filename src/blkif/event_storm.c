/* SPDX-License-Identifier: BSD-2-Clause */
/* How long events of a frontend are left alone: see event_storm.h. */
#include "event_storm.h"

void event_storm_worked(struct event_storm *storm)
{
    storm->fruitless = 0;
    storm->delay_ms = 0;
}

uint32_t event_storm_fruitless(struct event_storm *storm, uint64_t now_ms)
{
    if (storm->max_delay_ms == 0)
        return 0;
    if (now_ms > storm->calm_at_ms)
        event_storm_worked(storm);
    if (storm->fruitless < EVENT_STORM_FREE) {
        storm->fruitless++;
    } else {
        const uint32_t next = storm->delay_ms ? storm->delay_ms * 2 : 1;

        storm->delay_ms = next < storm->max_delay_ms ? next : storm->max_delay_ms;
    }
    storm->calm_at_ms = now_ms + storm->delay_ms + EVENT_STORM_CALM_MS;
    return storm->delay_ms;
}
