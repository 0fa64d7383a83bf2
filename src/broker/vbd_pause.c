/* SPDX-License-Identifier: BSD-2-Clause */
/* Storage that fails: the worker holds requests back and says so; shown in the status, until it
 * says that the disk goes on. */
#include "vbd.h"

#include "domain.h"

#include <errno.h>
#include <stdio.h>

static void answer(struct vbd *vbd, int error, const char *text)
{
    struct control_call_token *token = vbd->pause.token;
    vbd->pause.token = NULL;
    if (token != NULL)
        control_reply(token, error, text);
}

void vbd_pause_forget(struct vbd *vbd)
{
    vbd->pause.paused = false;
    answer(vbd, -ENODEV, "the disk is being closed, or its worker has ended");
}

/* What the disk lies on, for people. */
static const char *place(const struct vbd *vbd)
{
    return vbd->disk.target.kind == TARGET_PATH ? vbd->disk.target.path : vbd->toolstack.target;
}

bool vbd_on_store_alert(struct vbd *vbd, const struct worker_message *message)
{
    struct vbd_pause *pause = &vbd->pause;
    char text[STATE_TEXT_MAX];

    if (vbd->rings != RINGS_CONNECTED && vbd->rings != RINGS_CONNECTING &&
        vbd->rings != RINGS_FINISHING)
        return true; /* it was on its way when we hung up */
    log_escape(message->u.text, text, sizeof(text));
    if (message->error == -ENOSPC || message->error == -EDQUOT)
        snprintf(pause->reason, sizeof(pause->reason), "paused: no space on %.90s (%.140s)",
                 place(vbd), text);
    else
        snprintf(pause->reason, sizeof(pause->reason), "paused: %.240s", text);
    pause->paused = true;
    vbd_log(vbd, LOG_LEVEL_ERROR, "%s", pause->reason);
    answer(vbd, message->error < 0 ? message->error : -EIO, pause->reason);
    vbd_mark_dirty(vbd);
    return true;
}

bool vbd_on_store_continues(struct vbd *vbd, const struct worker_message *message)
{
    (void)message;
    if (vbd->pause.paused)
        vbd_log(vbd, LOG_LEVEL_INFO, "is not paused any more");
    vbd->pause.paused = false;
    answer(vbd, 0, NULL);
    vbd_mark_dirty(vbd);
    return true;
}

void vbd_resume(struct broker *broker, const char *path, bool accept_loss,
                struct control_call_token *token)
{
    struct vbd_address address;
    struct vbd *vbd;

    int error = vbd_find(broker, path, &address, &vbd);
    if (error != 0) {
        vbd_explain_missing(error, path, token);
        return;
    }
    if (vbd->store != STORE_OPEN || vbd->rings != RINGS_CONNECTED) {
        control_reply(token, -EAGAIN, "the disk is not connected");
        return;
    }
    answer(vbd, -ECANCELED, "asked for again");
    vbd->pause.token = token;
    struct worker_message message = worker_message(WORKER_RESUME, vbd->number);
    message.error = accept_loss ? -EUCLEAN : 0;
    /* A worker that can't be reached is ended by this, which answers whoever waits. */
    (void)domain_send(vbd->domain, &message, NULL, 0);
}
