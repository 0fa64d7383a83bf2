/* SPDX-License-Identifier: BSD-2-Clause */
/* Everything around a queue: see rig.h. */
#include "rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
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

static void parked(void *context, enum io_operation operation, uint64_t sector, int error)
{
    (void)sector;
    assert_true(error < 0);
    if (operation == IO_FLUSH)
        ((struct rig *)context)->flush_failed++;
    else
        ((struct rig *)context)->io_parked++;
}

/* As the owner does. */
static void continued(void *context)
{
    struct rig *rig = context;

    rig->continued++;
    for (unsigned i = 0; i < RIG_QUEUES; i++)
        if (rig->queue[i])
            queue_retry(rig->queue[i]);
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

static void quiet(void *context)
{
    ((struct rig *)context)->quiet++;
}

uint64_t rig_now_ms;

static uint64_t now_ms(void)
{
    return rig_now_ms;
}

static void delay_events(void *context, uint32_t milliseconds)
{
    ((struct rig *)context)->delay_ms = milliseconds;
}

static const struct queue_events events = {
    .ring_broken = ring_broken,
    .io_failed = io_failed,
    .parked = parked,
    .continued = continued,
    .drained = drained,
    .quiet = quiet,
    .delay_events = delay_events,
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
    front->multi_block = options->max_segments > MAX_SEGMENTS;
    memset(front->spans, 1, sizeof(front->spans));
}

static void connect_queue(struct rig *rig, unsigned index, bool recover)
{
    const struct front *front = &rig->front[index];
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
        .max_segments = rig->options.max_segments ? rig->options.max_segments : MAX_SEGMENTS,
        .max_indirect_segments = rig->options.max_indirect_segments,
        .discard = rig->options.discard,
        .persistent = rig->options.persistent,
        .copy_mapped = rig->options.copy_mapped,
        .max_event_delay_ms = rig->options.max_event_delay_ms,
        .work_per_turn = rig->options.work_per_turn,
        .recover = recover,
    };

    rig->recovered = queue_connect(&params, &rig->queue[index]);
    if (rig->recovered)
        evtchn_close(front->evtchn);
}

void rig_connect(struct rig *rig, unsigned index)
{
    front_create(&rig->front[index], &rig->options);
    connect_queue(rig, index, false);
    assert_int_equal(rig->recovered, 0);
    (void)rig_settle(rig);
}

/* The process is gone: what it has in memory, its channels, and its mappings of the guest. */
static void bury(struct rig *rig, bool io_lands)
{
    for (unsigned i = 0; i < RIG_QUEUES; i++)
        if (rig->queue[i])
            queue_disconnect(rig->queue[i]);
    while (rig->store.held_count)
        fake_store_finish(&rig->store, 0, io_lands ? 0 : -EIO);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < RIG_QUEUES; i++) {
        queue_destroy(rig->queue[i]);
        rig->was_connected[i] = rig->queue[i] != NULL;
        rig->queue[i] = NULL;
    }
}

void rig_kill(struct rig *rig, bool io_lands)
{
    const uint32_t bytes = rig->slab.allocated;
    uint8_t *slab = malloc(bytes);
    const int fd = dup(rig->slab.fd);

    memcpy(slab, rig->slab.header, bytes);
    bury(rig, io_lands);
    assert_int_equal(pwrite(fd, slab, bytes, 0), (ssize_t)bytes);
    free(slab);
    slab_close(&rig->slab);
    rig->slab.fd = fd;
}

int rig_take_up(struct rig *rig)
{
    int error = slab_adopt(rig->slab.fd, &rig->slab);

    if (error)
        (void)close(rig->slab.fd);
    for (unsigned i = 0; !error && i < RIG_QUEUES; i++) {
        if (!rig->was_connected[i])
            continue;
        rig->front[i].evtchn = fake_evtchn_create();
        connect_queue(rig, i, true);
        error = rig->recovered;
    }
    for (unsigned i = 0; !error && i < RIG_QUEUES; i++)
        if (rig->queue[i])
            queue_resume(rig->queue[i], &rig->store.base);
    (void)rig_settle(rig);
    return error;
}

static void describe_store(struct store_caps *caps, const struct rig_options *options)
{
    if (options->sector_size)
        caps->sector_size = caps->physical_sector_size = options->sector_size;
    caps->read_only = options->read_only;
    caps->discard = options->discard;
    caps->discard_secure = options->discard_secure;
    caps->discard_granularity = caps->sector_size;
}

struct rig *rig_create(const struct rig_options *options)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    const unsigned buffers = options->buffers ? options->buffers : FAKE_HELD_MAX;

    rig->options = *options;
    fake_xen_reset();
    fake_store_init(&rig->store);
    describe_store(&rig->store.base.caps, options);
    assert_int_equal(slab_open(memfd_create("slab", MFD_CLOEXEC), &rig->slab), 0);
    assert_int_equal(overlap_table_create(false, &rig->overlaps), 0);
    assert_int_equal(buffer_pool_create((uint64_t)buffers * BUFFER_BYTES, &rig->turn.buffers), 0);
    assert_int_equal(guest_memory_create(fake_gnttab_handle(), DOMID, &rig->turn.memory), 0);
    rig->turn.gnttab = fake_gnttab_handle();
    rig->turn.domid = DOMID;
    rig->turn.now_ms = now_ms;
    rig->turn.budget = &rig->budget;
    rig->budget.limit = options->grant_budget;
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
    assert_int_equal(fake_gnttab.mapped, 0);
    assert_int_equal(rig->budget.used, 0);
    guest_memory_destroy(rig->turn.memory);
    buffer_pool_destroy(rig->turn.buffers);
    overlap_table_destroy(rig->overlaps);
    slab_close(&rig->slab);
    free(rig);
}

