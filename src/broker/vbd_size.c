/* SPDX-License-Identifier: BSD-2-Clause */
/* Images that grow while they are served: noticed because the kernel or somebody else says so, or
 * by looking; then the frontend is told. One that shrinks is an accident, and all that is done is
 * to say so. */
#include "vbd.h"

#include "domain.h"
#include "size_watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void answer(struct vbd *vbd, int error, const char *text)
{
    struct control_call_token *token = vbd->size.token;
    vbd->size.token = NULL;
    if (token != NULL)
        control_reply(token, error, text);
}

/* Of a worker's answer: not of one to what was asked before somebody waited, who would be told what
 * the size was then. */
static void answer_by_worker(struct vbd *vbd, int error, const char *text)
{
    if (vbd->size.stale == 0)
        answer(vbd, error, text);
    else
        vbd->size.stale--;
}

void vbd_size_forget(struct vbd *vbd)
{
    size_watch_forget(vbd);
    vbd->size.asked = 0;
    vbd->size.stale = 0;
    vbd->size.shrunk = false;
    answer(vbd, -ENODEV, "the disk is being closed");
}

static bool can_grow(const struct vbd *vbd)
{
    return vbd->store == STORE_OPEN && vbd->image != NULL && !vbd->closing && !vbd->gone &&
           !vbd->medium.changing;
}

static void ask_worker(struct vbd *vbd)
{
    struct worker_message message = worker_message(WORKER_REFRESH_SIZE, vbd->number);
    vbd->size.asked++;
    /* A worker that can't be reached is ended by this, which answers whoever waits. */
    (void)domain_send(vbd->domain, &message, NULL, 0);
}

static void look(struct vbd *vbd)
{
    uint64_t size;

    if (image_size(vbd->image, &size) != 0 || size == vbd->size.seen)
        return;
    vbd->size.seen = size;
    ask_worker(vbd);
}

bool vbd_look_at_sizes(struct broker *broker)
{
    struct vbd *vbd;
    bool again = false;

    TAILQ_FOREACH(vbd, &broker->vbds, in_broker)
    {
        if (vbd->image == NULL || vbd->size.told)
            continue;
        /* Told first, looked at then: nothing is missed between them. */
        if (!can_grow(vbd) || vbd->size.asked > 0 || !size_watch_arm(vbd))
            again = true;
        if (can_grow(vbd) && vbd->size.asked == 0)
            look(vbd);
    }
    return again;
}

void vbd_resize(struct broker *broker, const char *path, struct control_call_token *token)
{
    struct vbd_address address;
    struct vbd *vbd;

    int error = vbd_find(broker, path, &address, &vbd);
    if (error != 0) {
        vbd_explain_missing(error, path, token);
    } else if (vbd->store == STORE_OPEN && vbd->image == NULL) {
        control_reply(token, -EOPNOTSUPP, "the disk has no image that could grow");
    } else if (!can_grow(vbd)) {
        control_reply(token, -EAGAIN, "the disk is not open");
    } else {
        answer(vbd, -ECANCELED, "asked for again");
        vbd->size.token = token;
        (void)image_size(vbd->image, &vbd->size.seen);
        vbd->size.stale = vbd->size.asked;
        ask_worker(vbd);
    }
}

static void shrunk(struct vbd *vbd)
{
    vbd->size.shrunk = true;
    snprintf(vbd->reason, sizeof(vbd->reason),
             "the image has shrunk to %" PRIu64 " bytes, below the disk's %" PRIu64
             ": what lies beyond is lost, and can't be read or written",
             vbd->size.seen, vbd->caps.size);
    vbd_log(vbd, LOG_LEVEL_ERROR, "%s", vbd->reason);
    answer_by_worker(vbd, -ERANGE, vbd->reason);
}

static void grown(struct vbd *vbd, uint64_t size)
{
    char text[32];

    if (vbd->size.shrunk) {
        vbd->size.shrunk = false;
        vbd->reason[0] = '\0';
    }
    if (size != vbd->caps.size) {
        vbd_log(vbd, LOG_LEVEL_INFO, "has grown from %" PRIu64 " to %" PRIu64 " bytes",
                vbd->caps.size, size);
        vbd->caps.size = size;
        vbd->offer.size = size;
        (void)vbd_publish_medium(vbd, false);
    }
    snprintf(text, sizeof(text), "%" PRIu64, size);
    answer_by_worker(vbd, 0, text);
}

bool vbd_on_size(struct vbd *vbd, const struct worker_message *message)
{
    const struct worker_store_opened *caps = &message->u.store_opened;

    if (vbd->store == STORE_CLOSING)
        return true; /* it was on its way when we asked to close */
    if (vbd->store != STORE_OPEN || vbd->size.asked == 0)
        return false;
    vbd->size.asked--;
    if (message->error == -ERANGE) {
        shrunk(vbd);
    } else if (message->error != 0) {
        vbd_log(vbd, LOG_LEVEL_ERROR, "its size can't be found out: %s",
                strerror(message->error < 0 ? -message->error : EIO));
        answer_by_worker(vbd, message->error < 0 ? message->error : -EIO, NULL);
    } else if (!vbd_caps_possible(&vbd->disk, caps) || caps->size < vbd->caps.size) {
        return false;
    } else {
        grown(vbd, caps->size);
    }
    vbd_mark_dirty(vbd);
    return true;
}
