/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker: the data plane of one domain, with everything its vbds share. */
#ifndef BLKBACK_WORKER_WORKER_H
#define BLKBACK_WORKER_WORKER_H

#include "blkback/gnttab.h"
#include "blkback/log.h"
#include "blkback/queue.h"
#include "blkback/store.h"
#include "blkback/worker_protocol.h"
#include "loop.h"

#include <stdint.h>

struct vbd;

/* An engine's descriptor in the loop. */
struct engine_source {
    struct loop_source source;
    struct engine *engine;
    struct worker *worker;
};

struct worker {
    uint32_t domid;
    struct loop loop;
    struct gnttab *gnttab;
    struct engine_set engines;
    struct engine_source engine_sources[3];
    struct turn turn;
    struct grant_budget budget;     /* nothing stays mapped before the broker allows it */
    struct loop_timer idle_timer;   /* gives memory back */
    struct loop_timer commit_timer; /* has what the kernel refused committed again */
    struct log_limit log_limit;
    struct loop_source broker; /* our end of the socket */
    struct loop_timer leave_timer;
    bool leaving; /* the broker has hung up */
    struct vbd *vbds;
};

/*
 * Opens and allocates everything that needs privileges or could fail later: gntdev, engines,
 * buffers, loop. `buffer_bytes`: budget for data buffers. Returns 0, or -errno with what failed
 * logged.
 */
int worker_create(uint32_t domid, uint64_t buffer_bytes, struct worker *out);

/* Announces itself to the broker and serves until the broker's end of the socket is closed. Returns
 * 0 or -errno. */
int worker_run(struct worker *worker);

void worker_destroy(struct worker *worker);

/* Ends the loop of a worker that is leaving once everything that was started is answered. */
void worker_leave_when_quiet(struct worker *worker);

/* Sends a message to the broker; a broker that is gone is noticed by the loop. */
void worker_send(const struct worker *worker, const struct worker_message *message);

/* The same with a reason, from printf's arguments. */
void worker_send_text(const struct worker *worker, enum worker_message_type type, uint32_t vbd,
                      int error, const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
