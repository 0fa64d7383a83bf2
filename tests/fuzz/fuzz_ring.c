/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whole rings under a frontend that does anything: requests right and wrong, slots and indices
 * rewritten at any moment, grants that come and go; with a store that fails, answers late and in
 * any order, and a worker that is killed and replaced in between.
 */
#include "ring_input.h"

#include <errno.h>
#include <xen/io/blkif.h>

#define STEPS_MAX 256U

static struct rig *rig;

static struct ring_shared *shared(unsigned queue)
{
    return (struct ring_shared *)rig->front[queue].pages;
}

/* Bytes of the ring, header and all, as the frontend likes. */
static void scribble_ring(unsigned queue, struct input *input)
{
    input_patches(input, rig->front[queue].pages, (size_t)GNTTAB_PAGE_SIZE << rig->options.order,
                  1);
}

/* Bytes of the page that was an indirect request's, or is its data. */
static void scribble_page(struct input *input)
{
    input_patches(input, fake_gnttab.pages[input_u8(input) % RING_PAGES], GNTTAB_PAGE_SIZE, 1);
}

static void move_index(unsigned queue, struct input *input)
{
    const uint8_t which = input_u8(input);
    const uint32_t value = which & 4 ? input_u32(input) : rig->front[queue].req_prod;
    const uint32_t moved = value + input_u8(input) - 128U;

    switch (which & 3U) {
    case 0:
        shared(queue)->req_prod = moved;
        break;
    case 1:
        shared(queue)->rsp_event = moved;
        break;
    case 2:
        shared(queue)->rsp_prod = moved;
        break;
    default:
        shared(queue)->req_event = moved;
        break;
    }
}

/* A ring that was broken is not written to any more. */
static void settle(void)
{
    const unsigned broken = rig->broken;
    const uint32_t published = shared(0)->rsp_prod;

    (void)rig_settle(rig);
    if (broken && !rig->queue[1])
        CHECK(shared(0)->rsp_prod == published);
    ring_check(rig);
}

static void finish_io(struct input *input)
{
    static const int results[] = {0, 0, 0, -EIO, -ENOSPC, 0, -EOPNOTSUPP, -EINTR};
    const uint8_t what = input_u8(input);

    if (what == 0xff)
        fake_store_finish_all(&rig->store);
    else if (rig->store.held_count)
        fake_store_finish(&rig->store, (what >> 3) % rig->store.held_count, results[what & 7U]);
}

static void change_grants(struct input *input)
{
    const uint8_t what = input_u8(input);

    if (what & 0x80)
        fake_gnttab.fail_next = what & 3U;
    else if (what & 0x40)
        fake_gnttab.map_error = what & 1 ? -ENOMEM : 0;
    else if (!rig->options.persistent) /* a grant that stays mapped stays as it is */
        fake_gnttab.read_only[what % RING_PAGES] ^= true;
}

static void change_store(struct input *input)
{
    const uint8_t what = input_u8(input);

    rig->store.at_once = what & 1;
    rig->store.room = what & 2 ? 1 : FAKE_HELD_MAX;
    rig->store.result = what & 4 ? -EIO : 0;
    rig->store.base.caps.direct = !(what & 8);
}

static void die_and_come_back(struct input *input)
{
    const uint8_t what = input_u8(input);

    rig_kill(rig, what & 1);
    /* The frontend may do anything meanwhile. */
    if (what & 2)
        scribble_ring(0, input);
    if (what & 4)
        move_index(0, input);
    rig->broken = 0;
    (void)rig_take_up(rig);
}

static void manage(unsigned queue, struct input *input)
{
    struct queue *const connected = rig->queue[queue];
    const uint8_t what = input_u8(input);

    if (!connected)
        return;
    switch (what & 7U) {
    case 0:
        queue_hold(connected);
        break;
    case 1:
        queue_resume(connected, &rig->store.base);
        break;
    case 2:
        queue_retry(connected);
        break;
    case 3:
        queue_finish_all(connected);
        break;
    case 4:
        (void)queue_trim(connected);
        break;
    case 5:
        (void)queue_idle(connected);
        (void)queue_unfinished(connected);
        break;
    default:
        rig_event(rig, queue);
        break;
    }
}

static void step(struct input *input)
{
    const uint8_t what = input_u8(input);
    unsigned queue = what >> 7;

    if (queue && !rig->front[1].pages)
        rig_connect(rig, 1);
    switch (what & 15U) {
    case 0:
    case 1:
    case 2:
        ring_put(rig, queue, input);
        return;
    case 3:
    case 4:
        ring_push(rig, queue);
        break;
    case 5:
        scribble_ring(queue, input);
        return;
    case 6:
        scribble_page(input);
        return;
    case 7:
        move_index(queue, input);
        return;
    case 8:
        change_grants(input);
        return;
    case 9:
        change_store(input);
        return;
    case 10:
        ring_take(rig, queue);
        return;
    case 11:
        die_and_come_back(input);
        break;
    case 12:
        manage(queue, input);
        break;
    default:
        finish_io(input);
        break;
    }
    settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};

    rig = ring_rig(&input);
    const int before = fuzz_next_descriptor();

    for (unsigned i = 0; i < STEPS_MAX && input.left; i++)
        step(&input);
    fake_gnttab.fail_next = 0;
    fake_gnttab.map_error = 0;
    rig->store.room = FAKE_HELD_MAX;
    ring_run_out(rig);
    rig_destroy(rig);
    CHECK(fuzz_next_descriptor() <= before);
    return 0;
}
