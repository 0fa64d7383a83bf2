/* SPDX-License-Identifier: BSD-2-Clause */
/* The evaluation of a vbd: reads XenStore, asks the state machine, does what it says. */
#include "vbd.h"

#include "domain.h"
#include "domains.h"

#include <errno.h>
#include <string.h>

#define STEPS_PER_TURN 8U
#define TWIN_SECONDS   0.1

/* What XenStore says at one moment. */
struct view {
    bool exists;
    bool online;
    bool hotplug_connected;
    uint32_t backend_state;
    uint32_t frontend_state;
};

/* Whether a read says something about the node: that it isn't there, or is nonsense, does. */
static bool answered(int error)
{
    return error == 0 || error == -ENOENT || error == -EINVAL || error == -ERANGE ||
           error == -E2BIG || error == -EILSEQ || error == -EACCES;
}

/* Whether it is known without XenStore that the hook has run, or that there is none. */
static bool attached(const struct vbd *vbd)
{
    return vbd->hook.asked || !vbd->toolstack.has_script;
}

static int read_backend(struct vbd *vbd, struct view *view)
{
    struct xenstore *xs = vbd->broker->xs;
    char text[VBD_FRONTEND_MAX];
    uint32_t online = 1;

    int error = xenstore_read_at(xs, vbd->path, "frontend", text, sizeof(text));
    view->exists = error != -ENOENT;
    if (!answered(error) || !view->exists)
        return answered(error) ? 0 : error;
    error = xenstore_read_u32(xs, vbd->path, "online", UINT32_MAX, &online);
    view->online = online != 0;
    if (answered(error))
        error = xenstore_read_u32(xs, vbd->path, "state", UINT32_MAX, &view->backend_state);
    if (answered(error) && !attached(vbd)) {
        error = xenstore_read_at(xs, vbd->path, "hotplug-status", text, sizeof(text));
        view->hotplug_connected = error == 0 && strcmp(text, "connected") == 0;
    }
    return answered(error) ? 0 : error;
}

/* Returns 0, or -errno when xenstored does not answer: then nothing is known and nothing follows.
 */
static int read_view(struct vbd *vbd, struct view *view)
{
    *view = (struct view){.frontend_state = XENBUS_UNKNOWN};
    int error = read_backend(vbd, view);
    if (error != 0 || !view->exists)
        return error;
    if (vbd->check_domain) {
        vbd->check_domain = false;
        vbd->domain_dead = domain_is_dead(vbd->domain);
    }
    if (!vbd->domain_dead)
        error = xenstore_read_u32(vbd->broker->xs, vbd->frontend, "state", UINT32_MAX,
                                  &view->frontend_state);
    return answered(error) ? 0 : error;
}

/* Out of sight: another vbd may come under the same path while the worker still finishes with this
 * one. */
static void become_ghost(struct vbd *vbd)
{
    vbd_log(vbd, LOG_LEVEL_INFO, "removed");
    vbd_unwatch_frontend(vbd);
    vbd_remove_error(vbd);
    vbd_status_remove(vbd);
    domains_remove(vbd->broker, vbd);
    TAILQ_INSERT_TAIL(&vbd->broker->ghosts, vbd, in_broker);
    vbd->gone = true;
    vbd->closing = false;
    vbd->online = false;
    ev_timer_stop(vbd->broker->loop, &vbd->drain);
    vbd_pace_stop(vbd);
}

/* The directory was removed and another made in its place before we looked. */
static void replace(struct vbd *vbd)
{
    struct vbd *successor;
    become_ghost(vbd);
    int error = vbd_discover(vbd->broker, &vbd->address, &successor);
    if (error != 0 && error != -ENOENT)
        vbd_log(vbd, LOG_LEVEL_ERROR, "its successor can't be taken: %s", strerror(-error));
}

static void evaluate_ghost(struct vbd *vbd)
{
    if (vbd->rings == RINGS_CONNECTED || vbd->rings == RINGS_FINISHING)
        vbd_disconnect(vbd);
    if (vbd->rings == RINGS_LOST)
        vbd->rings = RINGS_NONE;
    if (vbd->rings == RINGS_CONNECTING)
        vbd_hurry_connect(vbd);
    if (vbd->rings != RINGS_CONNECTING && vbd_let_go(vbd))
        vbd_destroy(vbd);
}

/* Whether the toolstack has replaced the directory by another disk's since it was read. */
static bool toolstack_differs(struct vbd *vbd)
{
    struct vbd_toolstack now;
    if (vbd_read_identity(vbd, &now) != 0)
        return false; /* it is being removed: the next look shows that */
    return strcmp(now.target, vbd->toolstack.target) != 0 ||
           now.read_only != vbd->toolstack.read_only || now.shared != vbd->toolstack.shared ||
           now.cdrom != vbd->toolstack.cdrom;
}

static bool enter_init_wait(struct vbd *vbd)
{
    if (vbd->phase == VBD_CLOSED) {
        if (vbd->store == STORE_CLOSING || vbd->store == STORE_FENCING)
            return false;
        vbd_begin(vbd);
        return true;
    }
    if (!vbd->settled)
        return false;
    ev_timer_stop(vbd->broker->loop, &vbd->settle);
    if (toolstack_differs(vbd)) {
        replace(vbd);
        return false;
    }
    vbd_make_offer(vbd);
    if (vbd_publish_init_wait(vbd) == 0) {
        vbd->phase = VBD_INIT_WAIT;
        vbd_hook_update(vbd);
    }
    return false; /* state 2 is to be seen before anything follows it */
}

