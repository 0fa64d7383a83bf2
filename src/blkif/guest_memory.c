/* SPDX-License-Identifier: BSD-2-Clause */
/* How data crosses: see guest_memory.h. */
#include "blkback/guest_memory.h"

#include "blkback/buffer_pool.h"
#include "request.h"

#include <errno.h>
#include <stdlib.h>

#define SECTOR_BYTES 512U

struct guest_memory {
    struct gnttab *gnttab;
    uint32_t domid;
    unsigned count;
    struct gnttab_piece pieces[GNTTAB_COPY_MAX];
    struct request
        *owners[GNTTAB_COPY_MAX]; /* of each piece; the pieces of a request follow each other */
};

int guest_memory_create(struct gnttab *gnttab, uint32_t domid, struct guest_memory **out)
{
    struct guest_memory *memory = calloc(1, sizeof(*memory));

    if (!memory)
        return -ENOMEM;
    memory->gnttab = gnttab;
    memory->domid = domid;
    *out = memory;
    return 0;
}

void guest_memory_destroy(struct guest_memory *memory)
{
    free(memory);
}

static uint32_t segment_bytes(const struct slab_segment *segment)
{
    return (segment->last_sector - segment->first_sector + 1U) * SECTOR_BYTES;
}

/* One segment, at `position` of the request's data; two pieces where it crosses into the next
 * buffer. */
static void add_segment(struct guest_memory *memory, struct request *request,
                        const struct slab_segment *segment, uint32_t position)
{
    const bool to_guest = request_has_data_out(request->entry);
    uint32_t offset = segment->first_sector * SECTOR_BYTES;
    uint32_t left = segment_bytes(segment);

    while (left) {
        const uint32_t within = position % (uint32_t)BUFFER_BYTES;
        const uint32_t room = (uint32_t)BUFFER_BYTES - within;
        const uint32_t length = left < room ? left : room;
        struct gnttab_piece *piece = &memory->pieces[memory->count];

        memory->owners[memory->count++] = request;
        piece->local = request->buffers[position / (uint32_t)BUFFER_BYTES] + within;
        piece->gref = segment->gref;
        piece->offset = (uint16_t)offset;
        piece->length = (uint16_t)length;
        piece->to_guest = to_guest;
        offset += length;
        position += length;
        left -= length;
    }
}

bool guest_memory_add(struct guest_memory *memory, struct request *request)
{
    const unsigned segments = request->entry->segments;
    uint32_t position = 0;

    /* A segment is cut at most where a buffer ends. */
    if (memory->count + segments + request->buffer_count > GNTTAB_COPY_MAX)
        return false;
    for (unsigned i = 0; i < segments; i++) {
        const struct slab_segment *segment = &request->segments[i];

        add_segment(memory, request, segment, position);
        position += segment_bytes(segment);
    }
    request->copied = true; /* until a piece of it says otherwise */
    return true;
}

bool guest_memory_add_page(struct guest_memory *memory, struct request *request, uint32_t gref,
                           void *local, uint32_t bytes)
{
    if (memory->count == GNTTAB_COPY_MAX)
        return false;
    memory->pieces[memory->count] =
        (struct gnttab_piece){.local = local, .gref = gref, .length = (uint16_t)bytes};
    memory->owners[memory->count++] = request;
    request->copied = true;
    return true;
}

static void note_failures(struct guest_memory *memory, unsigned first, unsigned count,
                          struct slab_statistics *statistics)
{
    for (unsigned i = first; i < first + count; i++)
        if (memory->pieces[i].status != 0) {
            memory->owners[i]->copied = false;
            statistics->segments_failed++;
        }
}

static void copy(struct guest_memory *memory, unsigned first, unsigned count,
                 struct slab_statistics *statistics)
{
    statistics->grant_copies++;
    (void)gnttab_copy_batch(memory->gnttab, memory->domid, memory->pieces + first, count);
}

static void copy_one_by_one(struct guest_memory *memory, struct slab_statistics *statistics)
{
    for (unsigned first = 0, next; first < memory->count; first = next) {
        for (next = first + 1;
             next < memory->count && memory->owners[next] == memory->owners[first];)
            next++;
        copy(memory, first, next - first, statistics);
        note_failures(memory, first, next - first, statistics);
    }
}

void guest_memory_run(struct guest_memory *memory, struct slab_statistics *statistics)
{
    if (memory->count == 0)
        return;
    statistics->copied_segments += memory->count;
    statistics->grant_copies++;
    if (gnttab_copy_batch(memory->gnttab, memory->domid, memory->pieces, memory->count) == 0)
        note_failures(memory, 0, memory->count, statistics);
    else
        copy_one_by_one(memory, statistics);
    memory->count = 0;
}
