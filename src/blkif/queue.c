/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue's life and its passes over the ring: see queue.h. */
#include "queue_internal.h"

#include "lazy_memory.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define SECTOR_BYTES 512U

/* Rounds in one pass: enough for I/O that is over at once to be answered in it, few enough to be
 * fair to other queues. */
#define ROUNDS_PER_PASS 4

int overlap_table_create(bool threads, struct overlap_table **out)
{
    struct overlap_table *table = calloc(1, sizeof(*table));

    if (!table)
        return -ENOMEM;
    table->shared = threads;
    (void)pthread_mutex_init(&table->lock, NULL);
    *out = table;
    return 0;
}

void overlap_table_destroy(struct overlap_table *table)
{
    if (!table)
        return;
    (void)pthread_mutex_destroy(&table->lock);
    free(table);
}

/* Another queue's write ended, on whatever thread. */
static void range_given_back(struct overlap_waiter *waiter)
{
    struct queue *queue = (struct queue *)((char *)waiter - offsetof(struct queue, overlap_waiter));

    queue->turn->wake(queue->turn);
}

static void io_done(struct io *io)
{
    struct request *request = (struct request *)((char *)io - offsetof(struct request, io));
    struct queue *queue = request->queue;

    /* Of flushes that were in flight together one alone is told of a loss: none that came back with
     * it may be believed, whichever is looked at first. */
    if (io->operation == IO_FLUSH && io->result < 0 && !queue->disconnected)
        queue_note_loss(queue);
    request_list_push(&queue->returned, request);
    turn_mark_ready(queue);
}

static int create_requests(struct queue *queue)
{
    const uint32_t capacity = queue->journal.capacity;
    const uint32_t segments = queue->journal.segments_per_entry;
    const uint32_t buffers = request_buffers((uint64_t)segments * GNTTAB_PAGE_SIZE);
    const uint32_t iovs = queue->persistent && !queue->copy_mapped ? segments : buffers;

    queue->requests = calloc(capacity, sizeof(*queue->requests));
    queue->answers = calloc(capacity, sizeof(*queue->answers));
    queue->staged = calloc(capacity, sizeof(*queue->staged));
    queue->iov_bytes = (size_t)capacity * iovs * sizeof(*queue->iov);
    queue->iov = lazy_memory_get(queue->iov_bytes);
    queue->places_bytes = (size_t)capacity * buffers * sizeof(*queue->buffer_places);
    queue->buffer_places = lazy_memory_get(queue->places_bytes);
    if (!queue->requests || !queue->answers || !queue->staged || !queue->iov ||
        !queue->buffer_places)
        return -ENOMEM;
    for (uint32_t tag = 0; tag < capacity; tag++) {
        struct request *request = &queue->requests[tag];

        request->queue = queue;
        request->tag = (uint16_t)tag;
        request->entry = journal_entry(&queue->journal, tag);
        request->segments = journal_extent(&queue->journal, tag);
        request->iov = &queue->iov[(size_t)tag * iovs];
        request->buffers = &queue->buffer_places[(size_t)tag * buffers];
        request->io.done = io_done;
        request->io.engines = queue->turn->engines;
    }
    return 0;
}

/* What the store says, and may say anew when it is changed or has grown. */
static void limits_from_store(struct queue *queue, const struct store_caps *caps)
{
    queue->limits.sectors = caps->size / SECTOR_BYTES;
    queue->limits.sector_units = caps->sector_size / SECTOR_BYTES;
    queue->limits.read_only = caps->read_only;
    queue->limits.discard_secure = queue->limits.discard && caps->discard_secure;
}

/* The journal, new or a predecessor's. The ring is attached. */
static int set_up_journal(struct queue *queue, const struct queue_params *params,
                          const struct journal_shape *shape, struct journal_recovered *recovered)
{
    const bool fresh = !params->recover || params->slab->header->queues[params->index].slots == 0;

    if (fresh)
        return journal_create(params->slab, params->index, shape, &queue->journal);
    const int error =
        journal_recover(params->slab, params->index, shape, &queue->journal, recovered);

    return error ? error : ring_resume(&queue->ring, recovered->req_cons);
}

static int set_up(struct queue *queue, const struct queue_params *params)
{
    struct journal_recovered recovered = {0};
    int error = ring_init(&queue->ring, params->ring_pages, params->abi, params->ring_order);

    if (error)
        return error;
    queue->limits = (struct decode_limits){
        .abi = params->abi,
        .max_segments = params->max_segments,
        .max_indirect_segments = params->max_indirect_segments,
        .discard = params->discard,
    };
    limits_from_store(queue, &params->store->caps);
    const struct journal_shape shape = {
        .slots = queue->ring.count,
        .start = queue->ring.req_cons,
        .requests =
            params->max_requests < queue->ring.count ? params->max_requests : queue->ring.count,
        .segments = params->max_segments > params->max_indirect_segments
                        ? params->max_segments
                        : params->max_indirect_segments,
    };

    error = set_up_journal(queue, params, &shape, &recovered);
    if (!error)
        queue->statistics = &queue->journal.queue->statistics;
    if (!error)
        queue->statistics->mapped_grants = 0;
    if (!error && params->persistent)
        error = persistent_create(params->turn->gnttab, params->turn->domid, params->turn->budget,
                                  queue->statistics, &queue->persistent);
    if (!error)
        error = merger_create(queue, shape.requests, &queue->merger);
    if (!error)
        error = create_requests(queue);
    if (!error && recovered.tags)
        error = queue_recover(queue, &recovered);
    free(recovered.tags);
    return error;
}

