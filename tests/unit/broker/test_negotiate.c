/* SPDX-License-Identifier: BSD-2-Clause */
/* What frontends write: the schemes of ring pages, the limits, and everything that must be refused.
 */
#include "negotiate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct offer offered = {
    .max_ring_page_order = 4,
    .max_requests = 512,
    .max_segments = 11,
    .max_request_size = 45056,
};

/* What Linux writes by default. */
static struct frontend_nodes plain(void)
{
    return (struct frontend_nodes){
        .protocol = "x86_64-abi", .ring_ref = "8", .event_channel = "15"};
}

static struct frontend_nodes four_pages(void)
{
    struct frontend_nodes nodes = plain();
    nodes.ring_ref = NULL;
    nodes.ring_page_order = "2";
    nodes.ring_refs[0] = "21";
    nodes.ring_refs[1] = "22";
    nodes.ring_refs[2] = "23";
    nodes.ring_refs[3] = "24";
    return nodes;
}

static struct negotiated agree(const struct frontend_nodes *nodes)
{
    char why[NEGOTIATE_WHY_MAX] = "";
    struct negotiated settled;
    memset(&settled, 0xee, sizeof(settled));
    if (negotiate(nodes, &offered, why, &settled) != 0)
        fail_msg("refused: %s", why);
    return settled;
}

/* Refused, with a reason that has this in it, and without touching the result. */
static void refuse(const struct frontend_nodes *nodes, const char *reason)
{
    char why[NEGOTIATE_WHY_MAX] = "";
    struct negotiated settled;
    struct negotiated untouched;
    memset(&settled, 0xee, sizeof(settled));
    memset(&untouched, 0xee, sizeof(untouched));
    assert_int_equal(negotiate(nodes, &offered, why, &settled), -EINVAL);
    if (strstr(why, reason) == NULL)
        fail_msg("the reason \"%s\" does not say \"%s\"", why, reason);
    assert_memory_equal(&settled, &untouched, sizeof(settled));
    for (const char *at = why; *at != '\0'; at++)
        assert_true(*at >= ' ' && *at <= '~');
}

static void the_first_protocol(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    struct negotiated settled = agree(&nodes);
    assert_int_equal(blkif_abi_slot_bytes(settled.abi), 112); /* as on this host */
    assert_false(settled.protocol_missing);
    assert_int_equal(settled.ring_order, 0);
    assert_int_equal(settled.queue.ring_refs[0], 8);
    assert_int_equal(settled.queue.remote_port, 15);
    assert_int_equal(settled.max_requests, 32);
    assert_int_equal(settled.max_segments, 11);
    assert_int_equal(settled.max_request_size, 45056);
    assert_true(settled.differs);
}

static void protocols(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    nodes.protocol = "x86_32-abi";
    assert_int_equal(agree(&nodes).abi, BLKIF_ABI_X86_32);
    nodes.protocol = NULL;
    assert_int_equal(agree(&nodes).abi, BLKIF_ABI_NATIVE);
    assert_true(agree(&nodes).protocol_missing);
    nodes.protocol = "x86_64-abi ";
    refuse(&nodes, "unknown protocol");
    nodes.protocol = "";
    refuse(&nodes, "unknown protocol");
    nodes.protocol = "\033[2J%s%n";
    refuse(&nodes, "\\x1b[2J%s%n");
}

static void pages_by_order(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    struct negotiated settled = agree(&nodes);
    assert_int_equal(settled.ring_order, 2);
    assert_int_equal(settled.queue.ring_refs[0], 21);
    assert_int_equal(settled.queue.ring_refs[3], 24);
    assert_int_equal(settled.max_requests, 128);
}

static void pages_by_number(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.ring_page_order = NULL;
    nodes.num_ring_pages = "4";
    assert_int_equal(agree(&nodes).ring_order, 2);
    nodes.ring_page_order = "2";
    assert_int_equal(agree(&nodes).ring_order, 2);
    nodes.ring_page_order = "1";
    refuse(&nodes, "disagree");
    nodes.ring_page_order = NULL;
    nodes.num_ring_pages = "3";
    refuse(&nodes, "not a power of two");
    nodes.num_ring_pages = "0";
    refuse(&nodes, "num-ring-pages is 0");
    nodes.num_ring_pages = "32";
    refuse(&nodes, "num-ring-pages is 32");
}

/* FreeBSD of 2010: ring-pages, `ring-ref` for page 0, ring-ref1 and so on for the others. */
static void pages_of_2010(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.ring_page_order = NULL;
    nodes.ring_pages = "4";
    nodes.ring_ref = "20";
    nodes.ring_refs[0] = NULL;
    struct negotiated settled = agree(&nodes);
    assert_int_equal(settled.ring_order, 2);
    assert_int_equal(settled.queue.ring_refs[0], 20);
    assert_int_equal(settled.queue.ring_refs[1], 22);
}

/* A frontend that says nothing of the ring's size means `ring-ref`, whatever the one before it
 * left. */
static void stale_references_are_ignored(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.ring_page_order = NULL;
    nodes.ring_ref = "99";
    struct negotiated settled = agree(&nodes);
    assert_int_equal(settled.ring_order, 0);
    assert_int_equal(settled.queue.ring_refs[0], 99);
}

static void order_zero_takes_either_name(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    nodes.ring_page_order = "0";
    assert_int_equal(agree(&nodes).queue.ring_refs[0], 8);
    nodes.ring_refs[0] = "77";
    assert_int_equal(agree(&nodes).queue.ring_refs[0], 77);
}

