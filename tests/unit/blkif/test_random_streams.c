/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random streams of requests through a whole queue over random sets of features: every request is
 * answered exactly once with the status that it deserves, and every byte is compared.
 *
 * BLKBACK_STREAMS=N runs N streams instead of a few seconds' worth (each about 400 requests). A
 * failure names its stream's seed: BLKBACK_STREAM_SEED=SEED runs that one alone.
 */
#include "streams.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define STREAMS  150U
#define REQUESTS 400U

static uint64_t seed;
static struct stream stream;

/* Called by AddressSanitizer before it ends the program. */
void __asan_on_error(void);

static void say_seed(void)
{
    (void)fprintf(stderr, "to replay: BLKBACK_STREAM_SEED=%" PRIu64 "\n", seed);
}

void __asan_on_error(void)
{
    say_seed();
}

static _Noreturn void wrong(const struct stream_request *request, const char *what, uint64_t found)
{
    say_seed();
    if (request)
        print_error("queue %u id %" PRIx64 " operation %u sector %" PRIu64 " sectors %" PRIu64
                    " segments %u%s, to be answered %d\n",
                    request->queue, request->id, request->operation, request->sector,
                    request->sectors, request->segments, request->list_page ? " indirect" : "",
                    request->status);
    fail_msg("%s: %" PRIu64 " (%" PRIx64 ")", what, found, found);
    abort(); /* not reached */
}

static struct rig_options choose_options(void)
{
    static const uint32_t segments[] = {0, 0, 12, 25, 33, 128, 255};
    static const uint32_t indirect[] = {0, 0, 1, 32, 256};
    struct rig_options options = {
        .abi = (enum blkif_abi)stream_random(&stream, BLKIF_ABIS),
        .order = (uint32_t)stream_random(&stream, 4),
        .max_segments = segments[stream_random(&stream, 7)],
        .max_indirect_segments = indirect[stream_random(&stream, 5)],
        .start = (uint32_t)(UINT32_MAX - stream_random(&stream, 300)),
        .sector_size = stream_chance(&stream, 3) ? 4096 : 512,
        .discard = !stream_chance(&stream, 3),
        .discard_secure = stream_chance(&stream, 2),
        .read_only = stream_chance(&stream, 8),
    };

    if (stream_chance(&stream, 3)) {
        options.persistent = true;
        options.copy_mapped = stream_chance(&stream, 2);
        options.grant_budget = 16 + (uint32_t)stream_random(&stream, 1200);
    }
    if (stream_chance(&stream, 2))
        options.max_requests = 1 + (uint32_t)stream_random(&stream, 32);
    /* Few, but the largest request must fit. */
    if (stream_chance(&stream, 2))
        options.buffers = 16 + (unsigned)stream_random(&stream, 32);
    return options;
}

static void begin(void)
{
    memset(&stream, 0, sizeof(stream));
    stream.random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    const struct rig_options options = choose_options();

    stream.rig = rig_create(&options);
    stream.queues = 1;
    if (stream_chance(&stream, 2)) {
        rig_connect(stream.rig, 1);
        stream.queues = 2;
    }
    stream.rig->store.base.faults.pause_no_space = stream_chance(&stream, 2);
    stream.rig->store.base.faults.pause_error = stream_chance(&stream, 2);
    model_init(&stream.model, stream.rig->store.disk);
    if (stream_chance(&stream, 3))
        stream.rig->store.room = 1 + (unsigned)stream_random(&stream, 8);
    for (uint16_t page = 1; page < FAKE_PAGES; page++) /* 0 stands for none */
        stream.free_page[stream.free_pages++] = page;
}

/* Turns until there is nothing to do. A barrier takes several, but there is an end. */
static void settle(void)
{
    unsigned turns = 0;

    do {
        turn_run(&stream.rig->turn);
        if (++turns > 20 + 4 * stream.busy)
            wrong(NULL, "turns without an end", turns);
    } while (stream.rig->turn.ready);
}

