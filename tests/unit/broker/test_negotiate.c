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
    .max_queues = 1,
};

/* Everything there is. */
static const struct offer everything = {
    .max_ring_page_order = 5,
    .max_requests = 256,
    .max_segments = 255,
    .max_request_size = 255 * 4096,
    .max_indirect_segments = 256,
    .max_queues = 4,
    .persistent = true,
};

/* What Linux writes by default. */
static struct frontend_nodes plain(void)
{
    return (struct frontend_nodes){.protocol = "x86_64-abi",
                                   .rings[0] = {.ring_ref = "8", .event_channel = "15"}};
}

static struct frontend_nodes four_pages(void)
{
    struct frontend_nodes nodes = plain();
    nodes.rings[0].ring_ref = NULL;
    nodes.ring_page_order = "2";
    nodes.rings[0].ring_refs[0] = "21";
    nodes.rings[0].ring_refs[1] = "22";
    nodes.rings[0].ring_refs[2] = "23";
    nodes.rings[0].ring_refs[3] = "24";
    return nodes;
}

static struct negotiated agree_on(const struct frontend_nodes *nodes, const struct offer *offer)
{
    char why[NEGOTIATE_WHY_MAX] = "";
    struct negotiated settled;
    memset(&settled, 0xee, sizeof(settled));
    if (negotiate(nodes, offer, why, &settled) != 0)
        fail_msg("refused: %s", why);
    return settled;
}

static struct negotiated agree(const struct frontend_nodes *nodes)
{
    return agree_on(nodes, &offered);
}

/* Refused, with a reason that has this in it, and without touching the result. */
static void refuse_of(const struct frontend_nodes *nodes, const struct offer *offer,
                      const char *reason)
{
    char why[NEGOTIATE_WHY_MAX] = "";
    struct negotiated settled;
    struct negotiated untouched;
    memset(&settled, 0xee, sizeof(settled));
    memset(&untouched, 0xee, sizeof(untouched));
    assert_int_equal(negotiate(nodes, offer, why, &settled), -EINVAL);
    if (strstr(why, reason) == NULL)
        fail_msg("the reason \"%s\" does not say \"%s\"", why, reason);
    assert_memory_equal(&settled, &untouched, sizeof(settled));
    for (const char *at = why; *at != '\0'; at++)
        assert_true(*at >= ' ' && *at <= '~');
}

static void refuse(const struct frontend_nodes *nodes, const char *reason)
{
    refuse_of(nodes, &offered, reason);
}

static void the_first_protocol(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    struct negotiated settled = agree(&nodes);
    assert_int_equal(blkif_abi_slot_bytes(settled.abi), 112); /* as on this host */
    assert_false(settled.protocol_missing);
    assert_int_equal(settled.ring_order, 0);
    assert_int_equal(settled.queues[0].ring_refs[0], 8);
    assert_int_equal(settled.queues[0].remote_port, 15);
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
    assert_int_equal(settled.queues[0].ring_refs[0], 21);
    assert_int_equal(settled.queues[0].ring_refs[3], 24);
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
    nodes.rings[0].ring_ref = "20";
    nodes.rings[0].ring_refs[0] = NULL;
    struct negotiated settled = agree(&nodes);
    assert_int_equal(settled.ring_order, 2);
    assert_int_equal(settled.queues[0].ring_refs[0], 20);
    assert_int_equal(settled.queues[0].ring_refs[1], 22);
}

/* A frontend that says nothing of the ring's size means `ring-ref`, whatever the one before it
 * left. */
static void stale_references_are_ignored(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.ring_page_order = NULL;
    nodes.rings[0].ring_ref = "99";
    struct negotiated settled = agree(&nodes);
    assert_int_equal(settled.ring_order, 0);
    assert_int_equal(settled.queues[0].ring_refs[0], 99);
}

static void order_zero_takes_either_name(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    nodes.ring_page_order = "0";
    assert_int_equal(agree(&nodes).queues[0].ring_refs[0], 8);
    nodes.rings[0].ring_refs[0] = "77";
    assert_int_equal(agree(&nodes).queues[0].ring_refs[0], 77);
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
        nodes.rings[0].ring_refs[i] = refs[i];
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
    char text[480];
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
        offsetof(struct frontend_nodes, rings[0].ring_ref),
        offsetof(struct frontend_nodes, rings[0].event_channel),
        offsetof(struct frontend_nodes, num_queues),
        offsetof(struct frontend_nodes, persistent),
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
    nodes.rings[0].event_channel = "0";
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
    nodes.rings[0].ring_ref = "0"; /* the first grant reference is a valid one */
    (void)agree(&nodes);
}

