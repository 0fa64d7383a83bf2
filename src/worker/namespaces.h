/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker's own view of the host: no network, no other processes' IPC, no files. */
#ifndef BLKBACK_WORKER_NAMESPACES_H
#define BLKBACK_WORKER_NAMESPACES_H

#include "sandbox.h"

/* Leaves the host's mount, network, IPC and UTS namespaces. For the only thread of a process;
 * notes what can't be left. */
void namespaces_leave(struct sandbox *sandbox);

/* Makes an empty, read-only folder the root of all threads, once nothing is to be opened any more;
 * or notes that it can't. */
void namespaces_empty_root(struct sandbox *sandbox);

#endif
