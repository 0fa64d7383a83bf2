/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sequences of states and events through the broker's vbds: toolstack, frontend, hook,
 * administrator and worker do what they like in any order, and any of them may be gone; the worker
 * may also lie. An honest worker is never ended for what it says, every request gets its answer,
 * and when all disks are removed nothing of them is left.
 */
#include "fake_outside.h"
#include "fake_time.h"
#include "fake_worker.h"

#include "../unit/broker/fake_xenstore.h"
#include "domain.h"
#include "domains.h"
#include "kernel_blkback.h"
#include "vbd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STEPS_MAX  200U
#define TOKENS_MAX (STEPS_MAX + 8U)
#define ROUNDS_MAX 400U

/* The disks that there may be; two of them share a worker. */
static const struct vbd_address addresses[] = {
    {.class = VBD_CLASS_VBD, .domid = 7, .devid = 51712},
    {.class = VBD_CLASS_VBD, .domid = 7, .devid = 51728},
    {.class = VBD_CLASS_VBD3, .domid = 8, .devid = 51712},
};
#define DISKS (sizeof(addresses) / sizeof(addresses[0]))

static struct broker broker;
static struct control_call_token tokens[TOKENS_MAX];
static unsigned token_count;

/* ---- XenStore ---- */

static void path_of(unsigned disk, bool front, const char *node, char path[XENSTORE_PATH_MAX])
{
    const struct vbd_address *address = &addresses[disk];

    if (front)
        (void)snprintf(path, XENSTORE_PATH_MAX, "/local/domain/%u/device/vbd/%u/%s", address->domid,
                       address->devid, node);
    else
        (void)snprintf(path, XENSTORE_PATH_MAX, "backend/%s/%u/%u/%s",
                       vbd_class_name(address->class), address->domid, address->devid, node);
    if (node[0] == '\0')
        path[strlen(path) - 1] = '\0';
}

static void set(unsigned disk, bool front, const char *node, const char *value)
{
    char path[XENSTORE_PATH_MAX];

    path_of(disk, front, node, path);
    fake_set(broker.xs, path, value);
}

/* As domains.c does upon an event below the backend's folder. */
static void look_at(unsigned disk)
{
    struct vbd *vbd;

    if (broker.session_lost)
        return;
    if (domains_find(&broker, &addresses[disk], &vbd) == 0)
        vbd_mark_dirty(vbd);
    else
        (void)vbd_discover(&broker, &addresses[disk], &vbd);
}

static void look_at_front(unsigned disk)
{
    struct vbd *vbd;

    if (!broker.session_lost && domains_find(&broker, &addresses[disk], &vbd) == 0)
        vbd_frontend_changed(vbd);
}

static void make_disk(unsigned disk, struct input *input)
{
    const uint8_t how = input_u8(input);
    char front[XENSTORE_PATH_MAX];

    path_of(disk, true, "", front);
    set(disk, false, "frontend", front);
    set(disk, false, "script", how & 0x80 ? NULL : "/etc/xen/scripts/block-blkbackd");
    set(disk, false, "params", fake_target(input_u8(input)));
    set(disk, false, "mode", how & 1 ? "w" : how & 2 ? "w!" : "r");
    set(disk, false, "dev", "xvda");
    set(disk, false, "device-type", how & 4 ? "cdrom" : "disk");
    set(disk, false, "discard-enable", how & 8 ? "0" : "1");
    set(disk, false, "online", how & 16 ? "0" : "1");
    set(disk, false, "state", how & 32 ? "4" : "1");
    set(disk, true, "backend-id", "0");
    set(disk, true, "state", how & 64 ? "4" : "1");
    look_at(disk);
}

static void toolstack(unsigned disk, struct input *input)
{
    static const char *const states[] = {"1", "2", "3", "4", "5", "6", "7", "x"};
    const uint8_t what = input_u8(input);

    switch (what & 7U) {
    case 0:
        make_disk(disk, input);
        return;
    case 1:
        set(disk, false, "", NULL);
        break;
    case 2:
        set(disk, false, "online", what & 8 ? "1" : "0");
        break;
    case 3:
        set(disk, false, "state", states[what >> 5]);
        break;
    case 4:
        set(disk, false, "params", fake_target(what >> 3));
        break;
    case 5:
        set(disk, false, "hotplug-status", what & 8 ? "connected" : NULL);
        break;
    case 6:
        domain_check_alive(&broker);
        return;
    default:
        broker.xs->conflicts = what >> 6;
        return;
    }
    look_at(disk);
}

/* Rings as a frontend writes them, their numbers the input's. */
static void write_rings(unsigned disk, struct input *input)
{
    const uint8_t how = input_u8(input);
    char value[16];

    set(disk, true, "multi-queue-num-queues", how & 1 ? "2" : NULL);
    set(disk, true, "ring-page-order", how & 2 ? "1" : NULL);
    set(disk, true, "protocol", how & 4 ? "x86_32-abi" : how & 8 ? "nonsense" : "x86_64-abi");
    for (unsigned i = 0; i < 6; i++) {
        static const char *const nodes[] = {"ring-ref",         "event-channel",
                                            "queue-0/ring-ref", "queue-0/event-channel",
                                            "queue-1/ring-ref", "queue-1/event-channel"};

        (void)snprintf(value, sizeof(value), "%u", 1 + i + (how >> 4) * 8U);
        set(disk, true, nodes[i], value);
    }
}

