/* SPDX-License-Identifier: BSD-2-Clause */
/* Random requests at a given depth, with every byte that comes back compared with a model of the
 * disk. */
#include "front.h"
#include "hv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define SECTORS_PER_PAGE (HV_PAGE / FRONT_SECTOR)
#define POISON           0xa5u

struct slot {
    bool busy;
    uint8_t op;
    uint64_t id, sector;
    uint32_t sectors, segments;
    uint64_t order;
    struct front_segment segment[FRONT_MAX_SEGMENTS];
    uint32_t writable[FRONT_MAX_SEGMENTS],
        readonly[FRONT_MAX_SEGMENTS]; /* two references to the same page */
    uint8_t *page[FRONT_MAX_SEGMENTS];
};

struct run {
    struct front_queue *q;
    struct front_exercise *e;
    struct slot *slots;
    uint64_t random, issued, done, last_order;
    uint32_t busy;
};

static uint64_t next_random(struct run *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

static int complain(struct run *r, const char *what, const struct slot *s, uint64_t value)
{
    if (!r->e->message[0])
        snprintf(r->e->message, sizeof(r->e->message),
                 "%s (%llu): op %u id %llx sector %llu sectors %u", what, (unsigned long long)value,
                 s ? s->op : 255u, s ? (unsigned long long)s->id : 0ull,
                 s ? (unsigned long long)s->sector : 0ull, s ? s->sectors : 0u);
    return -EIO;
}

static int grant_pages(struct run *r)
{
    uint32_t domid = front_queue_domid(r->q), backend = front_queue_backend(r->q);

    for (uint32_t i = 0; i < r->e->depth; i++)
        for (uint32_t j = 0; j < r->e->max_segments; j++) {
            int64_t ref = bed_grant(domid, backend, 1, false);
            int64_t alias = ref > 0 ? bed_grant_alias(domid, backend, (uint32_t)ref, true) : ref;

            if (alias < 0)
                return (int)alias;
            r->slots[i].writable[j] = (uint32_t)ref;
            r->slots[i].readonly[j] = (uint32_t)alias;
            r->slots[i].page[j] = bed_page(domid, (uint32_t)ref);
        }
    return 0;
}

static int end_grants(struct run *r)
{
    uint32_t domid = front_queue_domid(r->q);
    int mapped = 0;

    for (uint32_t i = 0; i < r->e->depth; i++)
        for (uint32_t j = 0; j < r->e->max_segments && r->slots[i].writable[j]; j++) {
            mapped += bed_grant_end(domid, r->slots[i].readonly[j]);
            mapped += bed_grant_end(domid, r->slots[i].writable[j]);
        }
    return mapped;
}

static uint8_t choose_op(struct run *r)
{
    const struct front_exercise *e = r->e;
    uint32_t total = e->weight_read + e->weight_write + e->weight_flush + e->weight_barrier;
    uint32_t x = (uint32_t)(next_random(r) % total);

    if (x < e->weight_read)
        return BLKIF_OP_READ;
    x -= e->weight_read;
    if (x < e->weight_write)
        return BLKIF_OP_WRITE;
    return x - e->weight_write < e->weight_flush ? BLKIF_OP_FLUSH_DISKCACHE
                                                 : BLKIF_OP_WRITE_BARRIER;
}

/* Segments with random first and last sectors. */
static void choose_extent(struct run *r, struct slot *s)
{
    uint32_t align = r->e->alignment, steps = SECTORS_PER_PAGE / align;

    s->segments = 1 + (uint32_t)(next_random(r) % r->e->max_segments);
    s->sectors = 0;
    for (uint32_t i = 0; i < s->segments; i++) {
        uint32_t first = (uint32_t)(next_random(r) % steps);
        uint32_t last = first + (uint32_t)(next_random(r) % (steps - first));

        if (next_random(r) % 4) { /* mostly whole pages */
            first = 0;
            last = steps - 1;
        }
        s->segment[i].first = (uint8_t)(first * align);
        s->segment[i].last = (uint8_t)(last * align + align - 1);
        s->segment[i].ref = s->op == BLKIF_OP_READ ? s->writable[i] : s->readonly[i];
        s->sectors += (uint32_t)s->segment[i].last - s->segment[i].first + 1;
    }
    s->sector = next_random(r) % ((r->e->sectors - s->sectors) / align + 1) * align;
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

static void fill(struct run *r, uint8_t *p, size_t size)
{
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t v = next_random(r);

        memcpy(p + i, &v, 8);
    }
}

static void prepare_data(struct run *r, struct slot *s)
{
    uint8_t *model = r->e->model + s->sector * FRONT_SECTOR;

    for (uint32_t i = 0; i < s->segments; i++) {
        size_t start = s->segment[i].first * (size_t)FRONT_SECTOR;
        size_t size = (size_t)(s->segment[i].last - s->segment[i].first + 1) * FRONT_SECTOR;

        memset(s->page[i], POISON, HV_PAGE);
        if (s->op == BLKIF_OP_READ)
            continue;
        fill(r, s->page[i] + start, size);
        if (!r->e->tolerate_errors) {
            memcpy(model, s->page[i] + start, size);
            model += size;
        }
    }
}

static bool issue(struct run *r, uint32_t index)
{
    struct slot *s = &r->slots[index];
    struct front_request request;

    s->op = choose_op(r);
    s->segments = s->sectors = 0;
    s->sector = 0;
    if (s->op != BLKIF_OP_FLUSH_DISKCACHE) {
        choose_extent(r, s);
        if (overlaps(r, s))
            return false;
        prepare_data(r, s);
    }
    s->id = next_random(r) << 16 | index;
    request = (struct front_request){.id = s->id,
                                     .op = s->op,
                                     .byte1 = (uint8_t)s->segments,
                                     .sector = s->sector,
                                     .segments = s->segments,
                                     .segment = s->segment};
    if (front_put(r->q, &request))
        return false;
    s->order = r->issued++;
    s->busy = true;
    r->busy++;
    return true;
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
    const uint8_t *model = r->e->model + s->sector * FRONT_SECTOR;

    for (uint32_t i = 0; i < s->segments; i++) {
        size_t start = s->segment[i].first * (size_t)FRONT_SECTOR;
        size_t end = (s->segment[i].last + 1u) * (size_t)FRONT_SECTOR;

        if (memcmp(s->page[i] + start, model, end - start) != 0)
            return complain(r, "data differs in segment", s, i);
        if (!poisoned(s->page[i], start) || !poisoned(s->page[i] + end, HV_PAGE - end))
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
    e->reordered += s->order < r->last_order;
    r->last_order = s->order;
}

/* With errors tolerated the model takes a write only when it is answered: a failed one leaves the
 * sectors unknown. */
static void apply_write(struct run *r, const struct slot *s)
{
    uint8_t *model = r->e->model + s->sector * FRONT_SECTOR;

    for (uint32_t i = 0; i < s->segments; i++) {
        size_t start = s->segment[i].first * (size_t)FRONT_SECTOR;
        size_t size = (size_t)(s->segment[i].last - s->segment[i].first + 1) * FRONT_SECTOR;

        memcpy(model, s->page[i] + start, size);
        model += size;
    }
}

static int finish(struct run *r, const struct front_response *response)
{
    uint32_t index = response->id & 0xffff;
    struct slot *s = index < r->e->depth ? &r->slots[index] : NULL;

    if (!s || !s->busy || s->id != response->id)
        return complain(r, "response with an id that is not in flight", s, response->id);
    s->busy = false;
    r->busy--;
    r->done++;
    if (response->op != s->op)
        return complain(r, "response with another operation", s, response->op);
    if (response->status != BLKIF_RSP_OKAY) {
        r->e->errors++;
        return r->e->tolerate_errors ? 0 : complain(r, "status", s, (uint64_t)response->status);
    }
    count(r, s);
    if (s->op == BLKIF_OP_READ)
        return check_read(r, s);
    if (r->e->tolerate_errors)
        apply_write(r, s);
    return 0;
}

static int reap(struct run *r)
{
    struct front_response response;
    int err = 0;

    while (!err && front_take(r->q, &response))
        err = finish(r, &response);
    return err;
}

static int turn(struct run *r)
{
    bool put = false;

    for (uint32_t i = 0; i < r->e->depth && r->issued < r->e->requests; i++)
        if (!r->slots[i].busy)
            put |= issue(r, i);
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

int front_exercise(struct front_queue *q, struct front_exercise *e)
{
    struct run r = {.q = q, .e = e, .random = e->seed * 0x9e3779b97f4a7c15u | 1};
    int err, mapped;

    if (e->max_segments > FRONT_MAX_SEGMENTS || e->max_segments == 0 || e->depth == 0 ||
        e->depth > FRONT_MAX_SLOTS || e->sectors < (uint64_t)e->max_segments * SECTORS_PER_PAGE ||
        SECTORS_PER_PAGE % e->alignment)
        return -EINVAL;
    r.slots = calloc(e->depth, sizeof(*r.slots));
    if (!r.slots)
        return -ENOMEM;
    err = grant_pages(&r);
    while (!err && (r.issued < e->requests || r.busy))
        err = turn(&r);
    if (!err && reap(&r))
        err = -EIO;
    mapped = end_grants(&r);
    if (!err && mapped)
        err = complain(&r, "pages still mapped after the responses", NULL, (uint64_t)mapped);
    free(r.slots);
    return err;
}
