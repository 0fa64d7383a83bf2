/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way to state 6. What a frontend still waits for is answered, then rings and channels are
 * given back; then the store is let go of, so that the image's lock is free when state 6 is seen.
 * Storage that is slow to finish delays that by 3 s at most: libxl waits 10. The lock is then kept
 * until it has. Rings that are not given back are another matter, for whoever sees state 6 may take
 * their pages away: a worker that hangs is ended, and state 6 shown when it is gone.
 */
#include "vbd.h"

#include "domain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* libxl waits 10 s for state 6; all together are less. */
#define FINISH_SECONDS 4.0 /* for a frontend's last requests to be answered */
#define ANSWER_SECONDS 3.0 /* for a worker to do what it can do at once; */
#define LISTEN_SECONDS 0.2 /* the last of them: we have listened meanwhile */
#define DRAIN_SECONDS  3.0 /* for I/O in flight to end */
#define GONE_SECONDS   2.0 /* the same, of a worker that was ended */

static void send_plain(struct vbd *vbd, enum worker_message_type type)
{
    struct worker_message message = worker_message(type, vbd->number);
    /* A worker that can't be reached is ended by this, and vbd_worker_lost() goes on from there. */
    (void)domain_send(vbd->domain, &message, NULL, 0);
}

static void start_answer_timer(struct vbd *vbd, double seconds)
{
    ev_timer_set(&vbd->answer, seconds, 0.);
    ev_timer_start(vbd->broker->loop, &vbd->answer);
}

/*
 * Stopped, looping, or blocked in a system call: its memory, and with it what it has mapped, ends
 * with it. The other disks of the domain are taken up by its successor. Where it was us who were
 * held up, its answer may be there and not read: turns of the loop come first.
 */
static void on_answer_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct vbd *vbd = timer->data;
    (void)loop;
    (void)events;
    if (!vbd->overdue) {
        vbd->overdue = true;
        start_answer_timer(vbd, LISTEN_SECONDS);
        return;
    }
    if (!vbd->broker->stopping)
        domain_end_worker(vbd->domain, vbd->asked, ANSWER_SECONDS);
}

static void expect_answer(struct vbd *vbd, const char *asked)
{
    vbd_answer_came(vbd);
    vbd->asked = asked;
    vbd->overdue = false;
    ev_init(&vbd->answer, on_answer_timeout);
    ev_set_priority(&vbd->answer, EV_MINPRI); /* after what has come in the same turn */
    vbd->answer.data = vbd;
    start_answer_timer(vbd, ANSWER_SECONDS - LISTEN_SECONDS);
}

void vbd_answer_came(struct vbd *vbd)
{
    ev_timer_stop(vbd->broker->loop, &vbd->answer);
}

void vbd_hurry_connect(struct vbd *vbd)
{
    if (!ev_is_active(&vbd->answer))
        expect_answer(vbd, "to connect rings");
}

void vbd_disconnect(struct vbd *vbd)
{
    vbd->rings = RINGS_DISCONNECTING;
    expect_answer(vbd, "to give rings back");
    send_plain(vbd, WORKER_DISCONNECT);
}

bool vbd_let_go(struct vbd *vbd)
{
    switch (vbd->store) {
    case STORE_OPEN:
        vbd->store = STORE_CLOSING;
        vbd->offer.store_known = false;
        send_plain(vbd, WORKER_CLOSE_STORE);
        return false;
    case STORE_OPENING: /* its answer comes first */
    case STORE_CLOSING:
    case STORE_FENCING:
        return false;
    case STORE_IMAGE_BUSY:
        ev_timer_stop(vbd->broker->loop, &vbd->retry);
        break;
    case STORE_NONE:
    case STORE_WAITS:
    case STORE_FAILED:
        break;
    }
    if (vbd_wait_for_fence(vbd))
        return false;
    vbd_release_image(vbd);
    vbd->store = STORE_NONE;
    return true;
}

static void closed(struct vbd *vbd)
{
    vbd->closing = false;
    ev_timer_stop(vbd->broker->loop, &vbd->drain);
    vbd->phase = VBD_CLOSED;
    (void)vbd_publish_state(vbd, XENBUS_CLOSED);
    vbd_log(vbd, LOG_LEVEL_INFO, "closed");
    vbd_mark_dirty(vbd);
}

static void start_timer(struct vbd *vbd, double seconds)
{
    ev_timer_stop(vbd->broker->loop, &vbd->drain);
    ev_timer_set(&vbd->drain, seconds, 0.);
    ev_timer_start(vbd->broker->loop, &vbd->drain);
}

