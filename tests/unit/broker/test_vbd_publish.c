/* SPDX-License-Identifier: BSD-2-Clause */
/* Writing to XenStore against a toolstack that removes, closes and conflicts at the same moment. */
#include "fake_xenstore.h"
#include "vbd.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define BACK "backend/vbd/7/51712"

static struct broker broker;
static struct vbd vbd;

static int set_up(void **state)
{
    (void)state;
    memset(&broker, 0, sizeof(broker));
    memset(&vbd, 0, sizeof(vbd));
    assert_int_equal(xenstore_open(&broker.xs), 0);
    vbd.broker = &broker;
    vbd.address.domid = 7;
    vbd.address.devid = 51712;
    strcpy(vbd.path, BACK);
    strcpy(vbd.frontend, "/local/domain/7/device/vbd/51712");
    vbd.offer = (struct offer){.max_ring_page_order = 4, .max_requests = 512, .max_queues = 2};
    fake_set(broker.xs, BACK "/frontend", vbd.frontend);
    fake_set(broker.xs, BACK "/state", "1");
    fake_set(broker.xs, BACK "/online", "1");
    fake_set(broker.xs, "/local/domain/7/name", "guest");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    xenstore_close(broker.xs);
    return 0;
}

static void limits_and_init_wait_come_together(void **state)
{
    (void)state;
    assert_int_equal(vbd_publish_init_wait(&vbd), 0);
    assert_string_equal(fake_get(broker.xs, BACK "/max-ring-page-order"), "4");
    assert_string_equal(fake_get(broker.xs, BACK "/max-ring-pages"), "16");
    assert_string_equal(fake_get(broker.xs, BACK "/max-requests"), "512");
    assert_string_equal(fake_get(broker.xs, BACK "/state"), "2");
    assert_null(fake_get(broker.xs, BACK "/sectors"));
    assert_int_equal(broker.xs->transactions, 1);
}

static void what_the_kernels_backend_left_is_removed(void **state)
{
    (void)state;
    fake_set(broker.xs, BACK "/feature-max-indirect-segments", "256");
    fake_set(broker.xs, BACK "/multi-queue-max-queues", "8");
    fake_set(broker.xs, BACK "/feature-persistent", "1");
    fake_set(broker.xs, BACK "/discard-granularity", "512");
    assert_int_equal(vbd_publish_init_wait(&vbd), 0);
    assert_string_equal(fake_get(broker.xs, BACK "/feature-max-indirect-segments"), "0");
    assert_string_equal(fake_get(broker.xs, BACK "/multi-queue-max-queues"), "2");
    assert_string_equal(fake_get(broker.xs, BACK "/discard-granularity"), "512"); /* not known */
    vbd.offer.store_known = true;
    assert_int_equal(vbd_publish_init_wait(&vbd), 0);
    assert_null(fake_get(broker.xs, BACK "/discard-granularity"));
    assert_string_equal(fake_get(broker.xs, BACK "/feature-discard"), "0");
    assert_string_equal(fake_get(broker.xs, BACK "/feature-persistent"), "0");
    assert_string_equal(fake_get(broker.xs, BACK "/online"), "1");
}

static void a_conflict_is_retried(void **state)
{
    (void)state;
    broker.xs->conflicts = 3;
    assert_int_equal(vbd_publish_connected(&vbd), 0);
    assert_string_equal(fake_get(broker.xs, BACK "/state"), "4");
    assert_int_equal(broker.xs->transactions, 4);
}

static void a_removed_directory_is_not_made_again(void **state)
{
    (void)state;
    fake_set(broker.xs, BACK, NULL);
    assert_int_equal(vbd_publish_init_wait(&vbd), -ENOENT);
    assert_int_equal(vbd_publish_connected(&vbd), -ENOENT);
    assert_int_equal(vbd_publish_state(&vbd, XENBUS_CLOSING), -ENOENT);
    assert_int_equal(vbd_publish_state(&vbd, XENBUS_CLOSED), -ENOENT);
    assert_int_equal(broker.xs->writes, 0);
}

static void the_toolstacks_closing_is_not_written_over(void **state)
{
    (void)state;
    fake_set(broker.xs, BACK "/state", "5");
    assert_int_equal(vbd_publish_init_wait(&vbd), -ECANCELED);
    assert_int_equal(vbd_publish_connected(&vbd), -ECANCELED);
    assert_string_equal(fake_get(broker.xs, BACK "/state"), "5");
    assert_int_equal(broker.xs->writes, 0);
    assert_int_equal(vbd_publish_state(&vbd, XENBUS_CLOSED), 0);
    assert_string_equal(fake_get(broker.xs, BACK "/state"), "6");
}

