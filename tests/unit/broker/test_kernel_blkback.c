/* SPDX-License-Identifier: BSD-2-Clause */
/* Releasing a disk from the kernel's driver, on a folder that looks like sysfs. */
#include "testing.h"

#include "kernel_blkback.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char bus[TEST_PATH_MAX];
static char path[TEST_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    test_folder_make(bus);
    kernel_blkback_use_bus(bus);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_folder_remove(bus);
    return 0;
}

static void load_driver(void)
{
    assert_int_equal(mkdir(test_path(bus, "drivers", path), 0700), 0);
    assert_int_equal(mkdir(test_path(bus, "drivers/vbd", path), 0700), 0);
    test_file_write(test_path(bus, "drivers/vbd/unbind", path), "", 0);
}

static void bind_device(void)
{
    assert_int_equal(
        symlink("../../devices/vbd-3-51712", test_path(bus, "drivers/vbd/vbd-3-51712", path)), 0);
}

static void expect_unbind(const char *name)
{
    char *text = test_file_read(test_path(bus, "drivers/vbd/unbind", path));

    assert_string_equal(text, name);
    free(text);
}

static void no_driver(void **state)
{
    (void)state;
    assert_false(kernel_blkback_bound(3, 51712));
    assert_int_equal(kernel_blkback_release(3, 51712), 0);
    kernel_blkback_use_bus("/no/such/folder");
    assert_int_equal(kernel_blkback_release(3, 51712), 0);
}

static void driver_that_has_not_bound_the_disk_yet(void **state)
{
    (void)state;
    load_driver();
    assert_false(kernel_blkback_bound(3, 51712));
    assert_int_equal(kernel_blkback_release(3, 51712), -EAGAIN);
    expect_unbind("");
}

static void bound_disk_is_unbound_by_its_name(void **state)
{
    (void)state;
    load_driver();
    bind_device();
    assert_true(kernel_blkback_bound(3, 51712));
    assert_false(kernel_blkback_bound(3, 51728));
    assert_false(kernel_blkback_bound(4, 51712));
    assert_int_equal(kernel_blkback_release(3, 51712), 1);
    expect_unbind("vbd-3-51712");
}

static void failure_to_unbind_is_an_error(void **state)
{
    (void)state;
    load_driver();
    bind_device();
    assert_int_equal(unlink(test_path(bus, "drivers/vbd/unbind", path)), 0);
    assert_int_equal(kernel_blkback_release(3, 51712), -ENOENT);
}

/* By default 16 pages and a ring for each CPU of this domain, as far as the guest has CPUs. */
static void what_a_frontend_may_have_chosen(void **state)
{
    struct kernel_blkback_offer offer;

    (void)state;
    kernel_blkback_use_parameters("/no/such/folder");
    offer = kernel_blkback_offer(8, 0);
    assert_int_equal(offer.ring_page_order, 4);
    assert_int_equal(offer.queues, 8);
    assert_int_equal(kernel_blkback_offer(8, 2).queues, 2);
    assert_int_equal(kernel_blkback_offer(2, 8).queues, 2);
    kernel_blkback_use_parameters(bus);
    test_file_write(test_path(bus, "max_ring_page_order", path), "1\n", 2);
    test_file_write(test_path(bus, "max_queues", path), "3\n", 2);
    offer = kernel_blkback_offer(8, 16);
    assert_int_equal(offer.ring_page_order, 1);
    assert_int_equal(offer.queues, 3);
    test_file_write(test_path(bus, "max_queues", path), "-\n", 2);
    assert_int_equal(kernel_blkback_offer(8, 16).queues, 8);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_driver),
        TEST(driver_that_has_not_bound_the_disk_yet),
        TEST(bound_disk_is_unbound_by_its_name),
        TEST(failure_to_unbind_is_an_error),
        TEST(what_a_frontend_may_have_chosen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
