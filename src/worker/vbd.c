/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk in its worker: see vbd.h. */
#include "vbd.h"

#include "blkback/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FENCE_RETRY_MS 20U
#define FLUSH_RETRY_MS 1000U
#define WHY_MAX        200U
#define RING_ORDER_MAX 5U

_Static_assert(1U << RING_ORDER_MAX == STATE_MAX_RING_PAGES, "as many pages as a message names");

/* A connected ring. */
struct vbd_queue {
    struct loop_source event; /* first: the loop's callback casts back */
    struct vbd *vbd;
    struct queue *queue; /* NULL: not connected */
    void *pages;
    unsigned page_count;
};

struct vbd {
    struct vbd *next;
    struct worker *worker;
    uint32_t number;
    struct worker_open_store parameters;
    int image_fd; /* until the store owns it */
    struct slab slab;
    struct store *store;
    struct overlap_table *overlaps;
    struct vbd_queue queues[STATE_MAX_QUEUES];
    struct loop_timer fence_timer;
    struct loop_timer flush_timer;
    struct log_limit log_limit;
    bool disconnecting; /* DRAINED is owed */
    bool closing;       /* STORE_CLOSED is owed */
};

struct vbd *vbd_find(const struct worker *worker, uint32_t number)
{
    struct vbd *vbd = worker->vbds;

    while (vbd && vbd->number != number)
        vbd = vbd->next;
    return vbd;
}

static void forget(struct vbd *vbd)
{
    for (struct vbd **at = &vbd->worker->vbds; *at; at = &(*at)->next)
        if (*at == vbd) {
            *at = vbd->next;
            break;
        }
    loop_stop_timer(&vbd->worker->loop, &vbd->fence_timer);
    loop_stop_timer(&vbd->worker->loop, &vbd->flush_timer);
    store_close(vbd->store);
    if (vbd->image_fd >= 0)
        (void)close(vbd->image_fd);
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
    struct vbd *vbd = context;

    log_limited(&vbd->log_limit, LOG_LEVEL_WARNING, "domain %u %s: %s at sector %llu failed: %s",
                vbd->worker->domid, vbd->parameters.vdev, operation == IO_READ ? "read" : "write",
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
    if (retry && !vbd->flush_timer.armed)
        loop_start_timer(&vbd->worker->loop, &vbd->flush_timer, FLUSH_RETRY_MS);
}

static void retry_flush(struct loop_timer *timer)
{
    struct vbd *vbd = (struct vbd *)((char *)timer - offsetof(struct vbd, flush_timer));

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            queue_retry_flush(vbd->queues[i].queue);
}

static unsigned in_flight(const struct vbd *vbd)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].queue)
            sum += queue_in_flight(vbd->queues[i].queue);
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

        forget(vbd);
        worker_send(worker, &closed);
    } else if (vbd->disconnecting) {
        const struct worker_message drained = worker_message(WORKER_DRAINED, vbd->number);

        vbd->disconnecting = false;
        worker_send(vbd->worker, &drained);
    }
}

static void drained(void *context)
{
    struct vbd *vbd = context;

    if (in_flight(vbd) == 0)
        finish_disconnect(vbd);
}

static const struct queue_events queue_events = {
    .ring_broken = ring_broken,
    .io_failed = io_failed,
    .flush_failed = flush_failed,
    .drained = drained,
};

/* ---- opening ---- */

static const struct engine_ops *engine_named(uint32_t engine)
{
    switch ((enum worker_engine)engine) {
    case WORKER_ENGINE_URING:
        return &engine_uring;
    case WORKER_ENGINE_AIO:
        return &engine_aio;
    case WORKER_ENGINE_INLINE:
        return &engine_inline;
    case WORKER_ENGINE_AUTO:
        break;
    }
    return NULL;
}