static bool acceptable(const struct queue_params *params)
{
    return params->max_requests > 0 && params->max_segments > 0 &&
           params->max_segments <= BLKIF_MULTI_BLOCK_MAX &&
           params->max_indirect_segments <= BLKIF_MAX_INDIRECT_SEGMENTS;
}

/* One that could never have its data's buffers would wait for ever. */
static bool largest_fits(const struct queue_params *params)
{
    const uint32_t segments = params->max_segments > params->max_indirect_segments
                                  ? params->max_segments
                                  : params->max_indirect_segments;

    return request_buffers((uint64_t)segments * GNTTAB_PAGE_SIZE) <=
           buffer_pool_count(params->turn->buffers);
}

int queue_connect(const struct queue_params *params, struct queue **out)
{
    if (!acceptable(params))
        return -EINVAL;
    if (!largest_fits(params))
        return -ENOBUFS;
    struct queue *queue = calloc(1, sizeof(*queue));

    if (!queue)
        return -ENOMEM;
    queue->turn = params->turn;
    queue->store = params->store;
    queue->overlaps = params->overlaps;
    queue->overlap_waiter.wake = range_given_back;
    queue->limit = params->limit;
    queue->events = params->events;
    queue->context = params->context;
    queue->storm.max_delay_ms = params->max_event_delay_ms;
    queue->work_per_turn = params->work_per_turn;
    queue->copy_mapped = params->copy_mapped;
    const int error = set_up(queue, params);

    if (error) {
        queue_destroy(queue);
        return error;
    }
    queue->evtchn = params->evtchn;
    queue->held = params->recover;
    queue->turn->queues++;
    queue_set_weight(queue, params->weight);
    turn_mark_ready(queue);
    *out = queue;
    return 0;
}

void queue_on_event(struct queue *queue)
{
    if (queue->disconnected || evtchn_take(queue->evtchn) < 0)
        return;
    queue->statistics->wakeups++;
    queue->masked = true;
    turn_mark_ready(queue);
}

/* Whether the frontend may send its next event, now that nothing is left to do for the last one. */
static bool may_unmask(struct queue *queue)
{
    if (queue->delayed && !queue->fruitful)
        return false;
    if (queue->fruitful || queue->delay_over) {
        if (queue->fruitful)
            event_storm_worked(&queue->storm);
        queue->fruitful = false;
        queue->delayed = false;
        queue->delay_over = false;
        return true;
    }
    queue->statistics->fruitless_events++;
    const uint32_t delay =
        queue->storm.max_delay_ms ? event_storm_fruitless(&queue->storm, queue->turn->now_ms()) : 0;

    if (delay == 0)
        return true;
    queue->statistics->events_delayed++;
    queue->delayed = true;
    queue->events->delay_events(queue->context, delay);
    return false;
}

void queue_end_delay(struct queue *queue)
{
    if (!queue->delayed || queue->disconnected)
        return;
    queue->delayed = false;
    queue->delay_over = true;
    turn_mark_ready(queue);
}

/* With no entry free nothing could be taken: a completion comes first, and the next pass after it
 * arms. With requests left in the ring for the limit's sake it is time that wakes it. */
static bool may_take(const struct queue *queue)
{
    return !queue->broken && !queue_blocked(queue) && !queue->held && !queue->limited &&
           journal_free_entries(&queue->journal) > 0;
}

bool queue_has_requests(const struct queue *queue)
{
    return may_take(queue) && ring_has_more(&queue->ring, queue->incomplete);
}

void queue_wait(struct queue *queue)
{
    if (!may_take(queue))
        return;
    if (queue->turn->polling) {
        turn_mark_unarmed(queue);
        return;
    }
    if (queue->masked && may_unmask(queue)) {
        queue->masked = false;
        (void)evtchn_unmask(queue->evtchn);
    }
    if (ring_arm(&queue->ring, queue->incomplete))
        turn_mark_ready(queue);
}

/* Returns how many it held. */
static unsigned release_all(struct queue *queue, struct request_list *list)
{
    struct request *request;
    unsigned count = 0;

    for (; (request = request_list_pop(list)); count++)
        queue_release(queue, request);
    return count;
}

