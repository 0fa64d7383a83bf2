/* SPDX-License-Identifier: BSD-2-Clause */
/* Random requests that may overlap, with stamped data. */
#include "history_run.h"
#include "hv.h"
#include "pool.h"

#include <string.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define SECTORS_PER_PAGE (HV_PAGE / FRONT_SECTOR)
#define DISCARD_MOST     256u

uint64_t history_random(struct history_run *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

static uint8_t choose_op(struct history_run *r)
{
    const struct front_history *h = r->h;
    const uint32_t weight[] = {h->weight_read, h->weight_write, h->weight_flush, h->weight_barrier,
                               h->weight_discard};
    const uint8_t op[] = {BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE,
                          BLKIF_OP_WRITE_BARRIER, BLKIF_OP_DISCARD};
    uint32_t total = 0, i = 0;

    for (uint32_t n = 0; n < sizeof(op); n++)
        total += weight[n];
    uint32_t x = (uint32_t)(history_random(r) % total);

    while (x >= weight[i])
        x -= weight[i++];
    return op[i];
}

/* Half of the requests meet at the front of the disk. */
static uint64_t choose_sector(struct history_run *r, uint32_t sectors, uint32_t unit)
{
    uint64_t among = r->h->sectors;

    if (history_random(r) % 2 && sectors < HISTORY_HOT)
        among = HISTORY_HOT;
    return history_random(r) % ((among - sectors) / unit + 1) * unit;
}

static uint32_t choose_count(struct history_run *r, uint32_t most)
{
    if (most > FRONT_SEGMENTS_PER_REQUEST && history_random(r) % 4)
        most = FRONT_SEGMENTS_PER_REQUEST;
    return 1 + (uint32_t)(history_random(r) % most);
}

static void choose_extent(struct history_run *r, struct history_request *q)
{
    const uint32_t unit = r->h->alignment, steps = SECTORS_PER_PAGE / unit;

    q->indirect = r->h->max_indirect && history_random(r) % 2 && q->op != BLKIF_OP_WRITE_BARRIER;
    q->segments = choose_count(r, q->indirect ? r->h->max_indirect : r->h->max_segments);
    for (uint32_t i = 0; i < q->segments; i++) {
        uint32_t first = 0, last = steps - 1;

        if (history_random(r) % 4 == 0) {
            first = (uint32_t)(history_random(r) % steps);
            last = first + (uint32_t)(history_random(r) % (steps - first));
        }
        q->segment[i].first = (uint8_t)(first * unit);
        q->segment[i].last = (uint8_t)(last * unit + unit - 1);
        q->sectors += (uint32_t)q->segment[i].last - q->segment[i].first + 1;
    }
    q->sector = choose_sector(r, q->sectors, unit);
}

static void choose(struct history_run *r, struct history_request *q)
{
    const uint32_t unit = r->h->discard_unit;

    q->op = choose_op(r);
    q->indirect = false;
    q->sectors = q->segments = 0;
    q->sector = 0;
    if (q->op == BLKIF_OP_DISCARD) {
        q->sectors = (1 + (uint32_t)(history_random(r) % (DISCARD_MOST / unit))) * unit;
        q->sector = choose_sector(r, q->sectors, unit);
    } else if (q->op != BLKIF_OP_FLUSH_DISKCACHE) {
        choose_extent(r, q);
    }
}

static void take_pages(struct history_run *r, struct history_request *q)
{
    const bool readonly = r->h->readonly && q->op != BLKIF_OP_READ;

    for (uint32_t i = 0; i < q->segments; i++) {
        q->page[i] = pool_take(r->h->pool, (uint32_t)history_random(r));
        q->segment[i].ref = front_pool_ref(r->h->pool, q->page[i], readonly);
    }
    if (q->indirect) {
        q->indirect_page = pool_take(r->h->pool, 0);
        memcpy(pool_memory(r->h->pool, q->indirect_page), q->segment,
               q->segments * sizeof(q->segment[0]));
    }
}

void history_give_pages(struct history_run *r, const struct history_request *q)
{
    for (uint32_t i = q->segments; i-- > 0;)
        pool_give(r->h->pool, q->page[i]);
    if (q->indirect)
        pool_give(r->h->pool, q->indirect_page);
}

static void prepare_data(struct history_run *r, const struct history_request *q)
{
    uint64_t sector = q->sector;

    for (uint32_t i = 0; i < q->segments; i++) {
        uint8_t *page = pool_memory(r->h->pool, q->page[i]);

        memset(page, HISTORY_POISON, HV_PAGE);
        for (uint32_t at = q->segment[i].first; at <= q->segment[i].last; at++, sector++)
            if (q->op != BLKIF_OP_READ)
                history_stamp(page + at * FRONT_SECTOR, sector, q->stamp);
    }
}

static int put(struct history_run *r, const struct history_request *q)
{
    struct front_request request = {.id = q->id,
                                    .op = q->op,
                                    .byte1 = (uint8_t)q->segments,
                                    .sector = q->sector,
                                    .segments = q->segments,
                                    .segment = q->segment};

    if (q->op == BLKIF_OP_DISCARD) {
        request.nr_sectors = q->sectors;
    } else if (q->indirect) {
        request.op = BLKIF_OP_INDIRECT;
        request.byte1 = q->op;
        request.handle = (uint16_t)q->segments;
        request.indirect_refs = 1;
        request.indirect_ref[0] = front_pool_ref(r->h->pool, q->indirect_page, r->h->readonly != 0);
    }
    return front_put(r->h->queue[q->queue], &request);
}

/* When the oldest request in flight was asked for; and whether one overlaps. */
static uint64_t oldest_in_flight(struct history_run *r, const struct history_request *q)
{
    uint64_t oldest = r->now + 1;

    for (uint32_t i = 0; i < r->h->queues * r->h->depth; i++) {
        const struct history_request *o = &r->requests[i];

        if (!o->busy)
            continue;
        if (o->asked < oldest)
            oldest = o->asked;
        r->h->overlapping += o->sector < q->sector + q->sectors &&
                             q->sector < o->sector + o->sectors && o->op != BLKIF_OP_READ;
    }
    return oldest;
}

static uint32_t slots_needed(const struct history_request *q)
{
    return q->indirect ? 1 : front_slots_of(q->segments);
}

bool history_issue(struct history_run *r, uint32_t queue, uint32_t index)
{
    struct history_request *q = &r->requests[queue * r->h->depth + index];

    choose(r, q);
    q->queue = queue;
    q->stamp = q->op == BLKIF_OP_DISCARD ? STAMP_ZERO : r->stamp + 1;
    if (q->segments + q->indirect > pool_available(r->h->pool) ||
        slots_needed(q) > front_queue_free_slots(r->h->queue[queue]))
        return false;
    const uint64_t oldest = oldest_in_flight(r, q);

    q->asked = ++r->now;
    if (q->op != BLKIF_OP_READ && q->op != BLKIF_OP_FLUSH_DISKCACHE &&
        !history_write(r->history, q->sector, q->sectors, q->stamp, q->asked, oldest))
        return false;
    r->stamp++;
    take_pages(r, q);
    prepare_data(r, q);
    q->id = history_random(r) << 16 | index;
    if (put(r, q)) /* there are free slots */
        return false;
    q->busy = true;
    r->busy++;
    r->issued++;
    return true;
}
