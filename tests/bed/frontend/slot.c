/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests and responses as bytes in a ring's slot, per ABI: offsets as in xen/io/blkif.h for each
 * alignment of u64. */
#include "front.h"

#include <string.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define SEGMENTS_PER_BLOCK 14u /* in a slot behind a request's first */

struct layout {
    uint32_t size, id, sector, body; /* body: segments, or DISCARD's number of sectors */
    uint32_t indirect_refs;
};

static const struct layout layouts[] = {
    [FRONT_ABI_X86_64] = {.size = 112, .id = 8, .sector = 16, .body = 24, .indirect_refs = 28},
    [FRONT_ABI_X86_32] = {.size = 108, .id = 4, .sector = 12, .body = 20, .indirect_refs = 24},
};

uint32_t front_slot_size(enum front_abi abi)
{
    return layouts[abi].size;
}

uint32_t front_slots_of(uint32_t segments)
{
    if (segments <= FRONT_SEGMENTS_PER_REQUEST)
        return 1;
    return 1 +
           (segments - FRONT_SEGMENTS_PER_REQUEST + SEGMENTS_PER_BLOCK - 1) / SEGMENTS_PER_BLOCK;
}

/* A block is cut where the slot ends: x86_32 has no room for the last segment. */
static void encode_block(const struct layout *l, const struct front_request *request,
                         uint32_t index, uint8_t *slot)
{
    uint32_t done = FRONT_SEGMENTS_PER_REQUEST + (index - 1) * SEGMENTS_PER_BLOCK;
    size_t bytes =
        request->segments > done ? (request->segments - done) * sizeof(request->segment[0]) : 0;

    if (bytes)
        memcpy(slot, request->segment + done, bytes < l->size ? bytes : l->size);
}

void front_encode(enum front_abi abi, const struct front_request *request, uint32_t index,
                  uint8_t *slot)
{
    const struct layout *l = &layouts[abi];
    uint32_t n = request->segments;

    if (index) {
        encode_block(l, request, index, slot);
        return;
    }
    slot[0] = request->op;
    slot[1] = request->byte1;
    memcpy(slot + 2, &request->handle, sizeof(request->handle));
    memcpy(slot + l->id, &request->id, sizeof(request->id));
    memcpy(slot + l->sector, &request->sector, sizeof(request->sector));
    if (request->op == BLKIF_OP_DISCARD) {
        memcpy(slot + l->body, &request->nr_sectors, sizeof(request->nr_sectors));
        return;
    }
    if (request->op == BLKIF_OP_INDIRECT && request->indirect_refs) {
        memcpy(slot + l->indirect_refs, request->indirect_ref, sizeof(request->indirect_ref));
        return;
    }
    if (n > FRONT_SEGMENTS_PER_REQUEST)
        n = FRONT_SEGMENTS_PER_REQUEST;
    if (n)
        memcpy(slot + l->body, request->segment, n * sizeof(request->segment[0]));
}

/* Both ABIs have the same offsets here; only the padding at the end differs. */
void front_decode(const uint8_t *slot, struct front_response *response)
{
    *response = (struct front_response){.op = slot[8]};
    memcpy(&response->id, slot, sizeof(response->id));
    memcpy(&response->status, slot + 10, sizeof(response->status));
}
