/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Event channels, thin over libxenevtchn. One handle carries one port: the broker opens, restricts
 * and binds it, passes the descriptor to the worker and closes its own copy, since a copy kept
 * would keep the channel bound when the worker dies.
 */
#ifndef BLKBACK_EVTCHN_H
#define BLKBACK_EVTCHN_H

#include <stdbool.h>
#include <stdint.h>

struct evtchn;

/*
 * Broker: opens a handle, restricts it to the domain (not to domain 0: the kernel refuses that) and
 * binds the frontend's port. `restricted` says whether the restriction holds. Returns 0 or -errno
 * (-EINVAL: no such port, or in use).
 */
int evtchn_bind(uint32_t domid, uint32_t remote_port, struct evtchn **out, uint32_t *local_port,
                bool *restricted);

/* Worker: adopts a descriptor that the broker bound; it is owned by the result on success. Returns
 * 0 or -errno. */
int evtchn_adopt(int fd, uint32_t local_port, struct evtchn **out);

/* For the loop: readable when an event is pending. Remains owned by the handle. */
int evtchn_fd(const struct evtchn *evtchn);

/* Takes the pending event, which masks the port. Returns 0, -EAGAIN when none is pending, or
 * -errno. */
int evtchn_take(struct evtchn *evtchn);
int evtchn_unmask(struct evtchn *evtchn);
int evtchn_notify(struct evtchn *evtchn);

/* Closing the last copy of the descriptor unbinds the port. Accepts NULL. */
void evtchn_close(struct evtchn *evtchn);

#endif
