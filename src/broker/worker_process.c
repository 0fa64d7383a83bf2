/* SPDX-License-Identifier: BSD-2-Clause */
/* Starting a worker, talking to it, and seeing it end. */
#include "worker_process.h"

#include "outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAVE_SECONDS     5.0
#define MESSAGES_PER_TURN 64U
#define ARGUMENT_MAX      24U
#define PROC_PATH_MAX     48U

struct worker_process {
    struct ev_loop *loop;
    struct worker_process_owner owner;
    pid_t pid;
    bool over;  /* its pid may be another process's by now */
    int socket; /* -1: hung up */
    struct outbox outbox;
    ev_io readable;
    ev_child child;
    ev_timer leave;
};

static void hang_up(struct worker_process *worker)
{
    if (worker->socket >= 0) {
        ev_io_stop(worker->loop, &worker->readable);
        outbox_clear(&worker->outbox);
        close(worker->socket);
        worker->socket = -1;
    }
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct worker_process *worker = watcher->data;
    (void)loop;
    (void)events;

    for (unsigned i = 0; i < MESSAGES_PER_TURN && worker->socket >= 0; i++) {
        struct worker_message message;
        int fds[WORKER_MESSAGE_MAX_FDS];
        int error = worker_message_receive(worker->socket, &message, fds);
        if (error == -EAGAIN || error == -EINTR)
            return;
        if (error != 0) { /* it hung up, or sent what is no message */
            worker_process_kill(worker);
            return;
        }
        bool sent_descriptors = false;
        for (unsigned n = 0; n < WORKER_MESSAGE_MAX_FDS; n++) {
            if (fds[n] >= 0) {
                close(fds[n]);
                sent_descriptors = true;
            }
        }
        if (sent_descriptors) { /* no message of a worker's has any */
            worker_process_kill(worker);
            return;
        }
        worker->owner.on_message(worker->owner.context, &message);
    }
}

static void on_child(struct ev_loop *loop, ev_child *watcher, int events)
{
    struct worker_process *worker = watcher->data;
    char how[64];
    (void)events;

    worker->over = true;
    ev_child_stop(loop, watcher);
    ev_timer_stop(loop, &worker->leave);
    if (worker->socket >= 0)
        on_readable(loop, &worker->readable, 0); /* what it said before its end */
    hang_up(worker);
    if (WIFSIGNALED(watcher->rstatus) && WTERMSIG(watcher->rstatus) == SIGSYS)
        snprintf(how, sizeof(how), "killed for a system call that its sandbox forbids");
    else if (WIFSIGNALED(watcher->rstatus))
        snprintf(how, sizeof(how), "killed by signal %d", WTERMSIG(watcher->rstatus));
    else
        snprintf(how, sizeof(how), "exit status %d", WEXITSTATUS(watcher->rstatus));
    worker->owner.on_exit(worker->owner.context, how);
    free(worker);
}

/* It takes nothing of what it is sent. */
static void on_outbox_failed(void *context)
{
    worker_process_kill(context);
}

static void on_leave_timeout(struct ev_loop *loop, ev_timer *watcher, int events)
{
    struct worker_process *worker = watcher->data;
    (void)loop;
    (void)events;
    kill(worker->pid, SIGKILL);
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARNING:
        return "warning";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "info";
}

/* What the child has: its socket at its place, the broker's stderr, nothing else. */
static int prepare_descriptors(posix_spawn_file_actions_t *actions, int socket)
{
    int error = posix_spawn_file_actions_adddup2(actions, socket, WORKER_SOCKET_FD);
    if (error == 0)
        error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (error == 0)
        error = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (error == 0)
        error = posix_spawn_file_actions_addclosefrom_np(actions, WORKER_SOCKET_FD + 1);
    return error;
}

static int prepare_signals(posix_spawnattr_t *attributes)
{
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    int error = posix_spawnattr_setsigmask(attributes, &none);
    if (error == 0)
        error = posix_spawnattr_setsigdefault(attributes, &all);
    if (error == 0) {
        error =
            posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    }
    return error;
}

/*
 * The path leads through our own descriptor, so that the worker is not given one, and the
 * interpreter of a script finds the script. Only we and root may follow it.
 */
static void binary_path(const struct worker_binary *binary, char path[PROC_PATH_MAX])
{
    snprintf(path, PROC_PATH_MAX, "/proc/%ld/fd/%d", (long)getpid(), binary->fd);
}

/*
 * As posix_spawn(), the new process being the first of a pid namespace of its own, where we may
 * make one: it then sees and signals nobody. We stay in ours.
 */
static int spawn_apart(pid_t *pid, const char *binary, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const *arguments)
{
    const int ours = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    const bool apart = ours >= 0 && unshare(CLONE_NEWPID) == 0;
    const int error = posix_spawn(pid, binary, actions, attributes, arguments, environ);

    if (apart && setns(ours, CLONE_NEWPID) != 0)
        log_error("can't return to the pid namespace of blkbackd: %s", strerror(errno));
    if (ours >= 0)
        close(ours);
    return error;
}

