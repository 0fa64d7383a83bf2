/* SPDX-License-Identifier: BSD-2-Clause */
/* Random requests over several queues, overlapping as they like, with a history that must make
 * sense whatever happens to the backend meanwhile. */
#include "history.h"

#include "front.h"
#include "history_run.h"
#include "hv.h"
#include "pool.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define OUTSIDE_BYTES 65536u

void front_history_fill(uint8_t *contents, uint64_t sectors)
{
    for (uint64_t i = 0; i < sectors; i++)
        history_stamp(contents + i * FRONT_SECTOR, i, STAMP_FIRST);
}

static int complain(struct history_run *r, const char *what, const struct history_request *q,
                    uint64_t value)
{
    if (!r->h->message[0])
        snprintf(r->h->message, sizeof(r->h->message),
                 "%s (%llu): op %u id %llx sector %llu sectors %u, after %llu answers", what,
                 (unsigned long long)value, q ? q->op : 255u, q ? (unsigned long long)q->id : 0ull,
                 q ? (unsigned long long)q->sector : 0ull, q ? q->sectors : 0u,
                 (unsigned long long)r->h->answered);
    return -EIO;
}

static int see(struct history_run *r, const struct history_request *q, const uint8_t *data,
               uint64_t sector, uint64_t answered)
{
    uint64_t stamp = history_stamp_of(data, sector);

    if (stamp == STAMP_TORN) {
        if (!history_changing(r->history, sector, q->asked))
            return complain(r, "a sector that is of no write, or of another place", q, sector);
        r->h->torn++;
        return 0;
    }
    const char *wrong = history_seen(r->history, sector, stamp, q->asked, answered);

    return wrong ? complain(r, wrong, q, sector) : 0;
}

static bool poisoned(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != HISTORY_POISON)
            return false;
    return true;
}

static int check_read(struct history_run *r, const struct history_request *q, uint64_t answered)
{
    uint64_t sector = q->sector;

    for (uint32_t i = 0; i < q->segments; i++) {
        const uint8_t *page = pool_memory(r->h->pool, q->page[i]);
        size_t start = q->segment[i].first * (size_t)FRONT_SECTOR;
        size_t end = (q->segment[i].last + 1u) * (size_t)FRONT_SECTOR;

        for (size_t at = start; at < end; at += FRONT_SECTOR)
            if (see(r, q, page + at, sector++, answered))
                return -EIO;
        if (!poisoned(page, start) || !poisoned(page + end, HV_PAGE - end))
            return complain(r, "bytes outside the segment were touched", q, i);
    }
    return 0;
}

/* What is in the image now, read from outside, is what a read would find. */
static int look_from_outside(struct history_run *r, uint64_t sector, uint32_t count)
{
    struct history_request q = {.op = 254, .sector = sector, .sectors = count, .asked = ++r->now};
    ssize_t size = (ssize_t)count * FRONT_SECTOR;

    if (pread(r->h->image, r->outside, (size_t)size, (off_t)(sector * FRONT_SECTOR)) != size)
        return complain(r, "the image can't be read from outside", &q, (uint64_t)errno);
    uint64_t answered = ++r->now;
    for (uint32_t i = 0; i < count; i++)
        if (see(r, &q, r->outside + i * (size_t)FRONT_SECTOR, sector + i, answered))
            return -EIO;
    r->h->outside++;
    return 0;
}

static int check_flush(struct history_run *r)
{
    uint64_t parts = r->h->sectors * FRONT_SECTOR / OUTSIDE_BYTES;

    return r->h->image < 0 ? 0
                           : look_from_outside(r, history_random(r) % parts * (OUTSIDE_BYTES / 512),
                                               OUTSIDE_BYTES / 512);
}

static int check_end(struct history_run *r)
{
    int err = 0;

    for (uint64_t at = 0; !err && r->h->image >= 0 && at < r->h->sectors; at += OUTSIDE_BYTES / 512)
        err = look_from_outside(r, at, OUTSIDE_BYTES / 512);
    return err;
}

/* A barrier is answered after everything before it on its ring, and before everything behind it. */
static int check_order(struct history_run *r, const struct history_request *q)
{
    const struct history_request *all = r->requests + (size_t)q->queue * r->h->depth;

    for (uint32_t i = 0; i < r->h->depth; i++) {
        const struct history_request *o = &all[i];

        if (!o->busy || o == q || o->asked > q->asked)
            continue;
        if (q->op == BLKIF_OP_WRITE_BARRIER || o->op == BLKIF_OP_WRITE_BARRIER)
            return complain(r, "answered before what a barrier holds it behind", q, o->id);
    }
    return 0;
}

static void count(struct history_run *r, const struct history_request *q)
{
    struct front_history *h = r->h;

    h->reads += q->op == BLKIF_OP_READ;
    h->writes += q->op == BLKIF_OP_WRITE;
    h->flushes += q->op == BLKIF_OP_FLUSH_DISKCACHE;
    h->barriers += q->op == BLKIF_OP_WRITE_BARRIER;
    h->discards += q->op == BLKIF_OP_DISCARD;
    h->indirect += q->indirect;
    h->multi_block += !q->indirect && q->segments > FRONT_SEGMENTS_PER_REQUEST;
    h->answered++;
}

