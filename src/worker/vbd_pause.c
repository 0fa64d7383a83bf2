/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk whose store fails: requests wait for it, the broker is told, and they are tried again when
 * that makes sense or somebody says so. See vbd_internal.h.
 */
#include "vbd_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define RETRY_MS_MIN 1000U
#define RETRY_MS_MAX 30000U

static struct loop *main_loop(const struct vbd *vbd)
{
    return &worker_main_thread(vbd->worker)->loop;
}

static struct store_faults *faults_of(const struct vbd *vbd)
{
    return &vbd->store->faults;
}

static void try_again(struct vbd *vbd)
{
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            vbd_queue_retry(&vbd->queues[i]);
}

static void timer_fired(struct loop_timer *timer)
{
    try_again((struct vbd *)((char *)timer - offsetof(struct vbd, pause.timer)));
}

void vbd_pause_init(struct vbd *vbd)
{
    vbd->pause.timer.fire = timer_fired;
}

void vbd_pause_policy(struct vbd *vbd)
{
    faults_of(vbd)->pause_no_space = vbd->parameters.pause_no_space != 0;
    faults_of(vbd)->pause_error = vbd->parameters.pause_error != 0;
}

void vbd_pause_no_more(struct vbd *vbd)
{
    if (!vbd->store)
        return;
    faults_of(vbd)->pause_no_space = false;
    faults_of(vbd)->pause_error = false;
    if (faults_of(vbd)->parked)
        try_again(vbd);
}

void vbd_pause_end(struct vbd *vbd)
{
    loop_stop_timer(main_loop(vbd), &vbd->pause.timer);
    vbd->pause.paused = false;
    vbd->pause.answer_owed = false;
    vbd->pause.reason[0] = '\0';
}

/*
 * Space comes back by itself. A flush that is repeated with direct I/O means what it says; but the
 * page cache reports a write-back error once and forgets the data, so that a repeated one would
 * report a success that isn't one. Other errors need somebody who mends something.
 */
static bool comes_back(const struct vbd *vbd, enum io_operation operation, int error)
{
    if (operation == IO_FLUSH)
        return vbd->store->caps.direct;
    return error == -ENOSPC || error == -EDQUOT;
}

static void plan_retry(struct vbd *vbd, enum io_operation operation, int error)
{
    struct vbd_pause *pause = &vbd->pause;

    if (pause->timer.armed || !comes_back(vbd, operation, error))
        return;
    if (operation == IO_FLUSH || pause->delay_ms == 0)
        pause->delay_ms = RETRY_MS_MIN;
    else if (pause->delay_ms < RETRY_MS_MAX / 2)
        pause->delay_ms *= 2;
    else
        pause->delay_ms = RETRY_MS_MAX;
    loop_start_timer(main_loop(vbd), &pause->timer, pause->delay_ms);
}

static const char *name_of(enum io_operation operation)
{
    static const char *const names[] = {
        [IO_READ] = "read", [IO_WRITE] = "write", [IO_FLUSH] = "flush", [IO_DISCARD] = "discard"};

    return names[operation];
}

static void tell(struct vbd *vbd, int error)
{
    worker_send_text(vbd->worker, WORKER_STORE_ALERT, vbd->number, error, "%s%s", vbd->pause.reason,
                     faults_of(vbd)->data_lost
                         ? ": what had not reached the storage is lost; resume with "
                           "--accept-data-loss, or detach the disk"
                         : "");
    vbd->pause.answer_owed = false;
}

void vbd_parked(struct vbd *vbd, enum io_operation operation, int error)
{
    struct vbd_pause *pause = &vbd->pause;
    char reason[sizeof(pause->reason)];

    if (faults_of(vbd)->parked == 0)
        return; /* a report that was overtaken */
    (void)snprintf(reason, sizeof(reason), "%s failed: %s", name_of(operation), strerror(-error));
    if (!pause->paused) {
        pause->delay_ms = 0;
        log_limited(&vbd->log_limit, LOG_LEVEL_ERROR, "domain %u %s: %s; the disk is paused%s",
                    vbd->worker->domid, vbd->vdev, reason,
                    comes_back(vbd, operation, error) ? " until it succeeds" : "");
    }
    /* What lies behind a failed flush is worse than a write that waits. */
    const bool news = !pause->paused || operation == IO_FLUSH || !faults_of(vbd)->parked_flushes;

    if (pause->answer_owed || (news && strcmp(reason, pause->reason) != 0)) {
        memcpy(pause->reason, reason, sizeof(reason));
        tell(vbd, error);
    }
    pause->paused = true;
    plan_retry(vbd, operation, error);
    vbd_store_paused(vbd);
}

static void say_it_continues(struct vbd *vbd)
{
    const struct worker_message continues = worker_message(WORKER_STORE_CONTINUES, vbd->number);

    vbd_pause_end(vbd);
    worker_send(vbd->worker, &continues);
}

void vbd_continued(struct vbd *vbd)
{
    if (!vbd->pause.paused || faults_of(vbd)->parked != 0)
        return;
    log_limited(&vbd->log_limit, LOG_LEVEL_WARNING, "domain %u %s: the disk goes on",
                vbd->worker->domid, vbd->vdev);
    say_it_continues(vbd);
    try_again(vbd); /* wakes the rings that waited */
}

void vbd_forget_loss(struct vbd *vbd)
{
    if (!vbd->store)
        return;
    faults_of(vbd)->data_lost = false;
    vbd->slab.header->data_lost = 0;
}

static void accept_loss(struct vbd *vbd)
{
    if (!faults_of(vbd)->data_lost)
        return;
    log_warning("domain %u %s: told to go on although a flush failed: writes that were answered "
                "before it may be lost, and the guest is not told",
                vbd->worker->domid, vbd->vdev);
    vbd_forget_loss(vbd);
}

void vbd_resume(struct vbd *vbd, bool accept)
{
    struct vbd_pause *pause = &vbd->pause;

    if (!vbd->store || vbd->closing || vbd->disconnecting)
        return;
    if (accept)
        accept_loss(vbd);
    if (faults_of(vbd)->parked == 0) {
        say_it_continues(vbd);
    } else if (faults_of(vbd)->data_lost) {
        tell(vbd, -EIO);
    } else {
        loop_stop_timer(main_loop(vbd), &pause->timer);
        pause->delay_ms = 0;
        pause->answer_owed = true;
        try_again(vbd);
    }
}
