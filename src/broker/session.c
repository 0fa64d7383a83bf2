/* SPDX-License-Identifier: BSD-2-Clause */
/* The session with xenstored: noticing its end, having another, looking at everything anew. */
#include "session.h"

#include "control_server.h"
#include "domain.h"
#include "domains.h"

#include <errno.h>
#include <string.h>

#define RETRY_SECONDS 1.0

/* Where the session's end is no event it is asked for. */
static void take_events(struct broker *broker)
{
    const int hangup = xenstore_hangup_fd(broker->xs);

    ev_io_set(&broker->xs_ready, xenstore_fd(broker->xs), EV_READ);
    ev_io_start(broker->loop, &broker->xs_ready);
    if (hangup >= 0) {
        ev_io_set(&broker->xs_hangup, hangup, EV_READ);
        ev_io_start(broker->loop, &broker->xs_hangup);
    }
    broker_look_later(broker);
}

static int set_watches(struct broker *broker)
{
    struct vbd *vbd;
    int error = domains_watch(broker);

    TAILQ_FOREACH(vbd, &broker->vbds, in_broker)
    {
        if (error == 0)
            error = vbd_watch_frontend(vbd);
    }
    return error;
}

/* First the watches, so that nothing is missed between them and the looks. */
static int begin_anew(struct broker *broker)
{
    struct vbd *vbd;

    int error = xenstore_reopen(broker->xs);
    if (error == 0)
        error = set_watches(broker);
    if (error != 0)
        return error;
    domain_look_anew(broker);
    TAILQ_FOREACH(vbd, &broker->vbds, in_broker)
    {
        vbd->look_anew = true;
        vbd->check_domain = true;
        vbd_mark_dirty(vbd);
    }
    return 0;
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct broker *broker = timer->data;
    (void)events;

    int error = begin_anew(broker);
    if (error != 0) {
        log_debug("xenstored: %s", strerror(-error));
        return;
    }
    ev_timer_stop(loop, timer);
    broker->session_lost = false;
    take_events(broker);
    log_info("connected to xenstored again; everything is looked at anew");
}

static void on_xenstore(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct broker *broker = watcher->data;
    (void)loop;
    (void)events;
    if (domains_take_events(broker) != 0)
        session_check(broker);
}

static void on_hangup(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct broker *broker = watcher->data;
    (void)events;

    ev_io_stop(loop, watcher);
    (void)xenstore_alive(broker->xs);
    session_check(broker);
    broker_look_later(broker);
}

void session_start(struct broker *broker)
{
    ev_init(&broker->xs_hangup, on_hangup);
    broker->xs_hangup.data = broker;
    ev_init(&broker->xs_ready, on_xenstore);
    broker->xs_ready.data = broker;
    ev_timer_init(&broker->xs_retry, on_retry, RETRY_SECONDS, RETRY_SECONDS);
    broker->xs_retry.data = broker;
    take_events(broker);
}

void session_stop(struct broker *broker)
{
    ev_io_stop(broker->loop, &broker->xs_ready);
    ev_io_stop(broker->loop, &broker->xs_hangup);
    ev_timer_stop(broker->loop, &broker->xs_retry);
}

void session_check(struct broker *broker)
{
    if (broker->session_lost || broker->stopping || !xenstore_lost(broker->xs))
        return;
    broker->session_lost = true;
    log_error("the connection to xenstored is lost: disks go on being served, but none can come or "
              "go until it is back");
    ev_io_stop(broker->loop, &broker->xs_ready);
    ev_io_stop(broker->loop, &broker->xs_hangup);
    ev_timer_again(broker->loop, &broker->xs_retry);
    broker_look_later(broker);
}

bool session_look(struct broker *broker)
{
    struct vbd *vbd;
    bool again = false;

    if (!broker->session_lost && !ev_is_active(&broker->xs_hangup))
        (void)xenstore_alive(broker->xs);
    session_check(broker);
    /* Nobody tells of the end of these domains. */
    TAILQ_FOREACH(vbd, &broker->vbds, in_broker)
    {
        if (broker->session_lost || vbd->forgotten) {
            vbd_mark_dirty(vbd);
            again = true;
        }
    }
    return again || !ev_is_active(&broker->xs_hangup);
}

bool session_refuses(struct broker *broker, struct control_call_token *token)
{
    if (broker->stopping)
        return false;
    if (!broker->session_lost)
        (void)xenstore_alive(broker->xs);
    session_check(broker);
    if (broker->session_lost) {
        control_reply(token, -ENOTCONN,
                      "the connection to xenstored is lost, and tried again each second; until it "
                      "is back no disk can be attached, detached or changed");
    }
    return broker->session_lost;
}