static struct slab_segment segment_of(const struct rig_request *request, unsigned index)
{
    if (request->list)
        return request->list[index];
    return (struct slab_segment){.gref = request->gref + index,
                                 .last_sector = request->last_sector};
}

static uint8_t *slot_at(const struct front *front, uint32_t index)
{
    return front->pages + SLOT_HEADER + (size_t)(index & (front->count - 1)) * front->slot_bytes;
}

static uint32_t slots_of(const struct front *front, const struct rig_request *request)
{
    const bool spans = front->multi_block && (request->operation == BLKIF_OP_READ ||
                                              request->operation == BLKIF_OP_WRITE ||
                                              request->operation == BLKIF_OP_WRITE_BARRIER);

    return spans && request->segments > 11 ? 1 + (request->segments - 11U + 13U) / 14U : 1;
}

/* Segment by segment, as far as the slot has room. */
static void store_segments(const struct front *front, const struct rig_request *request,
                           uint32_t slots)
{
    const uint32_t offset = front->abi == BLKIF_ABI_X86_32 ? 20 : 24;

    for (unsigned i = 0; i < request->segments && (i < 11 || slots > 1); i++) {
        const struct slab_segment segment = segment_of(request, i);
        const uint32_t ahead = i < 11 ? 0 : 1 + (i - 11) / 14;
        const uint32_t within = i < 11 ? offset + i * 8 : (i - 11) % 14 * 8;
        const uint32_t room = front->slot_bytes - within;

        memcpy(slot_at(front, front->req_prod + ahead) + within, &segment, room < 8 ? room : 8);
    }
}

/* The members that every operation has; the rest of its slots is full of junk. */
static uint8_t *begin_slot(struct front *front, uint8_t operation, uint64_t id, uint64_t sector,
                           uint32_t slots)
{
    const bool packed = front->abi == BLKIF_ABI_X86_32;
    uint8_t *slot = slot_at(front, front->req_prod);

    assert_true(front->req_prod - front->rsp_cons + slots <= front->count);
    for (uint32_t i = 0; i < slots; i++)
        memset(slot_at(front, front->req_prod + i), 0xa5, front->slot_bytes);
    front->spans[id % FRONT_IDS] = (uint8_t)slots;
    slot[0] = operation;
    memcpy(slot + (packed ? 4 : 8), &id, sizeof(id));
    memcpy(slot + (packed ? 12 : 16), &sector, sizeof(sector));
    return slot;
}

void front_put(struct front *front, const struct rig_request *request)
{
    const uint32_t slots = slots_of(front, request);
    uint8_t *slot = begin_slot(front, request->operation, request->id, request->sector, slots);

    slot[1] = request->segments;
    if (request->operation == BLKIF_OP_DISCARD)
        memcpy(slot + (front->abi == BLKIF_ABI_X86_32 ? 20 : 24), &request->discard_sectors,
               sizeof(request->discard_sectors));
    else
        store_segments(front, request, slots);
    front->req_prod += slots;
}

void front_put_indirect(struct front *front, const struct rig_indirect *request)
{
    uint8_t *slot = begin_slot(front, BLKIF_OP_INDIRECT, request->id, request->sector, 1);

    slot[1] = request->operation;
    memcpy(slot + 2, &request->segments, sizeof(request->segments));
    memcpy(slot + (front->abi == BLKIF_ABI_X86_32 ? 24 : 28), &request->page,
           sizeof(request->page));
    for (unsigned i = 0; i < request->segments && i < 512 && request->page < FAKE_PAGES; i++) {
        const struct slab_segment segment =
            request->list ? request->list[i]
                          : (struct slab_segment){.gref = request->gref + i,
                                                  .last_sector = request->last_sector};

        memcpy(fake_gnttab.pages[request->page] + (size_t)i * 8, &segment, sizeof(segment));
    }
    front->req_prod++;
}

void front_push(struct front *front)
{
    front_push_but(front, 0);
}

void front_push_but(struct front *front, uint32_t held_back)
{
    shared_of(front)->req_prod = front->req_prod - held_back;
}

bool front_take(struct front *front, struct rig_response *out)
{
    const uint8_t *slot = slot_at(front, front->rsp_cons);

    if (shared_of(front)->rsp_prod == front->rsp_cons)
        return false;
    memcpy(&out->id, slot, sizeof(out->id));
    memcpy(&out->status, slot + 10, sizeof(out->status));
    out->operation = slot[8];
    front->rsp_cons += front->spans[out->id % FRONT_IDS];
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

void rig_run(struct rig *rig)
{
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
}

void rig_run_to_the_end(struct rig *rig)
{
    rig_run(rig);
    while (rig->store.held_count) {
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
    }
}

/* Every answer of a ring that is at rest was taken, and producer and consumer agree about slots. */
void rig_expect_rest(struct rig *rig)
{
    const struct front *front = &rig->front[0];
    const struct slab_queue *queue = &rig->slab.header->queues[0];

    rig_expect_none(rig);
    assert_int_equal(front->rsp_cons, front->req_prod);
    assert_int_equal((uint32_t)queue->rsp_prod, front->req_prod);
    assert_int_equal((uint32_t)queue->req_cons, front->req_prod);
    assert_int_equal(queue->in_flight, 0);
    assert_int_equal(rig->broken, 0);
}