/* A guest that changes its list of segments once the backend has it. */
static void scribble(void)
{
    for (unsigned queue = 0; queue < stream.queues; queue++)
        for (unsigned i = 0; i < STREAM_REQUESTS; i++) {
            struct stream_request *request = &stream.request[queue][i];
            const uint32_t taken = stream.rig->queue[queue]->ring.req_cons;

            if (!request->busy || !request->list_page || request->list_page >= FAKE_PAGES ||
                request->scribbled || (int32_t)(taken - request->last_slot) <= 0)
                continue;
            memset(fake_gnttab.pages[request->list_page], 0xff, GNTTAB_PAGE_SIZE);
            request->scribbled = true;
        }
}

static bool is_poison(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != STREAM_POISON)
            return false;
    return true;
}

static void check_read(const struct stream_request *request)
{
    uint64_t done = 0;

    for (unsigned i = 0; i < request->segments; i++) {
        const struct slab_segment *segment = &request->segment[i];
        const uint8_t *page = fake_gnttab.pages[segment->gref];
        const size_t start = segment->first_sector * 512U, end = (segment->last_sector + 1U) * 512U;

        for (size_t at = start; at < end; at += 512, done++)
            if (!model_plausible(&stream.model, page + at, request->sector + done,
                                 request->before[done], request->issued_at))
                wrong(request, "read what is not there, at", done);
        if (!is_poison(page, start) || !is_poison(page + end, GNTTAB_PAGE_SIZE - end))
            wrong(request, "bytes beside a segment changed, segment", i);
    }
}

static struct stream_request *request_of(unsigned queue, const struct rig_response *response)
{
    const uint64_t index = response->id % FRONT_IDS;

    if (index >= STREAM_REQUESTS || !stream.request[queue][index].busy ||
        stream.request[queue][index].id != response->id)
        wrong(NULL, "an answer to nothing", response->id);
    return &stream.request[queue][index];
}

static void take_answers(unsigned queue)
{
    struct rig_response response;

    while (front_take(&stream.rig->front[queue], &response)) {
        struct stream_request *request = request_of(queue, &response);

        if (response.operation != request->operation)
            wrong(request, "another operation", response.operation);
        if (response.status != request->status)
            wrong(request, "another status", (uint64_t)(int64_t)response.status);
        if (request->change)
            model_end(&stream.model, request->change, response.status != BLKIF_RSP_OKAY);
        else if (request->operation == BLKIF_OP_READ && response.status == BLKIF_RSP_OKAY)
            check_read(request);
        stream_release(&stream, request);
        stream.answered++;
    }
}

/* The request whose I/O this is, to know what its answer must be when the I/O fails; NULL for the
 * I/O of several, which are then carried out one by one. */
static struct stream_request *request_of_io(const struct io *io)
{
    for (unsigned n = 0; n < stream.queues; n++) {
        const struct queue *queue = stream.rig->queue[n];

        for (uint32_t tag = 0; tag < queue->journal.capacity; tag++)
            if (&queue->requests[tag].io == io)
                return &stream.request[n][queue->requests[tag].entry->id % FRONT_IDS];
    }
    return NULL;
}

static void finish_one(void)
{
    struct fake_store *store = &stream.rig->store;

    if (store->held_count == 0)
        return;
    const unsigned index = (unsigned)stream_random(&stream, store->held_count);
    const struct io *io = store->held[index];
    const struct store_faults *faults = &store->base.faults;
    int result = !stream_chance(&stream, 25) ? 0 : stream_chance(&stream, 2) ? -EIO : -ENOSPC;

    if (result && io->operation == IO_DISCARD && stream_chance(&stream, 2))
        result = -ENOTSUP;
    struct stream_request *request = request_of_io(io);
    const bool waits = io->operation == IO_FLUSH ||
                       (result == -ENOSPC && io->operation != IO_READ ? faults->pause_no_space
                                                                      : faults->pause_error);

    if (result && request && (!waits || (result == -ENOTSUP && io->operation == IO_DISCARD)))
        request->status = result == -ENOTSUP ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR;
    fake_store_finish(store, index, result);
    stream.rig->turn.freed = true; /* as the worker says after it reaped */
}

