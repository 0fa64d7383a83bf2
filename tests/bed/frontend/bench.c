/* SPDX-License-Identifier: BSD-2-Clause */
/* I/O of one size at a given depth for a given time: how many, how long each took. */
#include "front.h"
#include "hv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define BUCKETS_PER_OCTAVE 16u
#define BUCKETS            (48u * BUCKETS_PER_OCTAVE)

struct io {
    uint32_t pending; /* requests not answered; 0: idle */
    uint64_t start;
    uint32_t *ref;
    uint32_t *list; /* pages of segments, one for each indirect request */
};

struct run {
    struct front_queue *q;
    struct front_bench *b;
    struct io *ios;
    uint32_t pages, requests_per_io, busy;
    uint64_t random, position, end, sum;
    uint64_t bucket[BUCKETS];
};

static uint64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint32_t bucket_of(uint64_t ns)
{
    uint32_t octave = ns ? 63u - (uint32_t)__builtin_clzll(ns) : 0;
    uint64_t rest = octave >= 4 ? (ns >> (octave - 4)) & 15 : 0;

    return octave * BUCKETS_PER_OCTAVE + (uint32_t)rest;
}

static double bucket_us(uint32_t bucket)
{
    uint32_t octave = bucket / BUCKETS_PER_OCTAVE, rest = bucket % BUCKETS_PER_OCTAVE;

    return (double)(1ull << octave) * (1.0 + rest / 16.0) / 1000.0;
}

static uint64_t next_sector(struct run *r)
{
    uint64_t per_io = r->b->size / FRONT_SECTOR, places = r->b->sectors / per_io;

    if (r->b->sequential)
        return r->position++ % places * per_io;
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random % places * per_io;
}

static void make_indirect(const struct run *r, uint32_t ref, struct front_request *request)
{
    memcpy(bed_page(front_queue_domid(r->q), ref), request->segment,
           request->segments * sizeof(request->segment[0]));
    request->byte1 = request->op;
    request->handle = (uint16_t)request->segments;
    request->op = BLKIF_OP_INDIRECT;
    request->indirect_refs = 1;
    request->indirect_ref[0] = ref;
}

static void issue(struct run *r, uint32_t index, uint64_t when)
{
    struct io *io = &r->ios[index];
    uint64_t sector = next_sector(r);
    struct front_segment segment[FRONT_MAX_SEGMENTS];

    io->start = when;
    io->pending = r->requests_per_io;
    r->busy++;
    for (uint32_t page = 0; page < r->pages; page += r->b->max_segments) {
        uint32_t n = r->pages - page < r->b->max_segments ? r->pages - page : r->b->max_segments;
        struct front_request request = {.id = index,
                                        .op = r->b->write ? BLKIF_OP_WRITE : BLKIF_OP_READ,
                                        .byte1 = (uint8_t)n,
                                        .sector = sector + (uint64_t)page * 8,
                                        .segments = n,
                                        .segment = segment};

        for (uint32_t i = 0; i < n; i++)
            segment[i] = (struct front_segment){.ref = io->ref[page + i], .first = 0, .last = 7};
        if (r->b->indirect && n > FRONT_SEGMENTS_PER_REQUEST)
            make_indirect(r, io->list[page / r->b->max_segments], &request);
        if (front_put(r->q, &request))
            r->b->errors++;
    }
}

static void reap(struct run *r)
{
    struct front_response response;
    uint64_t when = now();
    bool again = when < r->end, put = false;

    while (front_take(r->q, &response) > 0) {
        struct io *io = &r->ios[response.id];

        r->b->errors += response.status != BLKIF_RSP_OKAY;
        if (--io->pending)
            continue;
        r->busy--;
        r->b->ios++;
        r->sum += when - io->start;
        r->bucket[bucket_of(when - io->start)]++;
        if (again) {
            issue(r, (uint32_t)response.id, when);
            put = true;
        }
    }
    if (put)
        front_push(r->q);
}

static double percentile(const struct run *r, double p)
{
    uint64_t want = (uint64_t)((double)r->b->ios * p), seen = 0;

    for (uint32_t i = 0; i < BUCKETS; i++) {
        seen += r->bucket[i];
        if (seen > want)
            return bucket_us(i);
    }
    return 0;
}

static int grant_list(const struct run *r, uint32_t count, uint32_t **refs)
{
    int64_t ref = bed_grant(front_queue_domid(r->q), front_queue_backend(r->q), count, false);

    *refs = calloc(count, sizeof(uint32_t));
    if (!*refs || ref < 0)
        return ref < 0 ? (int)ref : -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        (*refs)[i] = (uint32_t)ref + i;
    return 0;
}

static int grant_pages(struct run *r)
{
    int err = 0;

    for (uint32_t i = 0; !err && i < r->b->depth; i++) {
        err = grant_list(r, r->pages, &r->ios[i].ref);
        if (!err)
            err = grant_list(r, r->requests_per_io, &r->ios[i].list);
    }
    return err;
}

static void end_list(const struct run *r, uint32_t count, uint32_t *refs)
{
    for (uint32_t i = 0; refs && i < count; i++)
        bed_grant_end(front_queue_domid(r->q), refs[i]);
    free(refs);
}

static void end_grants(struct run *r)
{
    for (uint32_t i = 0; i < r->b->depth; i++) {
        end_list(r, r->pages, r->ios[i].ref);
        end_list(r, r->requests_per_io, r->ios[i].list);
    }
}

static int measure(struct run *r)
{
    uint64_t start = now();

    r->end = start + r->b->milliseconds * 1000000ull;
    for (uint32_t i = 0; i < r->b->depth; i++)
        issue(r, i, start);
    front_push(r->q);
    while (r->busy) {
        if (front_wait(r->q, 10000) <= 0)
            return -ETIMEDOUT;
        reap(r);
    }
    r->b->nanoseconds = now() - start;
    return 0;
}

int front_bench(struct front_queue *q, struct front_bench *b)
{
    struct run *r;
    uint32_t slots;
    int err;

    if (b->max_segments > FRONT_MAX_SEGMENTS || b->size < HV_PAGE || b->size % HV_PAGE ||
        !b->depth || b->sectors < b->size / FRONT_SECTOR || !b->max_segments)
        return -EINVAL;
    r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    *r = (struct run){.q = q, .b = b, .pages = b->size / HV_PAGE, .random = b->seed | 1};
    r->requests_per_io = (r->pages + b->max_segments - 1) / b->max_segments;
    r->ios = calloc(b->depth, sizeof(*r->ios));
    err = r->ios ? 0 : -ENOMEM;
    slots = b->indirect ? 1 : front_slots_of(b->max_segments);
    if (!err && r->requests_per_io * b->depth * slots > front_queue_slots(q))
        err = -ENOSPC;
    if (!err)
        err = grant_pages(r);
    if (!err)
        err = measure(r);
    if (!err) {
        b->mean_us = b->ios ? (double)r->sum / (double)b->ios / 1000.0 : 0;
        b->p50_us = percentile(r, 0.50);
        b->p99_us = percentile(r, 0.99);
    }
    if (r->ios)
        end_grants(r);
    free(r->ios);
    free(r);
    return err;
}