static void discard_returned(struct queue *queue)
{
    const unsigned over = release_all(queue, &queue->returned);

    queue->submitted -= over;
    if (over && queue->submitted == 0)
        queue->events->drained(queue->context);
}

/* As often as what one round has started may be over by the next. Returns whether the pass ended
 * for want of time, with work left. */
static bool do_rounds(struct queue *queue)
{
    for (int round = 0; round < ROUNDS_PER_PASS; round++) {
        queue_handle_returned(queue);
        queue_publish(queue);
        queue_take(queue);
        queue_dispatch(queue);
        if (!queue_has_time(queue)) {
            queue_publish(queue);
            return true;
        }
        if (!queue->returned.first && queue->answer_count == 0)
            break;
    }
    return false;
}

void queue_pump(struct queue *queue)
{
    const uint32_t published_before = queue->ring.rsp_published;
    const bool was_unfinished = queue->started > 0;

    if (queue->disconnected) {
        discard_returned(queue);
        return;
    }
    queue->statistics->passes++;
    queue_resubmit(queue);
    const bool limited = do_rounds(queue);
    if (queue->must_notify || (queue->ring.rsp_published != published_before &&
                               ring_must_notify(&queue->ring, published_before))) {
        queue->must_notify = false;
        queue->statistics->notifications++;
        (void)evtchn_notify(queue->evtchn);
    }
    queue->statistics->passes_limited += limited;
    queue_end_work(queue, queue->returned.first || queue->answer_count);
    if (queue->returned.first || queue->answer_count || limited)
        turn_mark_ready(queue);
    else
        queue_wait(queue);
    if ((queue->held && was_unfinished && queue->started == 0) ||
        (queue->finishing && queue_idle(queue)))
        queue->events->quiet(queue->context);
}

/* No I/O in flight reaches the pages that are mapped for it: it needs them no more. */
static void put_all_mapped(struct queue *queue)
{
    for (uint32_t tag = 0; tag < queue->journal.capacity; tag++) {
        struct request *request = &queue->requests[tag];

        if (request->mapped)
            persistent_put(queue->persistent, request);
        request->mapped = false;
    }
}

void queue_disconnect(struct queue *queue)
{
    if (queue->disconnected)
        return;
    queue->disconnected = true;
    queue->turn->queues--;
    queue->turn->weights -= queue->weight;
    overlap_forget(queue->overlaps, &queue->overlap_waiter);
    turn_forget(queue);
    (void)release_all(queue, &queue->waiting);
    (void)release_all(queue, &queue->unsubmitted);
    queue->submitted -= release_all(queue, &queue->returned);
    if (queue->persistent && queue->copy_mapped)
        put_all_mapped(queue);
    /* I/O in flight may still reach the others: they are unmapped when it is over. */
    if (queue->persistent)
        persistent_release(queue->persistent);
    evtchn_close(queue->evtchn);
    queue->evtchn = NULL;
    queue->ring.shared = NULL; /* the owner unmaps it */
}

bool queue_idle(const struct queue *queue)
{
    uint32_t available = 0;

    if (queue->broken || queue->disconnected)
        return true;
    /* `started` counts what waits for the store; `waiting` what waits to start, and to be tried
     * again. */
    return queue->started == 0 && !queue->waiting.first && queue->answer_count == 0 &&
           ring_available(&queue->ring, &available) == 0 && available == queue->incomplete;
}

void queue_set_weight(struct queue *queue, uint32_t weight)
{
    if (weight == 0)
        weight = QUEUE_WEIGHT_STANDARD;
    if (weight > QUEUE_WEIGHT_MAX)
        weight = QUEUE_WEIGHT_MAX;
    if (queue->disconnected)
        return;
    queue->turn->weights += weight - queue->weight;
    queue->weight = weight;
}

void queue_finish_all(struct queue *queue)
{
    queue->finishing = true;
    turn_mark_ready(queue);
}

void queue_hold(struct queue *queue)
{
    queue->held = true;
}

void queue_resume(struct queue *queue, struct store *store)
{
    queue->held = false;
    queue->store = store;
    limits_from_store(queue, &store->caps);
    turn_mark_ready(queue);
}

bool queue_trim(struct queue *queue)
{
    return queue->persistent && !queue->disconnected && persistent_trim(queue->persistent);
}

unsigned queue_in_flight(const struct queue *queue)
{
    return queue->submitted;
}

unsigned queue_unfinished(const struct queue *queue)
{
    return queue->disconnected ? queue->submitted : queue->started;
}

void queue_destroy(struct queue *queue)
{
    if (!queue)
        return;
    if (queue->evtchn)
        queue_disconnect(queue);
    turn_forget(queue);
    persistent_destroy(queue->persistent);
    merger_destroy(queue->merger);
    journal_destroy(&queue->journal);
    free(queue->requests);
    free(queue->answers);
    free(queue->staged);
    lazy_memory_put(queue->iov, queue->iov_bytes);
    lazy_memory_put(queue->buffer_places, queue->places_bytes);
    free(queue);
}
