/* SPDX-License-Identifier: BSD-2-Clause */
/* Random requests: the operation, the form, segments and pages, and the data that is written. */
#include "exercise.h"
#include "pool.h"

#include <string.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define DISCARD_MOST 2048u /* sectors */

static uint64_t next_random(struct run *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

static uint8_t choose_op(struct run *r)
{
    const struct front_exercise *e = r->e;
    const struct {
        uint32_t weight;
        uint8_t op;
    } choice[] = {{e->weight_read, BLKIF_OP_READ},
                  {e->weight_write, BLKIF_OP_WRITE},
                  {e->weight_flush, BLKIF_OP_FLUSH_DISKCACHE},
                  {e->weight_barrier, BLKIF_OP_WRITE_BARRIER},
                  {e->weight_discard, BLKIF_OP_DISCARD}};
    const uint32_t count = sizeof(choice) / sizeof(choice[0]);
    uint32_t total = 0, x;

    for (uint32_t i = 0; i < count; i++)
        total += choice[i].weight;
    x = (uint32_t)(next_random(r) % total);
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (x < choice[i].weight)
            return choice[i].op;
        x -= choice[i].weight;
    }
    return choice[count - 1].op;
}

/* Small requests are as likely as large ones. */
static uint32_t choose_count(struct run *r, uint32_t most)
{
    if (most > FRONT_SEGMENTS_PER_REQUEST && next_random(r) % 2)
        most = FRONT_SEGMENTS_PER_REQUEST;
    return 1 + (uint32_t)(next_random(r) % most);
}

/* Segments with random first and last sectors. */
static void choose_extent(struct run *r, struct slot *s)
{
    const struct front_exercise *e = r->e;
    uint32_t steps = SECTORS_PER_PAGE / e->alignment;

    s->indirect = e->max_indirect && next_random(r) % 2 &&
                  (s->op == BLKIF_OP_READ || s->op == BLKIF_OP_WRITE);
    s->segments = choose_count(r, s->indirect ? e->max_indirect : e->max_segments);
    for (uint32_t i = 0; i < s->segments; i++) {
        uint32_t first = (uint32_t)(next_random(r) % steps);
        uint32_t last = first + (uint32_t)(next_random(r) % (steps - first));

        if (next_random(r) % 4) { /* mostly whole pages */
            first = 0;
            last = steps - 1;
        }
        s->segment[i].first = (uint8_t)(first * e->alignment);
        s->segment[i].last = (uint8_t)(last * e->alignment + e->alignment - 1);
        s->sectors += (uint32_t)s->segment[i].last - s->segment[i].first + 1;
    }
    s->sector =
        e->base + next_random(r) % ((e->sectors - s->sectors) / e->alignment + 1) * e->alignment;
}

static void choose_discard(struct run *r, struct slot *s)
{
    const struct front_exercise *e = r->e;
    uint64_t units = e->sectors / e->discard_unit, most = DISCARD_MOST / e->discard_unit;
    uint64_t length = 1 + next_random(r) % (most < units ? most : units);

    s->sector = e->base + next_random(r) % (units - length + 1) * e->discard_unit;
    s->sectors = (uint32_t)(length * e->discard_unit);
}

/* Requests that overlap one in flight would have no defined result, unless both read. */
static bool overlaps(const struct run *r, const struct slot *s)
{
    for (uint32_t i = 0; i < r->e->depth; i++) {
        const struct slot *o = &r->slots[i];

        if (o != s && o->busy && (o->op != BLKIF_OP_READ || s->op != BLKIF_OP_READ) &&
            s->sector < o->sector + o->sectors && o->sector < s->sector + s->sectors)
            return true;
    }
    return false;
}

static uint32_t take_page(struct run *r)
{
    return pool_take(r->pool, r->e->shuffle ? (uint32_t)next_random(r) : 0);
}

