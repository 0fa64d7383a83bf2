/* SPDX-License-Identifier: BSD-2-Clause */
/* The counters of a slab by name: every form in which status is printed goes through this table. */
#include "disks.h"

#include <stddef.h>
#include <string.h>

#define COUNTER(member, name, kind)                                   \
    {                                                                 \
#member, name, kind, offsetof(struct slab_statistics, member) \
    }

static const struct ctl_counter counters[] = {
    COUNTER(bytes_in_flight, "bytes in flight", CTL_COUNTS_BYTES),
    COUNTER(reads, "reads", CTL_COUNTS),
    COUNTER(writes, "writes", CTL_COUNTS),
    COUNTER(flushes, "flushes", CTL_COUNTS),
    COUNTER(barriers, "barriers", CTL_COUNTS),
    COUNTER(discards, "discards", CTL_COUNTS),
    COUNTER(read_bytes, "read", CTL_COUNTS_BYTES),
    COUNTER(written_bytes, "written", CTL_COUNTS_BYTES),
    COUNTER(errors, "errors", CTL_COUNTS),
    COUNTER(merged, "merged requests", CTL_COUNTS),
    COUNTER(grant_copies, "grant copies", CTL_COUNTS),
    COUNTER(copied_segments, "copied segments", CTL_COUNTS),
    COUNTER(notifications, "notifications sent", CTL_COUNTS),
    COUNTER(wakeups, "events received", CTL_COUNTS),
    COUNTER(passes, "passes over the ring", CTL_COUNTS),
    COUNTER(submissions, "batches submitted", CTL_COUNTS),
    COUNTER(flushes_parked, "flushes parked", CTL_COUNTS),
    /* What tells of a guest that asks for too much, or of a host that has too little. */
    COUNTER(fruitless_events, "fruitless events", CTL_COUNTS),
    COUNTER(events_delayed, "events delayed", CTL_COUNTS),
    COUNTER(passes_limited, "passes cut short", CTL_COUNTS),
    COUNTER(buffer_waits, "waits for buffers", CTL_COUNTS),
    COUNTER(segments_failed, "segments not copied", CTL_COUNTS),
    COUNTER(maps_failed, "maps failed", CTL_COUNTS),
    COUNTER(requests_unmapped, "requests not mapped", CTL_COUNTS),
    COUNTER(mapped_grants, "grants mapped", CTL_COUNTS),
    COUNTER(limit_waits, "waits for the limit", CTL_COUNTS),
    COUNTER(limit_wait_us, "waited for the limit", CTL_COUNTS_MICROSECONDS),
    COUNTER(registered, "registered buffers", CTL_COUNTS),
};

#define COUNT (sizeof(counters) / sizeof(counters[0]))

/* One that is added to the slab is shown, or the build fails. */
_Static_assert(offsetof(struct slab_statistics, reserved) == COUNT * sizeof(uint64_t),
               "each counter of a slab has a name");

const struct ctl_counter *ctl_next_counter(const struct ctl_counter *counter)
{
    const struct ctl_counter *next = counter ? counter + 1 : counters;
    return next < counters + COUNT ? next : NULL;
}

uint64_t ctl_counter_value(const struct ctl_counter *counter, const struct slab_statistics *of)
{
    uint64_t value;
    memcpy(&value, (const char *)of + counter->offset, sizeof(value));
    return value;
}
