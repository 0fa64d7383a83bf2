/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slabs that a worker left which was somebody else's by then: rings with requests under way are
 * killed, the slab's file is changed anywhere or cut, and a successor takes it up. It may refuse;
 * what it takes up must not lead out of the ring, the file or the disk.
 */
#include "ring_input.h"

#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUESTS_MAX 24U
#define PATCHES_MAX  24U

static struct rig *rig;

static void leave_requests(struct input *input)
{
    const uint8_t how = input_u8(input);
    const unsigned requests = input_u8(input) % REQUESTS_MAX;

    if (how & 1)
        rig_connect(rig, 1);
    for (unsigned i = 0; i < requests; i++)
        ring_put(rig, how & 1 ? i & 1U : 0, input);
    ring_push(rig, 0);
    ring_push(rig, 1);
    (void)rig_settle(rig);
    for (unsigned i = how >> 2 & 15U; i && rig->store.held_count; i--)
        fake_store_finish(&rig->store, 0, 0);
    if (how & 2)
        (void)rig_settle(rig);
}

/* Where it hurts: what the input's byte names, then any offset. */
static size_t choose_place(struct input *input, size_t size)
{
    const uint8_t what = input_u8(input);
    const struct slab_header *header = NULL;
    const size_t queue = what & 0x80 ? sizeof(header->queues[0]) : 0;
    const size_t entry = sizeof(struct slab_header) + input_u8(input) * sizeof(struct slab_entry);

    switch (what & 7U) {
    case 0:
        return offsetof(struct slab_header, queue_count) + what % 32U;
    case 1:
        return offsetof(struct slab_header, queues) + queue + (what >> 3 & 15U) * 2;
    case 2:
        return offsetof(struct slab_header, queues[0].publishing) + queue + (what >> 3 & 15U) * 2;
    case 3:
    case 4:
    case 5:
        return entry + (what >> 3 & 15U) * 4;
    default:
        return input_u16(input) % size;
    }
}

static void change_slab(struct input *input)
{
    struct stat status;

    CHECK(fstat(rig->slab.fd, &status) == 0);
    for (unsigned i = 0; i < PATCHES_MAX && input->left && status.st_size; i++) {
        uint8_t bytes[8];
        const size_t at = choose_place(input, (size_t)status.st_size);
        const size_t count = 1 + (input_u8(input) & 7U);

        input_bytes(input, bytes, count);
        CHECK(pwrite(rig->slab.fd, bytes, count, (off_t)at) == (ssize_t)count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};

    rig = ring_rig(&input);
    const int before = fuzz_next_descriptor();

    leave_requests(&input);
    const uint8_t how = input_u8(&input);

    rig_kill(rig, how & 1);
    if (how & 2) /* the disk is another one by now */
        rig->store.base.caps.size = FAKE_DISK_BYTES - input_u8(&input) % 16 * 4096U;
    if (how & 4)
        CHECK(ftruncate(rig->slab.fd, input_u16(&input)) == 0);
    change_slab(&input);
    if (rig_take_up(rig) == 0) {
        ring_check(rig);
        ring_run_out(rig);
        for (unsigned i = 0; i < RIG_QUEUES; i++)
            ring_push(rig, i);
        ring_run_out(rig);
    }
    rig_destroy(rig);
    CHECK(fuzz_next_descriptor() <= before);
    return 0;
}