static void frontend(unsigned disk, struct input *input)
{
    const uint8_t what = input_u8(input);
    char text[40];

    switch (what & 7U) {
    case 0:
        write_rings(disk, input);
        set(disk, true, "state", "3");
        break;
    case 1:
    case 2:
    case 3:
        (void)snprintf(text, sizeof(text), "%u", what >> 4);
        set(disk, true, "state", text);
        break;
    case 4:
        set(disk, true, "", NULL);
        break;
    case 5:
        input_text(input, text, sizeof(text));
        set(disk, true, "state", text);
        break;
    case 6:
        input_text(input, text, sizeof(text));
        set(disk, true, "ring-ref", text);
        break;
    default:
        for (unsigned i = 0; i < 60; i++)
            look_at_front(disk);
        break;
    }
    look_at_front(disk);
}

/* The hook and the administrator. */
static void ask(unsigned disk, struct input *input)
{
    struct control_call_token *token = &tokens[token_count];
    const uint8_t what = input_u8(input);
    char path[XENSTORE_PATH_MAX];

    if (token_count == TOKENS_MAX || broker.session_lost)
        return;
    token_count++;
    path_of(disk, false, "", path);
    if ((what & 0xf0) == 0xf0)
        input_text(input, path, 60);
    switch (what & 7U) {
    case 0:
    case 1:
    case 2:
        vbd_hook_attach(&broker, path, token);
        break;
    case 3:
        vbd_hook_detach(&broker, path, token);
        break;
    case 4:
        vbd_resize(&broker, path, token);
        break;
    case 5:
        vbd_medium_insert(&broker, path, "", token);
        break;
    case 6:
        vbd_resume(&broker, path, what & 8, token);
        break;
    default:
        vbd_medium_insert(&broker, path, fake_target(what >> 3), token);
        break;
    }
}

/* ---- the host ---- */

static void pass_time(uint8_t what)
{
    static const double seconds[] = {0.01, 0.06, 0.3, 1.1, 3.5, 6., 11., 31.};

    fake_time_pass(seconds[what & 7U]);
}

/* XenStore goes away, or is back and everything is looked at anew, as session.c does. */
static void lose_session(bool lost)
{
    struct vbd *vbd;
    const bool back = broker.session_lost && !lost;

    broker.xs->dead = lost ? -EPIPE : 0;
    broker.session_lost = lost;
    if (!back)
        return;
    domain_look_anew(&broker);
    TAILQ_FOREACH(vbd, &broker.vbds, in_broker)
    {
        vbd->look_anew = true;
        vbd->check_domain = true;
        vbd_mark_dirty(vbd);
    }
}

static void host(unsigned disk, struct input *input)
{
    const uint8_t what = input_u8(input);

    switch (what & 7U) {
    case 0:
        fake_image((off_t)(1 + (what >> 3)) << 20);
        vbd_look_at_sizes(&broker);
        break;
    case 1:
        fake_toggle_fence(addresses[disk].domid, addresses[disk].devid);
        break;
    case 2:
        fake_bind_errors = what >> 3 & 3U;
        break;
    case 3:
        fake_worker_start_error = what & 8 ? -ENOENT : 0;
        break;
    case 4:
        lose_session(what & 8);
        break;
    default:
        pass_time(what >> 5);
        break;
    }
}

static void worker(unsigned index, struct input *input)
{
    const uint8_t what = input_u8(input);

    switch (what & 15U) {
    case 0:
        fake_worker_die(index);
        break;
    case 1:
        fake_worker_clog(index);
        break;
    case 2:
    case 3:
        fake_worker_lie(index, input);
        break;
    case 4:
        fake_worker_trouble(index, input);
        break;
    case 5:
        (void)fake_worker_leave(index);
        break;
    case 6:
        (void)fake_worker_finish(index);
        break;
    case 7:
    case 8:
    case 9:
        (void)fake_worker_work(index, input);
        break;
    case 10:
    case 11:
        (void)fake_worker_speak(index);
        break;
    default: /* at once */
        while (fake_worker_work(index, input))
            while (fake_worker_speak(index)) {
            }
        break;
    }
}

/* ---- turns ---- */

