/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk in its worker: its life, and its rings. See vbd.h. */
#include "vbd_internal.h"

#include "blkback/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLUSH_RETRY_MS 1000U
#define RING_ORDER_MAX 5U

_Static_assert(1U << RING_ORDER_MAX == STATE_MAX_RING_PAGES, "as many pages as a message names");

struct vbd *vbd_find(const struct worker *worker, uint32_t number)
{
    struct vbd *vbd = worker->vbds;

    while (vbd && vbd->number != number)
        vbd = vbd->next;
    return vbd;
}

struct vbd *vbd_next(const struct vbd *vbd)
{
    return vbd->next;
}

void vbd_forget(struct vbd *vbd)
{
    for (struct vbd **at = &vbd->worker->vbds; *at; at = &(*at)->next)
        if (*at == vbd) {
            *at = vbd->next;
            break;
        }
    loop_stop_timer(&vbd->worker->loop, &vbd->flush_timer);
    vbd_store_abandon(vbd);
    store_close(vbd->store);
    overlap_table_destroy(vbd->overlaps);
    slab_close(&vbd->slab);
    free(vbd);
}

/* ---- what the queues report ---- */

static void ring_broken(void *context)
{
    struct vbd *vbd = context;

    log_limited(&vbd->log_limit, LOG_LEVEL_WARNING,
                "domain %u %s: the frontend broke its ring; it is served no more",
                vbd->worker->domid, vbd->parameters.vdev);
    worker_send_text(vbd->worker, WORKER_RING_BROKEN, vbd->number, -EPROTO,
                     "the frontend's req_prod is out of range");
}

static void io_failed(void *context, enum io_operation operation, uint64_t sector, int error)
{
    static const char *const names[] = {
        [IO_READ] = "read", [IO_WRITE] = "write", [IO_FLUSH] = "flush", [IO_DISCARD] = "discard"};
    struct vbd *vbd = context;

    log_limited(&vbd->log_limit, LOG_LEVEL_WARNING, "domain %u %s: %s at sector %llu failed: %s",
                vbd->worker->domid, vbd->parameters.vdev, names[operation],
                (unsigned long long)sector, strerror(-error));
}

static void flush_failed(void *context, int error)
{
    struct vbd *vbd = context;
    const bool retry = vbd->store->caps.direct;

    log_limited(&vbd->log_limit, LOG_LEVEL_ERROR,
                "domain %u %s: flush failed: %s; the disk is paused%s", vbd->worker->domid,
                vbd->parameters.vdev, strerror(-error), retry ? " and the flush tried again" : "");
    worker_send_text(vbd->worker, WORKER_STORE_ALERT, vbd->number, error, "flush failed: %s",
                     strerror(-error));
    /*
     * The page cache reports a write-back error once and forgets the data: trying again would
     * report a success that isn't one. Only with direct I/O does a later success mean that the data
     * is stable.
     */
    if (!retry)
        vbd_store_lost_data(vbd);
    else if (!vbd->flush_timer.armed)
        loop_start_timer(&vbd->worker->loop, &vbd->flush_timer, FLUSH_RETRY_MS);
    vbd_store_paused(vbd);
}

static void retry_flush(struct loop_timer *timer)
{
    struct vbd *vbd = (struct vbd *)((char *)timer - offsetof(struct vbd, flush_timer));

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            queue_retry_flush(vbd->queues[i].queue);
}

unsigned vbd_in_flight(const struct vbd *vbd)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            sum += queue_in_flight(vbd->queues[i].queue);
    return sum;
}

unsigned vbd_unfinished(const struct vbd *vbd)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            sum += queue_unfinished(vbd->queues[i].queue);
    return sum;
}

/* The rings are let go of and nothing is in flight: says so, and closes the store if it is to be
 * closed. */
static void finish_disconnect(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++) {
        queue_destroy(vbd->queues[i].queue);
        vbd->queues[i].queue = NULL;
    }
    slab_reset(&vbd->slab);
    if (vbd->closing) {
        struct worker *worker = vbd->worker;
        const struct worker_message closed = worker_message(WORKER_STORE_CLOSED, vbd->number);

        vbd_forget(vbd);
        worker_send(worker, &closed);
    } else if (vbd->disconnecting) {
        const struct worker_message drained = worker_message(WORKER_DRAINED, vbd->number);

        vbd->disconnecting = false;
        worker_send(vbd->worker, &drained);
        vbd_store_quiet(vbd);
    }
}

