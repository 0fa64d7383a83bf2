/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How often a frontend may connect. Each handshake costs the broker a transaction, event channels,
 * mappings and messages, and the guest next to nothing: one that connects and closes without end is
 * slowed down to `reconnects-per-minute`. It is never refused, and one that reboots is not slowed.
 */
#include "vbd.h"

static void on_token(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    vbd_mark_dirty(timer->data);
}

static void fill(struct vbd_pace *pace, double limit, double now)
{
    if (pace->filled_at == 0)
        pace->tokens = limit;
    else
        pace->tokens += (now - pace->filled_at) * limit / 60.;
    if (pace->tokens > limit)
        pace->tokens = limit;
    pace->filled_at = now;
}

bool vbd_pace_take(struct vbd *vbd)
{
    struct vbd_pace *pace = &vbd->pace;
    struct ev_loop *loop = vbd->broker->loop;
    const double limit = vbd->disk.options.reconnects_per_minute;

    fill(pace, limit, broker_seconds());
    if (limit == 0 || pace->tokens >= 1) {
        vbd_pace_stop(vbd);
        pace->tokens -= limit == 0 ? 0 : 1;
        pace->connects++;
        return true;
    }
    if (!pace->waits) {
        pace->waits = true;
        pace->delayed++;
        vbd_log(vbd, LOG_LEVEL_WARNING, "%s", vbd_pace_reason(vbd));
    }
    if (!ev_is_active(&pace->timer)) {
        ev_timer_init(&pace->timer, on_token, (1 - pace->tokens) * 60. / limit + 0.001, 0.);
        pace->timer.data = vbd;
        ev_timer_start(loop, &pace->timer);
    }
    return false;
}

const char *vbd_pace_reason(const struct vbd *vbd)
{
    return vbd->pace.waits ? "waits: the guest connects more often than reconnects-per-minute"
                           : NULL;
}

void vbd_pace_stop(struct vbd *vbd)
{
    vbd->pace.waits = false;
    ev_timer_stop(vbd->broker->loop, &vbd->pace.timer);
}
