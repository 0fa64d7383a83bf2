/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread that serves queues: see io_thread.h. What reaches it from others is in io_mailbox.c. */
#include "io_thread.h"

#include "blkback/thread.h"
#include "io_mailbox.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define IDLE_MS 5000U

/* In between queues are served; see BUFFER_TRIM_MOST. */
#define TRIM_MORE_MS 50U

/* While work is found by looking, a queue that is alone on its thread has so many passes before the
 * loop looks at everything else. */
#define PASSES_PER_WAIT 8U

/* It looks so often between two readings of the clock, which may be a system call (loop.c). */
#define LOOKS_PER_READING 16U

/* io_thread.asleep_since of a sleep that nobody asks the length of. */
#define NOT_MEASURED UINT64_MAX

/* How soon the kernel is offered again what it had no resources for. */
#define COMMIT_RETRY_MS 1U

/* How long a thread is waited for that is to end. */
#define END_SECONDS 2

static void reap(struct io_thread *thread, struct engine *engine)
{
    if (engine->ops->reap(engine) > 0)
        thread->turn.freed = true;
}

/*
 * Completions of an io_uring are looked for in memory, which costs nothing: whatever the loop woke
 * up for, and when its wait was interrupted by the kernel to finish them on this thread, it need
 * not wait again to learn of them.
 */
static void reap_uring(struct io_thread *thread)
{
    struct engine *uring = thread->engines.uring;

    if (uring && uring->in_flight > 0)
        reap(thread, uring);
}