static void drained(void *context)
{
    struct vbd *vbd = context;

    if (vbd_in_flight(vbd) == 0)
        finish_disconnect(vbd);
}

void vbd_hold(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            queue_hold(vbd->queues[i].queue);
}

static void disconnect_when_idle(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue && !queue_idle(vbd->queues[i].queue))
            return;
    vbd_disconnect(vbd);
}

static void quiet(void *context)
{
    struct vbd *vbd = context;

    vbd_store_quiet(vbd);
    if (vbd->finishing)
        disconnect_when_idle(vbd);
    worker_leave_when_quiet(vbd->worker);
}

static const struct queue_events queue_events = {
    .ring_broken = ring_broken,
    .io_failed = io_failed,
    .flush_failed = flush_failed,
    .drained = drained,
    .quiet = quiet,
};

/* ---- opening ---- */

/* The slab's descriptor is the last of the message; the image's, if there is one, comes first. */
static int adopt_slab(struct vbd *vbd, int *fds)
{
    int *slab_fd = vbd->parameters.kind == WORKER_STORE_FILE ? &fds[1] : &fds[0];

    if (fds[0] < 0 || *slab_fd < 0)
        return -EBADF;
    const int error =
        vbd->parameters.adopt ? slab_adopt(*slab_fd, &vbd->slab) : slab_open(*slab_fd, &vbd->slab);

    if (error)
        return error;
    *slab_fd = -1;
    vbd->slab.header->store_paused = 0; /* until a flush fails again */
    return 0;
}

void vbd_open(struct worker *worker, const struct worker_message *message, int *fds)
{
    struct vbd *vbd = calloc(1, sizeof(*vbd));

    if (!vbd) {
        worker_send_text(worker, WORKER_STORE_FAILED, message->vbd, -ENOMEM, "out of memory");
        return;
    }
    vbd->worker = worker;
    vbd->number = message->vbd;
    vbd->parameters = message->u.open_store;
    vbd->opening.image_fd = -1;
    vbd->flush_timer.fire = retry_flush;
    vbd->next = worker->vbds;
    worker->vbds = vbd;
    int error = adopt_slab(vbd, fds);

    if (!error)
        error = overlap_table_create(&vbd->overlaps);
    if (error) {
        worker_send_text(worker, WORKER_STORE_FAILED, vbd->number, error,
                         "can't set up the state file: %s", strerror(-error));
        vbd_forget(vbd);
        return;
    }
    vbd_store_open(vbd, &message->u.open_store, fds);
}

/* ---- connecting ---- */

static void event_ready(struct loop_source *source)
{
    queue_on_event(((struct vbd_queue *)source)->queue);
}

static void unmap_ring(struct vbd_queue *mine)
{
    gnttab_unmap(mine->vbd->worker->gnttab, mine->pages, mine->page_count);
    mine->pages = NULL;
}

/* With the ring mapped: adopts the event channel and starts the queue. */
static int start_queue(struct vbd_queue *mine, const struct worker_connect_queue *wanted, int *fds)
{
    struct vbd *vbd = mine->vbd;
    struct queue_params params = {
        .turn = &vbd->worker->turn,
        .store = vbd->store,
        .slab = &vbd->slab,
        .overlaps = vbd->overlaps,
        .events = &queue_events,
        .context = vbd,
        .ring_pages = mine->pages,
        .index = wanted->queue,
        .abi = (enum blkif_abi)wanted->abi,
        .ring_order = wanted->ring_order,
        .max_requests = wanted->max_requests,
        .max_segments = wanted->max_segments,
        .max_indirect_segments = wanted->max_indirect_segments,
        .discard = vbd->parameters.discard && vbd->store->caps.discard,
        .persistent = wanted->persistent,
        .recover = wanted->recover,
    };
    int error = evtchn_adopt(fds[0], wanted->local_port, &params.evtchn);

    if (error)
        return error;
    fds[0] = -1;
    mine->event = (struct loop_source){.fd = evtchn_fd(params.evtchn), .ready = event_ready};
    error = queue_connect(&params, &mine->queue);
    if (error) {
        evtchn_close(params.evtchn);
        return error;
    }
    error = loop_add(&vbd->worker->loop, &mine->event);
    if (error) {
        queue_destroy(mine->queue);
        mine->queue = NULL;
    }
    return error;
}