/* State 1 is the toolstack's: where ours was, it is in a directory that was made anew. */
static void another_disks_directory_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(vbd_publish_init_wait(&vbd), 0);
    fake_set(broker.xs, BACK "/state", "1");
    unsigned writes = broker.xs->writes;
    assert_int_equal(vbd_publish_connected(&vbd), -ENOENT);
    assert_int_equal(vbd_publish_medium(&vbd, true), -ENOENT);
    assert_int_equal(vbd_publish_state(&vbd, XENBUS_CLOSED), -ENOENT);
    vbd_publish_error(&vbd, -EIO, "the old one's");
    assert_int_equal(broker.xs->writes, writes);
}

static void what_could_not_be_written_is_written_later(void **state)
{
    (void)state;
    assert_int_equal(vbd_publish_init_wait(&vbd), 0);
    vbd.phase = VBD_CONNECTED;
    strcpy(vbd.toolstack.target, "/new");
    broker.xs->dead = -EPIPE;
    assert_int_equal(vbd_publish_connected(&vbd), -EPIPE);
    assert_int_equal(vbd_publish_medium(&vbd, true), -EPIPE);
    assert_int_equal(vbd_publish_again(&vbd), -EPIPE);
    broker.xs->dead = 0;
    assert_string_equal(fake_get(broker.xs, BACK "/state"), "2");
    assert_int_equal(vbd_publish_again(&vbd), 0);
    assert_string_equal(fake_get(broker.xs, BACK "/state"), "4");
    assert_string_equal(fake_get(broker.xs, BACK "/params"), "/new");
    unsigned writes = broker.xs->writes;
    assert_int_equal(vbd_publish_again(&vbd), 0);
    assert_int_equal(broker.xs->writes, writes);
}

static void a_closing_that_could_not_be_written_comes_with_its_reason(void **state)
{
    (void)state;
    assert_int_equal(vbd_publish_init_wait(&vbd), 0);
    vbd.phase = VBD_CLOSING;
    strcpy(vbd.reason, "event-channel is 0");
    broker.xs->dead = -EPIPE;
    assert_int_equal(vbd_publish_state(&vbd, XENBUS_CLOSING), -EPIPE);
    broker.xs->dead = 0;
    assert_int_equal(vbd_publish_again(&vbd), 0);
    assert_string_equal(fake_get(broker.xs, BACK "/state"), "5");
    assert_string_equal(fake_get(broker.xs, "error/" BACK "/error"), "-5 event-channel is 0");
}

static void one_whose_node_is_gone_writes_nothing(void **state)
{
    (void)state;
    vbd.gone = true; /* and another has come under its path */
    assert_int_equal(vbd_publish_connected(&vbd), -ENOENT);
    vbd_publish_error(&vbd, -EIO, "late");
    assert_int_equal(broker.xs->writes, 0);
}

static void a_stopping_broker_leaves_states_as_they_are(void **state)
{
    (void)state;
    broker.stopping = true;
    assert_int_equal(vbd_publish_init_wait(&vbd), -ECANCELED);
    assert_int_equal(vbd_publish_connected(&vbd), -ECANCELED);
    assert_int_equal(broker.xs->writes, 0);
}

static void errors_go_to_both_sides_and_away(void **state)
{
    static const char front[] = "/local/domain/7/error/device/vbd/51712/error";
    (void)state;
    vbd_publish_error(&vbd, -EINVAL, "event-channel is 0");
    assert_string_equal(fake_get(broker.xs, "error/" BACK "/error"), "-22 event-channel is 0");
    assert_string_equal(fake_get(broker.xs, front), "-22 event-channel is 0");
    vbd_remove_error(&vbd);
    assert_null(fake_get(broker.xs, "error/" BACK "/error"));
    assert_null(fake_get(broker.xs, front));
    unsigned writes = broker.xs->writes;
    vbd_remove_error(&vbd); /* nothing to remove: a guest's own error nodes stay */
    assert_int_equal(broker.xs->writes, writes);
}

static void no_error_makes_a_dead_domains_folder_again(void **state)
{
    (void)state;
    fake_set(broker.xs, "/local/domain/7", NULL);
    vbd_publish_error(&vbd, -EIO, "too late");
    assert_null(fake_get(broker.xs, "/local/domain/7/error/device/vbd/51712/error"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(limits_and_init_wait_come_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_kernels_backend_left_is_removed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_conflict_is_retried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_removed_directory_is_not_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_toolstacks_closing_is_not_written_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(another_disks_directory_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_could_not_be_written_is_written_later, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_closing_that_could_not_be_written_comes_with_its_reason,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_whose_node_is_gone_writes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stopping_broker_leaves_states_as_they_are, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(errors_go_to_both_sides_and_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_error_makes_a_dead_domains_folder_again, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
