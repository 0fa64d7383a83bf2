/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor says of a domain, through libxenctrl (the only file that calls it, for it has
 * no stable ABI). In a driver domain it is refused: then the answer is -EPERM and the caller asks
 * XenStore.
 */
#ifndef BLKBACK_DOMAIN_INFO_H
#define BLKBACK_DOMAIN_INFO_H

#include <stdbool.h>
#include <stdint.h>

struct domain_info {
    bool paused;
    bool dying; /* being torn down: it will not run again */
    bool shutdown;
    bool never_ran; /* no CPU time used yet: it is still being built */
    char uuid[40];
};

struct domain_info_source;

/* Returns 0; -EPERM, -ENOENT where there is no privileged interface. */
int domain_info_open(struct domain_info_source **out);
void domain_info_close(struct domain_info_source *source);

/* Returns 0, -ESRCH when there is no such domain, or -errno. Accepts a NULL source: -EPERM. */
int domain_info_get(struct domain_info_source *source, uint32_t domid, struct domain_info *out);

#endif
