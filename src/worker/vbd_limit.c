/* SPDX-License-Identifier: BSD-2-Clause */
/* What a disk may do per second, as the broker says: at its beginning, and while it is served. */
#include "vbd_internal.h"

static void for_all_queues(struct vbd *vbd, void (*function)(struct vbd_queue *mine))
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue && vbd->queues[i].pages)
            function(&vbd->queues[i]);
}

/*
 * A disk that is new begins with its burst. One that was served before begins with nothing: else
 * every change, and every death of a worker, would be a burst more.
 */
void vbd_set_limits(struct vbd *vbd, const struct worker_limits *wanted)
{
    const bool first = !vbd->limits_known && !vbd->parameters.adopt;
    const struct rate_settings settings = {
        .requests = wanted->requests,
        .requests_burst = wanted->requests_burst,
        .bytes = wanted->bytes,
        .bytes_burst = wanted->bytes_burst,
    };
    const unsigned changed = rate_limit_set(&vbd->limit, &settings);

    vbd->limits_known = true;
    if (vbd->weight != wanted->weight) {
        vbd->weight = wanted->weight;
        for_all_queues(vbd, vbd_queue_set_weight);
    }
    if (wanted->let_through)
        for_all_queues(vbd, vbd_queue_let_through);
    if (!changed || first)
        return;
    /* What is being taken meanwhile may still be reckoned with at the old rate. */
    for_all_queues(vbd, vbd_queue_synchronize);
    rate_limit_empty(&vbd->limit, changed, rate_clock());
    for_all_queues(vbd, vbd_queue_limit_changed);
}
