/* SPDX-License-Identifier: BSD-2-Clause */
/* Random requests at a given depth, with every byte that comes back compared with a model of the
 * disk. */
#include "exercise.h"
#include "pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define OWN_PAGES 16384u

static int complain(struct run *r, const char *what, const struct slot *s, uint64_t value)
{
    if (!r->e->message[0])
        snprintf(r->e->message, sizeof(r->e->message),
                 "%s (%llu): op %u id %llx sector %llu sectors %u", what, (unsigned long long)value,
                 s ? s->op : 255u, s ? (unsigned long long)s->id : 0ull,
                 s ? (unsigned long long)s->sector : 0ull, s ? s->sectors : 0u);
    return -EIO;
}

static bool poisoned(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != POISON)
            return false;
    return true;
}

static int check_read(struct run *r, const struct slot *s)
{
    const uint8_t *model = exercise_model_at(r, s->sector);

    for (uint32_t i = 0; i < s->segments; i++) {
        const uint8_t *page = pool_memory(r->pool, s->page[i]);
        size_t start = s->segment[i].first * (size_t)FRONT_SECTOR;
        size_t end = (s->segment[i].last + 1u) * (size_t)FRONT_SECTOR;

        if (memcmp(page + start, model, end - start) != 0)
            return complain(r, "data differs in segment", s, i);
        if (!poisoned(page, start) || !poisoned(page + end, HV_PAGE - end))
            return complain(r, "bytes outside the segment were touched", s, i);
        model += end - start;
    }
    return 0;
}

static void count(struct run *r, const struct slot *s)
{
    struct front_exercise *e = r->e;

    e->bytes += (uint64_t)s->sectors * FRONT_SECTOR;
    e->reads += s->op == BLKIF_OP_READ;
    e->writes += s->op == BLKIF_OP_WRITE;
    e->flushes += s->op == BLKIF_OP_FLUSH_DISKCACHE;
    e->barriers += s->op == BLKIF_OP_WRITE_BARRIER;
    e->discards += s->op == BLKIF_OP_DISCARD;
    e->indirect += s->indirect;
    e->multi_block += !s->indirect && s->segments > FRONT_SEGMENTS_PER_REQUEST;
    e->reordered += s->order < r->last_order;
    r->last_order = s->order;
}

static void give_pages(struct run *r, struct slot *s)
{
    for (uint32_t i = s->segments; i-- > 0;)
        pool_give(r->pool, s->page[i]);
    if (s->indirect)
        pool_give(r->pool, s->indirect_page);
}

static int check(struct run *r, const struct slot *s, const struct front_response *response)
{
    if (response->op != s->op)
        return complain(r, "response with another operation", s, response->op);
    if (response->status != BLKIF_RSP_OKAY) {
        r->e->errors++;
        return r->e->tolerate_errors ? 0 : complain(r, "status", s, (uint64_t)response->status);
    }
    count(r, s);
    if (s->op == BLKIF_OP_READ)
        return check_read(r, s);
    /* With errors tolerated the model takes a write only when it is answered: a failed one leaves
     * the sectors unknown. */
    if (r->e->tolerate_errors)
        exercise_write_model(r, s);
    return 0;
}

static int finish(struct run *r, const struct front_response *response)
{
    uint32_t index = response->id & 0xffff;
    struct slot *s = index < r->e->depth ? &r->slots[index] : NULL;
    int err;

    if (!s || !s->busy || s->id != response->id)
        return complain(r, "response with an id that is not in flight", s, response->id);
    s->busy = false;
    r->busy--;
    r->done++;
    err = check(r, s, response);
    give_pages(r, s);
    return err;
}

static int reap(struct run *r)
{
    struct front_response response;
    int err = 0, there = 0;

    while (!err && (there = front_take(r->q, &response)) > 0)
        err = finish(r, &response);
    if (!err && there < 0)
        err = complain(r, "the producer did not advance by the request's slots", NULL, response.id);
    return err;
}

static int turn(struct run *r)
{
    bool put = false;

    for (uint32_t i = 0; i < r->e->depth && r->issued < r->e->requests; i++)
        if (!r->slots[i].busy)
            put |= exercise_issue(r, i);
    if (put)
        front_push(r->q);
    if (r->busy) {
        int there = front_wait(r->q, r->e->timeout_ms);

        if (there == 0)
            return complain(r, "no response in time, in flight", NULL, r->busy);
        if (there < 0)
            return complain(r, "no event for a response, in flight", NULL, r->busy);
    }
    return reap(r);
}

static uint32_t most_segments(const struct front_exercise *e)
{
    return e->max_segments > e->max_indirect ? e->max_segments : e->max_indirect;
}

static uint32_t most_pages(const struct front_exercise *e)
{
    return most_segments(e) + (e->max_indirect ? 1 : 0);
}

/* Of a set of one's own: for all requests as large as can be, within reason. */
static uint32_t own_pages(const struct front_exercise *e)
{
    uint32_t pages = e->depth * most_pages(e);

    return pages < OWN_PAGES ? pages : OWN_PAGES;
}

static bool valid(const struct front_exercise *e)
{
    if (e->max_segments >= FRONT_MAX_SEGMENTS || e->max_segments == 0 ||
        e->max_indirect > FRONT_MAX_SEGMENTS || e->depth == 0 || e->depth > FRONT_MAX_SLOTS)
        return false;
    if (e->pool && front_pool_pages(e->pool) < most_pages(e))
        return false;
    return SECTORS_PER_PAGE % e->alignment == 0 &&
           e->sectors >= (uint64_t)most_segments(e) * SECTORS_PER_PAGE &&
           (!e->weight_discard || (e->discard_unit && e->sectors >= e->discard_unit));
}

int front_exercise(struct front_queue *q, struct front_exercise *e)
{
    struct run r = {.q = q, .e = e, .pool = e->pool, .random = e->seed * 0x9e3779b97f4a7c15u | 1};
    int err, mapped = 0;

    if (!valid(e))
        return -EINVAL;
    r.slots = calloc(e->depth, sizeof(*r.slots));
    if (r.slots && !r.pool)
        r.pool =
            front_pool_new(front_queue_domid(q), front_queue_backend(q), own_pages(e), e->readonly);
    err = r.slots && r.pool ? 0 : -ENOMEM;
    while (!err && (r.issued < e->requests || r.busy))
        err = turn(&r);
    if (!err && reap(&r))
        err = -EIO;
    if (!e->pool)
        mapped = front_pool_free(r.pool);
    if (!err && mapped)
        err = complain(&r, "pages still mapped after the responses", NULL, (uint64_t)mapped);
    free(r.slots);
    return err;
}
