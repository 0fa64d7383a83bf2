/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker: setting up, the turn of its loop, the messages of the broker. */
#include "worker.h"

#include "blkback/log.h"
#include "vbd.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* I/Os in flight at once in each engine, over all vbds of the domain; more wait in their queues. */
#define ENGINE_DEPTH        512U
#define ENGINE_DEPTH_SHARED 256U /* of each thread's, where there are several */

/* How long a worker stays for what it has started, once the broker has hung up. */
#define LEAVE_MS 3000U

/* How long after the last vbd that went the memory of such is given back. */
#define TRIM_MS 1000U

/* How long a broker may read nothing of what it is sent, when no more fits. */
#define BROKER_HANGS_MS 5000

/* What a thread needs of the budget for data buffers: the largest request is of a mebibyte. */
#define THREAD_BUFFER_BYTES (UINT64_C(2) << 20)

static int failed(const char *what, int error)
{
    log_error("can't %s: %s", what, strerror(-error));
    return error;
}

static unsigned affordable(uint64_t buffer_bytes, unsigned threads)
{
    const uint64_t most = buffer_bytes / THREAD_BUFFER_BYTES;

    if (threads > WORKER_MAX_THREADS)
        threads = WORKER_MAX_THREADS;
    if (threads > most)
        threads = (unsigned)most;
    return threads ? threads : 1;
}

/* A store chose its engine of the main thread's: every thread has to have it. */
static bool same_engines(const struct engine_set *a, const struct engine_set *b)
{
    return !a->uring == !b->uring && !a->aio == !b->aio && !a->slow == !b->slow;
}

static int create_thread(struct worker *worker, const struct io_thread_params *params)
{
    struct io_thread *thread = &worker->threads[params->number];
    int error = io_thread_create(params, thread);

    if (error || params->number == 0)
        return error;
    if (!same_engines(&thread->engines, &worker_main_thread(worker)->engines))
        error = -EAGAIN;
    if (!error)
        error = io_thread_start(thread);
    if (error) {
        (void)io_thread_destroy(thread);
        engine_set_destroy(&thread->engines);
        buffer_pool_destroy(thread->turn.buffers);
    }
    return error;
}

static void trim(struct loop_timer *timer)
{
    (void)timer;
    (void)malloc_trim(0);
}

void worker_trim_later(struct worker *worker)
{
    loop_start_timer(&worker_main_thread(worker)->loop, &worker->trim_timer, TRIM_MS);
}

int worker_create(const struct worker_params *wanted, struct worker *out)
{
    const unsigned threads = affordable(wanted->buffer_bytes, wanted->threads);

    *out = (struct worker){.domid = wanted->domid, .trim_timer.fire = trim};
    struct io_thread_params params = {
        .domid = wanted->domid,
        .threads = threads,
        .buffer_bytes = wanted->buffer_bytes / threads,
        .depth = threads > 1 ? ENGINE_DEPTH_SHARED : ENGINE_DEPTH,
        .budget = &out->budget,
        .poll_us = wanted->poll_us,
    };

    for (; params.number < threads; params.number++) {
        const int error = create_thread(out, &params);

        if (error && params.number == 0)
            return error;
        if (error) {
            log_warning("domain %u: %u threads serve queues instead of %u: %s", wanted->domid,
                        params.number, threads, strerror(-error));
            break;
        }
        out->thread_count++;
    }
    return 0;
}

void worker_leave_when_quiet(struct worker *worker)
{
    unsigned unfinished = 0;

    if (!worker->leaving)
        return;
    for (struct vbd *vbd = worker->vbds; vbd; vbd = vbd_next(vbd))
        unfinished += vbd_unfinished(vbd);
    if (unfinished == 0)
        worker_main_thread(worker)->loop.stopped = true;
}

static void leave_now(struct loop_timer *timer)
{
    struct worker *worker = (struct worker *)((char *)timer - offsetof(struct worker, leave_timer));

    worker_main_thread(worker)->loop.stopped = true;
}

/*
 * The broker has hung up: a clean stop, or its end. What was started is finished and answered, so
 * that little is left to be done again; then, or after a while in any case, a successor takes over
 * from the state files.
 */
static void leave(struct worker *worker)
{
    struct loop *loop = &worker_main_thread(worker)->loop;

    worker->leaving = true;
    loop_remove(loop, &worker->broker);
    for (struct vbd *vbd = worker->vbds; vbd; vbd = vbd_next(vbd))
        vbd_hold(vbd);
    worker->leave_timer.fire = leave_now;
    loop_start_timer(loop, &worker->leave_timer, LEAVE_MS);
    worker_leave_when_quiet(worker);
}

