/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading what a frontend wrote, once and in one transaction together with its state. */
#ifndef BLKBACK_BROKER_FRONTEND_NODES_H
#define BLKBACK_BROKER_FRONTEND_NODES_H

#include "blkback/xenstore.h"
#include "negotiate.h"

#define FRONTEND_NODES     (STATE_MAX_QUEUES * (STATE_MAX_RING_PAGES + 2U) + 10U)
#define FRONTEND_VALUE_MAX 64U /* no value of a frontend's that we read is longer */

/* The values that struct frontend_nodes points to. */
struct frontend_text {
    char values[FRONTEND_NODES][FRONTEND_VALUE_MAX];
};

/*
 * Reads the nodes below `dir`. Text that is too long or has a NUL in it becomes "", which no number
 * is. The rings of a frontend that has several, of which there may be `max_queues`, are read from
 * queue-N; of a number that is none, or too large, no path is made. Returns 0, or -errno when the
 * session fails; `nodes` points into `text`.
 */
int frontend_nodes_read(struct xenstore *xs, const char *dir, uint32_t max_queues,
                        struct frontend_text *text, uint32_t *state, struct frontend_nodes *nodes);

#endif