static void work(struct io_thread *thread)
{
    /* Activity: some time after the last of it memory is given back. An idle worker has no timer.
     */
    if (thread->turn.ready && !thread->idle_timer.armed)
        loop_start_timer(&thread->loop, &thread->idle_timer, IDLE_MS);
    turn_run(&thread->turn);
    const int error = engine_set_commit(&thread->engines);

    if (error == -EAGAIN)
        loop_start_timer(&thread->loop, &thread->commit_timer, COMMIT_RETRY_MS);
    else if (error)
        log_limited(&thread->log_limit, LOG_LEVEL_ERROR,
                    "domain %u: can't hand I/O to the kernel: %s", thread->domid, strerror(-error));
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Tells a processor that shares its core with others that it is only waiting. */
static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/*
 * A kernel thread that has I/O to do for this one is often put on the same CPU, which looking would
 * keep from it. Nor would its completions come in more than ones then.
 */
static void let_kernel_work(const struct io_thread *thread)
{
    if (thread->engines.uring && thread->engines.uring->by_thread > 0)
        (void)sched_yield();
}

static bool look_for_work(struct io_thread *thread)
{
    let_kernel_work(thread);

    for (unsigned looks = 0; looks < LOOKS_PER_READING; looks++) {
        reap_uring(thread);
        if (turn_poll(&thread->turn))
            return true;
        pause_cpu();
    }
    return false;
}

/* Looks for requests and completions until there are some or the window is over. */
static bool poll_for_work(struct io_thread *thread)
{
    uint64_t until = 0;

    while (!look_for_work(thread)) {
        const uint64_t now = now_ns();

        if (until == 0) {
            until = now + thread->window.max_ns;
        } else if (now >= until) {
            poll_window_missed(&thread->window);
            return false;
        }
    }
    poll_window_hit(&thread->window);
    return true;
}

/* What a thread that slept learns of it when it is awake. */
static void note_sleep(struct io_thread *thread)
{
    const uint64_t since = thread->asleep_since;

    thread->asleep_since = 0;
    if (since != 0 && thread->turn.ready)
        poll_window_slept(&thread->window, since == NOT_MEASURED ? 0 : now_ns() - since);
}

static void fall_asleep(struct io_thread *thread)
{
    if (thread->window.max_ns == 0 || thread->turn.ready)
        return;
    thread->asleep_since = poll_window_judges(&thread->window) ? now_ns() : NOT_MEASURED;
}

static bool turn(void *context)
{
    struct io_thread *thread = context;

    const unsigned most = thread->turn.queues > 1 ? 1 : PASSES_PER_WAIT;

    reap_uring(thread);
    note_sleep(thread);
    for (unsigned passes = 0; passes < most; passes++) {
        thread->turn.polling = thread->window.open;
        work(thread);
        if (thread->turn.ready)
            return true;
        /* What was completed while it was handed over, as reads from the page cache are. */
        reap_uring(thread);
        if (thread->turn.ready || (thread->window.open && poll_for_work(thread)))
            continue;
        turn_arm(&thread->turn);
        fall_asleep(thread);
        return thread->turn.ready != NULL;
    }
    return true;
}

static void engine_ready(struct loop_source *source)
{
    const struct engine_source *mine = (struct engine_source *)source;

    reap(mine->thread, mine->engine);
}

/* Returns whether some stay mapped. */
static bool trim_grants(struct io_thread *thread)
{
    bool any = false;

    for (struct served_queue *served = thread->queues; served; served = served->next)
        any |= queue_trim(served->queue);
    return any;
}

static void forget_registered(void *context, const void *start, uint64_t bytes)
{
    struct io_thread *thread = context;
    struct engine *uring = thread->engines.uring;

    if (!uring)
        return;
    const int error = engine_uring_registers(uring);

    if (error && error != -EINVAL)
        log_debug("domain %u: the kernel did not register all buffers: %s", thread->domid,
                  strerror(-error));
    engine_uring_forget(uring, start, bytes);
}

/* An idle worker has no timer: this ends some rounds after the last activity. */
static void idle(struct loop_timer *timer)
{
    struct io_thread *thread =
        (struct io_thread *)((char *)timer - offsetof(struct io_thread, idle_timer));
    const enum buffer_trim left = buffer_pool_trim(thread->turn.buffers, forget_registered, thread);

    if (left == BUFFER_TRIM_MORE)
        loop_start_timer(&thread->loop, &thread->idle_timer, TRIM_MORE_MS);
    else if (trim_grants(thread) || left == BUFFER_TRIM_LATER)
        loop_start_timer(&thread->loop, &thread->idle_timer, IDLE_MS);
}

static void commit_again(struct loop_timer *timer)
{
    (void)timer; /* the turn that follows every timer commits */
}

static void stop(struct io_post *post)
{
    ((struct io_thread *)((char *)post - offsetof(struct io_thread, stop)))->loop.stopped = true;
}

static void trim(struct io_post *post)
{
    (void)trim_grants((struct io_thread *)((char *)post - offsetof(struct io_thread, trim)));
}

static int failed(const char *what, int error)
{
    log_error("can't %s: %s", what, strerror(-error));
    return error;
}

static int add_engine(struct io_thread *thread, struct engine_source *source, struct engine *engine)
{
    if (!engine)
        return 0;
    *source = (struct engine_source){
        .source = {.fd = engine->ops->event_fd(engine), .ready = engine_ready},
        .engine = engine,
        .thread = thread};
    return loop_add(&thread->loop, &source->source);
}

static int create_engines(struct io_thread *thread, unsigned depth)
{
    const struct engine_memory memory = buffer_pool_memory(thread->turn.buffers);
    int error = engine_set_create(depth, &memory, &thread->engines);

    if (!error)
        error = add_engine(thread, &thread->engine_sources[0], thread->engines.uring);
    if (!error)
        error = add_engine(thread, &thread->engine_sources[1], thread->engines.aio);
    if (!error)
        error = add_engine(thread, &thread->engine_sources[2], thread->engines.slow);
    if (!error && thread->engines.uring && engine_uring_registers(thread->engines.uring))
        log_debug("domain %u: io_uring registers no buffers: %s", thread->domid,
                  strerror(-engine_uring_registers(thread->engines.uring)));
    return error;
}

int io_thread_create(const struct io_thread_params *params, struct io_thread *out)
{
    *out = (struct io_thread){.domid = params->domid,
                              .number = params->number,
                              .window.max_ns = (uint64_t)params->poll_us * 1000U,
                              .idle_timer.fire = idle,
                              .commit_timer.fire = commit_again,
                              .stop.run = stop,
                              .trim.run = trim,
                              .mailbox.event.fd = -1};
    int error = loop_create(&out->loop, turn, out);

    if (error)
        return failed("create the event loop", error);
    if (params->threads > 1)
        error = io_mailbox_create(out);
    if (error)
        return failed("create a thread's mailbox", error);
    error = gnttab_open(&out->gnttab);
    if (error)
        return failed("open the grant device (is the module xen-gntdev loaded?)", error);
    out->turn.gnttab = out->gnttab;
    out->turn.domid = params->domid;
    out->turn.budget = params->budget;
    out->turn.engines = &out->engines;
    out->turn.now_ms = loop_now_ms;
    error = guest_memory_create(out->gnttab, params->domid, &out->turn.memory);
    if (!error)
        error = buffer_pool_create(params->buffer_bytes, &out->turn.buffers);
    if (error)
        return failed("allocate data buffers", error);
    error = create_engines(out, params->depth);
    return error ? failed("create the I/O engines", error) : 0;
}

/* ---- the thread itself ---- */

static void *run(void *context)
{
    struct io_thread *thread = context;
    char name[16];

    (void)snprintf(name, sizeof(name), "queues-%u", thread->number);
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
    /* A thread's own. Credentials are changed for all threads at once, by the C library. */
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const int error = loop_run(&thread->loop);

    if (error) {
        /* Its queues would never be served again: a successor takes over. */
        log_error("domain %u: thread %u can't go on: %s", thread->domid, thread->number,
                  strerror(-error));
        _exit(EXIT_FAILURE);
    }
    io_mailbox_end(thread);
    return NULL;
}

static void do_nothing(void *context)
{
    (void)context;
}

int io_thread_start(struct io_thread *thread)
{
    const int error = thread_start(run, thread, &thread->id);

    if (error)
        return error;
    thread->started = true;
    io_thread_call(thread, do_nothing, NULL);
    return 0;
}

/* Whether the thread runs no more. */
static bool end(struct io_thread *thread)
{
    if (!thread->started)
        return true;
    io_thread_post(thread, &thread->stop);
    return io_mailbox_wait_for_end(thread, END_SECONDS) && pthread_join(thread->id, NULL) == 0;
}

bool io_thread_destroy(struct io_thread *thread)
{
    if (!end(thread))
        return false;
    thread->started = false;
    guest_memory_destroy(thread->turn.memory);
    thread->turn.memory = NULL;
    gnttab_close(thread->gnttab);
    thread->gnttab = NULL;
    io_mailbox_destroy(thread);
    loop_destroy(&thread->loop);
    return true;
}

/* ---- queues ---- */

void io_thread_trim_grants(struct io_thread *thread)
{
    if (thread->started)
        io_thread_post(thread, &thread->trim);
    else
        (void)trim_grants(thread);
}

int io_thread_serve(struct io_thread *thread, struct served_queue *served)
{
    const int error = loop_add(&thread->loop, &served->event);

    if (error)
        return error;
    served->next = thread->queues;
    served->at = &thread->queues;
    if (served->next)
        served->next->at = &served->next;
    thread->queues = served;
    return 0;
}

void io_thread_leave(struct io_thread *thread, struct served_queue *served)
{
    if (!served->at)
        return;
    *served->at = served->next;
    if (served->next)
        served->next->at = served->at;
    served->at = NULL;
    loop_remove(&thread->loop, &served->event);
}
