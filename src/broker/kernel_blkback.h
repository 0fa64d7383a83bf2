/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making the kernel's own backend let go of a disk: where xen-blkback is loaded it claims every
 * node of class vbd, and would map the ring before us. It never claims other classes, so these
 * functions are for `vbd` only.
 */
#ifndef BLKBACK_BROKER_KERNEL_BLKBACK_H
#define BLKBACK_BROKER_KERNEL_BLKBACK_H

#include <stdbool.h>
#include <stdint.h>

#define KERNEL_BLKBACK_BUS "/sys/bus/xen-backend"

/* Another folder than KERNEL_BLKBACK_BUS, for tests; kept by reference. */
void kernel_blkback_use_bus(const char *folder);

/* Whether the driver is loaded and has the device. */
bool kernel_blkback_bound(uint32_t domid, uint32_t devid);

/*
 * Unbinds the device from the driver, which leaves its state node as it is but has published its
 * own limits, to be written over at once. Returns 1 when it was bound and is not any more; 0 when
 * the driver is not loaded; -EAGAIN when it is but has not bound the device yet, as it does a
 * moment after the node appears (ask again in 50 ms, for some 2 s); or -errno.
 */
int kernel_blkback_release(uint32_t domid, uint32_t devid);

#endif
