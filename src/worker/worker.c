/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker: setting up, the turn of its loop, the messages of the broker. */
#include "worker.h"

#include "blkback/log.h"
#include "vbd.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* I/Os in flight at once in each engine, over all vbds of the domain; more wait in their queues. */
#define ENGINE_DEPTH 512U

#define IDLE_MS 5000U

/* How long a worker stays for what it has started, once the broker has hung up. */
#define LEAVE_MS 3000U

/* How soon the kernel is offered again what it had no resources for. */
#define COMMIT_RETRY_MS 1U

static bool turn(void *context)
{
    struct worker *worker = context;

    /* Activity: some time after the last of it memory is given back. An idle worker has no timer.
     */
    if (worker->turn.ready && !worker->idle_timer.armed)
        loop_start_timer(&worker->loop, &worker->idle_timer, IDLE_MS);
    turn_run(&worker->turn);
    const int error = engine_set_commit(&worker->engines);

    if (error == -EAGAIN)
        loop_start_timer(&worker->loop, &worker->commit_timer, COMMIT_RETRY_MS);
    else if (error)
        log_limited(&worker->log_limit, LOG_LEVEL_ERROR,
                    "domain %u: can't hand I/O to the kernel: %s", worker->domid, strerror(-error));
    return worker->turn.ready != NULL;
}

static void reap(struct loop_source *source)
{
    struct engine_source *mine = (struct engine_source *)source;
    struct worker *worker = mine->worker;

    if (mine->engine->ops->reap(mine->engine) > 0)
        worker->turn.freed = true;
}

static bool trim_grants(const struct worker *worker)
{
    bool any = false;

    for (struct vbd *vbd = worker->vbds; vbd; vbd = vbd_next(vbd))
        any |= vbd_trim(vbd);
    return any;
}

static void idle(struct loop_timer *timer)
{
    struct worker *worker = (struct worker *)((char *)timer - offsetof(struct worker, idle_timer));

    buffer_pool_trim(worker->turn.buffers);
    /* An idle worker has no timer: this ends some rounds after the last activity. */
    if (trim_grants(worker))
        loop_start_timer(&worker->loop, &worker->idle_timer, IDLE_MS);
}

static void commit_again(struct loop_timer *timer)
{
    (void)timer; /* the turn that follows every timer commits */
}

static int add_engine(struct worker *worker, struct engine_source *source, struct engine *engine)
{
    if (!engine)
        return 0;
    *source = (struct engine_source){.source = {.fd = engine->ops->event_fd(engine), .ready = reap},
                                     .engine = engine,
                                     .worker = worker};
    return loop_add(&worker->loop, &source->source);
}

static int failed(const char *what, int error)
{
    log_error("can't %s: %s", what, strerror(-error));
    return error;
}

int worker_create(uint32_t domid, uint64_t buffer_bytes, struct worker *out)
{
    *out =
        (struct worker){.domid = domid, .idle_timer.fire = idle, .commit_timer.fire = commit_again};
    int error = loop_create(&out->loop, turn, out);

    if (error)
        return failed("create the event loop", error);
    error = gnttab_open(&out->gnttab);
    if (error)
        return failed("open the grant device (is the module xen-gntdev loaded?)", error);
    out->turn.gnttab = out->gnttab;
    out->turn.domid = domid;
    out->turn.budget = &out->budget;
    error = guest_memory_create(out->gnttab, domid, &out->turn.memory);
    if (!error)
        error = buffer_pool_create(buffer_bytes, &out->turn.buffers);
    if (error)
        return failed("allocate data buffers", error);
    error = engine_set_create(ENGINE_DEPTH, &out->engines);
    if (!error)
        error = add_engine(out, &out->engine_sources[0], out->engines.uring);
    if (!error)
        error = add_engine(out, &out->engine_sources[1], out->engines.aio);
    if (!error)
        error = add_engine(out, &out->engine_sources[2], out->engines.slow);
    if (error)
        return failed("create the I/O engines", error);
    return 0;
}

void worker_send(const struct worker *worker, const struct worker_message *message)
{
    const int error = worker_message_send(worker->broker.fd, message, NULL, 0);

    if (error && !worker->leaving)
        log_warning("can't send a message to the broker: %s", strerror(-error));
}

void worker_send_text(const struct worker *worker, enum worker_message_type type, uint32_t vbd,
                      int error, const char *format, ...)
{
    struct worker_message message = worker_message(type, vbd);
    va_list arguments;

    message.error = error;
    va_start(arguments, format);
    (void)vsnprintf(message.u.text, sizeof(message.u.text), format, arguments);
    va_end(arguments);
    worker_send(worker, &message);
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
    case WORKER_GRANT_BUDGET:
        worker->budget.limit = message->vbd;
        (void)trim_grants(worker);
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
    case WORKER_STORE_CHANGED:
    case WORKER_SIZE:
    case WORKER_MESSAGE_TYPES:
        break;
    }
    log_warning("message of type %u from the broker is not for a worker", message->type);
}

void worker_leave_when_quiet(struct worker *worker)
{
    unsigned unfinished = 0;

    if (!worker->leaving)
        return;
    for (const struct vbd *vbd = worker->vbds; vbd; vbd = vbd_next(vbd))
        unfinished += vbd_unfinished(vbd);
    worker->loop.stopped = unfinished == 0;
}

static void leave_now(struct loop_timer *timer)
{
    struct worker *worker = (struct worker *)((char *)timer - offsetof(struct worker, leave_timer));

    worker->loop.stopped = true;
}

/*
 * The broker has hung up: a clean stop, or its end. What was started is finished and answered, so
 * that little is left to be done again; then, or after a while in any case, a successor takes over
 * from the state files.
 */
static void leave(struct worker *worker)
{
    worker->leaving = true;
    loop_remove(&worker->loop, &worker->broker);
    for (struct vbd *vbd = worker->vbds; vbd; vbd = vbd_next(vbd))
        vbd_hold(vbd);
    worker->leave_timer.fire = leave_now;
    loop_start_timer(&worker->loop, &worker->leave_timer, LEAVE_MS);
    worker_leave_when_quiet(worker);
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
        worker->loop.stopped = true;
        return;
    }
    handle_message(worker, &message, fds);
    for (unsigned i = 0; i < WORKER_MESSAGE_MAX_FDS; i++)
        if (fds[i] >= 0) /* what was adopted has been set to -1 */
            (void)close(fds[i]);
}

int worker_run(struct worker *worker)
{
    const struct worker_message ready = worker_message(WORKER_READY, 0);

    worker->broker = (struct loop_source){.fd = WORKER_SOCKET_FD, .ready = broker_ready};
    int error = loop_add(&worker->loop, &worker->broker);

    if (error)
        return failed("watch the broker's socket", error);
    error = worker_message_send(worker->broker.fd, &ready, NULL, 0);
    if (error)
        return failed("tell the broker that the worker is ready", error);
    return loop_run(&worker->loop);
}

void worker_destroy(struct worker *worker)
{
    /* The process ends here: what the vbds hold goes with it, and the kernel finishes what is in
     * flight. */
    guest_memory_destroy(worker->turn.memory);
    gnttab_close(worker->gnttab);
    loop_destroy(&worker->loop);
}
