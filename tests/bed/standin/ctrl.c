/* SPDX-License-Identifier: BSD-2-Clause */
/* Stand-in for libxenctrl.so.4.17: which domains there are. What only QEMU links is in
 * unavailable.c. */
#include "hv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>

struct xc_interface_core {
    struct hv *hv;
};

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
                                unsigned open_flags)
{
    struct hv *hv = hv_get();
    xc_interface *xch;

    (void)logger;
    (void)dombuild_logger;
    (void)open_flags;
    if (!hv)
        return NULL;
    xch = calloc(1, sizeof(*xch));
    if (xch)
        xch->hv = hv;
    return xch;
}

int xc_interface_close(xc_interface *xch)
{
    free(xch);
    return 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first_domid, unsigned int max_doms,
                      xc_dominfo_t *info)
{
    unsigned int n = 0;

    for (uint32_t domid = first_domid; domid < HV_DOMAINS && n < max_doms; domid++) {
        const struct hv_domain *d = &xch->hv->s->domain[domid];

        if (!d->exists)
            continue;
        memset(&info[n], 0, sizeof(info[n]));
        info[n].domid = domid;
        info[n].dying = d->dying ? 1 : 0;
        info[n].paused = d->paused ? 1 : 0;
        info[n].shutdown = d->shutdown ? 1 : 0;
        info[n].running = !d->paused && !d->shutdown && !d->dying;
        info[n].shutdown_reason = d->shutdown_reason;
        memcpy(info[n].handle, d->uuid, sizeof(info[n].handle));
        n++;
    }
    return (int)n;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains,
                          xc_domaininfo_t *info)
{
    unsigned int n = 0;

    for (uint32_t domid = first_domain; domid < HV_DOMAINS && n < max_domains; domid++) {
        const struct hv_domain *d = &xch->hv->s->domain[domid];

        if (!d->exists)
            continue;
        memset(&info[n], 0, sizeof(info[n]));
        info[n].domain = (domid_t)domid;
        info[n].flags = (d->dying ? XEN_DOMINF_dying : 0) | (d->paused ? XEN_DOMINF_paused : 0) |
                        (d->shutdown ? XEN_DOMINF_shutdown : XEN_DOMINF_running) |
                        d->shutdown_reason << XEN_DOMINF_shutdownshift;
        memcpy(info[n].handle, d->uuid, sizeof(info[n].handle));
        n++;
    }
    return (int)n;
}
