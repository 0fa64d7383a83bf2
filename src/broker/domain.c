/* SPDX-License-Identifier: BSD-2-Clause */
/* Domains and their workers: what a worker says is checked here against what it can say, then given
 * to the vbd it names. */
#include "domain_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READY_SECONDS 10.0
#define GONE_SECONDS  2.0 /* for a worker that was ended to be gone */

/* A worker that dies is replaced at once while its guest gets answers; one that dies again and
 * again without any is given more and more time. */
#define RESTART_SECONDS     0.05
#define RESTART_SECONDS_MAX 5.0

static void on_ready_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct domain *domain = timer->data;
    (void)loop;
    (void)events;
    log_error("domain %u: its worker is not ready after %.0f s and is ended", domain->domid,
              READY_SECONDS);
    worker_process_kill(domain->worker);
}

static void on_gone_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct domain *domain = timer->data;
    struct vbd *vbd;
    (void)loop;
    (void)events;
    domain->stuck = true;
    log_error("domain %u: its worker (pid %u) was ended and is still there: the kernel keeps it. "
              "Disks that it has not given back are not closed before it is gone",
              domain->domid, worker_process_pid(domain->worker));
    TAILQ_FOREACH(vbd, &domain->vbds, in_domain)
    {
        vbd_mark_dirty(vbd); /* its status says so */
    }
}

void domain_end_worker(struct domain *domain, const char *asked, double seconds)
{
    if (domain->worker == NULL || domain->stuck || ev_is_active(&domain->gone_timer))
        return;
    log_error("domain %u: its worker (pid %u) was asked %s, has not answered for %.0f s and is "
              "ended",
              domain->domid, worker_process_pid(domain->worker), asked, seconds);
    ev_timer_set(&domain->gone_timer, GONE_SECONDS, 0.);
    ev_timer_start(domain->broker->loop, &domain->gone_timer);
    worker_process_kill(domain->worker);
}

bool domain_worker_stuck(const struct domain *domain)
{
    return domain->stuck;
}

static void start_waiting(struct domain *domain)
{
    struct vbd *vbd;
    TAILQ_FOREACH(vbd, &domain->vbds, in_domain)
    {
        if (vbd->store == STORE_WAITS)
            vbd_open_again(vbd);
    }
}

static void on_restart(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    start_waiting(timer->data);
}

int domain_get(struct broker *broker, uint32_t domid, struct domain **out)
{
    struct domain *domain;
    TAILQ_FOREACH(domain, &broker->domains, entry)
    {
        if (domain->domid == domid && !domain->retired && !domain->outlived) {
            *out = domain;
            return 0;
        }
    }
    domain = calloc(1, sizeof(*domain));
    if (domain == NULL)
        return -ENOMEM;
    domain->broker = broker;
    domain->domid = domid;
    TAILQ_INIT(&domain->vbds);
    ev_timer_init(&domain->ready_timer, on_ready_timeout, READY_SECONDS, 0.);
    /* After what the worker has said meanwhile: where we were held up, both are there at once. */
    ev_set_priority(&domain->ready_timer, EV_MINPRI);
    domain->ready_timer.data = domain;
    ev_timer_init(&domain->gone_timer, on_gone_timeout, GONE_SECONDS, 0.);
    domain->gone_timer.data = domain;
    ev_timer_init(&domain->restart, on_restart, RESTART_SECONDS, 0.);
    domain->restart.data = domain;
    TAILQ_INSERT_TAIL(&broker->domains, domain, entry);
    *out = domain;
    return 0;
}

static void forget(struct domain *domain)
{
    struct broker *broker = domain->broker;
    ev_timer_stop(broker->loop, &domain->restart);
    TAILQ_REMOVE(&broker->domains, domain, entry);
    free(domain);
}

void domain_add_vbd(struct domain *domain, struct vbd *vbd)
{
    vbd->domain = domain;
    TAILQ_INSERT_TAIL(&domain->vbds, vbd, in_domain);
}

void domain_remove_vbd(struct domain *domain, struct vbd *vbd)
{
    TAILQ_REMOVE(&domain->vbds, vbd, in_domain);
    vbd->domain = NULL;
    if (!TAILQ_EMPTY(&domain->vbds) || domain->losing_worker)
        return;
    if (domain->worker == NULL) {
        forget(domain);
    } else if (!domain->retired) {
        domain->retired = true;
        worker_process_stop(domain->worker);
    }
}

