/* SPDX-License-Identifier: BSD-2-Clause */
/* What the queues of one thread share while the loop turns: who has something to do, who waits for
 * a resource. */
#include "queue_internal.h"

#include <stddef.h>

void turn_mark_ready(struct queue *queue)
{
    if (queue->is_ready)
        return;
    queue->is_ready = true;
    queue->next_ready = queue->turn->ready;
    queue->turn->ready = queue;
}

void turn_mark_stalled(struct queue *queue)
{
    if (queue->is_stalled)
        return;
    queue->is_stalled = true;
    queue->next_stalled = queue->turn->stalled;
    queue->turn->stalled = queue;
}

void turn_mark_unarmed(struct queue *queue)
{
    if (queue->is_unarmed)
        return;
    queue->is_unarmed = true;
    queue->next_unarmed = queue->turn->unarmed;
    queue->turn->unarmed = queue;
}

static uint32_t share_of(const struct queue *queue)
{
    const struct turn *turn = queue->turn;

    return (uint32_t)((uint64_t)buffer_pool_count(turn->buffers) * queue->weight / turn->weights);
}

/* What one of the others is to find, on the average. */
static uint32_t share_of_others(const struct queue *queue, uint32_t share)
{
    const struct turn *turn = queue->turn;

    return turn->queues > 1 ? (buffer_pool_count(turn->buffers) - share) / (turn->queues - 1) : 0;
}

/* Whether a queue may have `count` buffers: while others' shares are left alone, or out of its own.
 */
static bool entitled(const struct queue *queue, uint32_t count)
{
    const struct turn *turn = queue->turn;
    const uint32_t free = buffer_pool_free(turn->buffers);

    if (count > free || (turn->claimant && turn->claimant != queue))
        return false;
    if (turn->queues <= 1) /* all of it is its share */
        return true;
    const uint32_t share = share_of(queue);

    /* A request larger than the share may still start while the queue holds nothing else. */
    return queue->buffers == 0 || queue->buffers + count <= share ||
           free - count >= share_of_others(queue, share);
}

bool turn_get_buffers(struct queue *queue, struct request *request)
{
    struct turn *turn = queue->turn;
    const uint32_t count = request_buffers(request->entry->bytes);

    if (!entitled(queue, count)) {
        /* So many would never be free at once while others use their shares. Only for one that has
         * none yet: what the others wait for then is not its own I/O. */
        if (count > share_of(queue) && queue->buffers == 0 && !turn->claimant)
            turn->claimant = queue;
        queue->statistics->buffer_waits += !queue->is_stalled;
        turn_mark_stalled(queue);
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        request->buffers[i] = buffer_pool_get(turn->buffers);
    request->buffer_count = (uint16_t)count;
    queue->buffers += count;
    return true;
}

static void unstall(struct turn *turn)
{
    turn->freed = false;
    while (turn->stalled) {
        struct queue *queue = turn->stalled;

        turn->stalled = queue->next_stalled;
        queue->is_stalled = false;
        turn_mark_ready(queue);
    }
}

/* A claim holds until the claimant's next pass, and on if that makes it anew: one that has what it
 * wanted, or has to pause, is not waited for. */
static void pump(struct turn *turn, struct queue *queue)
{
    const bool claimed = turn->claimant == queue;

    if (!queue->disconnected && !queue_begin_work(queue)) {
        turn_mark_ready(queue);
        return;
    }
    if (claimed)
        turn->claimant = NULL;
    queue_pump(queue);
    if (claimed && turn->claimant != queue)
        turn->freed = true;
}

void turn_run(struct turn *turn)
{
    struct queue *queue;

    /* Before those whose I/O came back, or they would take the room that they made, and a queue
     * without I/O in the engine would never have any. */
    if (turn->freed)
        unstall(turn);
    /* What becomes ready meanwhile waits for the next turn: every queue has one pass. The list is
     * where turn_forget() finds it, for a pass may end the life of other queues. */
    turn->running = turn->ready;
    turn->ready = NULL;
    turn_skip_pauses(turn->running);
    while ((queue = turn->running)) {
        turn->running = queue->next_ready;
        queue->is_ready = false;
        pump(turn, queue);
    }
    if (turn->freed)
        unstall(turn);
}

bool turn_poll(struct turn *turn)
{
    for (struct queue *queue = turn->unarmed; queue; queue = queue->next_unarmed)
        if (queue_has_requests(queue))
            turn_mark_ready(queue);
    return turn->ready != NULL;
}

void turn_arm(struct turn *turn)
{
    struct queue *queue;

    turn->polling = false;
    while ((queue = turn->unarmed)) {
        turn->unarmed = queue->next_unarmed;
        queue->is_unarmed = false;
        queue_wait(queue);
    }
}

static void remove_ready(struct queue **list, const struct queue *queue)
{
    for (struct queue **at = list; *at; at = &(*at)->next_ready)
        if (*at == queue) {
            *at = queue->next_ready;
            return;
        }
}

void turn_forget(struct queue *queue)
{
    struct turn *turn = queue->turn;

    remove_ready(&turn->ready, queue);
    remove_ready(&turn->running, queue);
    for (struct queue **at = &turn->stalled; *at; at = &(*at)->next_stalled)
        if (*at == queue) {
            *at = queue->next_stalled;
            break;
        }
    for (struct queue **at = &turn->unarmed; *at; at = &(*at)->next_unarmed)
        if (*at == queue) {
            *at = queue->next_unarmed;
            break;
        }
    if (turn->claimant == queue) {
        turn->claimant = NULL;
        turn->freed = true;
    }
    queue->is_unarmed = false;
    queue->is_ready = false;
    queue->is_stalled = false;
}
