/* SPDX-License-Identifier: BSD-2-Clause */
/* The nodes we publish in the backend directory, in one table; docs/xenstore.md is checked against
 * it. */
#include "negotiate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/blkif.h>

/* What depends on the store is published once it is open, the rest always. */
enum needs {
    NEEDS_NOTHING,
    NEEDS_STORE,
    NEEDS_DISCARD /* by the store; without it there is no such node */
};

struct published_node {
    const char *name;
    enum needs needs;
    uint64_t (*value)(const struct offer *offer);
};

static uint64_t ring_page_order(const struct offer *offer)
{
    return offer->max_ring_page_order;
}

static uint64_t ring_pages(const struct offer *offer)
{
    return UINT64_C(1) << offer->max_ring_page_order;
}

static uint64_t requests(const struct offer *offer)
{
    return offer->max_requests;
}

static uint64_t segments(const struct offer *offer)
{
    return offer->max_segments;
}

static uint64_t request_size(const struct offer *offer)
{
    return offer->max_request_size;
}

static uint64_t flush(const struct offer *offer)
{
    return offer->flush ? 1 : 0;
}

static uint64_t indirect_segments(const struct offer *offer)
{
    return offer->max_indirect_segments;
}

static uint64_t queues(const struct offer *offer)
{
    return offer->max_queues;
}

static uint64_t persistent(const struct offer *offer)
{
    return offer->persistent ? 1 : 0;
}

static uint64_t discard(const struct offer *offer)
{
    return offer->discard ? 1 : 0;
}

static uint64_t discard_granularity(const struct offer *offer)
{
    return offer->discard_granularity;
}

static uint64_t discard_alignment(const struct offer *offer)
{
    return offer->discard_alignment;
}

static uint64_t discard_secure(const struct offer *offer)
{
    return offer->discard_secure ? 1 : 0;
}

/* In units of 512 bytes, whatever the sector size. */
static uint64_t sectors(const struct offer *offer)
{
    return offer->size / 512;
}

static uint64_t sector_size(const struct offer *offer)
{
    return offer->sector_size;
}

static uint64_t physical_sector_size(const struct offer *offer)
{
    return offer->physical_sector_size;
}

static uint64_t info(const struct offer *offer)
{
    uint64_t flags = 0;
    if (offer->read_only)
        flags |= VDISK_READONLY;
    if (offer->cdrom)
        flags |= VDISK_CDROM | VDISK_REMOVABLE;
    return flags;
}

/* clang-format off */
static const struct published_node table[] = {
    {"max-ring-page-order", NEEDS_NOTHING, ring_page_order},
    {"max-ring-pages", NEEDS_NOTHING, ring_pages},
    {"max-requests", NEEDS_NOTHING, requests},
    {"max-request-segments", NEEDS_NOTHING, segments},
    {"max-request-size", NEEDS_NOTHING, request_size},
    {"feature-flush-cache", NEEDS_NOTHING, flush},
    {"feature-barrier", NEEDS_NOTHING, flush},
    {"feature-max-indirect-segments", NEEDS_NOTHING, indirect_segments},
    {"multi-queue-max-queues", NEEDS_NOTHING, queues},
    {"feature-persistent", NEEDS_NOTHING, persistent},
    {"feature-discard", NEEDS_STORE, discard},
    {"discard-granularity", NEEDS_DISCARD, discard_granularity},
    {"discard-alignment", NEEDS_DISCARD, discard_alignment},
    {"discard-secure", NEEDS_DISCARD, discard_secure},
    {"sectors", NEEDS_STORE, sectors},
    {"sector-size", NEEDS_STORE, sector_size},
    {"physical-sector-size", NEEDS_STORE, physical_sector_size},
    {"info", NEEDS_STORE, info},
};
/* clang-format on */

unsigned published_nodes(void)
{
    return sizeof(table) / sizeof(table[0]);
}

const char *published_name(unsigned node)
{
    return table[node].name;
}

bool published_path(const char *path)
{
    const char *slash = strrchr(path, '/');

    for (unsigned node = 0; slash != NULL && node < published_nodes(); node++)
        if (strcmp(slash + 1, table[node].name) == 0)
            return true;
    return false;
}

int published_value(unsigned node, const struct offer *offer, char value[NEGOTIATE_VALUE_MAX])
{
    if (table[node].needs == NEEDS_DISCARD && offer->store_known && !offer->discard)
        return -ENOENT;
    if (table[node].needs != NEEDS_NOTHING && !offer->store_known)
        return -ENODATA;
    snprintf(value, NEGOTIATE_VALUE_MAX, "%" PRIu64, table[node].value(offer));
    return 0;
}

bool published_of_medium(unsigned node)
{
    return table[node].needs == NEEDS_STORE && table[node].value != discard;
}

bool published_alike(const struct offer *one, const struct offer *other)
{
    for (unsigned node = 0; node < published_nodes(); node++) {
        char values[2][NEGOTIATE_VALUE_MAX] = {"", ""};

        if (published_value(node, one, values[0]) != published_value(node, other, values[1]) ||
            strcmp(values[0], values[1]) != 0)
            return false;
    }
    return true;
}
