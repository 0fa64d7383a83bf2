/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue over the unit tests' rig, driven by a fuzz input: see ring_input.h. */
#include "ring_input.h"

#include "blkback/log.h"

#include <stdlib.h>
#include <xen/io/blkif.h>

#define SECTORS    (FAKE_DISK_BYTES / 512U)
#define ROUNDS_MAX 2000U

/* The rig's own checks end the program as CHECK() does; what is logged of wrong input is not read.
 */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    log_set_level((enum log_level)0);
    return 0;
}

struct rig *ring_rig(struct input *input)
{
    const uint8_t flags = input_u8(input);
    const uint8_t more = input_u8(input);
    const struct rig_options options = {
        .abi = (enum blkif_abi)(flags % BLKIF_ABIS),
        .order = flags >> 2 & 1U,
        .max_segments = flags & 8 ? 255 : 11,
        .max_indirect_segments = flags & 16 ? 0 : 256,
        .sector_size = flags & 32 ? 4096 : 512,
        .discard = flags & 64,
        .discard_secure = flags & 128,
        .read_only = more & 1,
        .persistent = more & 2,
        .grant_budget = more & 4 ? 3 : 1000,
        .max_requests = more & 8 ? 3 : 0,
        .start = more & 16 ? UINT32_MAX - 4 : 0,
        .buffers = more & 32 ? 256 : 0,
    };

    struct rig *rig = rig_create(&options);

    rig->store.base.faults.pause_no_space = more & 64;
    rig->store.base.faults.pause_error = more & 128;
    return rig;
}

/* A segment of two bytes: most are right. */
static struct slab_segment take_segment(struct input *input)
{
    const uint8_t page = input_u8(input);
    const uint8_t sectors = input_u8(input);

    return (struct slab_segment){
        .gref = page < 250 ? page % RING_PAGES : FAKE_PAGES + page,
        .first_sector = sectors & 7U,
        .last_sector = sectors & 0x80 ? sectors : 7U - (sectors >> 3 & 7U),
        .pad = 0x5a5a,
    };
}

static void take_segments(struct input *input, struct slab_segment *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        list[i] = input->left ? take_segment(input)
                              : (struct slab_segment){.gref = i % RING_PAGES, .last_sector = 7};
}

static uint64_t take_sector(struct input *input)
{
    const uint16_t value = input_u16(input);

    return value < 0xff00 ? value % (SECTORS + 8U) / 8 * 8 : UINT64_MAX - (value & 0xff);
}

static unsigned room(const struct front *front)
{
    return front->count - (front->req_prod - front->rsp_cons);
}

static void put_indirect(struct front *front, struct input *input, uint8_t operation)
{
    struct slab_segment list[256];
    const uint16_t count = input_u16(input) % 300;
    struct rig_indirect request = {
        .operation = operation,
        .segments = count,
        .id = input_u8(input),
        .sector = take_sector(input),
        .page = input_u8(input) % RING_PAGES,
        .list = list,
    };

    take_segments(input, list, 256);
    if (request.segments > 256)
        request.list = NULL;
    if (request.list)
        front_put_indirect(front, &request);
    else /* the count alone is wrong */
        front_put(front, &(struct rig_request){.operation = BLKIF_OP_INDIRECT,
                                               .segments = operation,
                                               .id = request.id,
                                               .sector = request.sector});
}

void ring_put(struct rig *rig, unsigned queue, struct input *input)
{
    struct front *front = &rig->front[queue];
    struct slab_segment list[256];
    const uint8_t what = input_u8(input);
    const uint8_t operation = what & 7U;

    if (!front->pages || room(front) < BLKIF_SLOTS_MAX)
        return;
    if (operation == BLKIF_OP_INDIRECT) {
        put_indirect(front, input, what >> 3 & 3U);
        return;
    }
    struct rig_request request = {
        .operation = what == 0xff ? 0xff : operation,
        .segments = what & 0x80 ? input_u8(input) : what >> 3 & 3U,
        .id = input_u8(input),
        .sector = take_sector(input),
        .list = list,
        .discard_sectors = take_sector(input),
    };

    take_segments(input, list, request.segments);
    front_put(front, &request);
}

static struct ring_shared *shared_of(const struct front *front)
{
    return (struct ring_shared *)front->pages;
}

void ring_push(struct rig *rig, unsigned queue)
{
    if (!rig->queue[queue])
        return;
    front_push(&rig->front[queue]);
    rig_event(rig, queue);
}

void ring_take(struct rig *rig, unsigned queue)
{
    struct front *front = &rig->front[queue];

    if (!front->pages)
        return;
    /* By the producer: the responses' ids may be scribbled over, and with them their slots. */
    front->rsp_cons = shared_of(front)->rsp_prod;
    shared_of(front)->rsp_event = front->rsp_cons + 1;
    if (front->req_prod - front->rsp_cons > front->count)
        front->req_prod = front->rsp_cons;
}

void ring_check(const struct rig *rig)
{
    for (unsigned i = 0; i < RIG_QUEUES; i++) {
        if (!rig->queue[i])
            continue;
        const struct slab_queue *queue = &rig->slab.header->queues[i];
        const uint64_t unanswered = queue->req_cons - queue->rsp_prod;

        CHECK(unanswered <= rig->front[i].count);
        CHECK(queue->in_flight <= queue->entries && queue->in_flight <= unanswered);
    }
    CHECK(rig->store.held_count <= FAKE_HELD_MAX);
    CHECK(rig->budget.used <= rig->budget.limit + 2 * BLKIF_MAX_INDIRECT_SEGMENTS);
    if (rig->options.read_only)
        CHECK(strpbrk(rig->store.trace, "wd") == NULL);
    if (!rig->options.discard)
        CHECK(strchr(rig->store.trace, 'd') == NULL);
}

void ring_run_out(struct rig *rig)
{
    for (unsigned i = 0; i < RIG_QUEUES; i++)
        if (rig->queue[i])
            queue_retry(rig->queue[i]); /* what the store failed and is parked */
    (void)rig_settle(rig);
    for (unsigned i = 0; rig->store.held_count; i++) {
        CHECK(i < ROUNDS_MAX);
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
        ring_check(rig);
    }
}