static void open_store(struct vbd *vbd)
{
    const struct worker_open_store *wanted = &vbd->parameters;
    const struct store_driver *driver =
        wanted->kind == WORKER_STORE_NULL ? &store_null : &store_file;
    const struct store_params params = {
        .fd = vbd->image_fd,
        .read_only = wanted->read_only,
        .direct = wanted->direct,
        .sector_size = wanted->sector_size,
        .size = wanted->size,
        .engine = engine_named(wanted->engine),
        .engines = &vbd->worker->engines,
    };
    char why[WHY_MAX] = "";
    const int error = driver->open(&params, why, sizeof(why), &vbd->store);

    if (error) {
        worker_send_text(vbd->worker, WORKER_STORE_FAILED, vbd->number, error, "%s", why);
        forget(vbd);
        return;
    }
    vbd->image_fd = -1;
    const struct store_caps *caps = &vbd->store->caps;
    struct worker_message opened = worker_message(WORKER_STORE_OPENED, vbd->number);

    opened.u.store_opened = (struct worker_store_opened){
        .size = caps->size,
        .sector_size = caps->sector_size,
        .physical_sector_size = caps->physical_sector_size,
        .read_only = caps->read_only,
        .flush = caps->flush,
        .direct = caps->direct,
    };
    (void)strncpy(opened.u.store_opened.engine, caps->engine,
                  sizeof(opened.u.store_opened.engine) - 1);
    worker_send(vbd->worker, &opened);
}

/*
 * The fence: a lock byte on the description that our I/O will use. It is free only when all I/O of
 * a predecessor, which held it through its own description, is over. Tried again by a timer, so
 * that other disks go on.
 */
static void take_fence(struct vbd *vbd)
{
    const struct worker_open_store *wanted = &vbd->parameters;
    const int fd = wanted->kind == WORKER_STORE_NULL ? vbd->slab.fd : vbd->image_fd;
    const int error = wanted->fence && !wanted->read_only
                          ? image_lock(fd, image_fence_offset(wanted->domid, wanted->devid), true)
                          : 0;

    if (error == -EAGAIN) {
        loop_start_timer(&vbd->worker->loop, &vbd->fence_timer, FENCE_RETRY_MS);
    } else if (error) {
        worker_send_text(vbd->worker, WORKER_STORE_FAILED, vbd->number, error,
                         "can't lock the image: %s", strerror(-error));
        forget(vbd);
    } else {
        open_store(vbd);
    }
}

static void retry_fence(struct loop_timer *timer)
{
    take_fence((struct vbd *)((char *)timer - offsetof(struct vbd, fence_timer)));
}

/* Takes over the descriptors of the message: the image's first, unless the store has none, then the
 * slab's. */
static int adopt_descriptors(struct vbd *vbd, int *fds)
{
    const bool has_image = vbd->parameters.kind != WORKER_STORE_NULL;
    int *slab_fd = has_image ? &fds[1] : &fds[0];

    if (fds[0] < 0 || *slab_fd < 0)
        return -EBADF;
    const int error = slab_open(*slab_fd, &vbd->slab);

    if (error)
        return error;
    *slab_fd = -1;
    if (has_image) {
        vbd->image_fd = fds[0];
        fds[0] = -1;
    }
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
    vbd->parameters.vdev[sizeof(vbd->parameters.vdev) - 1] = '\0';
    vbd->image_fd = -1;
    vbd->fence_timer.fire = retry_fence;
    vbd->flush_timer.fire = retry_flush;
    vbd->next = worker->vbds;
    worker->vbds = vbd;
    int error = adopt_descriptors(vbd, fds);

    if (!error)
        error = overlap_table_create(&vbd->overlaps);
    if (error) {
        worker_send_text(worker, WORKER_STORE_FAILED, vbd->number, error,
                         "can't set up the state file: %s", strerror(-error));
        forget(vbd);
        return;
    }
    take_fence(vbd);
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
    return vbd->store && !vbd->closing && !vbd->disconnecting && wanted->queue < STATE_MAX_QUEUES &&
           !vbd->queues[wanted->queue].queue && wanted->abi < BLKIF_ABIS &&
           wanted->ring_order <= RING_ORDER_MAX;
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
                         error == -EPROTO ? "req_prod is out of range" : strerror(-error));
        return;
    }
    struct worker_message connected = worker_message(WORKER_QUEUE_CONNECTED, vbd->number);

    connected.u.connect_queue.queue = wanted->queue;
    worker_send(vbd->worker, &connected);
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

void vbd_disconnect(struct vbd *vbd)
{
    const struct worker_message disconnected = worker_message(WORKER_DISCONNECTED, vbd->number);

    if (vbd->closing)
        return;
    release_rings(vbd);
    worker_send(vbd->worker, &disconnected);
    vbd->disconnecting = true;
    if (in_flight(vbd) == 0)
        finish_disconnect(vbd);
}

void vbd_close(struct vbd *vbd)
{
    release_rings(vbd);
    vbd->closing = true;
    if (in_flight(vbd) == 0)
        finish_disconnect(vbd);
}
