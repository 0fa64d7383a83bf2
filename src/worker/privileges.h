/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving up what a worker does not need once it is set up, before the first message about a guest.
 */
#ifndef BLKBACK_WORKER_PRIVILEGES_H
#define BLKBACK_WORKER_PRIVILEGES_H

#include <sys/types.h>

/*
 * Changes to `uid` and `gid` without supplementary groups or capabilities (0: stays root, for
 * tests), forbids gaining any back, core dumps and being traced, and asks to be killed when the
 * broker dies. Returns 0, or -errno with what failed logged.
 */
int privileges_drop(uid_t uid, gid_t gid);

#endif
