/* SPDX-License-Identifier: BSD-2-Clause */
/* A run of requests that may overlap: what its halves share, choosing requests and checking
 * answers.
 */
#ifndef BED_HISTORY_RUN_H
#define BED_HISTORY_RUN_H

#include "front.h"
#include "history.h"

#define HISTORY_POISON 0xa5u
#define HISTORY_HOT    512u /* sectors at the front that half of the requests go to */

struct history_request {
    bool busy, indirect;
    uint8_t op; /* of an indirect request: the inner one */
    uint32_t queue, sectors, segments, indirect_page;
    uint64_t id, sector, stamp, asked;
    struct front_segment segment[FRONT_MAX_SEGMENTS];
    uint32_t page[FRONT_MAX_SEGMENTS];
};

struct history_run {
    struct front_history *h;
    struct history *history;
    struct history_request *requests; /* depth for each queue */
    uint8_t *outside;
    uint64_t random, issued, stamp, now;
    uint32_t busy;
};

uint64_t history_random(struct history_run *r);
/* history_choose.c: puts a random request into an idle place of a queue and on its ring. False: not
 * now. */
bool history_issue(struct history_run *r, uint32_t queue, uint32_t index);
void history_give_pages(struct history_run *r, const struct history_request *q);

#endif
