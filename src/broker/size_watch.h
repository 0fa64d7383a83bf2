/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who tells that an image may have another size. The kernel does for files of filesystems that
 * nobody else writes to, by inotify, and for most block devices, by a uevent: such an image costs
 * nothing while it is at rest. The others are looked at now and then (vbd_look_at_sizes()).
 */
#ifndef BLKBACK_BROKER_SIZE_WATCH_H
#define BLKBACK_BROKER_SIZE_WATCH_H

#include <ev.h>
#include <stdbool.h>

struct broker;
struct vbd;

struct size_watch {
    bool started;
    int files_fd;   /* inotify; -1: none to be had */
    int devices_fd; /* uevents; -1: none to be had */
    ev_io files;
    ev_io devices;
};

/* Begins to listen. What the kernel refuses is done without, by looking. */
void size_watch_start(struct broker *broker);
/* Accepts one that was not started. */
void size_watch_stop(struct broker *broker);

/*
 * Has the kernel tell of the next change of the vbd's image, which it has: then `size.told` is
 * false again, and the broker looks soon. What changed before this is not told. Returns whether
 * it will.
 */
bool size_watch_arm(struct vbd *vbd);

/* Nothing is told of its image any more. */
void size_watch_forget(struct vbd *vbd);

#endif
