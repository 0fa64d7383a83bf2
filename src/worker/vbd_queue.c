/* SPDX-License-Identifier: BSD-2-Clause */
/* A ring on its thread: what the main thread asks of it, and what it tells the main thread. See
 * vbd_internal.h. */
#include "vbd_internal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* What a queue reports, as bits. */
#define REPORT_BROKEN       1U
#define REPORT_FLUSH_PARKED 2U
#define REPORT_IO_PARKED    4U
#define REPORT_CONTINUED    8U
#define REPORT_QUIET        16U
#define REPORT_DRAINED      32U

#define NS_PER_MS UINT64_C(1000000)

/* ---- what it tells ---- */

static void hand_on(struct vbd_queue *mine, unsigned reports)
{
    struct vbd *vbd = mine->vbd;

    if (reports & REPORT_BROKEN)
        vbd_ring_broken(vbd);
    if (reports & REPORT_FLUSH_PARKED)
        vbd_parked(vbd, IO_FLUSH, mine->flush_failure);
    if (reports & REPORT_IO_PARKED)
        vbd_parked(vbd, (enum io_operation)mine->io_failed, mine->io_failure);
    if (reports & REPORT_CONTINUED)
        vbd_continued(vbd);
    if (reports & REPORT_QUIET)
        vbd_queue_quiet(vbd);
    if (reports & REPORT_DRAINED) /* last: the vbd may be gone then */
        vbd_queue_drained(vbd);
}

static void reported(struct io_post *post)
{
    struct vbd_queue *mine =
        (struct vbd_queue *)((char *)post - offsetof(struct vbd_queue, report));

    hand_on(mine, atomic_exchange(&mine->reports, 0U));
}

/* On the queue's thread. */
static void report(struct vbd_queue *mine, unsigned what)
{
    struct io_thread *main_thread = worker_main_thread(mine->vbd->worker);

    if (mine->thread == main_thread) {
        hand_on(mine, what);
        return;
    }
    atomic_fetch_or(&mine->reports, what);
    io_thread_post(main_thread, &mine->report);
}

static void ring_broken(void *context)
{
    report(context, REPORT_BROKEN);
}

static void quiet(void *context)
{
    report(context, REPORT_QUIET);
}

static void drained(void *context)
{
    report(context, REPORT_DRAINED);
}

static void io_failed(void *context, enum io_operation operation, uint64_t sector, int error)
{
    static const char *const names[] = {
        [IO_READ] = "read", [IO_WRITE] = "write", [IO_FLUSH] = "flush", [IO_DISCARD] = "discard"};
    const struct vbd_queue *mine = context;
    struct vbd *vbd = mine->vbd;

    log_limited(&vbd->log_limit, LOG_LEVEL_WARNING, "domain %u %s: %s at sector %llu failed: %s",
                vbd->worker->domid, vbd->vdev, names[operation], (unsigned long long)sector,
                strerror(-error));
}

static void parked(void *context, enum io_operation operation, uint64_t sector, int error)
{
    struct vbd_queue *mine = context;

    if (operation == IO_FLUSH) {
        mine->flush_failure = error;
        report(mine, REPORT_FLUSH_PARKED);
        return;
    }
    io_failed(context, operation, sector, error);
    mine->io_failed = (int)operation;
    mine->io_failure = error;
    report(mine, REPORT_IO_PARKED);
}

static void continued(void *context)
{
    report(context, REPORT_CONTINUED);
}

static void delay_over(struct loop_timer *timer)
{
    struct vbd_queue *mine =
        (struct vbd_queue *)((char *)timer - offsetof(struct vbd_queue, delay));

    queue_end_delay(mine->served.queue);
}

static void delay_events(void *context, uint32_t milliseconds)
{
    struct vbd_queue *mine = context;

    loop_start_timer(&mine->thread->loop, &mine->delay, milliseconds);
}

static void wait_until(void *context, uint64_t at)
{
    struct vbd_queue *mine = context;
    const uint64_t now_ms = rate_clock() / NS_PER_MS;
    const uint64_t at_ms = at / NS_PER_MS + (at % NS_PER_MS != 0);

    loop_start_timer(&mine->thread->loop, &mine->limit_timer, at_ms > now_ms ? at_ms - now_ms : 0);
}

