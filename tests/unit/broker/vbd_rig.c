/* SPDX-License-Identifier: BSD-2-Clause */
/* Whole vbds without a world around them: see vbd_rig.h. */
#include "vbd_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

const struct vbd_address disk = {.class = VBD_CLASS_VBD, .domid = 7, .devid = 51712};

struct broker broker;
uint8_t rig_target = 1;
const struct input quick = {.left = 0};

/* ---- XenStore ---- */

static void path_of(const struct vbd_address *address, bool front, const char *node,
                    char path[XENSTORE_PATH_MAX])
{
    const char *slash = node[0] == '\0' ? "" : "/";

    if (front)
        (void)snprintf(path, XENSTORE_PATH_MAX, "/local/domain/%u/device/vbd/%u%s%s",
                       address->domid, address->devid, slash, node);
    else
        (void)snprintf(path, XENSTORE_PATH_MAX, "backend/vbd/%u/%u%s%s", address->domid,
                       address->devid, slash, node);
}

void set(const struct vbd_address *address, bool front, const char *node, const char *value)
{
    char path[XENSTORE_PATH_MAX];

    path_of(address, front, node, path);
    fake_set(broker.xs, path, value);
}

unsigned backend_state(const struct vbd_address *address)
{
    char path[XENSTORE_PATH_MAX];

    path_of(address, false, "state", path);
    const char *value = fake_get(broker.xs, path);

    return value ? (unsigned)(value[0] - '0') : 0;
}

struct vbd *find(const struct vbd_address *address)
{
    struct vbd *vbd;

    CHECK(domains_find(&broker, address, &vbd) == 0);
    return vbd;
}

/* ---- turns ---- */

void turn(void)
{
    struct vbd *vbd;

    while ((vbd = TAILQ_FIRST(&broker.dirty)) != NULL) {
        TAILQ_REMOVE(&broker.dirty, vbd, in_dirty);
        vbd->dirty = false;
        vbd_evaluate(vbd);
    }
}

void look(const struct vbd_address *address)
{
    vbd_mark_dirty(find(address));
    turn();
}

void work(const struct input *how)
{
    struct input input = *how;

    turn();
    while (fake_worker_work(0, &input)) {
        while (fake_worker_speak(0)) {
        }
        turn();
    }
}

void pass(double seconds)
{
    fake_time_pass(seconds);
    turn();
}

void make(const struct vbd_address *address)
{
    struct vbd *vbd;
    char front[XENSTORE_PATH_MAX];

    path_of(address, true, "", front);
    set(address, false, "frontend", front);
    set(address, false, "script", "/etc/xen/scripts/block-blkbackd");
    set(address, false, "params", fake_target(rig_target));
    set(address, false, "mode", "w");
    set(address, false, "dev", "xvda");
    set(address, false, "online", "1");
    set(address, false, "hotplug-status", "connected");
    set(address, false, "state", "1");
    set(address, true, "state", "1");
    assert_int_equal(vbd_discover(&broker, address, &vbd), 0);
}

void offer_ring(const struct vbd_address *address, const char *ref)
{
    set(address, true, "ring-ref", ref);
    set(address, true, "event-channel", ref);
    set(address, true, "state", "3");
    look(address);
}

void connect_with(const struct vbd_address *address, const struct input *how)
{
    make(address);
    work(&quick);
    assert_int_equal(backend_state(address), 2);
    offer_ring(address, "8");
    work(how);
    assert_int_equal(backend_state(address), 4);
    set(address, true, "state", "4");
    look(address);
}

int set_up(void **state)
{
    (void)state;
    broker.session_lost = fake_domains_gone = false;
    assert_int_equal(xenstore_open(&broker.xs), 0);
    assert_int_equal(image_table_create(&broker.images), 0);
    TAILQ_INIT(&broker.vbds);
    TAILQ_INIT(&broker.ghosts);
    TAILQ_INIT(&broker.dirty);
    TAILQ_INIT(&broker.domains);
    TAILQ_INIT(&broker.orphans);
    fake_time_reset();
    fake_worker_reset();
    return 0;
}

int tear_down(void **state)
{
    struct vbd *vbd;
    (void)state;

    while ((vbd = TAILQ_FIRST(&broker.ghosts)) != NULL || (vbd = TAILQ_FIRST(&broker.vbds)) != NULL)
        vbd_destroy(vbd);
    while (fake_workers_alive())
        fake_worker_die(0);
    assert_int_equal(fake_time_running(), 0);
    image_table_destroy(broker.images);
    xenstore_close(broker.xs);
    return 0;
}

int prepare(void **state)
{
    char why[CONFIG_WHY_MAX];
    char path[40];
    const int fd = fuzz_file("[disk]\n", 7);

    (void)state;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_int_equal(config_load(path, why, &broker.config), 0);
    (void)close(fd);
    (void)snprintf(broker.boot_id, sizeof(broker.boot_id), "this-boot");
    broker.state_dir = open(fuzz_folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(broker.state_dir >= 0);
    kernel_blkback_use_bus("/nowhere");
    kernel_blkback_use_parameters("/nowhere");
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int finish(void **state)
{
    (void)state;
    return close(broker.state_dir);
}
