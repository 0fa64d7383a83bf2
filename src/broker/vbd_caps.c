/* SPDX-License-Identifier: BSD-2-Clause */
/* What a disk can do: from the configuration, and from what the worker says of the store, which is
 * held to what an honest one can have found. */
#include "vbd.h"

#include <string.h>

void vbd_make_offer(struct vbd *vbd)
{
    const struct disk_options *options = &vbd->disk.options;
    uint32_t slots = blkif_abi_ring_slots(BLKIF_ABI_NATIVE, options->max_ring_page_order);
    uint32_t requests = options->max_requests;
    vbd->offer.max_ring_page_order = options->max_ring_page_order;
    vbd->offer.max_requests = requests == 0 || requests > slots ? slots : requests;
    vbd->offer.max_segments = options->max_segments;
    vbd->offer.max_request_size = options->max_segments * NEGOTIATE_PAGE_BYTES;
    vbd->offer.max_indirect_segments = options->max_indirect_segments;
    vbd->offer.max_queues = options->max_queues;
    vbd->offer.persistent = options->grants != WORKER_GRANTS_NOT_KEPT;
    if (!vbd->offer.store_known)
        vbd->offer.flush = true; /* until the store says otherwise */
}

/* A name that can be logged as it is. */
static bool is_name(const char *text, size_t size)
{
    const char *end = memchr(text, '\0', size);
    return end != NULL &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == (size_t)(end - text);
}

static bool sizes_possible(const struct worker_store_opened *caps)
{
    uint32_t sector = caps->sector_size;
    uint32_t physical = caps->physical_sector_size;
    return sector >= 512 && sector <= 4096 && (sector & (sector - 1)) == 0 && physical >= sector &&
           (physical & (physical - 1)) == 0 && caps->size % sector == 0 && caps->size <= INT64_MAX;
}

bool vbd_caps_possible(const struct disk_config *disk, const struct worker_store_opened *caps)
{
    bool discard_possible = caps->discard == 0 || (caps->discard_granularity != 0 &&
                                                   caps->discard_granularity % 512 == 0);
    return sizes_possible(caps) && discard_possible && (!disk->read_only || caps->read_only != 0) &&
           is_name(caps->engine, sizeof(caps->engine));
}

void vbd_take_caps(struct vbd *vbd, const struct worker_store_opened *caps)
{
    vbd->caps = *caps;
    vbd->offer.store_known = true;
    vbd->offer.flush = caps->flush != 0;
    vbd->offer.size = caps->size;
    vbd->offer.sector_size = caps->sector_size;
    vbd->offer.physical_sector_size = caps->physical_sector_size;
    vbd->offer.read_only = vbd->disk.read_only || caps->read_only != 0;
    vbd->offer.cdrom = vbd->toolstack.cdrom;
    vbd->offer.discard =
        caps->discard != 0 && !vbd->offer.read_only && vbd_discard_wanted(vbd, &vbd->disk);
    vbd->offer.discard_secure = caps->discard_secure != 0;
    vbd->offer.discard_granularity = caps->discard_granularity;
    vbd->offer.discard_alignment = caps->discard_alignment;
}

bool vbd_discard_wanted(const struct vbd *vbd, const struct disk_config *disk)
{
    return disk->options.discard && vbd->toolstack.discard && !disk->read_only;
}