static void take_pages(struct run *r, struct slot *s)
{
    bool readonly = r->e->readonly && s->op != BLKIF_OP_READ;

    for (uint32_t i = 0; i < s->segments; i++) {
        s->page[i] = take_page(r);
        s->segment[i].ref = front_pool_ref(r->pool, s->page[i], readonly);
    }
    if (s->indirect) {
        s->indirect_page = take_page(r);
        memcpy(pool_memory(r->pool, s->indirect_page), s->segment,
               s->segments * sizeof(s->segment[0]));
    }
}

static void give_pages(struct run *r, struct slot *s)
{
    for (uint32_t i = s->segments; i-- > 0;)
        pool_give(r->pool, s->page[i]);
    if (s->indirect)
        pool_give(r->pool, s->indirect_page);
}

static void fill(struct run *r, uint8_t *p, size_t size)
{
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t v = next_random(r);

        memcpy(p + i, &v, 8);
    }
}

uint8_t *exercise_model_at(const struct run *r, uint64_t sector)
{
    return r->e->model + (sector - r->e->base) * FRONT_SECTOR;
}

void exercise_write_model(const struct run *r, const struct slot *s)
{
    uint8_t *model = exercise_model_at(r, s->sector);

    if (s->op == BLKIF_OP_DISCARD)
        memset(model, 0, (size_t)s->sectors * FRONT_SECTOR);
    for (uint32_t i = 0; i < s->segments; i++) {
        size_t start = s->segment[i].first * (size_t)FRONT_SECTOR;
        size_t size = (size_t)(s->segment[i].last - s->segment[i].first + 1) * FRONT_SECTOR;

        memcpy(model, pool_memory(r->pool, s->page[i]) + start, size);
        model += size;
    }
}

static void prepare_data(struct run *r, const struct slot *s)
{
    for (uint32_t i = 0; i < s->segments; i++) {
        uint8_t *page = pool_memory(r->pool, s->page[i]);
        size_t start = s->segment[i].first * (size_t)FRONT_SECTOR;
        size_t size = (size_t)(s->segment[i].last - s->segment[i].first + 1) * FRONT_SECTOR;

        memset(page, POISON, HV_PAGE);
        if (s->op != BLKIF_OP_READ)
            fill(r, page + start, size);
    }
}

static int put(struct run *r, const struct slot *s)
{
    struct front_request request = {.id = s->id,
                                    .op = s->op,
                                    .byte1 = (uint8_t)s->segments,
                                    .sector = s->sector,
                                    .segments = s->segments,
                                    .segment = s->segment};

    if (s->op == BLKIF_OP_DISCARD) {
        request.byte1 = (uint8_t)r->e->discard_flag;
        request.nr_sectors = s->sectors;
    } else if (s->indirect) {
        request.op = BLKIF_OP_INDIRECT;
        request.byte1 = s->op;
        request.handle = (uint16_t)s->segments;
        request.indirect_refs = 1;
        request.indirect_ref[0] = front_pool_ref(r->pool, s->indirect_page, r->e->readonly);
    }
    return front_put(r->q, &request);
}

bool exercise_issue(struct run *r, uint32_t index)
{
    struct slot *s = &r->slots[index];
    bool data;

    s->op = choose_op(r);
    s->segments = s->sectors = 0;
    s->sector = 0;
    s->indirect = false;
    data = s->op != BLKIF_OP_FLUSH_DISKCACHE && s->op != BLKIF_OP_DISCARD;
    if (data)
        choose_extent(r, s);
    else if (s->op == BLKIF_OP_DISCARD)
        choose_discard(r, s);
    if (overlaps(r, s) || s->segments + s->indirect > pool_available(r->pool))
        return false;
    take_pages(r, s);
    prepare_data(r, s);
    s->id = next_random(r) << 16 | index;
    if (put(r, s)) {
        give_pages(r, s);
        return false;
    }
    if (s->op != BLKIF_OP_READ && !r->e->tolerate_errors)
        exercise_write_model(r, s);
    s->order = r->issued++;
    s->busy = true;
    r->busy++;
    return true;
}
