/* SPDX-License-Identifier: BSD-2-Clause */
/* What libxengnttab and libxenevtchn ask of their devices for a worker: see worker_ioctls.h. */
#include "blkback/worker_ioctls.h"

#include <stdint.h>
#include <sys/ioctl.h>
#include <xen/xen.h>

#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>

const unsigned long worker_ioctls[] = {
    IOCTL_GNTDEV_MAP_GRANT_REF, IOCTL_GNTDEV_UNMAP_GRANT_REF, IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR,
    IOCTL_GNTDEV_GRANT_COPY,    IOCTL_EVTCHN_NOTIFY,
};

const unsigned worker_ioctl_count = sizeof(worker_ioctls) / sizeof(worker_ioctls[0]);
