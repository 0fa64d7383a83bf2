/* SPDX-License-Identifier: BSD-2-Clause */
/* Negotiation with the frontend, and the connection of its ring: event channel, worker, state 4. */
#include "vbd.h"

#include "blkback/evtchn.h"
#include "domain.h"
#include "frontend_nodes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DESCRIPTION_MAX 480U

/* How long the channels of a dead worker are waited for. */
#define REBIND_SECONDS     0.05
#define REBIND_SECONDS_MAX 10.0

/* What the frontend wants now, `last` being the state in which it may still want it. Returns 0;
 * -EAGAIN when it has changed its mind since; else -errno with the reason. */
static int read_wishes(struct vbd *vbd, enum xenbus_state last, char why[NEGOTIATE_WHY_MAX],
                       struct negotiated *out)
{
    struct frontend_text text;
    struct frontend_nodes nodes;
    uint32_t state;

    int error = frontend_nodes_read(vbd->broker->xs, vbd->frontend, vbd->offer.max_queues, &text,
                                    &state, &nodes);
    if (error == -EPIPE)
        return -EAGAIN; /* they are looked at when xenstored is back */
    if (error == -EAGAIN) {
        snprintf(why, NEGOTIATE_WHY_MAX, "the frontend's nodes change while they are read");
        return -EBUSY;
    }
    if (error != 0) {
        snprintf(why, NEGOTIATE_WHY_MAX, "can't read the frontend's nodes: %s", strerror(-error));
        return error;
    }
    if (state < XENBUS_INITIALISED || state > (uint32_t)last)
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

/* The broker's end of one queue's channel, held only until the worker has it. */
struct channel {
    struct evtchn *evtchn; /* NULL: none */
    uint32_t local_port;
};

static void close_channels(struct channel channels[STATE_MAX_QUEUES])
{
    /* A copy kept would keep the channel bound when the worker dies. */
    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        evtchn_close(channels[i].evtchn);
}

static int bind_channels(struct vbd *vbd, struct channel channels[STATE_MAX_QUEUES],
                         char why[NEGOTIATE_WHY_MAX])
{
    for (unsigned i = 0; i < vbd->negotiated.queue_count; i++) {
        uint32_t port = vbd->negotiated.queues[i].remote_port;
        int error = evtchn_bind(vbd->address.domid, port, &channels[i].evtchn,
                                &channels[i].local_port, &vbd->evtchn_restricted);
        if (error != 0) {
            snprintf(why, NEGOTIATE_WHY_MAX, "can't bind event channel %u: %s", port,
                     strerror(-error));
            return error;
        }
    }
    return 0;
}

static int send_connect(struct vbd *vbd, unsigned queue, const struct channel *channel)
{
    const struct negotiated *settled = &vbd->negotiated;
    struct worker_message message = worker_message(WORKER_CONNECT_QUEUE, vbd->number);
    message.u.connect_queue = (struct worker_connect_queue){
        .queue = queue,
        .queue_count = settled->queue_count,
        .abi = (uint32_t)settled->abi,
        .ring_order = settled->ring_order,
        .max_requests = settled->max_requests,
        .max_segments = settled->max_segments,
        .max_indirect_segments = settled->max_indirect_segments,
        .persistent =
            settled->persistent ? (uint32_t)vbd->disk.options.grants : WORKER_GRANTS_NOT_KEPT,
        .local_port = channel->local_port,
        .max_event_delay_ms = vbd->disk.options.max_event_delay_ms,
        .work_per_turn = (uint32_t)vbd->disk.options.work_per_turn,
        .recover = vbd->taking_up,
    };
    memcpy(message.u.connect_queue.ring_refs, settled->queues[queue].ring_refs,
           sizeof(settled->queues[queue].ring_refs));
    int fd = evtchn_fd(channel->evtchn);
    return domain_send(vbd->domain, &message, &fd, 1);
}

/* Nothing is sent before everything that the worker will need is there. -ECONNRESET: the worker has
 * just died, and vbd_worker_lost() goes on from here. */
static int connect_queues(struct vbd *vbd, char why[NEGOTIATE_WHY_MAX])
{
    struct channel channels[STATE_MAX_QUEUES] = {{.evtchn = NULL}};

    int error = bind_channels(vbd, channels, why);
    if (error == 0 && vbd->negotiated.persistent)
        domain_keep_grants(vbd->domain);
    for (unsigned i = 0; error == 0 && i < vbd->negotiated.queue_count; i++)
        error = send_connect(vbd, i, &channels[i]);
    close_channels(channels);
    return error;
}

void vbd_connect(struct vbd *vbd)
{
    char why[NEGOTIATE_WHY_MAX] = "";

    int error = read_wishes(vbd, XENBUS_CONNECTED, why, &vbd->negotiated);
    if (error == -EAGAIN)
        return;
    if (error != 0) {
        vbd_fail(vbd, error, why);
        return;
    }
    log_negotiation(vbd);
    error = connect_queues(vbd, why);
    if (error == -ECONNRESET)
        return;
    if (error != 0) {
        vbd_fail(vbd, error, why);
        return;
    }
    vbd->queues_connected = 0;
    vbd->rings = RINGS_CONNECTING;
}

static void on_rebind(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct vbd *vbd = timer->data;
    (void)loop;
    (void)events;
    if (vbd->rings == RINGS_LOST && vbd->store == STORE_OPEN)
        vbd_reconnect(vbd);
}

/* A dead worker's channels are closed after its images, which may take long. */
static bool bind_later(struct vbd *vbd)
{
    if (broker_seconds() - vbd->lost_at > REBIND_SECONDS_MAX)
        return false;
    vbd->rings = RINGS_LOST;
    vbd_retry_in(vbd, REBIND_SECONDS, on_rebind);
    return true;
}

void vbd_reconnect(struct vbd *vbd)
{
    char why[NEGOTIATE_WHY_MAX] = "";

    vbd->taking_up = true;
    vbd->queues_connected = 0;
    vbd->rings = RINGS_CONNECTING;
    int error = connect_queues(vbd, why);
    if (error == 0 || error == -ECONNRESET || bind_later(vbd))
        return;
    vbd->rings = RINGS_NONE;
    vbd->taking_up = false;
    vbd_fail(vbd, error, why);
}

bool vbd_check_rings(struct vbd *vbd)
{
    char why[NEGOTIATE_WHY_MAX] = "";
    struct negotiated now;

    /* One that has seen us connected by now has offered these rings, whatever it writes then. */
    int error = read_wishes(vbd, XENBUS_INITIALISED, why, &now);
    if (error == -EAGAIN)
        return false;
    if (error != 0) {
        vbd_fail(vbd, error, why);
        return false;
    }
    const struct negotiated *old = &vbd->negotiated;
    if (now.abi == old->abi && now.ring_order == old->ring_order &&
        now.queue_count == old->queue_count &&
        memcmp(now.queues, old->queues, sizeof(now.queues)) == 0)
        return false;
    vbd_log(vbd, LOG_LEVEL_INFO, "the frontend has come back with a new ring");
    vbd_disconnect(vbd);
    return true;
}

static void connected(struct vbd *vbd)
{
    vbd_answer_came(vbd);
    /* One that was connecting has not been shown to the frontend yet, and won't be if it leaves. */
    if (vbd->taking_up && (vbd->phase != VBD_INIT_WAIT || vbd->closing)) {
        vbd_recovered(vbd);
        return;
    }
    vbd_show_connected(vbd);
}

void vbd_show_connected(struct vbd *vbd)
{
    vbd->rings = RINGS_CONNECTED;
    vbd->taking_up = false;
    vbd_status_save(vbd);  /* before the frontend sends anything that a successor has to answer */
    vbd_remove_error(vbd); /* what was wrong before is mended */
    int error = vbd_publish_connected(vbd);
    if (error == -EPIPE)
        return; /* it is shown when xenstored is back */
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
    vbd_log(vbd, LOG_LEVEL_INFO, "connected: protocol %s, %u ring%s of %u page%s, %u requests%s%s",
            blkif_abi_name(vbd->negotiated.abi), vbd->negotiated.queue_count,
            vbd->negotiated.queue_count == 1 ? "" : "s", 1U << vbd->negotiated.ring_order,
            vbd->negotiated.ring_order == 0 ? "" : "s", vbd->negotiated.max_requests,
            vbd->negotiated.persistent ? ", persistent grants" : "",
            vbd->evtchn_restricted ? "" : ", event channel not restricted");
    vbd_mark_dirty(vbd);
}

/* One of the rings can't be served, so none is. */
static void fail_rings(struct vbd *vbd, const struct worker_message *message)
{
    char reason[STATE_TEXT_MAX];
    vbd_worker_reason(vbd, message, reason);
    if (vbd->rings == RINGS_CONNECTING)
        vbd_disconnect(vbd);
    vbd->taking_up = false;
    vbd_fail(vbd, message->error < 0 ? message->error : -EIO, reason);
}

static bool on_queue_connected(struct vbd *vbd, const struct worker_message *message)
{
    uint32_t queue = message->u.connect_queue.queue;
    uint32_t all = (UINT32_C(1) << vbd->negotiated.queue_count) - 1;

    if (queue >= vbd->negotiated.queue_count || (vbd->queues_connected & UINT32_C(1) << queue) != 0)
        return false;
    vbd->queues_connected |= UINT32_C(1) << queue;
    if (vbd->queues_connected == all)
        connected(vbd);
    return true;
}

bool vbd_on_queue_answer(struct vbd *vbd, const struct worker_message *message)
{
    if (vbd->rings == RINGS_DISCONNECTING)
        return true; /* of another ring than the one that failed */
    if (vbd->rings != RINGS_CONNECTING)
        return false;
    if (message->type == WORKER_QUEUE_CONNECTED)
        return on_queue_connected(vbd, message);
    fail_rings(vbd, message);
    return true;
}

bool vbd_on_ring_broken(struct vbd *vbd, const struct worker_message *message)
{
    if (vbd->rings == RINGS_DISCONNECTING || vbd->rings == RINGS_FINISHING)
        return true; /* it was on its way when we hung up */
    if (vbd->rings != RINGS_CONNECTED && vbd->rings != RINGS_CONNECTING)
        return false;
    fail_rings(vbd, message);
    return true;
}
