/* SPDX-License-Identifier: BSD-2-Clause */
/* Everything around a queue: see rig.h. */
#include "rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define TURNS_MAX    20U
#define SLOT_HEADER  BLKIF_RING_HEADER_BYTES
#define DOMID        7U
#define MAX_SEGMENTS 11U

static void ring_broken(void *context)
{
    ((struct rig *)context)->broken++;
}

static void io_failed(void *context, enum io_operation operation, uint64_t sector, int error)
{
    (void)operation;
    (void)sector;
    assert_true(error < 0);
    ((struct rig *)context)->io_failed++;
}

static void flush_failed(void *context, int error)
{
    assert_true(error < 0);
    ((struct rig *)context)->flush_failed++;
}

static void drained(void *context)
{
    struct rig *rig = context;
    unsigned in_flight = 0;

    rig->drained++;
    for (unsigned i = 0; i < RIG_QUEUES; i++)
        if (rig->queue[i])
            in_flight += queue_in_flight(rig->queue[i]);
    if (!rig->destroy_when_drained || in_flight)
        return;
    for (unsigned i = 0; i < RIG_QUEUES; i++) {
        queue_destroy(rig->queue[i]);
        rig->queue[i] = NULL;
    }
}

static const struct queue_events events = {
    .ring_broken = ring_broken,
    .io_failed = io_failed,
    .flush_failed = flush_failed,
    .drained = drained,
};

static struct ring_shared *shared_of(const struct front *front)
{
    return (struct ring_shared *)front->pages;
}

static void front_create(struct front *front, const struct rig_options *options)
{
    const size_t bytes = (size_t)GNTTAB_PAGE_SIZE << options->order;

    front->pages = aligned_alloc(GNTTAB_PAGE_SIZE, bytes);
    memset(front->pages, 0, bytes);
    front->abi = options->abi;
    front->slot_bytes = options->abi == BLKIF_ABI_X86_32 ? 108 : 112;
    front->count = blkif_abi_ring_slots(options->abi, options->order);
    front->req_prod = front->rsp_cons = options->start;
    shared_of(front)->req_prod = options->start;
    shared_of(front)->rsp_prod = options->start;
    shared_of(front)->req_event = options->start + 1;
    shared_of(front)->rsp_event = options->start + 1;
    front->evtchn = fake_evtchn_create();
}

void rig_connect(struct rig *rig, unsigned index)
{
    struct front *front = &rig->front[index];

    front_create(front, &rig->options);
    const struct queue_params params = {
        .turn = &rig->turn,
        .store = &rig->store.base,
        .slab = &rig->slab,
        .overlaps = rig->overlaps,
        .events = &events,
        .context = rig,
        .evtchn = front->evtchn,
        .ring_pages = front->pages,
        .index = index,
        .abi = rig->options.abi,
        .ring_order = rig->options.order,
        .max_requests = rig->options.max_requests ? rig->options.max_requests : front->count,
        .max_segments = MAX_SEGMENTS,
    };

    assert_int_equal(queue_connect(&params, &rig->queue[index]), 0);
    (void)rig_settle(rig);
}

struct rig *rig_create(const struct rig_options *options)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    const unsigned buffers = options->buffers ? options->buffers : FAKE_HELD_MAX;

    rig->options = *options;
    fake_xen_reset();
    fake_store_init(&rig->store);
    assert_int_equal(slab_open(memfd_create("slab", MFD_CLOEXEC), &rig->slab), 0);
    assert_int_equal(overlap_table_create(&rig->overlaps), 0);
    assert_int_equal(buffer_pool_create((uint64_t)buffers * BUFFER_BYTES, &rig->turn.buffers), 0);
    assert_int_equal(guest_memory_create(fake_gnttab_handle(), DOMID, &rig->turn.memory), 0);
    rig_connect(rig, 0);
    return rig;
}

