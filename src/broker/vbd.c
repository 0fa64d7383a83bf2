/* SPDX-License-Identifier: BSD-2-Clause */
/* A vbd from its discovery to its end: reads XenStore, asks the state machine, does what it says.
 */
#include "vbd.h"

#include "domain.h"
#include "domains.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORM_EVENTS   50U /* within a second; a connection takes about five */
#define STORM_SECONDS  0.1
#define SETTLE_SECONDS 5.0 /* libxl gives a backend 10 to reach InitWait */

void vbd_log(struct vbd *vbd, enum log_level level, const char *format, ...)
{
    char text[512];
    char vdev[2 * sizeof(vbd->toolstack.vdev)];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    log_limited(&vbd->limit, level, "domain %u, %s: %s", vbd->address.domid,
                log_escape(vbd->toolstack.vdev, vdev, sizeof(vdev)), text);
}

/* ---- discovery and end ---- */

/* The toolstack's word on where the frontend is, held to the domain that the backend path names. */
static int read_frontend_path(struct broker *broker, const char *path,
                              const struct vbd_address *address, char frontend[VBD_FRONTEND_MAX])
{
    char home[40];
    char value[VBD_FRONTEND_MAX];
    int error = xenstore_read_at(broker->xs, path, "frontend", value, sizeof(value));
    if (error != 0)
        return error;
    int length = snprintf(home, sizeof(home), "/local/domain/%u/", address->domid);
    if (strncmp(value, home, (size_t)length) != 0)
        return -EINVAL;
    memcpy(frontend, value, sizeof(value));
    return 0;
}

static bool is_ours(struct broker *broker, const char *path)
{
    char script[XENSTORE_VALUE_MAX + 1];
    int error = xenstore_read_at(broker->xs, path, "script", script, sizeof(script));
    if (error != 0 && error != -ENOENT)
        return false;
    return claim_vbd(broker->config.claim, broker->config.hook, error == 0 ? script : NULL);
}

static void on_settle_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct vbd *vbd = timer->data;
    (void)loop;
    (void)events;
    vbd->settled = true;
    if (vbd->store != STORE_OPEN) {
        vbd_log(vbd, LOG_LEVEL_WARNING, "its store is not open after %.0f s; going to InitWait",
                SETTLE_SECONDS);
    }
    vbd_mark_dirty(vbd);
}

static void frontend_watch(const struct vbd *vbd, char path[VBD_FRONTEND_MAX + 8],
                           char token[VBD_PATH_MAX])
{
    snprintf(path, VBD_FRONTEND_MAX + 8, "%s/state", vbd->frontend);
    snprintf(token, VBD_PATH_MAX, "%s", vbd->path);
}

int vbd_watch_frontend(struct vbd *vbd)
{
    char path[VBD_FRONTEND_MAX + 8];
    char token[VBD_PATH_MAX];
    frontend_watch(vbd, path, token);
    return xenstore_watch(vbd->broker->xs, path, token);
}

void vbd_unwatch_frontend(struct vbd *vbd)
{
    char path[VBD_FRONTEND_MAX + 8];
    char token[VBD_PATH_MAX];
    frontend_watch(vbd, path, token);
    (void)xenstore_unwatch(vbd->broker->xs, path, token);
}

/* Where a vbd that a former broker, or the kernel's backend, has already worked on is taken up. */
static int take_up(struct vbd *vbd, uint32_t backend_state)
{
    vbd->shown = backend_state > XENBUS_INITIALISING;
    switch (backend_state) {
    case XENBUS_CONNECTED:
        return vbd_take_over(vbd);
    case XENBUS_CLOSING:
        vbd->phase = VBD_CLOSING;
        break;
    case XENBUS_CLOSED:
        vbd->phase = VBD_CLOSED;
        break;
    default:
        vbd->phase = VBD_NEW;
        vbd_begin(vbd);
        break;
    }
    return 0;
}

static int create(struct broker *broker, const struct vbd_address *address, const char *path,
                  struct vbd **out)
{
    struct vbd *vbd = calloc(1, sizeof(*vbd));
    if (vbd == NULL)
        return -ENOMEM;
    vbd->broker = broker;
    vbd->address = *address;
    vbd->slab = -1;
    vbd->check_domain = true;
    vbd->online = true;
    snprintf(vbd->path, sizeof(vbd->path), "%s", path);
    ev_timer_init(&vbd->settle, on_settle_timeout, SETTLE_SECONDS, 0.);
    vbd->settle.data = vbd;
    vbd->disk.options = broker->config.disk;
    vbd->limit.dropped = &vbd->log_suppressed;
    log_limit_pace(&vbd->limit, vbd->disk.options.log_lines_per_minute);
    vbd_hook_init(vbd);
    int error = read_frontend_path(broker, path, address, vbd->frontend);
    if (error == 0)
        error = vbd_read_toolstack(vbd);
    vbd->toolstack.fresh = true;
    struct domain *domain;
    if (error == 0)
        error = domain_get(broker, address->domid, &domain);
    if (error == 0)
        error = vbd_watch_frontend(vbd);
    if (error != 0) {
        free(vbd);
        return error;
    }
    domain_add_vbd(domain, vbd);
    domains_add(broker, vbd);
    *out = vbd;
    return 0;
}

