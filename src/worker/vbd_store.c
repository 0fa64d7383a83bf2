/* SPDX-License-Identifier: BSD-2-Clause */
/* The store of a disk in its worker: opening it behind its fence, putting another in its place,
 * growing with the image. */
#include "vbd_internal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define FENCE_RETRY_MS 20U
#define WHY_MAX        200U

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

static const struct store_driver *driver_of(uint32_t kind)
{
    switch ((enum worker_store_kind)kind) {
    case WORKER_STORE_NULL:
        return &store_null;
    case WORKER_STORE_EMPTY:
        return &store_empty;
    case WORKER_STORE_FILE:
        break;
    }
    return &store_file;
}

static void send_caps(const struct vbd *vbd, enum worker_message_type type, int error)
{
    const struct store_caps *caps = &vbd->store->caps;
    struct worker_message message = worker_message(type, vbd->number);
    struct worker_store_opened *out = &message.u.store_opened;

    message.error = error;
    *out = (struct worker_store_opened){
        .size = caps->size,
        .sector_size = caps->sector_size,
        .physical_sector_size = caps->physical_sector_size,
        .read_only = caps->read_only,
        .flush = caps->flush,
        .direct = caps->direct,
        .discard = vbd->parameters.discard && caps->discard && !caps->read_only,
        .discard_secure = caps->discard_secure,
        .discard_granularity = caps->discard_granularity,
        .discard_alignment = caps->discard_alignment,
    };
    (void)strncpy(out->engine, caps->engine, sizeof(out->engine) - 1);
    worker_send(vbd->worker, &message);
}

void vbd_store_abandon(struct vbd *vbd)
{
    struct store_opening *opening = &vbd->opening;

    loop_stop_timer(&worker_main_thread(vbd->worker)->loop, &opening->fence_timer);
    if (opening->image_fd >= 0)
        (void)close(opening->image_fd);
    opening->image_fd = -1;
    store_close(opening->ready);
    opening->ready = NULL;
    opening->active = false;
}

static void failed(struct vbd *vbd, int error, const char *why)
{
    worker_send_text(vbd->worker, WORKER_STORE_FAILED, vbd->number, error, "%s", why);
    vbd_store_abandon(vbd);
    if (!vbd->store)
        vbd_forget(vbd);
}

void vbd_store_resume(struct vbd *vbd)
{
    if (vbd->recovering || vbd->opening.ready || vbd->worker->leaving)
        return;
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            vbd_queue_resume(&vbd->queues[i], vbd->store);
}

/* Nothing needs the old store any more: the new one takes its place. */
static void take_place(struct vbd *vbd)
{
    const bool first = !vbd->store;

    store_close(vbd->store);
    vbd->store = vbd->opening.ready;
    vbd->opening.ready = NULL;
    vbd->opening.active = false;
    vbd->parameters = vbd->opening.wanted;
    vbd_pause_policy(vbd);
    if (!first || vbd->store->caps.direct)
        vbd->slab.header->data_lost = 0;
    vbd->store->faults.data_lost = vbd->slab.header->data_lost != 0;
    vbd_store_resume(vbd);
    send_caps(vbd, first ? WORKER_STORE_OPENED : WORKER_STORE_CHANGED, 0);
}

void vbd_store_quiet(struct vbd *vbd)
{
    /* A request that is parked is counted before it is not unfinished any more. Rings that are left
     * to a successor keep their store. */
    if (vbd->opening.ready && !vbd->worker->leaving && vbd_unfinished(vbd) == 0 &&
        (!vbd->store || vbd->store->faults.parked == 0))
        take_place(vbd);
}

void vbd_store_paused(struct vbd *vbd)
{
    if (!vbd->opening.ready)
        return;
    failed(vbd, -EBUSY, "the disk is paused");
    vbd_store_resume(vbd);
}

static void open_store(struct vbd *vbd)
{
    struct store_opening *opening = &vbd->opening;
    const struct worker_open_store *wanted = &opening->wanted;
    const struct store_params params = {
        .fd = opening->image_fd,
        .read_only = wanted->read_only,
        .direct = wanted->direct,
        .sector_size = wanted->sector_size,
        .size = wanted->size,
        .discard_limits = {.max_bytes = wanted->discard_max_bytes,
                           .granularity = wanted->discard_granularity,
                           .alignment = wanted->discard_alignment},
        .engine = engine_named(wanted->engine),
        .engines = &worker_main_thread(vbd->worker)->engines,
    };
    char why[WHY_MAX] = "";
    const int error = driver_of(wanted->kind)->open(&params, why, sizeof(why), &opening->ready);

    if (error) {
        failed(vbd, error, why);
        return;
    }
    opening->image_fd = -1;
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            vbd_queue_hold(&vbd->queues[i]);
    vbd_store_quiet(vbd);
}

/*
 * The fence: a lock byte on the description that our I/O will use. It is free only when all I/O of
 * a predecessor, which held it through its own description, is over. Tried again by a timer, so
 * that other disks go on.
 */
static void take_fence(struct vbd *vbd)
{
    const struct worker_open_store *wanted = &vbd->opening.wanted;
    const int fd = wanted->kind == WORKER_STORE_FILE ? vbd->opening.image_fd : vbd->slab.fd;
    const int error = wanted->fence && !wanted->read_only
                          ? image_lock(fd, image_fence_offset(wanted->domid, wanted->devid), true)
                          : 0;

    if (error == -EAGAIN)
        loop_start_timer(&worker_main_thread(vbd->worker)->loop, &vbd->opening.fence_timer,
                         FENCE_RETRY_MS);
    else if (error)
        failed(vbd, error, "can't lock the image");
    else
        open_store(vbd);
}

static void retry_fence(struct loop_timer *timer)
{
    take_fence((struct vbd *)((char *)timer - offsetof(struct vbd, opening.fence_timer)));
}

void vbd_store_open(struct vbd *vbd, const struct worker_open_store *wanted, int *fds)
{
    struct store_opening *opening = &vbd->opening;

    opening->active = true;
    opening->wanted = *wanted;
    opening->wanted.vdev[sizeof(opening->wanted.vdev) - 1] = '\0';
    opening->fence_timer.fire = retry_fence;
    if (wanted->kind == WORKER_STORE_FILE) {
        opening->image_fd = fds[0];
        fds[0] = -1;
    }
    take_fence(vbd);
}

void vbd_change_store(struct vbd *vbd, const struct worker_open_store *wanted, int *fds)
{
    /* What failed is tried again on the store it failed on. */
    const bool paused = vbd->store && vbd->store->faults.parked != 0;

    /* What a predecessor had started is carried out again on the store it was started on. */
    if (!vbd->store || vbd->opening.active || vbd->closing || vbd->recovering || paused) {
        worker_send_text(vbd->worker, WORKER_STORE_FAILED, vbd->number, -EBUSY,
                         paused ? "the disk is paused" : "the disk is busy");
        return;
    }
    if (wanted->kind == WORKER_STORE_FILE && fds[0] < 0) {
        worker_send_text(vbd->worker, WORKER_STORE_FAILED, vbd->number, -EBADF, "no image came");
        return;
    }
    vbd_store_open(vbd, wanted, fds);
}

void vbd_refresh_size(struct vbd *vbd)
{
    bool changed = false;

    if (!vbd->store || vbd->closing)
        return;
    const int error = store_refresh_size(vbd->store, &changed);

    if (changed && !vbd->opening.active)
        vbd_store_resume(vbd);
    send_caps(vbd, WORKER_SIZE, error);
}
