/* SPDX-License-Identifier: BSD-2-Clause */
/* How data crosses: see guest_memory.h. */
#include "blkback/guest_memory.h"

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

bool guest_memory_add(struct guest_memory *memory, struct request *request)
{
    const unsigned segments = request->entry->segments;
    const bool to_guest = request_has_data_out(request->entry);
    uint8_t *local = request->buffer;

    if (memory->count + segments > GNTTAB_COPY_MAX)
        return false;
    for (unsigned i = 0; i < segments; i++) {
        const struct slab_segment *segment = &request->segments[i];
        const uint16_t length =
            (uint16_t)((segment->last_sector - segment->first_sector + 1U) * SECTOR_BYTES);

        memory->owners[memory->count] = request;
        memory->pieces[memory->count++] = (struct gnttab_piece){
            .local = local,
            .gref = segment->gref,
            .offset = (uint16_t)(segment->first_sector * SECTOR_BYTES),
            .length = length,
            .to_guest = to_guest,
        };
        local += length;
    }
    request->copied = true; /* until a piece of it says otherwise */
    return true;
}

static void note_failures(struct guest_memory *memory, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        if (memory->pieces[i].status != 0)
            memory->owners[i]->copied = false;
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
        note_failures(memory, first, next - first);
    }
}

void guest_memory_run(struct guest_memory *memory, struct slab_statistics *statistics)
{
    if (memory->count == 0)
        return;
    statistics->copied_segments += memory->count;
    statistics->grant_copies++;
    if (gnttab_copy_batch(memory->gnttab, memory->domid, memory->pieces, memory->count) == 0)
        note_failures(memory, 0, memory->count);
    else
        copy_one_by_one(memory, statistics);
    memory->count = 0;
}
