/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker within the test's process: see worker_rig.h. */
#include "worker_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/io/blkif.h>

#define MOMENT_MS 4U

struct worker rig_worker;
struct fake_store *rig_store;
int rig_socket = -1;
static unsigned descriptors_before;

/* ---- takes the place of src/store/store_null.c ---- */

static void close_null(struct store *store)
{
    assert_int_equal(((struct fake_store *)store)->held_count, 0);
    if (rig_store == (struct fake_store *)store)
        rig_store = NULL;
    free(store);
}

static enum io_submit submit_null(struct store *store, struct io *io)
{
    static struct fake_store any;

    if (!any.base.driver)
        fake_store_init(&any);
    return any.base.driver->submit(store, io);
}

static int open_null(const struct store_params *params, char *why, unsigned why_size,
                     struct store **out)
{
    if (params->size == 0) {
        (void)strncpy(why, "no size", why_size);
        return -EINVAL;
    }
    rig_store = malloc(sizeof(*rig_store));
    fake_store_init(rig_store);
    rig_store->base.driver = &store_null;
    rig_store->base.caps.direct = params->direct;
    rig_store->base.caps.read_only = params->read_only;
    *out = &rig_store->base;
    return 0;
}

const struct store_driver store_null = {
    .name = "null", .open = open_null, .submit = submit_null, .close = close_null};

/* ---- the loop ---- */

static void stop(struct loop_timer *timer)
{
    (void)timer;
    rig_worker.threads[0].loop.stopped = true;
}

void rig_run(unsigned milliseconds)
{
    struct loop_timer timer = {.fire = stop};

    rig_worker.threads[0].loop.stopped = false;
    loop_start_timer(&rig_worker.threads[0].loop, &timer, milliseconds);
    assert_int_equal(loop_run(&rig_worker.threads[0].loop), 0);
    loop_stop_timer(&rig_worker.threads[0].loop, &timer);
}

unsigned rig_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    while (readdir(folder))
        count++;
    (void)closedir(folder);
    return count;
}

int rig_set_up(void **state)
{
    int pair[2];
    struct loop_timer timer = {.fire = stop};
    (void)state;

    fake_xen_reset();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    /* Its place; the test's own programs use no descriptor of that number. */
    if (pair[1] != WORKER_SOCKET_FD) {
        if (pair[0] == WORKER_SOCKET_FD)
            pair[0] = fcntl(pair[0], F_DUPFD_CLOEXEC, WORKER_SOCKET_FD + 1);
        assert_int_equal(dup2(pair[1], WORKER_SOCKET_FD), WORKER_SOCKET_FD);
        (void)close(pair[1]);
    }
    rig_socket = pair[0];
    const struct worker_params params = {
        .domid = RIG_DOMID, .buffer_bytes = 8U << 20, .threads = 1};

    assert_int_equal(worker_create(&params, &rig_worker), 0);
    loop_start_timer(&rig_worker.threads[0].loop, &timer, 1);
    assert_int_equal(worker_run(&rig_worker, "off"), 0);
    (void)rig_expect(WORKER_READY, 0);
    descriptors_before = rig_descriptors();
    return 0;
}

int rig_tear_down(void **state)
{
    (void)state;
    if (rig_descriptors() != descriptors_before || fake_evtchns_open || fake_gnttab.mapped)
        return -1;
    (void)close(rig_socket);
    engine_set_destroy(&rig_worker.threads[0].engines);
    buffer_pool_destroy(rig_worker.threads[0].turn.buffers);
    worker_destroy(&rig_worker);
    (void)close(WORKER_SOCKET_FD);
    return 0;
}

struct worker_message rig_expect(enum worker_message_type type, uint32_t vbd)
{
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];
    int error = worker_message_receive(rig_socket, &message, fds);

    if (error == -EAGAIN) {
        rig_run(MOMENT_MS);
        error = worker_message_receive(rig_socket, &message, fds);
    }
    assert_int_equal(error, 0);
    assert_int_equal(message.type, type);
    assert_int_equal(message.vbd, vbd);
    for (unsigned i = 0; i < WORKER_MESSAGE_MAX_FDS; i++)
        assert_int_equal(fds[i], -1);
    return message;
}