int vbd_discover(struct broker *broker, const struct vbd_address *address, struct vbd **out)
{
    char path[VBD_PATH_MAX];
    struct vbd *vbd;
    uint32_t state = 0;

    snprintf(path, sizeof(path), "backend/%s/%u/%u", vbd_class_name(address->class), address->domid,
             address->devid);
    if (!is_ours(broker, path))
        return -ENOENT;
    int error = create(broker, address, path, &vbd);
    if (error != 0)
        return error;
    error = xenstore_read_u32(broker->xs, path, "state", UINT32_MAX, &state);
    if (error != -EPIPE) {
        vbd_make_offer(vbd);
        vbd_log(vbd, LOG_LEVEL_INFO, "found, target %s", vbd->toolstack.target);
        error = take_up(vbd, state);
    }
    if (error != 0) {
        vbd_destroy(vbd);
        return error;
    }
    vbd->toolstack.fresh = false;
    vbd_mark_dirty(vbd);
    *out = vbd;
    return 0;
}

void vbd_set_number(struct vbd *vbd, uint32_t number)
{
    table_remove(&vbd->by_number);
    vbd->number = number;
    if (number != 0)
        table_add(&vbd->broker->numbers, domain_vbd_key(vbd->address.domid, number),
                  &vbd->by_number);
}

void vbd_destroy(struct vbd *vbd)
{
    struct broker *broker = vbd->broker;
    struct domain *domain = vbd->domain;

    vbd_hook_finish(vbd);
    vbd_release_image(vbd);
    ev_timer_stop(broker->loop, &vbd->retry);
    ev_timer_stop(broker->loop, &vbd->settle);
    ev_timer_stop(broker->loop, &vbd->twin);
    ev_timer_stop(broker->loop, &vbd->storm);
    ev_timer_stop(broker->loop, &vbd->drain);
    vbd_answer_came(vbd);
    vbd_pace_stop(vbd);
    if (vbd->dirty)
        TAILQ_REMOVE(&broker->dirty, vbd, in_dirty);
    vbd_set_number(vbd, 0);
    if (vbd->gone)
        TAILQ_REMOVE(&broker->ghosts, vbd, in_broker);
    else
        domains_remove(broker, vbd);
    domain_remove_vbd(domain, vbd);
    broker_trim_later(broker);
    free(vbd);
}

void vbd_mark_dirty(struct vbd *vbd)
{
    if (!vbd->dirty) {
        vbd->dirty = true;
        TAILQ_INSERT_TAIL(&vbd->broker->dirty, vbd, in_dirty);
    }
}

static void on_storm_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    vbd_mark_dirty(timer->data);
}

void vbd_frontend_changed(struct vbd *vbd)
{
    struct ev_loop *loop = vbd->broker->loop;
    double now = broker_seconds();

    if (now - vbd->storm_since >= 1.) {
        vbd->storm_since = now;
        vbd->storm_events = 0;
    }
    if (++vbd->storm_events <= STORM_EVENTS) {
        vbd_mark_dirty(vbd);
    } else if (!ev_is_active(&vbd->storm)) {
        ev_timer_init(&vbd->storm, on_storm_timeout, STORM_SECONDS, 0.);
        vbd->storm.data = vbd;
        vbd->states_delayed++;
        ev_timer_start(loop, &vbd->storm);
    }
}

void vbd_fail(struct vbd *vbd, int error, const char *reason)
{
    if (reason != vbd->reason)
        snprintf(vbd->reason, sizeof(vbd->reason), "%s", reason);
    vbd_log(vbd, LOG_LEVEL_ERROR, "%s", reason);
    vbd_publish_error(vbd, error, reason);
    vbd->phase = VBD_CLOSING;
    (void)vbd_publish_state(vbd, XENBUS_CLOSING);
    vbd_mark_dirty(vbd);
}

/* A new cycle: to InitWait, with the store open by then if that is quick. */
void vbd_begin(struct vbd *vbd)
{
    vbd->phase = VBD_NEW;
    vbd->settled = vbd->store == STORE_OPEN;
    if (vbd->settled)
        return;
    ev_timer_set(&vbd->settle, SETTLE_SECONDS, 0.);
    ev_timer_start(vbd->broker->loop, &vbd->settle);
    if (vbd->store == STORE_NONE || vbd->store == STORE_FAILED)
        vbd_open_start(vbd);
}

void vbd_worker_lost(struct vbd *vbd, const char *how)
{
    bool had_store =
        vbd->store == STORE_OPENING || vbd->store == STORE_OPEN || vbd->store == STORE_CLOSING;
    bool leaving = vbd->gone || vbd->store == STORE_CLOSING ||
                   (vbd->closing && vbd->rings != RINGS_CONNECTED && vbd->rings != RINGS_FINISHING);

    vbd_answer_came(vbd);
    vbd_set_number(vbd, 0);
    vbd->unfenced |= had_store;
    if (vbd->broker->stopping)
        return; /* everything stays as it is for a successor */
    if (!had_store && vbd->store != STORE_WAITS)
        return;
    if (!leaving) {
        vbd_recover(vbd, how);
        return;
    }
    vbd->rings = RINGS_NONE;
    vbd->taking_up = false;
    vbd->offer.store_known = false;
    if (!vbd_wait_for_fence(vbd)) {
        vbd_release_image(vbd);
        vbd->store = STORE_NONE;
    }
    if (vbd->closing)
        vbd_close_continue(vbd);
    vbd_mark_dirty(vbd);
}