static void limits_are_the_lesser(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.max_requests = "64";
    nodes.max_segments = "7";
    nodes.max_request_size = "28672";
    struct negotiated settled = agree(&nodes);
    assert_int_equal(settled.max_requests, 64);
    assert_int_equal(settled.asked_requests, 64);
    assert_int_equal(settled.max_segments, 7);
    assert_int_equal(settled.max_request_size, 28672);

    nodes.max_requests = "100000";
    nodes.max_segments = "255";
    nodes.max_request_size = "1044480";
    settled = agree(&nodes);
    assert_int_equal(settled.max_requests, 128); /* the ring's slots */
    assert_int_equal(settled.max_segments, 11);
    assert_int_equal(settled.max_request_size, 45056);
    assert_int_equal(settled.asked_segments, 255);
    assert_true(settled.differs);
}

static void what_is_offered_and_taken_makes_no_difference(void **state)
{
    struct frontend_nodes nodes = plain();
    char refs[16][8];
    (void)state;
    nodes.ring_page_order = "4";
    for (unsigned i = 0; i < 16; i++) {
        snprintf(refs[i], sizeof(refs[i]), "%u", 100 + i);
        nodes.ring_refs[i] = refs[i];
    }
    nodes.max_requests = "512";
    nodes.max_segments = "11";
    nodes.max_request_size = "45056";
    assert_false(agree(&nodes).differs);
    nodes.max_segments = "12";
    assert_true(agree(&nodes).differs);
}

static void the_log_line_says_what_was_asked(void **state)
{
    struct frontend_nodes nodes = plain();
    char text[320];
    (void)state;
    nodes.max_segments = "255";
    struct negotiated settled = agree(&nodes);
    negotiate_describe(&settled, &offered, text, sizeof(text));
    assert_non_null(strstr(text, "segments offered 11, asked 255, settled 11"));
    assert_non_null(strstr(text, "requests offered 512, asked -, settled 32"));
    assert_non_null(strstr(text, "ring pages offered 16, settled 1"));
}

/* Every number a frontend writes, with everything that is none. */
static void not_a_number(void **state)
{
    char longest[2048];
    const char *const bad[] = {"",   "abc", "-1",  "+1",         "1x",  " 1",
                               "1 ", "0x1", "1.0", "4294967296", "1\n", longest};
    static const size_t fields[] = {
        offsetof(struct frontend_nodes, ring_page_order),
        offsetof(struct frontend_nodes, num_ring_pages),
        offsetof(struct frontend_nodes, ring_pages),
        offsetof(struct frontend_nodes, ring_ref),
        offsetof(struct frontend_nodes, event_channel),
        offsetof(struct frontend_nodes, num_queues),
        offsetof(struct frontend_nodes, max_requests),
        offsetof(struct frontend_nodes, max_segments),
        offsetof(struct frontend_nodes, max_request_size),
    };
    (void)state;
    memset(longest, '1', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    for (unsigned f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
        for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            struct frontend_nodes nodes = plain();
            memcpy((char *)&nodes + fields[f], &bad[i], sizeof(bad[i]));
            refuse(&nodes, "not a number");
        }
    }
}

static void zero_where_it_means_nothing(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    nodes.event_channel = "0";
    refuse(&nodes, "event-channel is 0");
    nodes = plain();
    nodes.num_queues = "0";
    refuse(&nodes, "multi-queue-num-queues is 0");
    nodes = plain();
    nodes.max_requests = "0";
    refuse(&nodes, "max-requests is 0");
    nodes = plain();
    nodes.max_segments = "0";
    refuse(&nodes, "max-request-segments is 0");
    nodes = plain();
    nodes.max_request_size = "0";
    refuse(&nodes, "max-request-size is 0");
    nodes = plain();
    nodes.ring_ref = "0"; /* the first grant reference is a valid one */
    (void)agree(&nodes);
}

static void missing_nodes(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    nodes.ring_ref = NULL;
    refuse(&nodes, "ring-ref is missing");
    nodes = plain();
    nodes.event_channel = NULL;
    refuse(&nodes, "event-channel is missing");
    nodes = four_pages();
    nodes.ring_refs[2] = NULL;
    refuse(&nodes, "ring-ref2 is missing");
    nodes = four_pages();
    nodes.ring_refs[0] = NULL;
    refuse(&nodes, "ring-ref is missing");
}

static void more_than_was_offered(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.ring_page_order = "5";
    refuse(&nodes, "ring-page-order is 5, must be 0 to 4");
    nodes = plain();
    nodes.num_queues = "2";
    refuse(&nodes, "multi-queue-num-queues is 2");
    nodes.num_queues = "1";
    (void)agree(&nodes);
}

static void the_same_page_twice(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.ring_refs[3] = "21";
    refuse(&nodes, "the same grant 21");
    nodes.ring_refs[3] = "021"; /* by another spelling */
    refuse(&nodes, "the same grant 21");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_protocol),
        cmocka_unit_test(protocols),
        cmocka_unit_test(pages_by_order),
        cmocka_unit_test(pages_by_number),
        cmocka_unit_test(pages_of_2010),
        cmocka_unit_test(stale_references_are_ignored),
        cmocka_unit_test(order_zero_takes_either_name),
        cmocka_unit_test(limits_are_the_lesser),
        cmocka_unit_test(what_is_offered_and_taken_makes_no_difference),
        cmocka_unit_test(the_log_line_says_what_was_asked),
        cmocka_unit_test(not_a_number),
        cmocka_unit_test(zero_where_it_means_nothing),
        cmocka_unit_test(missing_nodes),
        cmocka_unit_test(more_than_was_offered),
        cmocka_unit_test(the_same_page_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
