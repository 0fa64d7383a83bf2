/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread that carries out the operations that are to be late, in the order in which they are due.
 */
#include "fault.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct late {
    struct late *next;
    struct fault_op op;
    struct fault_verdict verdict;
    uint64_t due; /* ns, monotonic */
    void (*done)(void *context, ssize_t result);
    void *context;
    int outcome; /* of a process that does it; else -1 */
    pid_t pid;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct late *waiting;
int seccomp_load(void *context);

static _Atomic bool running;
static pid_t thread_of; /* the process that has the thread */

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool ready(const struct late *l, uint64_t now)
{
    struct pollfd p = {.fd = l->outcome, .events = POLLIN};

    if (l->outcome >= 0)
        return poll(&p, 1, 0) > 0;
    return l->due <= now && !fault_is_held(&l->op);
}

/* The one that is due first, of those that are due and not held. */
static struct late *take_due(void)
{
    struct late **best = NULL, *l = NULL;
    uint64_t now = now_ns();

    pthread_mutex_lock(&lock);
    for (struct late **p = &waiting; *p; p = &(*p)->next)
        if (ready(*p, now) && (!best || (*p)->due < (*best)->due))
            best = p;
    if (best) {
        l = *best;
        *best = l->next;
    }
    pthread_mutex_unlock(&lock);
    return l;
}

static void *run(void *unused)
{
    const struct timespec nap = {.tv_nsec = 50000};

    (void)unused;
    running = true;
    for (;;) {
        struct late *l = take_due();

        if (!l) {
            fault_nap(&nap);
            continue;
        }
        l->done(l->context, l->outcome >= 0 ? fault_outlive_result(l->outcome, l->pid)
                                            : fault_execute(&l->op, &l->verdict));
        fault_op_free(&l->op);
        free(l);
    }
    return NULL;
}

static void start_thread(void)
{
    pthread_t thread;

    if (thread_of == getpid())
        return;
    thread_of = getpid();
    if (pthread_create(&thread, NULL, run, NULL) || pthread_detach(thread))
        abort();
}

/* The last call of a worker that may still make threads. What a thread does at its start is done
 * before. */
int seccomp_load(void *context)
{
    if (fault_active())
        start_thread();
    while (fault_active() && !running)
        sched_yield();
    return FAULT_NEXT(seccomp_load)(context);
}

void fault_later(const struct fault_op *op, const struct fault_verdict *verdict,
                 void (*done)(void *context, ssize_t result), void *context)
{
    struct late *l = calloc(1, sizeof(*l)), **end;

    if (!l || !fault_op_init(&l->op, op->kind, op->fd, op->iov, op->iovcnt, op->offset))
        abort();
    l->verdict = *verdict;
    l->due = now_ns() + verdict->delay_us * 1000ull;
    l->outcome = fault_outlives(op, verdict) ? fault_outlive(op, verdict, &l->pid) : -1;
    l->done = done;
    l->context = context;
    pthread_mutex_lock(&lock);
    for (end = &waiting; *end; end = &(*end)->next)
        ;
    *end = l;
    start_thread();
    pthread_mutex_unlock(&lock);
}