/* Waits until the broker has read something of what it was sent, for a time. */
static bool wait_for_room(int fd)
{
    struct pollfd socket = {.fd = fd, .events = POLLOUT};
    int ready;

    do {
        ready = poll(&socket, 1, BROKER_HANGS_MS);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

void worker_send(struct worker *worker, const struct worker_message *message)
{
    int error = worker_message_send(worker->broker.fd, message, NULL, 0);

    if (worker->leaving)
        return;
    if (error == -EAGAIN && wait_for_room(worker->broker.fd))
        error = worker_message_send(worker->broker.fd, message, NULL, 0);
    if (error == -EAGAIN) {
        log_error("domain %u: the broker reads nothing, which ends its worker", worker->domid);
        leave(worker);
    } else if (error) {
        log_warning("can't send a message to the broker: %s", strerror(-error));
    }
}

void worker_send_text(struct worker *worker, enum worker_message_type type, uint32_t vbd, int error,
                      const char *format, ...)
{
    struct worker_message message = worker_message(type, vbd);
    va_list arguments;

    message.error = error;
    va_start(arguments, format);
    (void)vsnprintf(message.u.text, sizeof(message.u.text), format, arguments);
    va_end(arguments);
    worker_send(worker, &message);
}

static void set_budget(struct worker *worker, uint32_t pages)
{
    worker->budget.limit = pages;
    for (unsigned i = 0; i < worker->thread_count; i++)
        io_thread_trim_grants(&worker->threads[i]);
}

static void handle_message(struct worker *worker, const struct worker_message *message, int *fds)
{
    struct vbd *vbd = vbd_find(worker, message->vbd);

    switch ((enum worker_message_type)message->type) {
    case WORKER_OPEN_STORE:
        if (!vbd)
            vbd_open(worker, message, fds);
        return;
    case WORKER_CONNECT_QUEUE:
        if (vbd)
            vbd_connect_queue(vbd, &message->u.connect_queue, fds);
        return;
    case WORKER_FINISH:
        if (vbd)
            vbd_finish(vbd);
        return;
    case WORKER_DISCONNECT:
        if (vbd)
            vbd_disconnect(vbd);
        return;
    case WORKER_CLOSE_STORE:
        if (vbd)
            vbd_close(vbd);
        return;
    case WORKER_CHANGE_STORE:
        if (vbd)
            vbd_change_store(vbd, &message->u.open_store, fds);
        return;
    case WORKER_REFRESH_SIZE:
        if (vbd)
            vbd_refresh_size(vbd);
        return;
    case WORKER_RESUME:
        if (vbd)
            vbd_resume(vbd, message->error == -EUCLEAN);
        return;
    case WORKER_LIMITS:
        if (vbd)
            vbd_set_limits(vbd, &message->u.limits);
        return;
    case WORKER_GRANT_BUDGET:
        set_budget(worker, message->vbd);
        return;
    case WORKER_READY:
    case WORKER_STORE_OPENED:
    case WORKER_STORE_FAILED:
    case WORKER_QUEUE_CONNECTED:
    case WORKER_QUEUE_FAILED:
    case WORKER_DISCONNECTED:
    case WORKER_DRAINED:
    case WORKER_STORE_CLOSED:
    case WORKER_RING_BROKEN:
    case WORKER_STORE_ALERT:
    case WORKER_STORE_CONTINUES:
    case WORKER_STORE_CHANGED:
    case WORKER_SIZE:
    case WORKER_MESSAGE_TYPES:
        break;
    }
    log_warning("message of type %u from the broker is not for a worker", message->type);
}

static void broker_ready(struct loop_source *source)
{
    struct worker *worker = (struct worker *)((char *)source - offsetof(struct worker, broker));
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];
    const int error = worker_message_receive(source->fd, &message, fds);

    if (error == -EAGAIN)
        return;
    if (error == -ECONNRESET) {
        leave(worker);
        return;
    }
    if (error) {
        log_error("the broker's message can't be read: %s", strerror(-error));
        worker_main_thread(worker)->loop.stopped = true;
        return;
    }
    handle_message(worker, &message, fds);
    for (unsigned i = 0; i < WORKER_MESSAGE_MAX_FDS; i++)
        if (fds[i] >= 0) /* what was adopted has been set to -1 */
            (void)close(fds[i]);
}

bool worker_uring_restricted(const struct worker *worker)
{
    for (unsigned i = 0; i < worker->thread_count; i++) {
        const struct engine *uring = worker->threads[i].engines.uring;

        if (uring && !engine_uring_restricted(uring))
            return false;
    }
    return true;
}

int worker_run(struct worker *worker, const char *sandbox)
{
    struct worker_message ready = worker_message(WORKER_READY, 0);

    (void)snprintf(ready.u.text, sizeof(ready.u.text), "%s", sandbox);

    worker->broker = (struct loop_source){.fd = WORKER_SOCKET_FD, .ready = broker_ready};
    int error = loop_add(&worker_main_thread(worker)->loop, &worker->broker);

    if (error)
        return failed("watch the broker's socket", error);
    error = worker_message_send(worker->broker.fd, &ready, NULL, 0);
    if (error)
        return failed("tell the broker that the worker is ready", error);
    return loop_run(&worker_main_thread(worker)->loop);
}

void worker_destroy(struct worker *worker)
{
    /* The process ends here: what the vbds hold goes with it, and the kernel finishes what is in
     * flight. */
    for (unsigned i = worker->thread_count; i-- > 0;)
        if (!io_thread_destroy(&worker->threads[i]))
            return;
}
