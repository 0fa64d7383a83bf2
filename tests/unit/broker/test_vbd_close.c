/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * State 6 says that the rings' pages may be taken away. A worker that hangs is ended, and state 6
 * not shown before it is gone.
 */
#include "testing.h"

#include "fake_outside.h"
#include "fake_time.h"
#include "fake_worker.h"
#include "fake_xenstore.h"

#include "domain.h"
#include "domains.h"
#include "kernel_blkback.h"
#include "vbd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FINISH 4. /* see vbd_close.c */
#define ANSWER 3.
#define DRAIN  3.
#define GONE   2.

static const struct vbd_address disk = {.class = VBD_CLASS_VBD, .domid = 7, .devid = 51712};
static const struct vbd_address neighbour = {.class = VBD_CLASS_VBD, .domid = 7, .devid = 51728};

static struct broker broker;
static const struct input quick = {.left = 0};
static const struct input with_io = {.at = (const uint8_t[]){1}, .left = 1}; /* see fake_worker.c */

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

static void set(const struct vbd_address *address, bool front, const char *node, const char *value)
{
    char path[XENSTORE_PATH_MAX];

    path_of(address, front, node, path);
    fake_set(broker.xs, path, value);
}

static unsigned backend_state(const struct vbd_address *address)
{
    char path[XENSTORE_PATH_MAX];

    path_of(address, false, "state", path);
    const char *value = fake_get(broker.xs, path);

    return value ? (unsigned)(value[0] - '0') : 0;
}

static struct vbd *find(const struct vbd_address *address)
{
    struct vbd *vbd;

    CHECK(domains_find(&broker, address, &vbd) == 0);
    return vbd;
}

/* ---- turns ---- */

static void turn(void)
{
    struct vbd *vbd;

    while ((vbd = TAILQ_FIRST(&broker.dirty)) != NULL) {
        TAILQ_REMOVE(&broker.dirty, vbd, in_dirty);
        vbd->dirty = false;
        vbd_evaluate(vbd);
    }
}

static void look(const struct vbd_address *address)
{
    vbd_mark_dirty(find(address));
    turn();
}

/* The worker does all that it was asked for, and says so. */
static void work(const struct input *how)
{
    struct input input = *how;

    turn();
    while (fake_worker_work(0, &input)) {
        while (fake_worker_speak(0)) {
        }
        turn();
    }
}

static void pass(double seconds)
{
    fake_time_pass(seconds);
    turn();
}

static void make(const struct vbd_address *address)
{
    struct vbd *vbd;
    char front[XENSTORE_PATH_MAX];

    path_of(address, true, "", front);
    set(address, false, "frontend", front);
    set(address, false, "script", "/etc/xen/scripts/block-blkbackd");
    set(address, false, "params", fake_target(1));
    set(address, false, "mode", "w");
    set(address, false, "dev", "xvda");
    set(address, false, "online", "1");
    set(address, false, "hotplug-status", "connected");
    set(address, false, "state", "1");
    set(address, true, "state", "1");
    assert_int_equal(vbd_discover(&broker, address, &vbd), 0);
}

static void offer_ring(const struct vbd_address *address, const char *ref)
{
    set(address, true, "ring-ref", ref);
    set(address, true, "event-channel", ref);
    set(address, true, "state", "3");
    look(address);
}

static void connect_with(const struct vbd_address *address, const struct input *how)
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

static void frontend_closes(const struct vbd_address *address)
{
    set(address, true, "state", "6");
    look(address);
}

/* As the end of its domain looks. */
static void frontend_vanishes(const struct vbd_address *address)
{
    set(address, true, "", NULL);
    look(address);
}

/* ---- */

static int set_up(void **state)
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

static int tear_down(void **state)
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

static void a_worker_that_hangs_is_ended_before_state_6(void **state)
{
    (void)state;
    connect_with(&disk, &quick);
    frontend_closes(&disk);
    pass(FINISH + ANSWER - 0.1);
    assert_false(fake_worker_killed(0));
    pass(0.2);
    assert_true(fake_worker_killed(0));
    assert_int_equal(backend_state(&disk), 4);
    assert_true(fake_worker_leave(0));
    turn();
    assert_int_equal(backend_state(&disk), 6);
}

static void so_it_is_where_the_frontend_is_gone(void **state)
{
    (void)state;
    connect_with(&disk, &quick);
    set(&disk, false, "online", "0");
    frontend_vanishes(&disk);
    pass(ANSWER + 0.1);
    assert_true(fake_worker_killed(0));
    assert_int_equal(backend_state(&disk), 4);
    assert_true(fake_worker_leave(0));
    turn();
    assert_int_equal(backend_state(&disk), 6);
}

/* It waits in the kernel, uninterruptibly. */
static void one_that_can_not_be_ended_is_waited_for(void **state)
{
    struct connection_file file;
    char name[STATE_NAME_MAX];

    (void)state;
    connect_with(&disk, &quick);
    connect_with(&neighbour, &quick);
    frontend_vanishes(&disk);
    pass(ANSWER + 0.1);
    assert_false(domain_worker_stuck(find(&disk)->domain));
    pass(GONE);
    assert_true(domain_worker_stuck(find(&disk)->domain));
    for (unsigned i = 0; i < 20; i++) {
        pass(1.);
        assert_int_equal(backend_state(&disk), 4);
    }
    vbd_connection_name(find(&neighbour), name);
    const int fd = openat(broker.state_dir, name, O_RDONLY | O_CLOEXEC);

    assert_int_equal(connection_read(fd, &file), 0);
    (void)close(fd);
    assert_non_null(strstr(file.reason, "its worker hangs"));
    assert_true(fake_worker_leave(0));
    turn();
    assert_int_equal(backend_state(&disk), 6);
    assert_false(domain_worker_stuck(find(&disk)->domain));
}

