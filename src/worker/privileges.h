/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving up what a worker does not need once it is set up, before the first message about a guest.
 */
#ifndef BLKBACK_WORKER_PRIVILEGES_H
#define BLKBACK_WORKER_PRIVILEGES_H

#include "sandbox.h"

/* Sees to it that no capability can be gained by executing anything, in this thread and in those
 * it makes. */
void privileges_bound(void);

/*
 * Changes to the sandbox's user and group, without supplementary groups or capabilities (0: stays
 * root, for tests, which is noted), forbids gaining any back, core dumps and being traced (unless
 * the sandbox is off), and asks to be killed when the broker dies. Returns 0, or -errno with what
 * failed logged.
 */
int privileges_drop(struct sandbox *sandbox);

#endif
