/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker that gets any messages in any order, right ones with and without what belongs to them
 * and wrong ones, while a frontend uses its rings. Afterwards it must be able to close every disk,
 * and then has nothing left of them.
 */
#include "fuzz.h"

#include "../unit/worker/worker_rig.h"
#include "blkback/log.h"
#include "vbd.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/io/blkif.h>

#define STEPS_MAX  48U
#define VBDS       4U
#define ROUNDS_MAX 2000U
#define RINGS      4U /* pages that are rings; the next ones are data */

static int events[VBDS]; /* the frontend's end of the channel sent last for each */

static void check_answers(void)
{
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];

    while (worker_message_receive(rig_socket, &message, fds) == 0) {
        CHECK(fds[0] == -1 && fds[1] == -1);
        CHECK(message.type != WORKER_OPEN_STORE && message.type != WORKER_CONNECT_QUEUE);
        if (message.type == WORKER_STORE_FAILED || message.type == WORKER_QUEUE_FAILED)
            CHECK(message.error < 0 && fuzz_printable(message.u.text, sizeof(message.u.text)));
    }
}

static void run(void)
{
    rig_run(0);
    if (rig_store) {
        rig_store->at_once = true;
        fake_store_finish_all(rig_store);
    }
    check_answers();
}

static void send_message(const struct worker_message *message, const int *fds, unsigned count)
{
    CHECK(worker_message_send(rig_socket, message, fds, count) == 0);
    run();
}

static int make_slab(struct input *input, bool changed)
{
    static struct slab_header header;
    const int fd = fuzz_file(&header, sizeof(header));
    struct slab slab;

    if (changed && slab_open(dup(fd), &slab) == 0) {
        input_patches(input, slab.header, slab.allocated, 4);
        slab_close(&slab);
    }
    return fd;
}

static void open_store(uint32_t vbd, struct input *input)
{
    static const uint8_t image[65536];
    const uint8_t how = input_u8(input);
    const uint8_t more = input_u8(input);
    const bool change = more & 1;
    struct worker_message message =
        worker_message(change ? WORKER_CHANGE_STORE : WORKER_OPEN_STORE, vbd);
    int fds[2] = {-1, -1};
    unsigned count = 0;

    message.u.open_store = (struct worker_open_store){
        .domid = RIG_DOMID,
        .devid = RIG_DEVID,
        .kind = how & 3U,
        .engine = how >> 2 & 3U,
        .read_only = how >> 4 & 1U,
        .direct = how >> 5 & 1U,
        .sector_size = how & 64 ? 4096 : 0,
        .fence = how >> 7,
        .size = FAKE_DISK_BYTES,
        .discard = more >> 1 & 1U,
        .adopt = more >> 2 & 1U,
        .vdev = "xvda",
    };
    if (more & 8)
        input_patches(input, &message.u.open_store, sizeof(message.u.open_store), 3);
    if (message.u.open_store.kind == WORKER_STORE_FILE && !(more & 16))
        fds[count++] = fuzz_file(image, sizeof(image));
    if (!(more & 32) && (!change || more & 64))
        fds[count++] = make_slab(input, more & 128);
    send_message(&message, fds, count);
    for (unsigned i = 0; i < count; i++)
        (void)close(fds[i]);
}

/* What the broker would send, but for changes by the input. */
static void connect_queue(uint32_t vbd, struct input *input)
{
    struct worker_message message = worker_message(WORKER_CONNECT_QUEUE, vbd);
    const uint8_t how = input_u8(input);
    const uint8_t more = input_u8(input);
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    message.u.connect_queue = (struct worker_connect_queue){
        .queue = how & 1U,
        .queue_count = 1U + (how >> 1 & 1U),
        .abi = how >> 2 & 3U,
        .ring_order = how & 16 ? how >> 6 : 0,
        .max_requests = 32,
        .max_segments = how & 32 ? 255 : 11,
        .max_indirect_segments = more & 1 ? 256 : 0,
        .persistent = more & 2,
        .local_port = more & 4 ? 0 : 5,
        .recover = more >> 3 & 1U,
    };
    for (unsigned i = 0; i < RINGS; i++)
        message.u.connect_queue.ring_refs[i] = (i + (more >> 6)) % RINGS;
    if (more & 16) {
        message.u.connect_queue.ring_refs[0] = input_u8(input);
        message.u.connect_queue.max_requests = input_u16(input);
    }
    if (more & 32) {
        (void)close(event);
        send_message(&message, NULL, 0);
        return;
    }
    if (events[vbd % VBDS] >= 0)
        (void)close(events[vbd % VBDS]);
    events[vbd % VBDS] = event;
    send_message(&message, &event, 1);
}

