/* SPDX-License-Identifier: BSD-2-Clause */
/* Stand-in for libxengnttab.so.1: grants are pages of the bed's hypervisor file. Errors are those
 * of Linux' gntdev. */
#include "hv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xengnttab.h>

#define COPY_BATCH 16u /* gntdev hands this many page copies to a hypercall */

struct mapping {
    struct mapping *next;
    uint8_t *start;
    uint32_t count;
    uint32_t track[];
};

struct xengntdev_handle {
    struct hv *hv;
    int fd;
    uint32_t id;
    pthread_mutex_t lock;
    struct mapping *mappings;
};

static int fail(int err)
{
    errno = -err;
    return -1;
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    struct hv *hv = hv_get();
    struct xengntdev_handle *xgt;
    int err;

    (void)logger;
    (void)open_flags;
    if (!hv)
        return NULL;
    xgt = calloc(1, sizeof(*xgt));
    if (!xgt)
        return NULL;
    xgt->hv = hv;
    pthread_mutex_init(&xgt->lock, NULL);
    err = hv_gnt_open(hv, &xgt->fd, &xgt->id);
    if (err) {
        free(xgt);
        errno = -err;
        return NULL;
    }
    return xgt;
}

/* What is still mapped stays mapped and counted until the process ends, as with gntdev. */
int xengnttab_close(xengnttab_handle *xgt)
{
    if (!xgt)
        return 0;
    close(xgt->fd);
    while (xgt->mappings) {
        struct mapping *m = xgt->mappings;

        xgt->mappings = m->next;
        free(m);
    }
    pthread_mutex_destroy(&xgt->lock);
    free(xgt);
    return 0;
}

int xengnttab_fd(xengnttab_handle *xgt)
{
    return xgt->fd;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr_grants)
{
    (void)xgt;
    (void)nr_grants;
    return 0;
}

struct map_request {
    uint32_t count;
    const uint32_t *domids;
    uint32_t domid; /* when domids is NULL */
    const uint32_t *refs;
    int prot;
};

static uint32_t domid_at(const struct map_request *r, uint32_t i)
{
    return r->domids ? r->domids[i] : r->domid;
}

/* All or nothing, like the mmap of gntdev. */
static int get_all(const struct xengntdev_handle *xgt, const struct map_request *r,
                   struct mapping *m)
{
    uint32_t done = 0;
    int err = 0;

    hv_lock(xgt->hv);
    for (; done < r->count && !err; done++)
        err = hv_gnt_get(xgt->hv, xgt->id, domid_at(r, done), r->refs[done], r->prot & PROT_WRITE,
                         &m->track[done]);
    if (err)
        for (uint32_t i = 0; i + 1 < done; i++)
            hv_gnt_put(xgt->hv, m->track[i]);
    hv_unlock(xgt->hv);
    return err;
}

static int map_pages(const struct xengntdev_handle *xgt, const struct map_request *r,
                     struct mapping *m)
{
    const struct hv *hv = xgt->hv;
    size_t size = (size_t)r->count * HV_PAGE;
    void *start = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        return -errno;
    m->start = start;
    for (uint32_t i = 0; i < r->count; i++) {
        uint16_t domid = (uint16_t)domid_at(r, i);
        int64_t offset = hv_page_offset(domid, hv->s->domain[domid].grant[r->refs[i]].page);

        if (mmap(m->start + (size_t)i * HV_PAGE, HV_PAGE, r->prot, MAP_SHARED | MAP_FIXED, xgt->fd,
                 offset) == MAP_FAILED) {
            int err = -errno;

            munmap(start, size);
            return err;
        }
    }
    return 0;
}

static void put_all(const struct xengntdev_handle *xgt, const struct mapping *m)
{
    hv_lock(xgt->hv);
    for (uint32_t i = 0; i < m->count; i++)
        hv_gnt_put(xgt->hv, m->track[i]);
    hv_unlock(xgt->hv);
}

static void *map(struct xengntdev_handle *xgt, const struct map_request *r)
{
    struct mapping *m;
    int err = -EINVAL;

    if (r->count == 0) {
        errno = EINVAL;
        return NULL;
    }
    m = calloc(1, sizeof(*m) + r->count * sizeof(m->track[0]));
    if (!m)
        return NULL;
    m->count = r->count;
    hv_spin(xgt->hv);
    err = get_all(xgt, r, m);
    if (!err) {
        err = map_pages(xgt, r, m);
        if (err)
            put_all(xgt, m);
    }
    if (err) {
        atomic_fetch_add(&hv_count(xgt->hv)->map_errors, 1);
        free(m);
        errno = -err;
        return NULL;
    }
    atomic_fetch_add(&hv_count(xgt->hv)->map_calls, 1);
    atomic_fetch_add(&hv_count(xgt->hv)->mapped_pages, m->count);
    pthread_mutex_lock(&xgt->lock);
    m->next = xgt->mappings;
    xgt->mappings = m;
    pthread_mutex_unlock(&xgt->lock);
    return m->start;
}

void *xengnttab_map_grant_refs(xengnttab_handle *xgt, uint32_t count, uint32_t *domids,
                               uint32_t *refs, int prot)
{
    struct map_request r = {.count = count, .domids = domids, .refs = refs, .prot = prot};

    return map(xgt, &r);
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count, uint32_t domid,
                                      uint32_t *refs, int prot)
{
    struct map_request r = {.count = count, .domid = domid, .refs = refs, .prot = prot};

    return map(xgt, &r);
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    return xengnttab_map_domain_grant_refs(xgt, 1, domid, &ref, prot);
}

