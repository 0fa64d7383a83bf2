/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker as a process: starting it, its socket, its end. What the messages mean is domain.c's. */
#ifndef BLKBACK_BROKER_WORKER_PROCESS_H
#define BLKBACK_BROKER_WORKER_PROCESS_H

#include "blkback/log.h"
#include "blkback/worker_protocol.h"

#include <ev.h>
#include <stdint.h>

struct worker_process;

/* The program of all workers of this broker: the very file that its path named once, which stays
 * the same when an upgrade puts another in its place. */
struct worker_binary {
    int fd;    /* -1: it could not be opened */
    int error; /* why, -errno */
};

/* Opens it; a failure is kept for those who want a worker started. Returns 0 or -errno. */
int worker_binary_open(const char *path, struct worker_binary *out);
/* Accepts one that was not opened. */
void worker_binary_close(struct worker_binary *binary);

struct worker_process_options {
    const struct worker_binary *binary;
    uint32_t domid;
    uint32_t uid; /* and gid */
    bool sandbox; /* it is to confine itself, and is started in a pid namespace of its own */
    uint64_t buffer_size;
    uint32_t queue_threads;
    uint32_t poll_us; /* that a thread looks for work before it sleeps */
    enum log_level log_level;
};

struct worker_process_owner {
    void *context;
    /* A message of valid form; its content is not to be trusted. */
    void (*on_message)(void *context, const struct worker_message *message);
    /* The process has ended and is reaped: called exactly once, last; `how` says in words. The
     * worker_process is freed after it. */
    void (*on_exit)(void *context, const char *how);
};

/* Starts it. Returns 0 or -errno (the binary can't be executed, no descriptors, …). */
int worker_process_start(struct ev_loop *loop, const struct worker_process_options *options,
                         const struct worker_process_owner *owner, struct worker_process **out);

/* Sends it, at once or as soon as the worker takes more (outbox.h); one that takes nothing for a
 * time is ended. Returns 0 or -errno. Descriptors stay the caller's. */
int worker_process_send(struct worker_process *worker, const struct worker_message *message,
                        const int *fds, unsigned fd_count);

/* Hangs up, which asks it to leave; kills it if it hasn't after 5 s. on_exit() follows. */
void worker_process_stop(struct worker_process *worker);

/* Ends it at once, since it does not keep to the protocol. on_exit() follows. */
void worker_process_kill(struct worker_process *worker);

/* Kills it and forgets it, without on_exit(): when the broker itself ends. Accepts NULL. */
void worker_process_abandon(struct worker_process *worker);

uint32_t worker_process_pid(const struct worker_process *worker);

#endif
