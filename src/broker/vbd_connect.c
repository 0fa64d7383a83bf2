/* SPDX-License-Identifier: BSD-2-Clause */
/* Negotiation with the frontend, and the connection of its ring: event channel, worker, state 4. */
#include "vbd.h"

#include "blkback/evtchn.h"
#include "domain.h"
#include "frontend_nodes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DESCRIPTION_MAX 320U

/* What the frontend wants now. Returns 0; -EAGAIN when it has changed its mind since; else -errno
 * with the reason. */
static int read_wishes(struct vbd *vbd, char why[NEGOTIATE_WHY_MAX], struct negotiated *out)
{
    struct frontend_text text;
    struct frontend_nodes nodes;
    uint32_t state;

    int error = frontend_nodes_read(vbd->broker->xs, vbd->frontend, &text, &state, &nodes);
    if (error != 0) {
        snprintf(why, NEGOTIATE_WHY_MAX, "can't read the frontend's nodes: %s", strerror(-error));
        return error;
    }
    if (state != XENBUS_INITIALISED && state != XENBUS_CONNECTED)
        return -EAGAIN;
    return negotiate(&nodes, &vbd->offer, why, out);
}

static void log_negotiation(struct vbd *vbd)
{
    char text[DESCRIPTION_MAX];
    if (vbd->negotiated.protocol_missing)
        vbd_log(vbd, LOG_LEVEL_INFO, "the frontend names no protocol: native is taken");
    if (vbd->negotiated.differs) {
        vbd_log(vbd, LOG_LEVEL_INFO, "negotiated: %s",
                negotiate_describe(&vbd->negotiated, &vbd->offer, text, sizeof(text)));
    }
}

static int send_connect(struct vbd *vbd, const struct evtchn *evtchn, uint32_t local_port)
{
    const struct negotiated *settled = &vbd->negotiated;
    struct worker_message message = worker_message(WORKER_CONNECT_QUEUE, vbd->number);
    message.u.connect_queue = (struct worker_connect_queue){
        .queue = 0,
        .queue_count = 1,
        .abi = (uint32_t)settled->abi,
        .ring_order = settled->ring_order,
        .max_requests = settled->max_requests,
        .max_segments = settled->max_segments,
        .local_port = local_port,
    };
    memcpy(message.u.connect_queue.ring_refs, settled->queue.ring_refs,
           sizeof(settled->queue.ring_refs));
    int fd = evtchn_fd(evtchn);
    return domain_send(vbd->domain, &message, &fd, 1);
}

void vbd_connect(struct vbd *vbd)
{
    char why[NEGOTIATE_WHY_MAX] = "";
    struct evtchn *evtchn;
    uint32_t local_port;

    int error = read_wishes(vbd, why, &vbd->negotiated);
    if (error == -EAGAIN)
        return;
    if (error != 0) {
        vbd_fail(vbd, error, why);
        return;
    }
    log_negotiation(vbd);
    uint32_t port = vbd->negotiated.queue.remote_port;
    error = evtchn_bind(vbd->address.domid, port, &evtchn, &local_port, &vbd->evtchn_restricted);
    if (error != 0) {
        snprintf(why, sizeof(why), "can't bind event channel %u: %s", port, strerror(-error));
        vbd_fail(vbd, error, why);
        return;
    }
    error = send_connect(vbd, evtchn, local_port);
    evtchn_close(evtchn); /* a copy kept would keep the channel bound when the worker dies */
    if (error != 0) {
        vbd_fail(vbd, error, "can't reach the worker");
        return;
    }
    vbd->rings = RINGS_CONNECTING;
}

bool vbd_check_rings(struct vbd *vbd)
{
    char why[NEGOTIATE_WHY_MAX] = "";
    struct negotiated now = {.abi = BLKIF_ABI_NATIVE};

    int error = read_wishes(vbd, why, &now);
    if (error == -EAGAIN)
        return false;
    if (error != 0) {
        vbd_fail(vbd, error, why);
        return false;
    }
    const struct negotiated *old = &vbd->negotiated;
    if (now.abi == old->abi && now.ring_order == old->ring_order &&
        memcmp(&now.queue, &old->queue, sizeof(now.queue)) == 0)
        return false;
    vbd_log(vbd, LOG_LEVEL_INFO, "the frontend has come back with a new ring");
    vbd_disconnect(vbd);
    return true;
}

static void connected(struct vbd *vbd)
{
    vbd->rings = RINGS_CONNECTED;
    vbd_remove_error(vbd); /* what was wrong before is mended */
    int error = vbd_publish_connected(vbd);
    if (error == -ENOENT || error == -ECANCELED) {
        vbd_mark_dirty(vbd); /* the toolstack was faster; evaluation sees what it did */
        return;
    }
    if (error != 0) {
        vbd_fail(vbd, error, "can't write XenStore");
        return;
    }
    vbd->phase = VBD_CONNECTED;
    vbd->reason[0] = '\0';
    vbd_log(vbd, LOG_LEVEL_INFO, "connected: protocol %s, %u ring page%s, %u requests%s",
            blkif_abi_name(vbd->negotiated.abi), 1U << vbd->negotiated.ring_order,
            vbd->negotiated.ring_order == 0 ? "" : "s", vbd->negotiated.max_requests,
            vbd->evtchn_restricted ? "" : ", event channel not restricted");
    vbd_mark_dirty(vbd);
}

bool vbd_on_queue_answer(struct vbd *vbd, const struct worker_message *message)
{
    if (vbd->rings != RINGS_CONNECTING)
        return false;
    if (message->type == WORKER_QUEUE_CONNECTED) {
        connected(vbd);
        return true;
    }
    char reason[STATE_TEXT_MAX];
    vbd->rings = RINGS_NONE;
    log_escape(message->u.text, reason, sizeof(reason));
    vbd_fail(vbd, message->error < 0 ? message->error : -EIO, reason);
    return true;
}

bool vbd_on_ring_broken(struct vbd *vbd, const struct worker_message *message)
{
    char reason[STATE_TEXT_MAX];
    if (vbd->rings == RINGS_DISCONNECTING)
        return true; /* it was on its way when we hung up */
    if (vbd->rings != RINGS_CONNECTED)
        return false;
    log_escape(message->u.text, reason, sizeof(reason));
    vbd_fail(vbd, message->error < 0 ? message->error : -EIO, reason);
    return true;
}

bool vbd_on_store_alert(struct vbd *vbd, const struct worker_message *message)
{
    char reason[STATE_TEXT_MAX];
    log_escape(message->u.text, reason, sizeof(reason));
    snprintf(vbd->reason, sizeof(vbd->reason), "%s", reason);
    vbd_log(vbd, LOG_LEVEL_ERROR, "storage: %s", reason);
    vbd_mark_dirty(vbd);
    return true;
}
