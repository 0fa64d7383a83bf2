/* SPDX-License-Identifier: BSD-2-Clause */
/* Granted pages over libxengnttab: see gnttab.h. */
#include "blkback/gnttab.h"

#include "xen_logger.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xen/grant_table.h>
#include <xengnttab.h>

struct gnttab {
    xengnttab_handle *handle;
    xengnttab_grant_copy_segment_t
        segments[GNTTAB_COPY_MAX]; /* scratch: no allocation on the data path */
};

int gnttab_open(struct gnttab **out)
{
    struct gnttab *gnttab = calloc(1, sizeof(*gnttab));

    if (!gnttab)
        return -ENOMEM;
    gnttab->handle = xengnttab_open(xen_logger(), 0);
    if (!gnttab->handle) {
        const int error = errno ? -errno : -ENODEV;

        free(gnttab);
        return error;
    }
    *out = gnttab;
    return 0;
}

void gnttab_close(struct gnttab *gnttab)
{
    if (!gnttab)
        return;
    xengnttab_close(gnttab->handle);
    free(gnttab);
}

int gnttab_map(struct gnttab *gnttab, uint32_t domid, const uint32_t *refs, unsigned count,
               void **out)
{
    /* The library takes a non-const array and only reads it. */
    uint32_t copy[32];

    if (count == 0 || count > sizeof(copy) / sizeof(copy[0]))
        return -EINVAL;
    for (unsigned i = 0; i < count; i++)
        copy[i] = refs[i];
    void *address =
        xengnttab_map_domain_grant_refs(gnttab->handle, count, domid, copy, PROT_READ | PROT_WRITE);

    if (!address)
        return errno ? -errno : -EINVAL;
    *out = address;
    return 0;
}

void gnttab_unmap(struct gnttab *gnttab, void *address, unsigned count)
{
    if (address)
        (void)xengnttab_unmap(gnttab->handle, address, count);
}

static void fill(xengnttab_grant_copy_segment_t *segment, const struct gnttab_piece *piece,
                 uint32_t domid)
{
    union xengnttab_copy_ptr *local = piece->to_guest ? &segment->source : &segment->dest;
    union xengnttab_copy_ptr *granted = piece->to_guest ? &segment->dest : &segment->source;

    local->virt = piece->local;
    granted->foreign.ref = piece->gref;
    granted->foreign.offset = piece->offset;
    granted->foreign.domid = (uint16_t)domid;
    segment->len = piece->length;
    segment->flags = piece->to_guest ? GNTCOPY_dest_gref : GNTCOPY_source_gref;
    segment->status = GNTST_general_error;
}

int gnttab_copy_batch(struct gnttab *gnttab, uint32_t domid, struct gnttab_piece *pieces,
                      unsigned count)
{
    if (count > GNTTAB_COPY_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++) {
        fill(&gnttab->segments[i], &pieces[i], domid);
        pieces[i].status = GNTST_general_error;
    }
    if (xengnttab_grant_copy(gnttab->handle, count, gnttab->segments) < 0)
        return errno ? -errno : -EIO;
    for (unsigned i = 0; i < count; i++)
        pieces[i].status = gnttab->segments[i].status;
    return 0;
}
