/* SPDX-License-Identifier: BSD-2-Clause */
/* The bed's machine room: domains come and go, pages are granted, counters are read. */
#include "front.h"
#include "hv.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xen/xen.h>

int bed_create(const char *dir)
{
    return hv_create(dir);
}

static struct hv_domain *domain_of(uint32_t domid)
{
    struct hv *hv = hv_get();

    return hv && domid < HV_DOMAINS ? &hv->s->domain[domid] : NULL;
}

int bed_domain_create(uint32_t domid, const uint8_t uuid[16])
{
    struct hv *hv = hv_get();
    struct hv_domain *d = domain_of(domid);

    if (!d || domid == 0)
        return -EINVAL;
    if (d->exists)
        return -EEXIST;
    memset(d, 0, sizeof(*d));
    memcpy(d->uuid, uuid, sizeof(d->uuid));
    memset(hv_page(hv, (uint16_t)domid, HV_XENSTORE_GREF), 0, HV_PAGE);
    d->grant[HV_XENSTORE_GREF].page = HV_XENSTORE_GREF;
    d->grant[HV_XENSTORE_GREF].flags = HV_GRANT_VALID;
    d->port[HV_XENSTORE_PORT].handle = HV_NONE;
    d->port[HV_XENSTORE_PORT].link = hv_link(HV_PORT_UNBOUND, 0, 0);
    d->port_top = HV_XENSTORE_PORT + 1;
    d->exists = 1;
    return 0;
}

/* VIRQ_DOM_EXC: xenstored looks which domains there are and fires @releaseDomain. */
static int tell_xenstored(void)
{
    struct hv *hv = hv_get();
    uint32_t handle;
    int fd, err = hv_evt_open(hv, 0, true, &fd, &handle);

    if (err)
        return err;
    err = hv_evt_raise_virq(hv, fd, VIRQ_DOM_EXC);
    close(fd);
    return err;
}

int64_t bed_mapped(uint32_t domid)
{
    const struct hv_domain *d = domain_of(domid);
    int64_t n = 0;

    if (!d)
        return -EINVAL;
    for (uint32_t i = HV_FIRST_GREF; i < HV_GREFS; i++)
        n += d->grant[i].maps;
    return n;
}

int bed_reap(void)
{
    struct hv *hv = hv_get();
    bool gone = false;

    if (!hv)
        return -ENOENT;
    hv_gnt_reap(hv);
    hv_evt_reap(hv);
    for (uint32_t i = 1; i < HV_DOMAINS; i++) {
        struct hv_domain *d = &hv->s->domain[i];

        if (!d->exists || !d->dying || bed_mapped(i) > 0)
            continue;
        d->exists = 0;
        gone = true;
    }
    return gone ? tell_xenstored() : 0;
}

int bed_domain_destroy(uint32_t domid)
{
    struct hv *hv = hv_get();
    struct hv_domain *d = domain_of(domid);

    if (!d || domid == 0 || !d->exists)
        return -ESRCH;
    d->dying = 1;
    hv_evt_close_domain(hv, (uint16_t)domid);
    for (uint32_t i = 0; i < HV_GREFS; i++)
        if (d->grant[i].flags)
            d->grant[i].flags = 0;
    return bed_reap();
}

int bed_domain_set(uint32_t domid, bool paused, bool shutdown, uint32_t reason)
{
    struct hv_domain *d = domain_of(domid);

    if (!d || !d->exists)
        return -ESRCH;
    d->paused = paused;
    d->shutdown_reason = reason;
    d->shutdown = shutdown;
    return shutdown ? tell_xenstored() : 0;
}

int bed_counters(uint32_t domid, uint64_t *values, uint32_t count)
{
    const struct hv_domain *d = domain_of(domid);
    const uint32_t have = sizeof(d->count) / sizeof(d->count.notifies);

    if (!d)
        return -EINVAL;
    for (uint32_t i = 0; i < have && i < count; i++)
        values[i] = (&d->count.notifies)[i];
    return (int)have;
}

int bed_port_state(uint32_t domid, uint32_t port)
{
    const struct hv_domain *d = domain_of(domid);

    if (!d || port >= HV_PORTS)
        return -EINVAL;
    hv_evt_reap(hv_get());
    return (int)hv_link_state(d->port[port].link);
}

/* Under the lock: the first of count references in a row that are not granted, from hint on. */
static uint32_t free_refs(const struct hv_domain *d, uint32_t count, uint32_t hint)
{
    uint32_t run = 0;

    for (uint32_t i = hint; i < HV_GREFS; i++) {
        run = d->grant[i].flags || d->grant[i].maps ? 0 : run + 1;
        if (run == count)
            return i - count + 1;
    }
    return hint > HV_FIRST_GREF ? free_refs(d, count, HV_FIRST_GREF) : HV_NONE;
}

static int64_t grant(uint32_t domid, uint32_t to, uint32_t count, uint32_t page, uint32_t flags)
{
    struct hv *hv = hv_get();
    struct hv_domain *d = domain_of(domid);
    static uint32_t hint = HV_FIRST_GREF; /* under the lock */
    uint32_t ref;

    if (!d || !d->exists || to >= HV_DOMAINS || count == 0)
        return -EINVAL;
    hv_lock(hv);
    ref = free_refs(d, count, hint);
    hint = ref == HV_NONE ? HV_FIRST_GREF : ref + count;
    for (uint32_t i = 0; ref != HV_NONE && i < count; i++) {
        struct hv_grant *g = &d->grant[ref + i];

        g->page = page == HV_NONE ? ref + i : page;
        g->domid = (uint16_t)to;
        g->flags = HV_GRANT_VALID | flags;
    }
    hv_unlock(hv);
    return ref == HV_NONE ? -ENOSPC : (int64_t)ref;
}

int64_t bed_grant(uint32_t domid, uint32_t to, uint32_t count, bool readonly)
{
    int64_t ref = grant(domid, to, count, HV_NONE, readonly ? HV_GRANT_READONLY : 0);

    if (ref > 0)
        memset(bed_page(domid, (uint32_t)ref), 0, (size_t)count * HV_PAGE);
    return ref;
}

int64_t bed_grant_alias(uint32_t domid, uint32_t to, uint32_t ref, bool readonly)
{
    const struct hv_domain *d = domain_of(domid);

    if (!d || ref >= HV_GREFS || !(d->grant[ref].flags & HV_GRANT_VALID))
        return -EINVAL;
    return grant(domid, to, 1, d->grant[ref].page, readonly ? HV_GRANT_READONLY : 0);
}

int bed_grant_end(uint32_t domid, uint32_t ref)
{
    struct hv *hv = hv_get();
    struct hv_domain *d = domain_of(domid);
    uint32_t maps;

    if (!d || ref >= HV_GREFS)
        return -EINVAL;
    hv_lock(hv);
    maps = d->grant[ref].maps;
    if (!maps)
        d->grant[ref].flags = 0;
    hv_unlock(hv);
    return (int)maps;
}

uint8_t *bed_page(uint32_t domid, uint32_t ref)
{
    const struct hv_domain *d = domain_of(domid);

    return d && ref < HV_GREFS ? hv_page(hv_get(), (uint16_t)domid, d->grant[ref].page) : NULL;
}