void rig_destroy(struct rig *rig)
{
    for (unsigned i = 0; i < RIG_QUEUES; i++) {
        if (rig->queue[i])
            queue_disconnect(rig->queue[i]);
    }
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < RIG_QUEUES; i++) {
        queue_destroy(rig->queue[i]);
        free(rig->front[i].pages);
    }
    assert_int_equal(fake_evtchns_open, 0);
    guest_memory_destroy(rig->turn.memory);
    buffer_pool_destroy(rig->turn.buffers);
    overlap_table_destroy(rig->overlaps);
    slab_close(&rig->slab);
    free(rig);
}

static void store_segments(uint8_t *to, const struct rig_request *request)
{
    for (unsigned i = 0; i < request->segments && i < MAX_SEGMENTS; i++) {
        const uint32_t gref = request->gref + i;
        uint8_t *segment = to + (size_t)i * 8;

        memcpy(segment, &gref, sizeof(gref));
        segment[4] = 0;
        segment[5] = request->last_sector;
    }
}

void front_put(struct front *front, const struct rig_request *request)
{
    const bool packed = front->abi == BLKIF_ABI_X86_32;
    uint8_t *slot = front->pages + SLOT_HEADER +
                    (size_t)(front->req_prod & (front->count - 1)) * front->slot_bytes;

    assert_true(front->req_prod - front->rsp_cons < front->count);
    memset(slot, 0xa5, front->slot_bytes);
    slot[0] = request->operation;
    slot[1] = request->segments;
    memcpy(slot + (packed ? 4 : 8), &request->id, sizeof(request->id));
    memcpy(slot + (packed ? 12 : 16), &request->sector, sizeof(request->sector));
    store_segments(slot + (packed ? 20 : 24), request);
    front->req_prod++;
}

void front_push(struct front *front)
{
    shared_of(front)->req_prod = front->req_prod;
}

bool front_take(struct front *front, struct rig_response *out)
{
    const uint8_t *slot = front->pages + SLOT_HEADER +
                          (size_t)(front->rsp_cons & (front->count - 1)) * front->slot_bytes;

    if (shared_of(front)->rsp_prod == front->rsp_cons)
        return false;
    memcpy(&out->id, slot, sizeof(out->id));
    memcpy(&out->status, slot + 10, sizeof(out->status));
    out->operation = slot[8];
    front->rsp_cons++;
    shared_of(front)->rsp_event = front->rsp_cons + 1;
    return true;
}

void rig_transfer(struct rig *rig, uint8_t operation, uint64_t id, uint64_t sector, uint32_t gref)
{
    front_put(&rig->front[0], &(struct rig_request){.operation = operation,
                                                    .segments = 1,
                                                    .id = id,
                                                    .sector = sector,
                                                    .gref = gref,
                                                    .last_sector = 7});
    front_push(&rig->front[0]);
}

void rig_bare(struct rig *rig, uint8_t operation, uint64_t id)
{
    front_put(&rig->front[0], &(struct rig_request){.operation = operation, .id = id});
    front_push(&rig->front[0]);
}

void rig_event(struct rig *rig, unsigned index)
{
    rig->front[index].evtchn->pending = true;
    queue_on_event(rig->queue[index]);
}

unsigned rig_settle(struct rig *rig)
{
    unsigned turns = 0;

    do {
        turn_run(&rig->turn);
        turns++;
        assert_true(turns < TURNS_MAX);
    } while (rig->turn.ready);
    return turns;
}

void rig_expect(struct rig *rig, uint64_t id, uint8_t operation, int16_t status)
{
    struct rig_response response;

    assert_true(front_take(&rig->front[0], &response));
    assert_int_equal(response.id, id);
    assert_int_equal(response.operation, operation);
    assert_int_equal(response.status, status);
}

void rig_expect_none(struct rig *rig)
{
    assert_int_equal(shared_of(&rig->front[0])->rsp_prod, rig->front[0].rsp_cons);
}