/* The messages that name a vbd, and what takes them. */
static bool dispatch(struct vbd *vbd, const struct worker_message *message)
{
    switch ((enum worker_message_type)message->type) {
    case WORKER_STORE_OPENED:
    case WORKER_STORE_FAILED:
        return vbd_on_store_answer(vbd, message);
    case WORKER_STORE_CHANGED:
        return vbd_on_medium_answer(vbd, message);
    case WORKER_SIZE:
        return vbd_on_size(vbd, message);
    case WORKER_QUEUE_CONNECTED:
    case WORKER_QUEUE_FAILED:
        return vbd_on_queue_answer(vbd, message);
    case WORKER_DISCONNECTED:
    case WORKER_DRAINED:
    case WORKER_STORE_CLOSED:
        return vbd_on_close_answer(vbd, message);
    case WORKER_RING_BROKEN:
        return vbd_on_ring_broken(vbd, message);
    case WORKER_STORE_ALERT:
        return vbd_on_store_alert(vbd, message);
    case WORKER_STORE_CONTINUES:
        return vbd_on_store_continues(vbd, message);
    case WORKER_READY:
    case WORKER_OPEN_STORE:
    case WORKER_CONNECT_QUEUE:
    case WORKER_DISCONNECT:
    case WORKER_CLOSE_STORE:
    case WORKER_CHANGE_STORE:
    case WORKER_REFRESH_SIZE:
    case WORKER_GRANT_BUDGET:
    case WORKER_FINISH:
    case WORKER_RESUME:
    case WORKER_LIMITS:
    case WORKER_MESSAGE_TYPES:
        break;
    }
    return false;
}

static bool on_ready(struct domain *domain, const struct worker_message *message)
{
    if (domain->ready)
        return false;
    (void)log_escape(message->u.text, domain->sandbox, sizeof(domain->sandbox));
    domain->ready = true;
    ev_timer_stop(domain->broker->loop, &domain->ready_timer);
    struct vbd *vbd;
    TAILQ_FOREACH(vbd, &domain->vbds, in_domain)
    {
        vbd_worker_ready(vbd);
    }
    return true;
}

uint64_t domain_vbd_key(uint32_t domid, uint32_t number)
{
    return (uint64_t)domid << 32 | number;
}

/* A domain that is gone and its successor of the same number may both have vbds. */
static struct vbd *numbered(const struct domain *domain, uint32_t number)
{
    struct table_link *link =
        table_find(&domain->broker->numbers, domain_vbd_key(domain->domid, number));

    for (; link != NULL; link = table_find_next(link)) {
        struct vbd *vbd = (struct vbd *)((char *)link - offsetof(struct vbd, by_number));
        if (vbd->domain == domain)
            return vbd;
    }
    return NULL;
}

static void on_message(void *context, const struct worker_message *message)
{
    struct domain *domain = context;
    bool expected = false;

    if (message->type == WORKER_READY) {
        expected = on_ready(domain, message);
    } else if (message->vbd != 0 && message->vbd <= domain->last_number) {
        struct vbd *vbd = numbered(domain, message->vbd);
        /* A vbd that was lost sight of after a store failed may still be spoken of. */
        expected = vbd != NULL ? dispatch(vbd, message)
                               : message->type == WORKER_STORE_ALERT ||
                                     message->type == WORKER_STORE_CONTINUES;
    }
    if (!expected) {
        log_limited(&domain->limit, LOG_LEVEL_ERROR,
                    "domain %u: its worker sent an unexpected message (type %u, vbd %u) and is "
                    "ended",
                    domain->domid, message->type, message->vbd);
        worker_process_kill(domain->worker);
    }
}

/* How soon the next worker may start; the answers that the last one gave decide. */
static void plan_restart(struct domain *domain)
{
    struct vbd *vbd;
    uint64_t answered = 0;

    TAILQ_FOREACH(vbd, &domain->vbds, in_domain)
    {
        answered += vbd_answered(vbd);
    }
    domain->in_vain = answered > domain->answered ? 0 : domain->in_vain + 1;
    domain->answered = answered;
    if (domain->in_vain < 2)
        return;
    double seconds = RESTART_SECONDS;
    for (unsigned i = 2; i < domain->in_vain && seconds < RESTART_SECONDS_MAX; i++)
        seconds *= 2;
    ev_timer_set(&domain->restart, seconds, 0.);
    ev_timer_start(domain->broker->loop, &domain->restart);
}

