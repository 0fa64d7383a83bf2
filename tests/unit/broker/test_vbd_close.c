/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * State 6 says that the rings' pages may be taken away. A worker that hangs is ended, and state 6
 * not shown before it is gone.
 */
#include "vbd_rig.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FINISH 4. /* see vbd_close.c */
#define ANSWER 3.
#define DRAIN  3.
#define GONE   2.

static const struct vbd_address neighbour = {.class = VBD_CLASS_VBD, .domid = 7, .devid = 51728};
static const struct input with_io = {.at = (const uint8_t[]){1}, .left = 1}; /* see fake_worker.c */

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