static void limit_over(struct loop_timer *timer)
{
    struct vbd_queue *mine =
        (struct vbd_queue *)((char *)timer - offsetof(struct vbd_queue, limit_timer));

    queue_limit_over(mine->served.queue);
}

static const struct queue_events queue_events = {
    .ring_broken = ring_broken,
    .io_failed = io_failed,
    .parked = parked,
    .continued = continued,
    .drained = drained,
    .quiet = quiet,
    .delay_events = delay_events,
    .wait_until = wait_until,
};

/* ---- what it is asked ---- */

/* Something to be done on a queue's thread. */
struct job {
    void (*run)(struct job *job);
    struct vbd_queue *mine;
    struct store *store;
    unsigned result;
};

static void run_job(void *context)
{
    struct job *job = context;

    job->run(job);
}

static unsigned on_its_thread(struct vbd_queue *mine, void (*run)(struct job *job),
                              struct store *store)
{
    struct job job = {.run = run, .mine = mine, .store = store};

    io_thread_call(mine->thread, run_job, &job);
    return job.result;
}

static void in_flight(struct job *job)
{
    job->result = queue_in_flight(job->mine->served.queue);
}

unsigned vbd_queue_in_flight(struct vbd_queue *mine)
{
    return on_its_thread(mine, in_flight, NULL);
}

static void unfinished(struct job *job)
{
    job->result = queue_unfinished(job->mine->served.queue);
}

unsigned vbd_queue_unfinished(struct vbd_queue *mine)
{
    return on_its_thread(mine, unfinished, NULL);
}

static void idle(struct job *job)
{
    job->result = queue_idle(job->mine->served.queue);
}

bool vbd_queue_idle(struct vbd_queue *mine)
{
    return on_its_thread(mine, idle, NULL) != 0;
}

static void hold(struct job *job)
{
    queue_hold(job->mine->served.queue);
}

void vbd_queue_hold(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, hold, NULL);
}

static void resume(struct job *job)
{
    queue_resume(job->mine->served.queue, job->store);
}

void vbd_queue_resume(struct vbd_queue *mine, struct store *store)
{
    (void)on_its_thread(mine, resume, store);
}

static void finish_all(struct job *job)
{
    queue_finish_all(job->mine->served.queue);
}

void vbd_queue_finish_all(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, finish_all, NULL);
}

static void retry(struct job *job)
{
    queue_retry(job->mine->served.queue);
}

void vbd_queue_retry(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, retry, NULL);
}

static void synchronize(struct job *job)
{
    (void)job;
}

void vbd_queue_synchronize(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, synchronize, NULL);
}

static void limit_changed(struct job *job)
{
    loop_stop_timer(&job->mine->thread->loop, &job->mine->limit_timer);
    queue_limit_changed(job->mine->served.queue);
}

static void set_weight(struct job *job)
{
    queue_set_weight(job->mine->served.queue, job->mine->vbd->weight);
}

void vbd_queue_set_weight(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, set_weight, NULL);
}

static void let_through(struct job *job)
{
    queue_let_through(job->mine->served.queue);
}

void vbd_queue_let_through(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, let_through, NULL);
}

void vbd_queue_limit_changed(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, limit_changed, NULL);
}

/* ---- connecting ---- */

/* Queues of a vbd go to different threads; among those that have as few of them, to the one that
 * has the least to do. */
static struct io_thread *choose_thread(const struct vbd *vbd)
{
    unsigned own[WORKER_MAX_THREADS] = {0};
    struct io_thread *const threads = vbd->worker->threads;
    unsigned best = 0;

    for (unsigned i = 0; i < STATE_MAX_QUEUES; i++)
        if (vbd->queues[i].served.queue)
            own[vbd->queues[i].thread->number]++;
    for (unsigned i = 1; i < vbd->worker->thread_count; i++)
        if (own[i] < own[best] || (own[i] == own[best] && threads[i].load < threads[best].load))
            best = i;
    return &threads[best];
}

int vbd_queue_map(struct vbd *vbd, const struct worker_connect_queue *wanted)
{
    struct vbd_queue *mine = &vbd->queues[wanted->queue];

    *mine = (struct vbd_queue){.vbd = vbd,
                               .thread = choose_thread(vbd),
                               .page_count = 1U << wanted->ring_order,
                               .report.run = reported,
                               .delay.fire = delay_over,
                               .limit_timer.fire = limit_over};
    return gnttab_map(worker_main_thread(vbd->worker)->gnttab, vbd->worker->domid,
                      wanted->ring_refs, mine->page_count, &mine->pages);
}

