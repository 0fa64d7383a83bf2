/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading a frontend's nodes: once, together with its state, and nothing that a guest writes gets
 * further than it may. */
#include "fake_xenstore.h"
#include "frontend_nodes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define FRONT "/local/domain/7/device/vbd/51712"

static struct xenstore *xs;
static struct frontend_text text;
static struct frontend_nodes nodes;
static uint32_t front_state;

static int set_up(void **state)
{
    (void)state;
    memset(&nodes, 0xee, sizeof(nodes));
    assert_int_equal(xenstore_open(&xs), 0);
    fake_set(xs, FRONT "/state", "3");
    fake_set(xs, FRONT "/ring-ref", "8");
    fake_set(xs, FRONT "/event-channel", "15");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    xenstore_close(xs);
    return 0;
}

static int read_all(void)
{
    return frontend_nodes_read(xs, FRONT, 4, &text, &front_state, &nodes);
}

static void what_is_there_and_what_is_not(void **state)
{
    (void)state;
    assert_int_equal(read_all(), 0);
    assert_int_equal(front_state, 3);
    assert_string_equal(nodes.rings[0].ring_ref, "8");
    assert_string_equal(nodes.rings[0].event_channel, "15");
    assert_null(nodes.protocol);
    assert_null(nodes.ring_page_order);
    assert_null(nodes.rings[0].ring_refs[0]);
    assert_null(nodes.max_requests);
    assert_int_equal(xs->transactions, 1);
}

static void every_node_has_its_place(void **state)
{
    (void)state;
    fake_set(xs, FRONT "/protocol", "x86_32-abi");
    fake_set(xs, FRONT "/ring-page-order", "5");
    fake_set(xs, FRONT "/num-ring-pages", "32");
    fake_set(xs, FRONT "/ring-pages", "31");
    fake_set(xs, FRONT "/multi-queue-num-queues", "1");
    fake_set(xs, FRONT "/feature-persistent", "1");
    fake_set(xs, FRONT "/max-requests", "64");
    fake_set(xs, FRONT "/max-request-segments", "12");
    fake_set(xs, FRONT "/max-request-size", "49152");
    for (unsigned i = 0; i < STATE_MAX_RING_PAGES; i++) {
        char path[80];
        char value[16];
        snprintf(path, sizeof(path), FRONT "/ring-ref%u", i);
        snprintf(value, sizeof(value), "%u", 100 + i);
        fake_set(xs, path, value);
    }
    assert_int_equal(read_all(), 0);
    assert_string_equal(nodes.protocol, "x86_32-abi");
    assert_string_equal(nodes.ring_page_order, "5");
    assert_string_equal(nodes.num_ring_pages, "32");
    assert_string_equal(nodes.ring_pages, "31");
    assert_string_equal(nodes.num_queues, "1");
    assert_string_equal(nodes.persistent, "1");
    assert_string_equal(nodes.max_requests, "64");
    assert_string_equal(nodes.max_segments, "12");
    assert_string_equal(nodes.max_request_size, "49152");
    assert_string_equal(nodes.rings[0].ring_refs[0], "100");
    assert_string_equal(nodes.rings[0].ring_refs[31], "131");
}

static void several_rings_are_in_folders_of_their_own(void **state)
{
    (void)state;
    fake_set(xs, FRONT "/multi-queue-num-queues", "3");
    for (unsigned i = 0; i < 3; i++) {
        char path[80];
        snprintf(path, sizeof(path), FRONT "/queue-%u/ring-ref0", i);
        fake_set(xs, path, i == 0 ? "20" : i == 1 ? "21" : "22");
        snprintf(path, sizeof(path), FRONT "/queue-%u/event-channel", i);
        fake_set(xs, path, i == 0 ? "30" : i == 1 ? "31" : "32");
    }
    assert_int_equal(read_all(), 0);
    assert_string_equal(nodes.rings[0].ring_refs[0], "20");
    assert_null(nodes.rings[0].ring_ref); /* not the one of a former frontend with one ring */
    assert_string_equal(nodes.rings[0].event_channel, "30");
    assert_string_equal(nodes.rings[2].ring_refs[0], "22");
    assert_string_equal(nodes.rings[2].event_channel, "32");
    assert_null(nodes.rings[3].event_channel);
}