static void retry(void)
{
    for (unsigned queue = 0; queue < stream.queues; queue++)
        queue_retry(stream.rig->queue[queue]);
}

static void put_some(void)
{
    const unsigned queue = (unsigned)stream_random(&stream, stream.queues);
    struct front *front = &stream.rig->front[queue];
    const uint32_t before = front->req_prod;

    for (unsigned n = 1 + (unsigned)stream_random(&stream, 12); n; n--)
        (void)stream_put(&stream, queue);
    /* The frontend may be interrupted between any two slots. */
    front_push_but(front, front->req_prod != before && stream_chance(&stream, 4)
                              ? (uint32_t)stream_random(&stream, front->req_prod - before)
                              : 0);
    if (stream_chance(&stream, 10))
        fake_gnttab.fail_next = 1;
    rig_event(stream.rig, queue);
}

static void step(bool more)
{
    for (unsigned queue = 0; queue < stream.queues; queue++) {
        if (!more || stream_chance(&stream, 3)) {
            front_push(&stream.rig->front[queue]);
            rig_event(stream.rig, queue);
        }
        if (!more || !stream_chance(&stream, 4))
            take_answers(queue);
    }
    if (more && stream_chance(&stream, 3))
        put_some();
    if (stream_chance(&stream, 2))
        settle();
    scribble();
    finish_one();
    if (!more || stream_chance(&stream, 8))
        retry();
    for (unsigned queue = 0; queue < stream.queues && stream_chance(&stream, 20); queue++)
        (void)queue_trim(stream.rig->queue[queue]);
}

/* With nothing under way nothing is held, and the disk is what was answered. */
static void check_rest(void)
{
    struct rig *rig = stream.rig;
    uint64_t sector;

    settle();
    for (unsigned queue = 0; queue < stream.queues; queue++) {
        if (rig->queue[queue]->journal.free_count != rig->queue[queue]->journal.capacity)
            wrong(NULL, "entries in use", queue);
        if (queue_in_flight(rig->queue[queue]))
            wrong(NULL, "I/O in flight", queue_in_flight(rig->queue[queue]));
        if (rig->front[queue].rsp_cons != rig->front[queue].req_prod)
            wrong(NULL, "slots are out of step", queue);
    }
    if (buffer_pool_free(rig->turn.buffers) != buffer_pool_count(rig->turn.buffers))
        wrong(NULL, "buffers in use", buffer_pool_free(rig->turn.buffers));
    for (unsigned i = 0; i < OVERLAP_BUCKETS; i++)
        if (rig->overlaps->near[i])
            wrong(NULL, "a range is held near", i);
    if (rig->broken)
        wrong(NULL, "a ring was given up", rig->broken);
    if (!model_settled(&stream.model, rig->store.disk, &sector))
        wrong(NULL, "the disk differs at sector", sector);
}

static void run_stream(void)
{
    begin();
    while (stream.issued < REQUESTS)
        step(true);
    for (unsigned steps = 0; stream.busy || stream.rig->store.held_count; steps++) {
        if (steps > 20000)
            wrong(NULL, "requests that are never answered", stream.busy);
        step(false);
    }
    if (stream.answered != stream.issued)
        wrong(NULL, "answers", stream.answered);
    check_rest();
    rig_destroy(stream.rig);
}

static void every_request_gets_the_answer_that_it_deserves(void **state)
{
    const char *replay = getenv("BLKBACK_STREAM_SEED"), *count = getenv("BLKBACK_STREAMS");
    const unsigned long long streams = count ? strtoull(count, NULL, 10) : STREAMS;
    (void)state;

    if (replay) {
        seed = strtoull(replay, NULL, 10);
        run_stream();
        return;
    }
    for (seed = 1; seed <= streams; seed++)
        run_stream();
}

/* A failure within the rig or the fakes does not go through wrong(). */
static int tear_down(void **state)
{
    (void)state;
    if (stream.busy)
        say_seed();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_request_gets_the_answer_that_it_deserves, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