static int check(struct history_run *r, const struct history_request *q,
                 const struct front_response *response)
{
    uint64_t answered = ++r->now;

    if (response->op != q->op)
        return complain(r, "response with another operation", q, response->op);
    if (response->status != BLKIF_RSP_OKAY)
        return complain(r, "status", q, (uint64_t)-response->status);
    if (check_order(r, q))
        return -EIO;
    count(r, q);
    if (q->op == BLKIF_OP_READ)
        return check_read(r, q, answered);
    if (q->op == BLKIF_OP_FLUSH_DISKCACHE)
        return check_flush(r);
    for (uint32_t i = 0; i < q->sectors; i++) {
        const char *wrong =
            history_seen(r->history, q->sector + i,
                         q->op == BLKIF_OP_DISCARD ? STAMP_ZERO : q->stamp, q->asked, answered);
        if (wrong)
            return complain(r, wrong, q, q->sector + i);
    }
    return 0;
}

static int finish(struct history_run *r, uint32_t queue, const struct front_response *response)
{
    uint32_t index = response->id & 0xffff;
    struct history_request *q =
        index < r->h->depth ? &r->requests[queue * r->h->depth + index] : NULL;

    if (!q || !q->busy || q->id != response->id)
        return complain(r, "response with an id that is not in flight", q, response->id);
    int err = check(r, q, response);

    q->busy = false;
    r->busy--;
    history_give_pages(r, q);
    return err;
}

static int reap(struct history_run *r)
{
    struct front_response response;
    int err = 0, there = 0;

    for (uint32_t i = 0; !err && i < r->h->queues; i++) {
        while (!err && (there = front_take(r->h->queue[i], &response)) > 0)
            err = finish(r, i, &response);
        if (!err && there < 0)
            err = complain(r, "the producer did not advance by the request's slots", NULL, i);
    }
    return err;
}

static int wait_for_any(struct history_run *r)
{
    struct pollfd fds[FRONT_HISTORY_QUEUES];
    bool there = false;

    for (uint32_t i = 0; i < r->h->queues; i++) {
        fds[i] = (struct pollfd){.fd = front_fd(r->h->queue[i]), .events = POLLIN};
        there |= front_arm(r->h->queue[i]);
    }
    if (there)
        return 0;
    if (poll(fds, r->h->queues, (int)r->h->timeout_ms) <= 0) {
        for (uint32_t i = 0; i < r->h->queues; i++)
            there |= front_arm(r->h->queue[i]);
        return complain(r, there ? "no event for a response, in flight" : "no response, in flight",
                        NULL, r->busy);
    }
    for (uint32_t i = 0; i < r->h->queues; i++)
        if (fds[i].revents)
            front_take_event(r->h->queue[i]);
    return 0;
}

static bool goes_on(const struct history_run *r)
{
    return !r->h->stop && (!r->h->requests || r->issued < r->h->requests);
}

static int turn(struct history_run *r)
{
    for (uint32_t i = 0; i < r->h->queues; i++) {
        bool put = false;

        for (uint32_t n = 0; n < r->h->depth && goes_on(r); n++)
            if (!r->requests[i * r->h->depth + n].busy)
                put |= history_issue(r, i, n);
        if (put)
            front_push(r->h->queue[i]);
    }
    int err = r->busy ? wait_for_any(r) : 0;

    return err ? err : reap(r);
}

static bool valid(const struct front_history *h)
{
    uint32_t most = h->max_segments > h->max_indirect ? h->max_segments : h->max_indirect;

    return h->queues > 0 && h->queues <= FRONT_HISTORY_QUEUES && h->depth > 0 &&
           h->depth <= FRONT_MAX_SLOTS && h->max_segments > 0 &&
           h->max_segments < FRONT_MAX_SEGMENTS && h->max_indirect <= FRONT_MAX_SEGMENTS &&
           h->pool && front_pool_pages(h->pool) > most && h->sectors % (OUTSIDE_BYTES / 512) == 0 &&
           h->sectors > HISTORY_HOT && h->sectors > (uint64_t)most * 8 && h->alignment > 0 &&
           8 % h->alignment == 0;
}

int front_history(struct front_history *h)
{
    struct history_run r = {
        .h = h, .random = h->seed * 0x9e3779b97f4a7c15u | 1, .stamp = STAMP_FIRST};
    int err = -ENOMEM;

    if (!valid(h))
        return -EINVAL;
    r.requests = calloc((size_t)h->queues * h->depth, sizeof(*r.requests));
    r.history = history_new(h->sectors);
    if (posix_memalign((void **)&r.outside, 4096, OUTSIDE_BYTES))
        r.outside = NULL;
    if (r.requests && r.history && r.outside)
        err = 0;
    while (!err && (goes_on(&r) || r.busy))
        err = turn(&r);
    if (!err)
        err = reap(&r);
    if (!err)
        err = check_end(&r);
    free(r.outside);
    history_free(r.history);
    free(r.requests);
    return err;
}
