/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding vbds in XenStore: watches, what their events mean, and which vbd is where. */
#ifndef BLKBACK_BROKER_DOMAINS_H
#define BLKBACK_BROKER_DOMAINS_H

#include "broker.h"
#include "claim.h"

/* Begins to watch. Returns 0 or -errno. */
int domains_watch(struct broker *broker);
void domains_unwatch(struct broker *broker);

/* Looks at everything that is there now, without waiting for events. */
void domains_scan(struct broker *broker);

/* The vbd with that address, if its backend node exists as far as is known. Returns 0 or -ENOENT.
 */
int domains_find(struct broker *broker, const struct vbd_address *address, struct vbd **out);

/* A new vbd, and one that is to be found no more. */
void domains_add(struct broker *broker, struct vbd *vbd);
void domains_remove(struct broker *broker, struct vbd *vbd);

/* Takes the watch events that wait, a bounded number, and marks what they concern. Returns 0, or
 * -EPIPE when xenstored is gone. */
int domains_take_events(struct broker *broker);

/* Removes state files that belong to no vbd. */
void domains_collect_files(struct broker *broker);

#endif
