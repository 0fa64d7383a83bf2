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

void turn_run(struct turn *turn)
{
    /* What becomes ready meanwhile waits for the next turn: every queue has one pass. */
    struct queue *queue = turn->ready;

    turn->ready = NULL;
    while (queue) {
        struct queue *next = queue->next_ready;

        queue->is_ready = false;
        queue_pump(queue);
        queue = next;
    }
    if (turn->freed)
        unstall(turn);
}

void turn_forget(struct queue *queue)
{
    struct turn *turn = queue->turn;

    for (struct queue **at = &turn->ready; *at; at = &(*at)->next_ready)
        if (*at == queue) {
            *at = queue->next_ready;
            break;
        }
    for (struct queue **at = &turn->stalled; *at; at = &(*at)->next_stalled)
        if (*at == queue) {
            *at = queue->next_stalled;
            break;
        }
    queue->is_ready = false;
    queue->is_stalled = false;
}
