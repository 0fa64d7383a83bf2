/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk in its worker: its life, and its rings. See vbd.h. */
#include "vbd_internal.h"

#include "blkback/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_ORDER_MAX 5U

_Static_assert(1U << RING_ORDER_MAX == STATE_MAX_RING_PAGES, "as many pages as a message names");

struct vbd *vbd_find(const struct worker *worker, uint32_t number)
{
    struct table_link *link = table_find(&worker->numbers, number);

    return link ? (struct vbd *)((char *)link - offsetof(struct vbd, by_number)) : NULL;
}

struct vbd *vbd_next(const struct vbd *vbd)
{
    return vbd->next;
}

void vbd_forget(struct vbd *vbd)
{
    table_remove(&vbd->by_number);
    if (vbd->next)
        vbd->next->at = vbd->at;
    *vbd->at = vbd->next;
    vbd_pause_end(vbd);
    vbd_store_abandon(vbd);
    store_close(vbd->store);
    overlap_table_destroy(vbd->overlaps);
    slab_close(&vbd->slab);
    worker_trim_later(vbd->worker);
    free(vbd);
}

/* ---- what the queues report ---- */

void vbd_ring_broken(struct vbd *vbd)
{
    log_limited(&vbd->log_limit, LOG_LEVEL_WARNING,
                "domain %u %s: the frontend broke its ring; it is served no more",
                vbd->worker->domid, vbd->vdev);
    worker_send_text(vbd->worker, WORKER_RING_BROKEN, vbd->number, -EPROTO,
                     "the frontend's req_prod is out of range");
}

unsigned vbd_in_flight(struct vbd *vbd)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            sum += vbd_queue_in_flight(&vbd->queues[i]);
    return sum;
}

unsigned vbd_unfinished(struct vbd *vbd)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            sum += vbd_queue_unfinished(&vbd->queues[i]);
    return sum;
}

/* The rings are let go of and nothing is in flight: says so, and closes the store if it is to be
 * closed. */
static void finish_disconnect(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            vbd_queue_destroy(&vbd->queues[i]);
    slab_reset(&vbd->slab);
    vbd->recovering = false;
    if (vbd->closing) {
        struct worker *worker = vbd->worker;
        const struct worker_message closed = worker_message(WORKER_STORE_CLOSED, vbd->number);

        vbd_forget(vbd);
        worker_send(worker, &closed);
    } else if (vbd->disconnecting) {
        const struct worker_message drained = worker_message(WORKER_DRAINED, vbd->number);

        vbd->disconnecting = false;
        if (vbd->store)
            vbd_pause_policy(vbd);
        worker_send(vbd->worker, &drained);
        vbd_store_quiet(vbd);
    }
}

void vbd_queue_drained(struct vbd *vbd)
{
    if ((vbd->disconnecting || vbd->closing) && vbd_in_flight(vbd) == 0)
        finish_disconnect(vbd);
}

void vbd_hold(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            vbd_queue_hold(&vbd->queues[i]);
}

static void release_rings(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        vbd_queue_disconnect(&vbd->queues[i]);
    vbd_pause_end(vbd);
}

static void let_go_of_rings(struct vbd *vbd)
{
    const struct worker_message disconnected = worker_message(WORKER_DISCONNECTED, vbd->number);

    if (vbd->closing)
        return;
    if (vbd->finishing)
        vbd_forget_loss(vbd);
    vbd->finishing = false;
    release_rings(vbd);
    worker_send(vbd->worker, &disconnected);
    vbd->disconnecting = true;
    if (vbd_in_flight(vbd) == 0)
        finish_disconnect(vbd);
}

static void disconnect_when_idle(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue && !vbd_queue_idle(&vbd->queues[i]))
            return;
    vbd->finished = true;
    let_go_of_rings(vbd);
}

