/* SPDX-License-Identifier: BSD-2-Clause */
/* What "blkbackctl status" says of limits: those that a disk has, and what they have held back.
 * argv[1]: the program. */
#include "rig.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define DISK  "status -i 0 3 xvda"
#define IN_JS "status -i 0 --json 3 xvda"

/* Every counter has a number of its own: one shown in the place of another is noticed. The sums
 * over rings are test_state_files.c's. */
static void store_counters(void)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");
    struct slab_header *header = rig_slab();
    struct slab_statistics *statistics = &header->queues[0].statistics;

    made.connects = 101;
    made.connects_delayed = 102;
    made.states_delayed = 103;
    made.log_suppressed = 1000;
    rig_store(&made);
    header->log_suppressed = 104;
    statistics->fruitless_events = 201;
    statistics->events_delayed = 202;
    statistics->passes_limited = 203;
    statistics->buffer_waits = 204;
    statistics->segments_failed = 205;
    statistics->maps_failed = 206;
    statistics->requests_unmapped = 207;
    statistics->mapped_grants = 208;
    statistics->bytes_in_flight = 209;
    statistics->limit_waits = 210;
    statistics->limit_wait_us = 2110000;
    rig_store_slab_as("3-51712.slab", header);
}

static void what_was_held_back_is_shown_to_people(void **state)
{
    static const char *const lines[] = {"connections            101\n",
                                        "connections delayed    102\n",
                                        "states delayed         103\n",
                                        "log lines suppressed   1104\n",
                                        "fruitless events       201\n",
                                        "events delayed         202\n",
                                        "passes cut short       203\n",
                                        "waits for buffers      204\n",
                                        "segments not copied    205\n",
                                        "maps failed            206\n",
                                        "requests not mapped    207\n",
                                        "grants mapped          208\n",
                                        "bytes in flight        209 (209) bytes\n",
                                        "waits for the limit    210\n",
                                        "waited for the limit   2.110 s\n"};

    (void)state;
    rig_start_broker();
    store_counters();
    assert_int_equal(rig_run(DISK), 0);
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        rig_expect_in(rig_output, lines[i]);
}

static void expect_number(json_t *object, const char *name, json_int_t number)
{
    json_t *member = json_object_get(object, name);

    if (!json_is_integer(member) || json_integer_value(member) != number)
        fail_msg("%s is not %lld in:\n%s", name, (long long)number, rig_output);
}

static void what_was_held_back_is_shown_to_programs(void **state)
{
    static const char *const of_the_slab[] = {
        "fruitless_events", "events_delayed", "passes_limited",    "buffer_waits",
        "segments_failed",  "maps_failed",    "requests_unmapped", "mapped_grants",
        "bytes_in_flight",  "limit_waits"};

    (void)state;
    rig_start_broker();
    store_counters();
    assert_int_equal(rig_run(IN_JS), 0);
    json_t *root = json_loads(rig_output, 0, NULL);
    json_t *disk = json_array_get(json_object_get(root, "disks"), 0);
    expect_number(disk, "connects", 101);
    expect_number(disk, "connects_delayed", 102);
    expect_number(disk, "states_delayed", 103);
    expect_number(disk, "log_lines_suppressed", 1104);
    json_t *statistics = json_object_get(disk, "statistics");
    for (unsigned i = 0; i < sizeof(of_the_slab) / sizeof(of_the_slab[0]); i++)
        expect_number(statistics, of_the_slab[i], 201 + (json_int_t)i);
    expect_number(statistics, "limit_wait_us", 2110000);
    json_decref(root);
}

/* Before a worker has the disk, and after it has gone. */
static void the_brokers_part_is_shown_without_a_slab(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    made.log_suppressed = 1000;
    rig_store(&made);
    assert_int_equal(rig_run(DISK), 0);
    rig_expect_in(rig_output, "log lines suppressed   1000\n");
    rig_expect_in(rig_output, "statistics             none\n");
    assert_int_equal(rig_run(IN_JS), 0);
    rig_expect_in(rig_output, "\"log_lines_suppressed\": 1000,");
}

static void a_wait_for_the_pace_is_in_the_table(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    made.backend_state = 2;
    made.queue_count = 0;
    (void)strcpy(made.reason, "waits: the guest connects more often than reconnects-per-minute");
    rig_store(&made);
    assert_int_equal(rig_run("status -i 0"), 0);
    rig_expect_in(rig_output, "\n       waits: the guest connects more often");
    assert_int_equal(rig_run(DISK), 0);
    rig_expect_in(rig_output, "reason                 waits: the guest connects more often");
}

static void limits_are_shown_where_there_are_some(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");

    (void)state;
    rig_start_broker();
    rig_store(&made);
    assert_int_equal(rig_run(DISK), 0);
    rig_expect_in(rig_output, "weight                 100\n");
    assert_null(strstr(rig_output, "IOPS limit"));
    assert_null(strstr(rig_output, "bandwidth limit"));
    made.weight = 300;
    made.request_limit = 500;
    made.byte_limit = 3 << 20;
    rig_store(&made);
    assert_int_equal(rig_run(DISK), 0);
    rig_expect_in(rig_output, "weight                 300\n");
    rig_expect_in(rig_output, "IOPS limit             500 requests/s, bursts of 0.1 s' worth\n");
    rig_expect_in(rig_output,
                  "bandwidth limit        3145728 (3.0M) bytes/s, bursts of 0.1 s' worth\n");
    made.request_burst = 800;
    made.byte_burst = 6 << 20;
    made.limits_by_hand = 1;
    rig_store(&made);
    assert_int_equal(rig_run(DISK), 0);
    rig_expect_in(rig_output,
                  "IOPS limit             500 requests/s, bursts of 800, set by hand\n");
    rig_expect_in(rig_output, "3145728 (3.0M) bytes/s, bursts of 6.0M, set by hand\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(what_was_held_back_is_shown_to_people),
        RIG_TEST(what_was_held_back_is_shown_to_programs),
        RIG_TEST(the_brokers_part_is_shown_without_a_slab),
        RIG_TEST(a_wait_for_the_pace_is_in_the_table),
        RIG_TEST(limits_are_shown_where_there_are_some),
    };

    if (argc != 2)
        return 1;
    rig_program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