static int spawn(const struct worker_process_options *options, int socket, pid_t *pid)
{
    char path[PROC_PATH_MAX];
    char domid[ARGUMENT_MAX];
    char uid[ARGUMENT_MAX];
    char buffer_size[ARGUMENT_MAX];
    char queue_threads[ARGUMENT_MAX];
    char poll_time[ARGUMENT_MAX];
    snprintf(domid, sizeof(domid), "%" PRIu32, options->domid);
    snprintf(uid, sizeof(uid), "%" PRIu32, options->uid);
    snprintf(buffer_size, sizeof(buffer_size), "%" PRIu64, options->buffer_size);
    snprintf(queue_threads, sizeof(queue_threads), "%" PRIu32, options->queue_threads);
    snprintf(poll_time, sizeof(poll_time), "%" PRIu32, options->poll_us);
    const char *arguments[] = {"blkbackd-worker",
                               "--domid",
                               domid,
                               "--uid",
                               uid,
                               "--gid",
                               uid,
                               "--sandbox",
                               options->sandbox ? "on" : "off",
                               "--buffer-size",
                               buffer_size,
                               "--queue-threads",
                               queue_threads,
                               "--poll-time",
                               poll_time,
                               "--log-level",
                               level_name(options->log_level),
                               NULL};
    binary_path(options->binary, path);
    char *writable[sizeof(arguments) / sizeof(arguments[0])]; /* as posix_spawn() wants it */
    memcpy(writable, arguments, sizeof(arguments));

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return -error;
    error = posix_spawnattr_init(&attributes);
    if (error != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -error;
    }
    error = prepare_descriptors(&actions, socket);
    if (error == 0)
        error = prepare_signals(&attributes);
    if (error == 0)
        error = options->sandbox ? spawn_apart(pid, path, &actions, &attributes, writable)
                                 : posix_spawn(pid, path, &actions, &attributes, writable, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

int worker_binary_open(const char *path, struct worker_binary *out)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    *out = (struct worker_binary){.fd = fd, .error = fd < 0 ? -errno : 0};
    return out->error;
}

void worker_binary_close(struct worker_binary *binary)
{
    if (binary->fd >= 0)
        close(binary->fd);
    *binary = (struct worker_binary){.fd = -1, .error = -ENOENT};
}

int worker_process_start(struct ev_loop *loop, const struct worker_process_options *options,
                         const struct worker_process_owner *owner, struct worker_process **out)
{
    if (options->binary->fd < 0)
        return options->binary->error;
    struct worker_process *worker = calloc(1, sizeof(*worker));
    if (worker == NULL)
        return -ENOMEM;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        int error = -errno;
        free(worker);
        return error;
    }
    /* Non-blocking on our end only: the flag belongs to the description, and the ends are two. */
    int error = fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0 ? -errno : 0;
    if (error == 0)
        error = spawn(options, pair[1], &worker->pid);
    close(pair[1]);
    if (error != 0) {
        close(pair[0]);
        free(worker);
        return error;
    }
    worker->loop = loop;
    worker->owner = *owner;
    worker->socket = pair[0];
    outbox_init(&worker->outbox, loop, worker->socket, on_outbox_failed, worker);
    ev_io_init(&worker->readable, on_readable, worker->socket, EV_READ);
    ev_child_init(&worker->child, on_child, worker->pid, 0);
    ev_timer_init(&worker->leave, on_leave_timeout, LEAVE_SECONDS, 0.);
    worker->readable.data = worker;
    worker->child.data = worker;
    worker->leave.data = worker;
    ev_io_start(loop, &worker->readable);
    ev_child_start(loop, &worker->child);
    *out = worker;
    return 0;
}

int worker_process_send(struct worker_process *worker, const struct worker_message *message,
                        const int *fds, unsigned fd_count)
{
    if (worker->socket < 0)
        return -ECONNRESET;
    return outbox_send(&worker->outbox, message, fds, fd_count);
}

void worker_process_stop(struct worker_process *worker)
{
    hang_up(worker);
    ev_timer_start(worker->loop, &worker->leave);
}

void worker_process_kill(struct worker_process *worker)
{
    hang_up(worker);
    if (!worker->over)
        kill(worker->pid, SIGKILL);
}

void worker_process_abandon(struct worker_process *worker)
{
    if (worker == NULL)
        return;
    worker_process_kill(worker);
    ev_child_stop(worker->loop, &worker->child);
    ev_timer_stop(worker->loop, &worker->leave);
    free(worker);
}

uint32_t worker_process_pid(const struct worker_process *worker)
{
    return (uint32_t)worker->pid;
}
