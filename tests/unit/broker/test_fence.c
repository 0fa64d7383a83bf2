/* SPDX-License-Identifier: BSD-2-Clause */
/* An image that a dead worker's I/O may still reach is waited for, at the pace that was meant. */
#include "testing.h"

#include "vbd.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define WAIT_SECONDS 0.3

static char folder[TEST_PATH_MAX];
static struct broker broker;
static struct vbd vbd;
static int fence; /* the dead worker's */

static int set_up(void **state)
{
    char path[TEST_PATH_MAX];
    char why[IMAGE_WHY_MAX];

    (void)state;
    memset(&broker, 0, sizeof(broker));
    memset(&vbd, 0, sizeof(vbd));
    broker.loop = ev_loop_new(EVFLAG_AUTO);
    TAILQ_INIT(&broker.dirty);
    assert_int_equal(image_table_create(&broker.images), 0);
    vbd.broker = &broker;
    vbd.slab = -1;
    vbd.unfenced = true;
    vbd.address.domid = 7;
    vbd.address.devid = 51712;
    vbd.user.domid = vbd.user.target_domid = 7;
    vbd.user.devid = 51712;
    test_folder_make(folder);
    test_file_write(test_path(folder, "image", path), "x", 1);
    assert_int_equal(
        image_acquire(broker.images, path, IMAGE_EXCLUSIVE, &vbd.user, why, &vbd.image), 0);
    fence = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(image_lock(fence, image_fence_offset(7, 51712), true), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ev_timer_stop(broker.loop, &vbd.retry);
    image_release(broker.images, vbd.image);
    image_table_destroy(broker.images);
    ev_loop_destroy(broker.loop);
    test_folder_remove(folder);
    return 0;
}

static void on_end(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)timer;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static void run(void)
{
    ev_timer end;

    ev_timer_init(&end, on_end, WAIT_SECONDS, 0.);
    ev_timer_start(broker.loop, &end);
    (void)ev_run(broker.loop, 0);
}

static void the_broker_does_not_spin_meanwhile(void **state)
{
    (void)state;
    assert_true(vbd_wait_for_fence(&vbd));
    assert_int_equal(vbd.store, STORE_FENCING);
    const unsigned before = ev_iteration(broker.loop);

    run();
    assert_int_equal(vbd.store, STORE_FENCING);
    assert_in_range(ev_iteration(broker.loop) - before, 2, 40);
    (void)close(fence);
    run();
    assert_int_equal(vbd.store, STORE_FAILED);
    assert_null(vbd.image);
}

static void one_that_is_free_is_not_waited_for(void **state)
{
    (void)state;
    (void)close(fence);
    assert_false(vbd_wait_for_fence(&vbd));
    assert_int_equal(vbd.store, STORE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_broker_does_not_spin_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_free_is_not_waited_for, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