static void no_path_is_made_of_a_number_out_of_range(void **state)
{
    static const char *const bad[] = {"0", "5", "4294967295", "-1", "2x", ""};
    (void)state;
    fake_set(xs, FRONT "/queue-0/event-channel", "30");
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fake_set(xs, FRONT "/multi-queue-num-queues", bad[i]);
        assert_int_equal(read_all(), 0);
        assert_string_equal(nodes.num_queues, bad[i]);
        assert_null(nodes.rings[0].event_channel);
    }
}

static void page_0_may_be_missing_where_others_are_not(void **state)
{
    (void)state;
    fake_set(xs, FRONT "/ring-ref1", "9");
    fake_set(xs, FRONT "/ring-ref3", "11");
    assert_int_equal(read_all(), 0);
    assert_null(nodes.rings[0].ring_refs[0]);
    assert_string_equal(nodes.rings[0].ring_refs[1], "9");
    assert_null(nodes.rings[0].ring_refs[2]);
    assert_null(nodes.rings[0].ring_refs[3]); /* after the gap: nobody asks */
}

static void what_is_no_value_is_said_to_be_none(void **state)
{
    char longest[1500];
    (void)state;
    memset(longest, '7', sizeof(longest));
    fake_set_bytes(xs, FRONT "/ring-ref", longest, sizeof(longest));
    fake_set_bytes(xs, FRONT "/event-channel", "1\0002", 3);
    fake_set_bytes(xs, FRONT "/protocol", longest, 64);
    assert_int_equal(read_all(), 0);
    assert_string_equal(nodes.rings[0].ring_ref, "(too long)");
    assert_string_equal(nodes.rings[0].event_channel, "(not text)");
    assert_string_equal(nodes.protocol, "(too long)");
}

static void nodes_we_may_not_read_are_not_there(void **state)
{
    (void)state;
    fake_set_error(xs, FRONT "/ring-ref", -EACCES);
    assert_int_equal(read_all(), 0);
    assert_null(nodes.rings[0].ring_ref);
    assert_string_equal(nodes.rings[0].event_channel, "15");
}

/* Of a frontend with one ring of one page: a list, its three nodes. */
static void what_is_missing_is_not_asked_for(void **state)
{
    (void)state;
    assert_int_equal(read_all(), 0);
    assert_int_equal(xs->requests, 4);
    fake_set(xs, FRONT "/ring-reference", "9");
    fake_set(xs, FRONT "/max-requests/below", "9");
    xs->requests = 0;
    assert_int_equal(read_all(), 0);
    assert_int_equal(xs->requests, 5);
    assert_string_equal(nodes.rings[0].ring_ref, "8");
    assert_null(nodes.max_requests);
}

static void a_folder_that_may_not_be_listed_is_read(void **state)
{
    (void)state;
    xs->unlisted = -EACCES;
    what_is_there_and_what_is_not(state);
    several_rings_are_in_folders_of_their_own(state);
}

static void a_lost_session_is_an_error(void **state)
{
    struct frontend_nodes untouched;
    (void)state;
    memset(&untouched, 0xee, sizeof(untouched));
    xs->dead = -EPIPE;
    assert_int_equal(read_all(), -EPIPE);
    assert_memory_equal(&nodes, &untouched, sizeof(nodes));
}

static void a_conflict_reads_everything_again(void **state)
{
    (void)state;
    xs->conflicts = 2;
    assert_int_equal(read_all(), 0);
    assert_string_equal(nodes.rings[0].ring_ref, "8");
    assert_int_equal(xs->transactions, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_there_and_what_is_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_node_has_its_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_rings_are_in_folders_of_their_own, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(no_path_is_made_of_a_number_out_of_range, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(page_0_may_be_missing_where_others_are_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_value_is_said_to_be_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nodes_we_may_not_read_are_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_missing_is_not_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_may_not_be_listed_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_session_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_conflict_reads_everything_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