static void send_anything(uint32_t vbd, struct input *input)
{
    struct worker_message message = worker_message(WORKER_READY, vbd);

    message.type =
        (uint16_t)(WORKER_READY + input_u8(input) % (WORKER_MESSAGE_TYPES - WORKER_READY));
    if (message.type == WORKER_OPEN_STORE || message.type == WORKER_CHANGE_STORE ||
        message.type == WORKER_CONNECT_QUEUE)
        return; /* their own steps */
    input_bytes(input, &message.u, input_u8(input));
    send_message(&message, NULL, 0);
}

/* The frontend: bytes of a ring, and a request. */
static void use_ring(uint32_t vbd, struct input *input)
{
    const uint8_t how = input_u8(input);
    uint8_t *page = fake_gnttab.pages[how % RINGS];
    struct ring_shared *shared = (struct ring_shared *)page;

    if (how & 128) {
        input_patches(input, page, GNTTAB_PAGE_SIZE, 2);
    } else {
        struct blkif_request request = {
            .operation = input_u8(input) % 8U,
            .nr_segments = how >> 4 & 3U,
            .id = how,
            .sector_number = input_u8(input),
        };

        for (unsigned i = 0; i < 3; i++)
            request.seg[i] = (struct blkif_request_segment){.gref = RINGS + i, .last_sect = 7};
        memcpy(page + 64 + (size_t)(shared->req_prod % 32) * 112, &request, 112);
        shared->req_prod++;
    }
    if (events[vbd % VBDS] >= 0)
        (void)eventfd_write(events[vbd % VBDS], 1);
    run();
}

static void send_plain(enum worker_message_type type, uint32_t vbd)
{
    const struct worker_message message = worker_message(type, vbd);

    send_message(&message, NULL, 0);
}

static void step(struct input *input)
{
    const uint8_t what = input_u8(input);
    const uint32_t vbd = 1U + (what >> 6) % VBDS;

    switch (what & 15U) {
    case 0:
    case 1:
        open_store(vbd, input);
        break;
    case 2:
    case 3:
        connect_queue(vbd, input);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        use_ring(vbd, input);
        break;
    case 8:
        send_plain(WORKER_FINISH, vbd);
        break;
    case 9:
        send_plain(WORKER_DISCONNECT, vbd);
        break;
    case 10:
        send_plain(WORKER_CLOSE_STORE, vbd);
        break;
    case 11:
        send_plain(WORKER_REFRESH_SIZE, vbd);
        break;
    case 12:
        send_plain(WORKER_GRANT_BUDGET, input_u8(input));
        break;
    case 13:
        send_anything(vbd, input);
        break;
    default:
        run();
        break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    log_set_level((enum log_level)0);
    CHECK(rig_set_up(NULL) == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    const int before = fuzz_next_descriptor();

    memset(fake_gnttab.pages, 0, (size_t)FAKE_PAGES * GNTTAB_PAGE_SIZE);
    memset(events, 0xff, sizeof(events));
    for (unsigned i = 0; i < STEPS_MAX && input.left; i++)
        step(&input);
    for (uint32_t vbd = 1; vbd <= VBDS; vbd++)
        send_plain(WORKER_CLOSE_STORE, vbd);
    for (unsigned i = 0; rig_worker.vbds; i++) {
        CHECK(i < ROUNDS_MAX);
        if (i > 10)
            (void)usleep(1000); /* the kernel has it */
        run();
    }
    for (unsigned i = 0; i < VBDS; i++)
        if (events[i] >= 0)
            (void)close(events[i]);
    send_plain(WORKER_GRANT_BUDGET, 0);
    CHECK(fake_evtchns_open == 0 && fake_gnttab.mapped == 0);
    CHECK(fuzz_next_descriptor() == before);
    return 0;
}