/* As broker.c does at the end of a turn. */
static void turn(void)
{
    struct vbd *vbd;

    for (unsigned i = 0; i < 64 && (vbd = TAILQ_FIRST(&broker.dirty)) != NULL; i++) {
        TAILQ_REMOVE(&broker.dirty, vbd, in_dirty);
        vbd->dirty = false;
        vbd_evaluate(vbd);
    }
    TAILQ_FOREACH(vbd, &broker.vbds, in_broker)
    {
        CHECK(fuzz_terminated(vbd->reason, sizeof(vbd->reason)) && vbd->phase < VBD_PHASES);
        CHECK(vbd_phase_name(vbd->phase)[0] != '\0');
        CHECK(vbd->negotiated.queue_count <= STATE_MAX_QUEUES);
        CHECK(vbd->rings != RINGS_CONNECTED || vbd->domain != NULL);
        /* Whoever sees state 6 may take the rings' pages away. */
        CHECK(vbd->phase != VBD_CLOSED || vbd->rings == RINGS_NONE || vbd->rings == RINGS_DRAINING);
    }
}

static void step(struct input *input)
{
    const uint8_t what = input_u8(input);
    const unsigned disk = (what >> 4) % DISKS;

    switch (what & 7U) {
    case 0:
        toolstack(disk, input);
        break;
    case 1:
    case 2:
        frontend(disk, input);
        break;
    case 3:
        ask(disk, input);
        break;
    case 4:
        host(disk, input);
        break;
    default:
        worker(what >> 4, input);
        break;
    }
    if (what & 8)
        turn();
}

/* What is written as the state of a disk can be read again. */
static void check_state_files(void)
{
    const struct vbd *vbd;
    struct connection_file file;
    char name[STATE_NAME_MAX];

    TAILQ_FOREACH(vbd, &broker.vbds, in_broker)
    {
        vbd_connection_name(vbd, name);
        const int fd = openat(broker.state_dir, name, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            continue;
        CHECK(connection_read(fd, &file) == 0);
        CHECK(file.domid == vbd->address.domid && file.devid == vbd->address.devid);
        (void)close(fd);
    }
}

/* All disks are removed, workers do their work, time passes: nothing may be left. */
static void remove_all(void)
{
    struct input none = {.left = 0};

    lose_session(false);
    broker.xs->conflicts = 0;
    fake_bind_errors = 0;
    fake_domains_gone = true;
    fake_free_fence();
    for (unsigned i = 0; i < DISKS; i++) {
        set(i, false, "", NULL);
        look_at(i);
    }
    for (unsigned i = 0; i < ROUNDS_MAX && !TAILQ_EMPTY(&broker.domains); i++) {
        turn();
        for (unsigned n = 0; n < FAKE_WORKERS; n++) {
            (void)fake_worker_leave(n);
            (void)fake_worker_finish(n);
            while (fake_worker_work(n, &none)) {
            }
            while (fake_worker_speak(n)) {
            }
        }
        domain_check_alive(&broker);
        pass_time(i > ROUNDS_MAX / 2 ? 6 : 2);
        if (i == ROUNDS_MAX - 40) /* those that lied may have left no other way */
            for (unsigned n = 0; n < FAKE_WORKERS; n++)
                fake_worker_die(n);
    }
    CHECK(TAILQ_EMPTY(&broker.vbds) && TAILQ_EMPTY(&broker.ghosts) && TAILQ_EMPTY(&broker.domains));
    for (unsigned i = 0; i < token_count; i++)
        CHECK(tokens[i].answers == 1);
    CHECK(fake_workers_alive() == 0 && fake_time_running() == 0);
}

static void start(void)
{
    broker.loop = NULL; /* fake_time.c needs none */
    broker.session_lost = fake_domains_gone = false;
    CHECK(xenstore_open(&broker.xs) == 0);
    CHECK(image_table_create(&broker.images) == 0);
    TAILQ_INIT(&broker.vbds);
    TAILQ_INIT(&broker.ghosts);
    TAILQ_INIT(&broker.dirty);
    TAILQ_INIT(&broker.domains);
    TAILQ_INIT(&broker.orphans);
    memset(tokens, 0, sizeof(tokens));
    token_count = fake_bind_errors = 0;
    fake_time_reset();
    fake_worker_reset();
    fake_image(1 << 20);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char why[CONFIG_WHY_MAX];
    const int fd = fuzz_file("[disk]\nmax-queues=2\n", 20);
    char path[40];

    (void)argc;
    (void)argv;
    log_set_level((enum log_level)0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CHECK(config_load(path, why, &broker.config) == 0);
    (void)close(fd);
    (void)snprintf(broker.config.disks_dir, sizeof(broker.config.disks_dir), "%s", fuzz_folder());
    (void)snprintf(broker.boot_id, sizeof(broker.boot_id), "this-boot");
    broker.state_dir = open(fuzz_folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(broker.state_dir >= 0);
    kernel_blkback_use_bus("/nowhere");
    kernel_blkback_use_parameters("/nowhere");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    const int before = fuzz_next_descriptor();

    start();
    for (unsigned i = 0; i < STEPS_MAX && input.left; i++)
        step(&input);
    turn();
    check_state_files();
    remove_all();
    image_table_destroy(broker.images);
    xenstore_close(broker.xs);
    CHECK(fuzz_next_descriptor() == before);
    return 0;
}
