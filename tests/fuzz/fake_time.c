/* SPDX-License-Identifier: BSD-2-Clause */
/* Timers that fire when the fuzz input says: see fake_time.h. */
#include "fake_time.h"

#include "broker.h"
#include "fuzz.h"

#include <ev.h>

#define TIMERS_MAX 64U

static ev_timer *timers[TIMERS_MAX];
static unsigned count;
static double now = 1000.;

void fake_time_reset(void)
{
    CHECK(count == 0);
    now = 1000.;
}

ev_tstamp ev_now(struct ev_loop *loop) EV_NOEXCEPT
{
    (void)loop;
    return now;
}

double broker_seconds(void)
{
    return now;
}

void ev_timer_start(struct ev_loop *loop, ev_timer *timer) EV_NOEXCEPT
{
    (void)loop;
    if (timer->active)
        return;
    /* One that has fired and was not set anew would fire in every turn of the loop. */
    CHECK(count < TIMERS_MAX && timer->cb != NULL && timer->at > 0.);
    for (unsigned i = 0; i < count; i++)
        CHECK(timers[i] != timer); /* it was made anew while it ran */
    timer->at += now;
    timer->active = 1;
    timers[count++] = timer;
}

void ev_timer_stop(struct ev_loop *loop, ev_timer *timer) EV_NOEXCEPT
{
    (void)loop;
    if (!timer->active)
        return;
    timer->active = 0;
    for (unsigned i = 0; i < count; i++) {
        if (timers[i] == timer) {
            timers[i] = timers[--count];
            return;
        }
    }
    CHECK(false); /* it was freed and is another one by now */
}

static ev_timer *next_until(double end)
{
    ev_timer *first = NULL;

    for (unsigned i = 0; i < count; i++)
        if (timers[i]->at <= end && (!first || timers[i]->at < first->at))
            first = timers[i];
    return first;
}

void fake_time_pass(double seconds)
{
    const double end = now + seconds;

    for (ev_timer *timer; (timer = next_until(end)) != NULL;) {
        now = timer->at > now ? timer->at : now;
        ev_timer_stop(NULL, timer);
        timer->at = 0.; /* as good as: libev leaves what is left of it, which is nothing */
        timer->cb(NULL, timer, EV_TIMER);
    }
    now = end;
}

unsigned fake_time_running(void)
{
    return count;
}
