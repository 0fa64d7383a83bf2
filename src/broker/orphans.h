/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks that a former broker served: until the last I/O of its dead workers is over, their images
 * are nobody else's, whatever XenStore says of the disks by now.
 */
#ifndef BLKBACK_BROKER_ORPHANS_H
#define BLKBACK_BROKER_ORPHANS_H

#include "broker.h"

/*
 * Locks the images that the connection files name and that a dead worker's I/O may still reach,
 * each until that is over; the guest itself may have its own all the same. To be called before any
 * disk is looked at.
 */
void orphans_lock(struct broker *broker);

/* Whether the disk is one: its files are to be kept. */
bool orphans_has(const struct broker *broker, uint32_t domid, uint32_t devid);

void orphans_forget(struct broker *broker);

#endif
