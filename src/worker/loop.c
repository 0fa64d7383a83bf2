/* SPDX-License-Identifier: BSD-2-Clause */
/* The worker's event loop: see loop.h. */
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

/* A timer further away than this is waited for by the coarse clock, which stands still from one
 * tick of the kernel to the next, for up to 10 ms. */
#define FAR_MS 1000U

static uint64_t read_ms(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t loop_now_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

/*
 * The time as far as timers need it whose first is due at `due`. In a Xen PV guest, as dom0 mostly
 * is, reading the clock is a system call and costs as much as one; reading its last tick is not.
 * That is good enough while no timer is near, which is nearly always.
 */
static uint64_t now_for(uint64_t due)
{
    const uint64_t tick = read_ms(CLOCK_MONOTONIC_COARSE);

    return tick + FAR_MS < due ? tick : loop_now_ms();
}

int loop_create(struct loop *loop, bool (*turn)(void *context), void *context)
{
    const int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0)
        return -errno;
    *loop = (struct loop){.epoll_fd = fd, .turn = turn, .context = context};
    return 0;
}

int loop_add(struct loop *loop, struct loop_source *source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    /* An event of it may be waiting in this very batch. */
    for (int i = 0; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == source)
            loop->events[i].data.ptr = NULL;
}

/* Two heaps, of which one may be empty. What they were linked to is forgotten. */
static struct loop_timer *merge(struct loop_timer *one, struct loop_timer *other)
{
    if (!one || !other)
        return one ? one : other;
    struct loop_timer *first = other->due_ms < one->due_ms ? other : one;
    struct loop_timer *later = first == one ? other : one;

    later->next = first->child;
    if (later->next)
        later->next->back = later;
    later->back = first;
    first->child = later;
    first->next = first->back = NULL;
    return first;
}

/* The children of one that goes: by pairs, and these from the last to the first, which keeps heaps
 * flat. */
static struct loop_timer *merge_children(struct loop_timer *child)
{
    struct loop_timer *pairs = NULL, *all = NULL;

    while (child) {
        struct loop_timer *one = child;
        struct loop_timer *other = one->next;
        struct loop_timer *rest = other ? other->next : NULL;

        one->next = one->back = NULL;
        one = merge(one, other);
        one->next = pairs;
        pairs = one;
        child = rest;
    }
    while (pairs) {
        struct loop_timer *rest = pairs->next;

        pairs->next = NULL;
        all = merge(all, pairs);
        pairs = rest;
    }
    return all;
}

void loop_stop_timer(struct loop *loop, struct loop_timer *timer)
{
    if (!timer->armed)
        return;
    struct loop_timer *below = merge_children(timer->child);

    if (timer->back) {
        if (timer->back->child == timer)
            timer->back->child = timer->next;
        else
            timer->back->next = timer->next;
        if (timer->next)
            timer->next->back = timer->back;
        below = merge(loop->timers, below);
    }
    loop->timers = below;
    timer->child = timer->next = timer->back = NULL;
    timer->armed = false;
}

void loop_start_timer(struct loop *loop, struct loop_timer *timer, uint64_t milliseconds)
{
    loop_stop_timer(loop, timer);
    timer->due_ms = loop_now_ms() + milliseconds;
    timer->armed = true;
    loop->timers = merge(loop->timers, timer);
}

static int timeout_ms(const struct loop *loop)
{
    if (!loop->timers)
        return -1;
    const uint64_t now = now_for(loop->timers->due_ms);

    if (loop->timers->due_ms <= now)
        return 0;
    const uint64_t left = loop->timers->due_ms - now;

    return left > INT_MAX ? INT_MAX : (int)left;
}

static void fire_timers(struct loop *loop)
{
    if (!loop->timers)
        return;
    const uint64_t now = now_for(loop->timers->due_ms);

    while (loop->timers && loop->timers->due_ms <= now) {
        struct loop_timer *timer = loop->timers;

        loop_stop_timer(loop, timer);
        timer->fire(timer);
    }
}

int loop_run(struct loop *loop)
{
    bool again = false;

    while (!loop->stopped) {
        const int count =
            epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, again ? 0 : timeout_ms(loop));

        if (count < 0 && errno != EINTR)
            return -errno;
        loop->event_count = count < 0 ? 0 : count;
        for (int i = 0; i < loop->event_count; i++) {
            struct loop_source *source = loop->events[i].data.ptr;

            if (source)
                source->ready(source);
        }
        loop->event_count = 0;
        fire_timers(loop);
        again = loop->turn(loop->context);
    }
    return 0;
}

void loop_destroy(struct loop *loop)
{
    if (loop->epoll_fd > 0)
        (void)close(loop->epoll_fd);
    loop->epoll_fd = -1;
}