/* The notification at unmap is not emulated: nobody here asks for one. */
void *xengnttab_map_grant_ref_notify(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot,
                                     uint32_t notify_offset, evtchn_port_t notify_port)
{
    if (notify_offset != UINT32_MAX || notify_port != UINT32_MAX) {
        errno = ENOSYS;
        return NULL;
    }
    return xengnttab_map_grant_ref(xgt, domid, ref, prot);
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start_address, uint32_t count)
{
    struct mapping **p, *m;

    pthread_mutex_lock(&xgt->lock);
    for (p = &xgt->mappings; *p && (*p)->start != start_address; p = &(*p)->next)
        ;
    m = *p;
    if (!m || m->count != count) {
        pthread_mutex_unlock(&xgt->lock);
        return fail(m ? -EINVAL : -ENOENT);
    }
    *p = m->next;
    pthread_mutex_unlock(&xgt->lock);
    hv_spin(xgt->hv);
    munmap(m->start, (size_t)count * HV_PAGE);
    put_all(xgt, m);
    atomic_fetch_add(&hv_count(xgt->hv)->unmap_calls, 1);
    atomic_fetch_add(&hv_count(xgt->hv)->unmapped_pages, count);
    free(m);
    return 0;
}

/* One side of a copy: its address, or a GNTST_* error. */
static int16_t side(const struct hv *hv, const union xengnttab_copy_ptr *p, bool foreign,
                    bool writable, uint8_t **addr)
{
    const struct hv_grant *g;
    uint32_t flags;

    if (!foreign) {
        *addr = p->virt;
        return GNTST_okay;
    }
    if (!hv_domain_alive(hv, p->foreign.domid))
        return GNTST_bad_domain;
    if (p->foreign.ref >= HV_GREFS)
        return GNTST_bad_gntref;
    g = &hv->s->domain[p->foreign.domid].grant[p->foreign.ref];
    flags = g->flags;
    if (!(flags & HV_GRANT_VALID) || g->domid != hv->domid)
        return GNTST_general_error;
    if (writable && flags & HV_GRANT_READONLY)
        return GNTST_general_error;
    *addr = hv_page(hv, p->foreign.domid, g->page) + p->foreign.offset;
    return GNTST_okay;
}

static void copy_one(const struct hv *hv, xengnttab_grant_copy_segment_t *seg)
{
    uint8_t *from = NULL, *to = NULL;
    int16_t status = side(hv, &seg->source, seg->flags & GNTCOPY_source_gref, false, &from);

    if (status == GNTST_okay)
        status = side(hv, &seg->dest, seg->flags & GNTCOPY_dest_gref, true, &to);
    if (status == GNTST_okay)
        memcpy(to, from, seg->len);
    else
        atomic_fetch_add(&hv_count(hv)->copy_errors, 1);
    seg->status = status;
}

/* gntdev's own checks: they end the call, whatever was queued before. */
static bool acceptable(const xengnttab_grant_copy_segment_t *seg)
{
    if (!(seg->flags & (GNTCOPY_source_gref | GNTCOPY_dest_gref)))
        return false;
    if (seg->flags & GNTCOPY_source_gref &&
        (uint32_t)seg->source.foreign.offset + seg->len > HV_PAGE)
        return false;
    return !(seg->flags & GNTCOPY_dest_gref &&
             (uint32_t)seg->dest.foreign.offset + seg->len > HV_PAGE);
}

/* How many page copies gntdev makes of a segment: the local side is split at its page boundaries.
 */
static uint32_t page_copies(const xengnttab_grant_copy_segment_t *seg)
{
    uintptr_t local;

    if (!(seg->flags & GNTCOPY_source_gref))
        local = (uintptr_t)seg->source.virt;
    else if (!(seg->flags & GNTCOPY_dest_gref))
        local = (uintptr_t)seg->dest.virt;
    else
        return 1;
    return (uint32_t)((local % HV_PAGE + seg->len + HV_PAGE - 1) / HV_PAGE);
}

/*
 * As gntdev: a segment is marked okay when it is queued, and up to 16 page copies run in one
 * hypercall. When a segment is refused, what was queued and not yet run stays marked okay, though
 * nothing was copied.
 */
int xengnttab_grant_copy(xengnttab_handle *xgt, uint32_t count,
                         xengnttab_grant_copy_segment_t *segs)
{
    const struct hv *hv = xgt->hv;
    struct hv_counters *c = hv_count(hv);
    uint32_t first = 0, queued = 0;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!acceptable(&segs[i]))
            return fail(-EINVAL);
        segs[i].status = GNTST_okay;
        queued += page_copies(&segs[i]);
        bytes += segs[i].len;
        if (queued < COPY_BATCH && i + 1 < count)
            continue;
        hv_spin(hv);
        for (; first <= i; first++)
            copy_one(hv, &segs[first]);
        queued = 0;
    }
    atomic_fetch_add_explicit(&c->copy_calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->copy_segments, count, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->copy_bytes, bytes, memory_order_relaxed);
    return 0;
}

/* Sharing own pages and dma-buf are not part of the bed. */
xengntshr_handle *xengntshr_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger;
    (void)open_flags;
    errno = ENOSYS;
    return NULL;
}

int xengntshr_close(xengntshr_handle *xgs)
{
    (void)xgs;
    return 0;
}