static bool start_closing(struct vbd *vbd)
{
    vbd->phase = VBD_CLOSING;
    if (vbd->store == STORE_OPEN && vbd->rings == RINGS_CONNECTED)
        vbd_limits_send(vbd); /* what it has asked for does not hold it up */
    return vbd_publish_state(vbd, XENBUS_CLOSING) == 0;
}

static void on_twin_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    vbd_mark_dirty(timer->data);
}

static bool may_connect_now(struct vbd *vbd)
{
    if (!vbd->may_connect || vbd->store != STORE_OPEN || vbd->rings != RINGS_NONE)
        return false;
    if (ev_is_active(&vbd->twin))
        return false;
    if (vbd->image != NULL && image_held_by_twin(vbd->broker->images, vbd->image)) {
        ev_timer_init(&vbd->twin, on_twin_timeout, TWIN_SECONDS, 0.);
        vbd->twin.data = vbd;
        ev_timer_start(vbd->broker->loop, &vbd->twin);
        return false;
    }
    return vbd_pace_take(vbd);
}

/* Returns true if something was done that the state machine is to be asked about again. */
static bool perform(struct vbd *vbd, enum vbd_action action)
{
    switch (action) {
    case VBD_NOTHING:
        return false;
    case VBD_ENTER_INIT_WAIT:
        return enter_init_wait(vbd);
    case VBD_CONNECT:
        if (may_connect_now(vbd))
            vbd_connect(vbd);
        return false;
    case VBD_CHECK_RINGS:
        if (vbd->rings == RINGS_CONNECTED)
            (void)vbd_check_rings(vbd);
        return false;
    case VBD_START_CLOSING:
        return start_closing(vbd);
    case VBD_CLOSE:
        ev_timer_stop(vbd->broker->loop, &vbd->settle);
        vbd_close_start(vbd);
        return false;
    }
    return false;
}

/* A worker operation is under way; its end has the vbd evaluated again. */
static bool busy(const struct vbd *vbd)
{
    return vbd->closing || vbd->rings == RINGS_CONNECTING || vbd->rings == RINGS_DISCONNECTING;
}

/* Returns false when the nodes are not this disk's any more, or that can't be told now. */
static bool still_the_same(struct vbd *vbd, const struct view *view)
{
    bool made_anew = view->backend_state == XENBUS_INITIALISING && vbd->phase != VBD_NEW;
    enum vbd_look look = VBD_LOOK_SAME;
    if (made_anew) /* we never show state 1 */
        look = VBD_LOOK_OTHER;
    else if (vbd->look_anew || vbd->forgotten)
        look = vbd_look_anew(vbd, view->backend_state, view->frontend_state);
    if (look == VBD_LOOK_OTHER)
        replace(vbd);
    return look == VBD_LOOK_SAME;
}

static bool step(struct vbd *vbd)
{
    struct view view;
    if (vbd_ended_unseen(vbd)) {
        become_ghost(vbd);
        return false;
    }
    if (read_view(vbd, &view) != 0)
        return false;
    if (!view.exists) {
        if (vbd_look_for_nodes(vbd) == VBD_LOOK_OTHER)
            become_ghost(vbd);
        return false;
    }
    if (!still_the_same(vbd, &view))
        return false;
    vbd->online = view.online && !vbd->hook.leave;
    vbd->frontend_there = view.frontend_state != XENBUS_UNKNOWN;
    vbd->may_connect = attached(vbd) || view.hotplug_connected;
    if (vbd->rings == RINGS_CONNECTING && !vbd->closing &&
        vbd_fsm(vbd->phase, view.frontend_state, vbd->online) == VBD_CLOSE)
        vbd_hurry_connect(vbd);
    if (busy(vbd))
        return false;
    if (view.backend_state == XENBUS_CLOSING && vbd->phase != VBD_NEW)
        vbd->phase = VBD_CLOSING; /* whoever wrote it */
    enum vbd_action action = vbd_fsm(vbd->phase, view.frontend_state, vbd->online);
    bool leaving = view.frontend_state == XENBUS_CLOSING || view.frontend_state == XENBUS_CLOSED;
    if (vbd->phase == VBD_INIT_WAIT && vbd->online && leaving && !vbd->may_connect)
        action = VBD_NOTHING; /* the hook has yet to see InitWait */
    if (action != VBD_CONNECT)
        vbd_pace_stop(vbd);
    if (action == VBD_NOTHING && vbd->phase == VBD_CLOSED && !vbd->online &&
        vbd->rings == RINGS_NONE)
        (void)vbd_let_go(vbd);
    return perform(vbd, action);
}

void vbd_evaluate(struct vbd *vbd)
{
    for (unsigned i = 0; i < STEPS_PER_TURN && !vbd->gone && step(vbd); i++) {
    }
    if (vbd->gone) {
        evaluate_ghost(vbd);
        return;
    }
    vbd_medium_look(vbd);
    vbd_hook_update(vbd);
    vbd_status_save(vbd);
}