void rig_expect_silence(unsigned milliseconds)
{
    struct worker_message message;
    int fds[WORKER_MESSAGE_MAX_FDS];

    rig_run(milliseconds);
    assert_int_equal(worker_message_receive(rig_socket, &message, fds), -EAGAIN);
}

void rig_send(const struct worker_message *message, const int *fds, unsigned count)
{
    assert_int_equal(worker_message_send(rig_socket, message, fds, count), 0);
}

void rig_send_plain(enum worker_message_type type, uint32_t vbd)
{
    const struct worker_message message = worker_message(type, vbd);

    rig_send(&message, NULL, 0);
}

void rig_open(uint32_t vbd)
{
    struct worker_message message = worker_message(WORKER_OPEN_STORE, vbd);
    const int slab = memfd_create("slab", MFD_CLOEXEC);

    message.u.open_store = (struct worker_open_store){.domid = RIG_DOMID,
                                                      .devid = RIG_DEVID,
                                                      .kind = WORKER_STORE_NULL,
                                                      .size = FAKE_DISK_BYTES,
                                                      .direct = 1,
                                                      .fence = 1,
                                                      .vdev = "xvda"};
    rig_send(&message, &slab, 1);
    (void)close(slab);
    message = rig_expect(WORKER_STORE_OPENED, vbd);
    assert_int_equal(message.u.store_opened.size, FAKE_DISK_BYTES);
    assert_int_equal(message.u.store_opened.sector_size, 512);
    assert_int_equal(message.u.store_opened.flush, 1);
    assert_string_equal(message.u.store_opened.engine, "fake");
}

void rig_close(uint32_t vbd)
{
    rig_send_plain(WORKER_CLOSE_STORE, vbd);
    (void)rig_expect(WORKER_STORE_CLOSED, vbd);
    assert_null(rig_store);
}

struct worker_message rig_connect_message(uint32_t vbd)
{
    struct worker_message message = worker_message(WORKER_CONNECT_QUEUE, vbd);

    memset(fake_gnttab.pages[0], 0, GNTTAB_PAGE_SIZE);
    ((struct ring_shared *)fake_gnttab.pages[0])->req_event = 1;
    ((struct ring_shared *)fake_gnttab.pages[0])->rsp_event = 1;
    message.u.connect_queue = (struct worker_connect_queue){
        .queue_count = 1, .max_requests = 32, .max_segments = 11, .local_port = 5};
    return message;
}

int rig_connect(uint32_t vbd)
{
    const struct worker_message message = rig_connect_message(vbd);
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    rig_send(&message, &event, 1);
    (void)rig_expect(WORKER_QUEUE_CONNECTED, vbd);
    return event;
}

struct ring_shared *rig_shared(void)
{
    return (struct ring_shared *)fake_gnttab.pages[0];
}

void rig_put(uint8_t operation, uint64_t sector)
{
    const uint32_t produced = rig_shared()->req_prod;
    const bool bare = operation == BLKIF_OP_FLUSH_DISKCACHE;
    struct blkif_request *slot =
        (struct blkif_request *)(void *)(fake_gnttab.pages[0] + 64 + (size_t)(produced % 32) * 112);

    memset(slot, 0, sizeof(*slot));
    slot->operation = operation;
    slot->nr_segments = bare ? 0 : 1;
    slot->id = produced;
    slot->sector_number = sector;
    slot->seg[0] = (struct blkif_request_segment){.gref = 20, .last_sect = 7};
    rig_shared()->req_prod = produced + 1;
}

void rig_request(int event, uint8_t operation, uint64_t sector)
{
    rig_put(operation, sector);
    assert_int_equal(eventfd_write(event, 1), 0);
    rig_run(2);
}