static void on_exit_of_worker(void *context, const char *how)
{
    struct domain *domain = context;
    struct broker *broker = domain->broker;
    const bool kept_grants = domain->keeps_grants;

    ev_timer_stop(broker->loop, &domain->ready_timer);
    ev_timer_stop(broker->loop, &domain->gone_timer);
    domain->stuck = false;
    if (!domain->retired && !broker->stopping) {
        log_limited(&domain->limit, LOG_LEVEL_ERROR, "domain %u: its worker (pid %u) ended: %s",
                    domain->domid, worker_process_pid(domain->worker), how);
    }
    domain->worker = NULL;
    domain->ready = false;
    domain->keeps_grants = false;
    domain->sandbox[0] = '\0';
    snprintf(domain->last_death, sizeof(domain->last_death), "%s", how);
    if (!domain->retired && !broker->stopping)
        plan_restart(domain);
    domain->losing_worker = true; /* what follows may remove the last vbd */
    struct vbd *vbd;
    struct vbd *next;
    for (vbd = TAILQ_FIRST(&domain->vbds); vbd != NULL; vbd = next) {
        next = TAILQ_NEXT(vbd, in_domain);
        vbd_worker_lost(vbd, how);
    }
    domain->losing_worker = false;
    if (TAILQ_EMPTY(&domain->vbds))
        forget(domain);
    if (kept_grants)
        domain_share_grants(broker, false);
    broker_check_stopped(broker);
}

int domain_need_worker(struct domain *domain)
{
    if (domain->worker != NULL)
        return domain->ready ? 0 : -EINPROGRESS;
    if (ev_is_active(&domain->restart))
        return -EINPROGRESS;
    const struct config *config = &domain->broker->config;
    struct worker_process_options options = {
        .binary = &domain->broker->worker,
        .domid = domain->domid,
        .uid = config->worker_uid_base == 0 ? 0 : config->worker_uid_base + domain->domid,
        .sandbox = config->worker_sandbox,
        .buffer_size = config->worker_buffer_size,
        .queue_threads = config_queue_threads(config),
        .poll_us = config->poll_us,
        .log_level = config->log_level,
    };
    struct worker_process_owner owner = {
        .context = domain,
        .on_message = on_message,
        .on_exit = on_exit_of_worker,
    };
    int error = worker_process_start(domain->broker->loop, &options, &owner, &domain->worker);
    if (error != 0)
        return error;
    domain->last_number = 0;
    domain->keeps_grants = false;
    ev_timer_set(&domain->ready_timer, READY_SECONDS, 0.);
    ev_timer_start(domain->broker->loop, &domain->ready_timer);
    return -EINPROGRESS;
}

unsigned domain_deaths_in_vain(const struct domain *domain)
{
    return domain->in_vain;
}

const char *domain_last_death(const struct domain *domain)
{
    return domain->last_death;
}

void domain_forgive(struct domain *domain)
{
    domain->in_vain = 0;
    ev_timer_stop(domain->broker->loop, &domain->restart);
}

uint32_t domain_next_number(struct domain *domain)
{
    return ++domain->last_number;
}

int domain_send(struct domain *domain, const struct worker_message *message, const int *fds,
                unsigned fd_count)
{
    if (domain->worker == NULL)
        return -ECONNRESET;
    int error = worker_process_send(domain->worker, message, fds, fd_count);
    if (error == 0)
        return 0;
    worker_process_kill(domain->worker);
    return -ECONNRESET;
}

uint32_t domain_worker_pid(const struct domain *domain)
{
    return domain->worker != NULL ? worker_process_pid(domain->worker) : 0;
}

const char *domain_sandbox(const struct domain *domain)
{
    return domain->sandbox;
}

void domain_stop_workers(struct broker *broker)
{
    struct domain *domain;
    TAILQ_FOREACH(domain, &broker->domains, entry)
    {
        ev_timer_stop(broker->loop, &domain->restart);
        if (domain->worker != NULL)
            worker_process_stop(domain->worker);
    }
}

bool domain_any_worker(const struct broker *broker)
{
    const struct domain *domain;
    TAILQ_FOREACH(domain, &broker->domains, entry)
    {
        if (domain->worker != NULL)
            return true;
    }
    return false;
}

void domain_end_workers(struct broker *broker)
{
    struct domain *domain;
    struct domain *next;
    for (domain = TAILQ_FIRST(&broker->domains); domain != NULL; domain = next) {
        next = TAILQ_NEXT(domain, entry);
        ev_timer_stop(broker->loop, &domain->ready_timer);
        ev_timer_stop(broker->loop, &domain->gone_timer);
        worker_process_abandon(domain->worker);
        domain->worker = NULL;
        if (TAILQ_EMPTY(&domain->vbds))
            forget(domain);
    }
}