static void missing_nodes(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    nodes.rings[0].ring_ref = NULL;
    refuse(&nodes, "ring-ref is missing");
    nodes = plain();
    nodes.rings[0].event_channel = NULL;
    refuse(&nodes, "event-channel is missing");
    nodes = four_pages();
    nodes.rings[0].ring_refs[2] = NULL;
    refuse(&nodes, "ring-ref2 is missing");
    nodes = four_pages();
    nodes.rings[0].ring_refs[0] = NULL;
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
    nodes.rings[0].ring_refs[3] = "21";
    refuse(&nodes, "the same grant 21");
    nodes.rings[0].ring_refs[3] = "021"; /* by another spelling */
    refuse(&nodes, "the same grant 21");
}

/* FreeBSD of 2010 with all it has. */
static void multi_block_requests(void **state)
{
    struct frontend_nodes nodes = four_pages();
    (void)state;
    nodes.max_requests = "256";
    nodes.max_segments = "255";
    nodes.max_request_size = "1044480";
    struct negotiated settled = agree_on(&nodes, &everything);
    assert_int_equal(settled.max_segments, 255);
    assert_int_equal(settled.max_request_size, 1044480);
    nodes.max_segments = "128";
    assert_int_equal(agree_on(&nodes, &everything).max_segments, 128);
    /* Later ones write the keys and mean nothing by it; and who writes none knows none. */
    nodes.max_segments = "11";
    assert_int_equal(agree_on(&nodes, &everything).max_segments, 11);
    nodes.max_segments = NULL;
    assert_int_equal(agree_on(&nodes, &everything).max_segments, 11);
}

static void multi_block_requests_of_32_bits(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    nodes.protocol = "x86_32-abi";
    nodes.max_segments = "255";
    assert_int_equal(agree_on(&nodes, &everything).max_segments, 24);
    nodes.max_segments = "20";
    assert_int_equal(agree_on(&nodes, &everything).max_segments, 20);
    nodes.max_segments = NULL;
    assert_int_equal(agree_on(&nodes, &everything).max_segments, 11);
}

static void indirect_requests_are_as_offered(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    assert_int_equal(agree_on(&nodes, &everything).max_indirect_segments, 256);
    assert_int_equal(agree(&nodes).max_indirect_segments, 0);
}

static void persistent_grants_need_both(void **state)
{
    struct frontend_nodes nodes = plain();
    (void)state;
    assert_false(agree_on(&nodes, &everything).persistent);
    nodes.persistent = "0";
    assert_false(agree_on(&nodes, &everything).persistent);
    nodes.persistent = "1";
    assert_true(agree_on(&nodes, &everything).persistent);
    assert_false(agree(&nodes).persistent);
}

static struct frontend_nodes three_queues(void)
{
    struct frontend_nodes nodes = {.protocol = "x86_64-abi", .num_queues = "3"};
    static const char *const values[3][2] = {{"8", "15"}, {"9", "16"}, {"10", "17"}};
    for (unsigned i = 0; i < 3; i++) {
        nodes.rings[i].ring_ref = values[i][0];
        nodes.rings[i].event_channel = values[i][1];
    }
    return nodes;
}

static void several_queues(void **state)
{
    struct frontend_nodes nodes = three_queues();
    (void)state;
    struct negotiated settled = agree_on(&nodes, &everything);
    assert_int_equal(settled.queue_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(settled.queues[i].ring_refs[0], 8 + i);
        assert_int_equal(settled.queues[i].remote_port, 15 + i);
    }
    assert_int_equal(settled.queues[3].remote_port, 0);
    nodes = plain();
    assert_int_equal(agree_on(&nodes, &everything).queue_count, 1);
}

static void queues_that_are_wrong(void **state)
{
    struct frontend_nodes nodes = three_queues();
    (void)state;
    nodes.num_queues = "5";
    refuse_of(&nodes, &everything, "multi-queue-num-queues is 5, must be 1 to 4");
    nodes.num_queues = "0";
    refuse_of(&nodes, &everything, "multi-queue-num-queues is 0, must be 1 to 4");
    nodes = three_queues();
    nodes.rings[1].event_channel = NULL;
    refuse_of(&nodes, &everything, "queue-1: event-channel is missing");
    nodes = three_queues();
    nodes.rings[2].event_channel = "15";
    refuse_of(&nodes, &everything, "queue-0 and queue-2 have the same event channel 15");
    nodes = three_queues();
    nodes.rings[2].ring_ref = "9";
    refuse_of(&nodes, &everything, "queue-1 and queue-2 have the same grant 9");
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
        cmocka_unit_test(multi_block_requests),
        cmocka_unit_test(multi_block_requests_of_32_bits),
        cmocka_unit_test(indirect_requests_are_as_offered),
        cmocka_unit_test(persistent_grants_need_both),
        cmocka_unit_test(several_queues),
        cmocka_unit_test(queues_that_are_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
