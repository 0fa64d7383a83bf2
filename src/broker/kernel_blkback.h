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

#define KERNEL_BLKBACK_BUS        "/sys/bus/xen-backend"
#define KERNEL_BLKBACK_PARAMETERS "/sys/module/xen_blkback/parameters"

/* Other folders than these, for tests; kept by reference. */
void kernel_blkback_use_bus(const char *folder);
void kernel_blkback_use_parameters(const char *folder);

/* Whether the driver is loaded and has the device. */
bool kernel_blkback_bound(uint32_t domid, uint32_t devid);

/* What a frontend may have settled on with the kernel's backend before it was unbound. */
struct kernel_blkback_offer {
    uint32_t ring_page_order;
    uint32_t queues;
};

/*
 * From the driver's parameters, or else its defaults: rings of 16 pages, as many as `cpus`, which
 * are this domain's. A frontend takes no more rings than it has CPUs, `vcpus`; 0: not known.
 */
struct kernel_blkback_offer kernel_blkback_offer(uint32_t cpus, uint32_t vcpus);

/*
 * Unbinds the device from the driver, which leaves its state node as it is but has published its
 * own limits, to be written over at once. Returns 1 when it was bound and is not any more; 0 when
 * the driver is not loaded; -EAGAIN when it is but has not bound the device yet, as it does a
 * moment after the node appears (ask again in 50 ms, for some 2 s); or -errno.
 */
int kernel_blkback_release(uint32_t domid, uint32_t devid);

#endif