/*
 * A frontend that is there waits for the answers to what it asked for, also at state 6: without
 * them Linux never lets go of the disk, and takes no other. One that is gone waits for nothing.
 */
static void give_rings_back(struct vbd *vbd)
{
    if (!vbd->frontend_there) {
        vbd_disconnect(vbd);
        return;
    }
    vbd->rings = RINGS_FINISHING;
    start_timer(vbd, FINISH_SECONDS);
    send_plain(vbd, WORKER_FINISH);
}

void vbd_close_continue(struct vbd *vbd)
{
    switch (vbd->rings) {
    case RINGS_CONNECTED:
        give_rings_back(vbd);
        return;
    case RINGS_FINISHING:
    case RINGS_CONNECTING:
    case RINGS_DISCONNECTING:
    case RINGS_DRAINING:
    case RINGS_LOST:
        return;
    case RINGS_NONE:
        break;
    }
    if ((!vbd->online || vbd->hook.leave) && !vbd_let_go(vbd))
        return;
    closed(vbd);
}

static void on_drain_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct vbd *vbd = timer->data;
    (void)loop;
    (void)events;
    switch (vbd->rings) {
    case RINGS_FINISHING:
        vbd_log(vbd, LOG_LEVEL_WARNING,
                "its requests are not all answered after %.0f s; disconnecting", FINISH_SECONDS);
        vbd_disconnect(vbd);
        start_timer(vbd, DRAIN_SECONDS);
        return;
    case RINGS_CONNECTING: /* by the successor of a worker that died meanwhile */
    case RINGS_CONNECTED:
        vbd->taking_up = false;
        vbd_disconnect(vbd);
        start_timer(vbd, DRAIN_SECONDS);
        return;
    case RINGS_DISCONNECTING: /* by one that is being ended, since it has not answered */
        start_timer(vbd, GONE_SECONDS);
        return;
    case RINGS_LOST:
        vbd->rings = RINGS_NONE;
        vbd->taking_up = false;
        vbd_log(vbd, LOG_LEVEL_WARNING,
                "its worker has died and no other has taken it up in time; what it has asked for "
                "is not answered");
        break;
    case RINGS_NONE:
    case RINGS_DRAINING:
        vbd_log(vbd, LOG_LEVEL_WARNING,
                "its storage has not finished in time; the image stays locked until it has");
        break;
    }
    closed(vbd);
}

void vbd_close_start(struct vbd *vbd)
{
    vbd->closing = true;
    ev_timer_init(&vbd->drain, on_drain_timeout, DRAIN_SECONDS, 0.);
    vbd->drain.data = vbd;
    start_timer(vbd, DRAIN_SECONDS);
    vbd_close_continue(vbd);
}

static bool on_disconnected(struct vbd *vbd)
{
    vbd_pause_forget(vbd);
    if (vbd->rings != RINGS_DISCONNECTING && vbd->rings != RINGS_FINISHING)
        return vbd->store == STORE_CLOSING;
    vbd_answer_came(vbd);
    vbd->rings = RINGS_DRAINING;
    if (!vbd->closing && vbd->phase == VBD_CONNECTED) {
        vbd->phase = VBD_INIT_WAIT; /* not shown: a resumed frontend's new ring is connected when
                                       this one is drained */
    }
    return true;
}

static bool on_drained(struct vbd *vbd)
{
    if (vbd->rings != RINGS_DRAINING)
        return vbd->store == STORE_CLOSING;
    vbd->rings = RINGS_NONE;
    return true;
}

static bool on_store_closed(struct vbd *vbd)
{
    if (vbd->store != STORE_CLOSING)
        return false;
    vbd_answer_came(vbd);
    vbd->rings = RINGS_NONE;
    vbd_set_number(vbd, 0);
    vbd_release_image(vbd);
    vbd->store = STORE_NONE;
    return true;
}

bool vbd_on_close_answer(struct vbd *vbd, const struct worker_message *message)
{
    bool expected;
    if (message->type == WORKER_DISCONNECTED)
        expected = on_disconnected(vbd);
    else if (message->type == WORKER_DRAINED)
        expected = on_drained(vbd);
    else
        expected = on_store_closed(vbd);
    if (!expected)
        return false;
    if (vbd->closing)
        vbd_close_continue(vbd);
    vbd_mark_dirty(vbd);
    return true;
}
