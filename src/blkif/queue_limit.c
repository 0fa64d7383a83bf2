/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue whose vbd has a limit: what may not pass yet stays in the ring, and the queue's owner
 * wakes it when it may. See rate_limit.h. */
#include "queue_internal.h"

#define NS_PER_US UINT64_C(1000)

/* Reckons with the time since it began to wait, or since it was reckoned with last. */
static void count_wait(struct queue *queue, uint64_t now)
{
    const uint64_t waited = now > queue->limited_since ? now - queue->limited_since : 0;

    queue->statistics->limit_wait_us += waited / NS_PER_US;
    queue->limited_since += waited / NS_PER_US * NS_PER_US;
}

bool queue_may_take(struct queue *queue)
{
    const uint64_t now = rate_clock();
    const uint64_t at = rate_limit_ready_at(queue->limit, now);

    if (queue->limited)
        count_wait(queue, now);
    /* A frontend that leaves is owed the answers to what it asked for, and not held up. */
    if (at <= now || queue->finishing || queue->let_through) {
        queue->limited = false;
        queue->taken_at = now;
        return true;
    }
    if (!queue->limited) {
        queue->limited = true;
        queue->limited_since = now;
        queue->statistics->limit_waits++;
    }
    queue->events->wait_until(queue->context, at);
    return false;
}

void queue_let_through(struct queue *queue)
{
    uint32_t available;

    if (queue->broken || queue->disconnected || ring_available(&queue->ring, &available) < 0)
        return;
    queue->let_through = available;
    turn_mark_ready(queue);
}

void queue_charge(struct queue *queue, const struct decoded_request *request)
{
    /* What an indirect request's segments say is not known yet. */
    const uint32_t bytes =
        request->indirect ? request->segments * GNTTAB_PAGE_SIZE : request->bytes;

    rate_limit_charge(queue->limit, queue->taken_at, bytes);
    queue->charged += bytes;
    queue->let_through -= request->slots < queue->let_through ? request->slots : queue->let_through;
}

void queue_refund(struct queue *queue, uint32_t staged_count)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < staged_count; i++)
        bytes += queue->staged[i].decoded.bytes;
    rate_limit_refund(queue->limit, queue->charged - bytes);
    queue->charged = 0;
}

void queue_limit_changed(struct queue *queue)
{
    if (queue->limited)
        count_wait(queue, rate_clock());
    queue->limited = false;
    queue_limit_over(queue);
}

void queue_limit_over(struct queue *queue)
{
    if (!queue->disconnected)
        turn_mark_ready(queue);
}