static void the_other_disks_go_on_with_another(void **state)
{
    (void)state;
    connect_with(&disk, &quick);
    connect_with(&neighbour, &quick);
    frontend_vanishes(&disk);
    pass(ANSWER + 0.1);
    assert_true(fake_worker_leave(0));
    work(&quick);
    assert_int_equal(backend_state(&disk), 6);
    assert_int_equal(backend_state(&neighbour), 4);
    assert_int_equal(find(&neighbour)->rings, RINGS_CONNECTED);
    pass(60.);
    assert_false(fake_worker_killed(0));
}

static void slow_storage_ends_nobody(void **state)
{
    (void)state;
    connect_with(&disk, &with_io);
    set(&disk, false, "online", "0");
    frontend_closes(&disk);
    work(&quick);
    pass(FINISH + 0.1);
    work(&quick); /* the rings are given back, I/O is in flight */
    assert_int_equal(backend_state(&disk), 4);
    pass(DRAIN);
    assert_int_equal(backend_state(&disk), 6);
    pass(60.);
    assert_false(fake_worker_killed(0));
}

static void one_that_answers_late_is_not_ended(void **state)
{
    (void)state;
    connect_with(&disk, &quick);
    frontend_closes(&disk);
    pass(FINISH + ANSWER - 0.1);
    work(&quick);
    assert_int_equal(backend_state(&disk), 6);
    pass(60.);
    assert_false(fake_worker_killed(0));
}

static void a_disk_that_was_removed_is_not_left_mapped(void **state)
{
    (void)state;
    connect_with(&disk, &quick);
    set(&disk, false, "", NULL);
    look(&disk);
    assert_false(TAILQ_EMPTY(&broker.ghosts));
    pass(ANSWER + 0.1);
    assert_true(fake_worker_killed(0));
    assert_true(fake_worker_leave(0));
    turn();
    assert_true(TAILQ_EMPTY(&broker.ghosts) && TAILQ_EMPTY(&broker.domains));
}

static void a_frontend_that_goes_while_its_ring_is_connected(void **state)
{
    (void)state;
    make(&disk);
    work(&quick);
    offer_ring(&disk, "8");
    pass(60.);
    assert_false(fake_worker_killed(0)); /* as long as it waits */
    frontend_vanishes(&disk);
    pass(ANSWER + 0.1);
    assert_true(fake_worker_killed(0));
    assert_true(fake_worker_leave(0));
    work(&quick);
    assert_int_equal(backend_state(&disk), 6);
    assert_int_equal(find(&disk)->rings, RINGS_NONE);
}

/* A guest that was suspended offers new rings; the old ones are not given back. */
static void new_rings_are_connected_by_another(void **state)
{
    (void)state;
    connect_with(&disk, &quick);
    offer_ring(&disk, "9");
    assert_int_equal(find(&disk)->rings, RINGS_DISCONNECTING);
    pass(ANSWER + 0.1);
    assert_true(fake_worker_killed(0));
    assert_true(fake_worker_leave(0));
    work(&quick);
    assert_int_equal(backend_state(&disk), 4);
    assert_int_equal(find(&disk)->rings, RINGS_CONNECTED);
    assert_int_equal(find(&disk)->negotiated.queues[0].ring_refs[0], 9);
}

/* Its successor takes long to map the rings; they are not left mapped behind state 6. */
static void a_successor_that_is_late_gives_them_back(void **state)
{
    struct input none = quick;

    (void)state;
    connect_with(&disk, &quick);
    frontend_closes(&disk);
    fake_worker_die(0);
    turn();
    while (find(&disk)->rings != RINGS_CONNECTING) {
        assert_true(fake_worker_work(0, &none));
        while (fake_worker_speak(0)) {
        }
        turn();
    }
    pass(FINISH + 0.1);
    assert_int_equal(backend_state(&disk), 4);
    work(&quick);
    assert_int_equal(backend_state(&disk), 6);
    assert_int_equal(find(&disk)->rings, RINGS_NONE);
}

static int prepare(void **state)
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

static int finish(void **state)
{
    (void)state;
    return close(broker.state_dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_worker_that_hangs_is_ended_before_state_6),
        TEST(so_it_is_where_the_frontend_is_gone),
        TEST(one_that_can_not_be_ended_is_waited_for),
        TEST(the_other_disks_go_on_with_another),
        TEST(slow_storage_ends_nobody),
        TEST(one_that_answers_late_is_not_ended),
        TEST(a_disk_that_was_removed_is_not_left_mapped),
        TEST(a_frontend_that_goes_while_its_ring_is_connected),
        TEST(new_rings_are_connected_by_another),
        TEST(a_successor_that_is_late_gives_them_back),
    };

    return cmocka_run_group_tests(tests, prepare, finish);
}
