/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sandbox of a worker, in two steps: what has to be done before there are threads, and what can
 * be done only when everything is open. What the kernel lacks, or does not allow whoever started
 * the broker, is left out and said; the reasons for each part are in docs/threat-model.md.
 */
#ifndef BLKBACK_WORKER_SANDBOX_H
#define BLKBACK_WORKER_SANDBOX_H

#include "blkback/state_files.h"

#include <stdbool.h>
#include <sys/types.h>

/* Sanitizers look at /proc and start programs: with them there are a root folder and fewer
 * forbidden system calls. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif
#ifndef SANDBOX_SANITIZED
#define SANDBOX_SANITIZED 0
#endif

/* What a worker's stores need: a taken-over worker has that, too. */
enum sandbox_profile {
    SANDBOX_LOCAL /* files and devices that the broker opened; a store on the network gets its own,
                     with its own list of system calls and the host's network */
};

struct sandbox {
    bool on;
    enum sandbox_profile profile;
    uid_t uid; /* 0: stays root, for tests */
    gid_t gid;
    bool no_mount_namespace;       /* mounts made here would be the host's */
    char lacks[STATE_SANDBOX_MAX]; /* what is left out, "no X (why); no Y"; empty: nothing */
};

/*
 * The part for a process with one thread, right after its start: closes what it inherited besides
 * the broker's socket and the standard descriptors, leaves the host's namespaces, and makes sure
 * that no capability can be gained.
 */
void sandbox_enter(struct sandbox *sandbox);

/*
 * The rest, in all threads: empties the root folder, drops user and capabilities, and allows only
 * the system calls that are needed from here on. `uring_restricted`: whether io_uring is, or isn't
 * used. Returns 0, or -errno with what failed logged: what would leave the worker with rights that
 * it was to lose.
 */
int sandbox_seal(struct sandbox *sandbox, bool uring_restricted);

/* "full", "partial: " and what is left out, or "off". */
void sandbox_describe(const struct sandbox *sandbox, char text[STATE_SANDBOX_MAX]);

/* Notes something that is left out; `error` as -errno, 0: without a reason. */
void sandbox_lacks(struct sandbox *sandbox, const char *what, int error);

#endif