static void unmap_ring(struct vbd_queue *mine)
{
    gnttab_unmap(worker_main_thread(mine->vbd->worker)->gnttab, mine->pages, mine->page_count);
    mine->pages = NULL;
}

static void event_ready(struct loop_source *source)
{
    queue_on_event(((struct served_queue *)source)->queue);
}

/* With the queue's parameters: adopts the event channel and starts the queue. On its thread. */
static int start(struct vbd_queue *mine, struct queue_params *params, int *fds, uint32_t port)
{
    struct served_queue *served = &mine->served;
    int error = evtchn_adopt(fds[0], port, &params->evtchn);

    if (error)
        return error;
    fds[0] = -1;
    served->event = (struct loop_source){.fd = evtchn_fd(params->evtchn), .ready = event_ready};
    error = queue_connect(params, &served->queue);
    if (error) {
        evtchn_close(params->evtchn);
        return error;
    }
    error = io_thread_serve(mine->thread, served);
    if (error) {
        queue_destroy(served->queue);
        served->queue = NULL;
    }
    return error;
}

struct start_job {
    struct vbd_queue *mine;
    const struct worker_connect_queue *wanted;
    int *fds;
    bool hold;
    int error;
};

static void start_on_thread(void *context)
{
    struct start_job *job = context;
    struct vbd_queue *mine = job->mine;
    struct vbd *vbd = mine->vbd;
    const struct worker_connect_queue *wanted = job->wanted;
    struct queue_params params = {
        .turn = &mine->thread->turn,
        .store = vbd->store,
        .slab = &vbd->slab,
        .overlaps = vbd->overlaps,
        .limit = &vbd->limit,
        .weight = vbd->weight,
        .events = &queue_events,
        .context = mine,
        .ring_pages = mine->pages,
        .index = wanted->queue,
        .abi = (enum blkif_abi)wanted->abi,
        .ring_order = wanted->ring_order,
        .max_requests = wanted->max_requests,
        .max_segments = wanted->max_segments,
        .max_indirect_segments = wanted->max_indirect_segments,
        .discard = vbd->parameters.discard && vbd->store->caps.discard,
        .persistent = wanted->persistent != WORKER_GRANTS_NOT_KEPT,
        .copy_mapped = wanted->persistent == WORKER_GRANTS_COPIED,
        .max_event_delay_ms = wanted->max_event_delay_ms,
        .work_per_turn = wanted->work_per_turn,
        .recover = wanted->recover,
    };

    job->error = start(mine, &params, job->fds, wanted->local_port);
    if (!job->error && job->hold)
        queue_hold(mine->served.queue);
}

int vbd_queue_start(struct vbd_queue *mine, const struct worker_connect_queue *wanted, bool held,
                    int *fds)
{
    struct start_job job = {.mine = mine, .wanted = wanted, .fds = fds, .hold = held};

    io_thread_call(mine->thread, start_on_thread, &job);
    if (job.error)
        unmap_ring(mine);
    else
        mine->thread->load++;
    return job.error;
}

/* ---- letting go ---- */

static void disconnect(struct job *job)
{
    io_thread_leave(job->mine->thread, &job->mine->served);
    loop_stop_timer(&job->mine->thread->loop, &job->mine->delay);
    loop_stop_timer(&job->mine->thread->loop, &job->mine->limit_timer);
    queue_disconnect(job->mine->served.queue);
}

void vbd_queue_disconnect(struct vbd_queue *mine)
{
    if (!mine->pages)
        return;
    (void)on_its_thread(mine, disconnect, NULL);
    /* What it said before that is of no interest any more. */
    atomic_fetch_and(&mine->reports, REPORT_DRAINED);
    unmap_ring(mine);
}

static void destroy(struct job *job)
{
    queue_destroy(job->mine->served.queue);
}

void vbd_queue_destroy(struct vbd_queue *mine)
{
    (void)on_its_thread(mine, destroy, NULL);
    io_thread_take_back(worker_main_thread(mine->vbd->worker), &mine->report);
    mine->reports = 0;
    mine->served.queue = NULL;
    mine->thread->load--;
}