static bool acceptable(const struct vbd *vbd, const struct worker_connect_queue *wanted)
{
    return vbd->store && !vbd->closing && !vbd->finishing && !vbd->disconnecting &&
           wanted->queue < STATE_MAX_QUEUES && !vbd->queues[wanted->queue].queue &&
           wanted->abi < BLKIF_ABIS && wanted->ring_order <= RING_ORDER_MAX;
}

static unsigned connected_queues(const struct vbd *vbd)
{
    unsigned count = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        count += vbd->queues[i].queue != NULL;
    return count;
}

void vbd_connect_queue(struct vbd *vbd, const struct worker_connect_queue *wanted, int *fds)
{
    if (!acceptable(vbd, wanted)) {
        worker_send_text(vbd->worker, WORKER_QUEUE_FAILED, vbd->number, -EINVAL,
                         "not now, or not such a queue");
        return;
    }
    struct vbd_queue *mine = &vbd->queues[wanted->queue];

    *mine = (struct vbd_queue){.vbd = vbd, .page_count = 1U << wanted->ring_order};
    int error = gnttab_map(vbd->worker->gnttab, vbd->worker->domid, wanted->ring_refs,
                           mine->page_count, &mine->pages);

    if (error) {
        worker_send_text(vbd->worker, WORKER_QUEUE_FAILED, vbd->number, error,
                         "can't map the ring: %s", strerror(-error));
        return;
    }
    error = start_queue(mine, wanted, fds);
    if (error) {
        unmap_ring(mine);
        worker_send_text(vbd->worker, WORKER_QUEUE_FAILED, vbd->number, error,
                         "can't start on the ring: %s",
                         error == -EPROTO ? "its counters are out of range" : strerror(-error));
        return;
    }
    struct worker_message connected = worker_message(WORKER_QUEUE_CONNECTED, vbd->number);

    if (vbd->opening.ready)
        queue_hold(mine->queue); /* until the other store is in its place */
    connected.u.connect_queue.queue = wanted->queue;
    worker_send(vbd->worker, &connected);
    vbd->recovering = wanted->recover && connected_queues(vbd) < wanted->queue_count;
    if (wanted->recover)
        vbd_store_resume(vbd);
}

/* ---- letting go ---- */

static void release_rings(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++) {
        struct vbd_queue *mine = &vbd->queues[i];

        if (!mine->pages)
            continue;
        loop_remove(&vbd->worker->loop, &mine->event);
        queue_disconnect(mine->queue);
        unmap_ring(mine);
    }
    loop_stop_timer(&vbd->worker->loop, &vbd->flush_timer);
}

bool vbd_trim(struct vbd *vbd)
{
    bool any = false;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            any |= queue_trim(vbd->queues[i].queue);
    return any;
}

void vbd_finish(struct vbd *vbd)
{
    if (vbd->closing || vbd->disconnecting)
        return;
    vbd->finishing = true;
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            queue_finish_all(vbd->queues[i].queue);
    disconnect_when_idle(vbd);
}

void vbd_disconnect(struct vbd *vbd)
{
    const struct worker_message disconnected = worker_message(WORKER_DISCONNECTED, vbd->number);

    if (vbd->closing)
        return;
    vbd->finishing = false;
    release_rings(vbd);
    worker_send(vbd->worker, &disconnected);
    vbd->disconnecting = true;
    if (vbd_in_flight(vbd) == 0)
        finish_disconnect(vbd);
}

void vbd_close(struct vbd *vbd)
{
    vbd->finishing = false;
    release_rings(vbd);
    vbd->closing = true;
    if (vbd_in_flight(vbd) == 0)
        finish_disconnect(vbd);
}
