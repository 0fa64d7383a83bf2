/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the queues of a thread share its time: deficit round-robin. In each turn a ready queue is
 * given the work of a pass, by its weight. What its last piece of work takes beyond that it owes:
 * it pauses until later turns have paid it, so that over some turns each has what its weight says,
 * whatever the size of its requests.
 */
#include "queue_internal.h"

/* The work of a pass, in bytes, for a queue of middling weight where they differ. */
#define WEIGHED_WORK (UINT64_C(128) << 10)

/* Alone on its thread a queue holds nobody up. */
static int64_t work_of_pass(const struct queue *queue)
{
    const struct turn *turn = queue->turn;

    if (queue->work_per_turn == 0 || turn->queues <= 1)
        return INT64_MAX;
    if (turn->weights == turn->queues * QUEUE_WEIGHT_STANDARD)
        return queue->work_per_turn;
    /* Less than a frontend asks for at once, or the weights would not be felt. */
    const uint64_t work = queue->work_per_turn < WEIGHED_WORK ? queue->work_per_turn : WEIGHED_WORK;

    return (int64_t)(work * queue->weight * turn->queues / turn->weights) + 1;
}

bool queue_begin_work(struct queue *queue)
{
    const int64_t work = work_of_pass(queue);

    queue->work_left = work == INT64_MAX ? INT64_MAX : queue->work_left + work;
    return queue->work_left > 0;
}

void queue_end_work(struct queue *queue, bool more)
{
    const int64_t work = work_of_pass(queue);

    if (queue->work_left > 0 && (!more || work == INT64_MAX))
        queue->work_left = 0;
    else if (queue->work_left > work)
        queue->work_left = work;
}

/* How many turns go by before one in which it may work. */
static uint64_t turns_owed(const struct queue *queue)
{
    if (queue->disconnected || queue->work_left >= 0)
        return 0;
    return (uint64_t)-queue->work_left / (uint64_t)work_of_pass(queue);
}

/* The thread's time is for whoever wants it: no turn goes by in which all that are ready pause. */
void turn_skip_pauses(struct queue *ready)
{
    uint64_t least = UINT64_MAX;

    for (const struct queue *queue = ready; queue && least; queue = queue->next_ready) {
        const uint64_t owed = turns_owed(queue);

        if (owed < least)
            least = owed;
    }
    if (!ready || least == 0)
        return;
    for (struct queue *queue = ready; queue; queue = queue->next_ready)
        queue->work_left += (int64_t)least * work_of_pass(queue);
}
