/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker: the data plane of one domain, with everything its vbds share. */
#ifndef BLKBACK_WORKER_WORKER_H
#define BLKBACK_WORKER_WORKER_H

#include "blkback/queue.h"
#include "blkback/table.h"
#include "blkback/worker_protocol.h"
#include "io_thread.h"

#include <stdint.h>

struct vbd;

#define WORKER_MAX_THREADS STATE_MAX_QUEUES

/* A longer look costs more than any wake-up. */
#define WORKER_POLL_US_MAX 1000U

struct worker {
    uint32_t domid;
    struct io_thread threads[WORKER_MAX_THREADS]; /* the first is the main one */
    unsigned thread_count;
    struct grant_budget budget; /* nothing stays mapped before the broker allows it */
    struct loop_source broker;  /* our end of the socket */
    struct loop_timer leave_timer;
    struct loop_timer trim_timer; /* gives back what the vbds that are gone had */
    bool leaving;                 /* the broker has hung up */
    struct vbd *vbds;
    struct table numbers; /* the same by number */
};

struct worker_params {
    uint32_t domid;
    uint64_t buffer_bytes; /* budget for data buffers */
    unsigned threads;      /* that serve queues, from 1 */
    uint32_t poll_us;      /* how long a thread looks for work before it sleeps, while that pays */
};

/*
 * Opens and allocates everything that needs privileges or could fail later: gntdev, engines,
 * buffers, loops, threads. There are fewer threads than wanted where the budget is too small for so
 * many, or the kernel does not give each the same engines. `out` stays where it is. Returns 0, or
 * -errno with what failed logged.
 */
int worker_create(const struct worker_params *params, struct worker *out);

/* Whether no io_uring of it can be used for anything but I/O on descriptors. */
bool worker_uring_restricted(const struct worker *worker);

/* Announces itself to the broker, with a description of its sandbox, and serves until the broker's
 * end of the socket is closed. Returns 0 or -errno. */
int worker_run(struct worker *worker, const char *sandbox);

void worker_destroy(struct worker *worker);

/* Has memory that was freed given back to the kernel in a while. */
void worker_trim_later(struct worker *worker);

/* Ends the loop of a worker that is leaving once everything that was started is answered. */
void worker_leave_when_quiet(struct worker *worker);

/* The main thread, which runs everything but the queues of the others. */
static inline struct io_thread *worker_main_thread(struct worker *worker)
{
    return &worker->threads[0];
}

/* Sends a message to the broker; a broker that is gone is noticed by the loop. One that reads
 * nothing for some seconds, while no more fits, is left. */
void worker_send(struct worker *worker, const struct worker_message *message);

/* The same with a reason, from printf's arguments. */
void worker_send_text(struct worker *worker, enum worker_message_type type, uint32_t vbd, int error,
                      const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