void vbd_queue_quiet(struct vbd *vbd)
{
    vbd_store_quiet(vbd);
    if (vbd->finishing)
        disconnect_when_idle(vbd);
    worker_leave_when_quiet(vbd->worker);
}

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
    vbd->slab.header->store_paused = 0; /* until it fails again */
    vbd->log_limit.dropped = &vbd->slab.header->log_suppressed;
    log_limit_pace(&vbd->log_limit, vbd->parameters.log_lines_per_minute);
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
    memcpy(vbd->vdev, vbd->parameters.vdev, sizeof(vbd->vdev) - 1);
    vbd->opening.image_fd = -1;
    vbd_pause_init(vbd);
    vbd->next = worker->vbds;
    vbd->at = &worker->vbds;
    if (vbd->next)
        vbd->next->at = &vbd->next;
    worker->vbds = vbd;
    table_add(&worker->numbers, vbd->number, &vbd->by_number);
    int error = adopt_slab(vbd, fds);

    if (!error)
        error = overlap_table_create(worker->thread_count > 1, &vbd->overlaps);
    if (error) {
        worker_send_text(worker, WORKER_STORE_FAILED, vbd->number, error,
                         "can't set up the state file: %s", strerror(-error));
        vbd_forget(vbd);
        return;
    }
    vbd_store_open(vbd, &message->u.open_store, fds);
}

/* ---- connecting ---- */

static bool acceptable(const struct vbd *vbd, const struct worker_connect_queue *wanted)
{
    return vbd->store && !vbd->closing && !vbd->finishing && !vbd->disconnecting &&
           !(wanted->recover && vbd->opening.active) && wanted->queue < STATE_MAX_QUEUES &&
           !vbd->queues[wanted->queue].served.queue && wanted->abi < BLKIF_ABIS &&
           wanted->ring_order <= RING_ORDER_MAX;
}

static unsigned connected_queues(const struct vbd *vbd)
{
    unsigned count = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        count += vbd->queues[i].served.queue != NULL;
    return count;
}

void vbd_connect_queue(struct vbd *vbd, const struct worker_connect_queue *wanted, int *fds)
{
    vbd->finished = false;
    if (!acceptable(vbd, wanted)) {
        worker_send_text(vbd->worker, WORKER_QUEUE_FAILED, vbd->number, -EINVAL,
                         "not now, or not such a queue");
        return;
    }
    int error = vbd_queue_map(vbd, wanted);

    if (error) {
        worker_send_text(vbd->worker, WORKER_QUEUE_FAILED, vbd->number, error,
                         "can't map the ring: %s", strerror(-error));
        return;
    }
    /* Another store may be about to take this one's place. */
    error = vbd_queue_start(&vbd->queues[wanted->queue], wanted, vbd->opening.ready != NULL, fds);
    if (error) {
        worker_send_text(vbd->worker, WORKER_QUEUE_FAILED, vbd->number, error,
                         "can't start on the ring: %s",
                         error == -EPROTO ? "its counters are out of range" : strerror(-error));
        return;
    }
    struct worker_message connected = worker_message(WORKER_QUEUE_CONNECTED, vbd->number);

    connected.u.connect_queue.queue = wanted->queue;
    worker_send(vbd->worker, &connected);
    vbd->recovering = wanted->recover && connected_queues(vbd) < wanted->queue_count;
    if (wanted->recover)
        vbd_store_resume(vbd);
}

/* ---- letting go ---- */

void vbd_finish(struct vbd *vbd)
{
    if (vbd->closing || vbd->disconnecting)
        return;
    vbd->finishing = true;
    vbd_pause_no_more(vbd);
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            vbd_queue_finish_all(&vbd->queues[i]);
    disconnect_when_idle(vbd);
}

void vbd_disconnect(struct vbd *vbd)
{
    /* It crossed the answers to FINISH, which are its own, too. */
    if (vbd->finished)
        vbd->finished = false;
    else
        let_go_of_rings(vbd);
}

void vbd_close(struct vbd *vbd)
{
    vbd->finishing = false;
    release_rings(vbd);
    vbd->closing = true;
    if (vbd_in_flight(vbd) == 0)
        finish_disconnect(vbd);
}
