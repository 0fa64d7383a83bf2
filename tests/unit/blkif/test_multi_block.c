/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that go on in the slots behind their first one: data, the ring's end, requests that come
 * in pieces, and counts that can't be. */
#include "multi_block.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static void fill_pages(void)
{
    for (uint32_t page = 0; page < 256; page++)
        for (uint32_t i = 0; i < GNTTAB_PAGE_SIZE; i++)
            fake_gnttab.pages[WRITE_PAGES + page][i] = (uint8_t)(page * 7 + i / 16 + i);
}

static void a_request_takes_the_slots_that_its_segments_need(void **state)
{
    static const struct {
        uint8_t first, last; /* segments */
        uint8_t slots;
    } expected[] = {
        {0, 11, 1},     {12, 25, 2},    {26, 39, 3},    {40, 53, 4},    {54, 67, 5},
        {68, 81, 6},    {82, 95, 7},    {96, 109, 8},   {110, 123, 9},  {124, 137, 10},
        {138, 151, 11}, {152, 165, 12}, {166, 179, 13}, {180, 193, 14}, {194, 207, 15},
        {208, 221, 16}, {222, 235, 17}, {236, 249, 18}, {250, 255, 19},
    };
    unsigned counts = 0;
    (void)state;

    for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        for (unsigned n = expected[i].first; n <= expected[i].last; n++, counts++)
            for (unsigned operation = 0; operation < 256; operation++) {
                const bool spans = operation == BLKIF_OP_READ || operation == BLKIF_OP_WRITE ||
                                   operation == BLKIF_OP_WRITE_BARRIER;
                const struct ring_slot slot = {{(uint8_t)operation, (uint8_t)n}};
                const struct decode_limits spoken = {.max_segments = 12},
                                           not = {.max_segments = 11};

                assert_int_equal(decode_slots(&slot, &spoken), spans ? expected[i].slots : 1);
                assert_int_equal(decode_slots(&slot, &not ), 1);
            }
    assert_int_equal(counts, 256);
}

static void write_and_read_back(struct rig *rig, uint8_t segments)
{
    const size_t bytes = (size_t)segments * GNTTAB_PAGE_SIZE;

    fill_pages();
    memset(fake_gnttab.pages[READ_PAGES], 0, (size_t)256 * GNTTAB_PAGE_SIZE);
    memset(rig->store.disk, 0, sizeof(rig->store.disk));
    struct rig_request request = transfer(BLKIF_OP_WRITE, segments, segments);

    request.sector = 24;
    put(rig, request);
    rig_run_to_the_end(rig);
    rig_expect(rig, segments, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    assert_memory_equal(rig->store.disk + 24 * 512, fake_gnttab.pages[WRITE_PAGES], bytes);
    assert_int_equal(rig->store.disk[24 * 512 + bytes], 0);

    request = transfer(BLKIF_OP_READ, 1000U + segments, segments);
    request.sector = 24;
    put(rig, request);
    rig_run_to_the_end(rig);
    rig_expect(rig, 1000U + segments, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    assert_memory_equal(fake_gnttab.pages[READ_PAGES], fake_gnttab.pages[WRITE_PAGES], bytes);
    assert_int_equal(fake_gnttab.pages[READ_PAGES + segments][0], 0);
}

static void data_of_every_length_arrives_in_every_abi(void **state)
{
    static const uint8_t counts[] = {1, 10, 11, 12, 13, 24, 25, 26, 39, 40, 128, 254, 255};
    (void)state;

    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++) {
        struct rig *rig =
            rig_create(&(struct rig_options){.abi = (enum blkif_abi)abi, .max_segments = 255});

        for (unsigned i = 0; i < sizeof(counts); i++)
            if (abi != BLKIF_ABI_X86_32 || counts[i] <= 24)
                write_and_read_back(rig, counts[i]);
        rig_destroy(rig);
    }
}

/* Segments of one sector each, all different: none is taken from a neighbour's place. */
static void each_segment_is_taken_from_its_own_place(void **state)
{
    struct rig *rig = rig_create(&wide);
    struct slab_segment list[255];
    struct rig_request request = transfer(BLKIF_OP_WRITE, 1, 255);
    (void)state;

    fill_pages();
    for (unsigned i = 0; i < 255; i++)
        list[i] = (struct slab_segment){.gref = WRITE_PAGES + (i * 37) % 256,
                                        .first_sector = (uint8_t)(i % 8),
                                        .last_sector = (uint8_t)(i % 8)};
    request.list = list;
    put(rig, request);
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    for (unsigned i = 0; i < 255; i++)
        assert_memory_equal(rig->store.disk + (size_t)i * 512,
                            fake_gnttab.pages[list[i].gref] + (size_t)list[i].first_sector * 512,
                            512);
    rig_destroy(rig);
}

static void a_request_may_wrap_around_the_rings_end(void **state)
{
    (void)state;
    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++)
        for (uint32_t start = 13; start <= 32; start++) {
            struct rig *rig = rig_create(&(struct rig_options){
                /* Near the end of the counters as well. */
                .abi = (enum blkif_abi)abi,
                .start = start % 2 ? start : UINT32_MAX - 32 + start,
                .max_segments = 255,
            });

            write_and_read_back(rig, abi == BLKIF_ABI_X86_32 ? 24 : 255);
            rig_destroy(rig);
        }
}

/* Three of different lengths, answered in another order: the frontend finds each answer where the
 * one before ended. */
static void answers_advance_by_the_slots_of_their_request_in_any_order(void **state)
{
    static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                         {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const uint8_t counts[3] = {12, 100, 40};
    (void)state;

    for (unsigned order = 0; order < 6; order++)
        for (unsigned together = 0; together < 2; together++) {
            struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255, .start = 25});
            struct io *io[3];

            for (unsigned i = 0; i < 3; i++)
                put(rig, transfer(BLKIF_OP_READ, 10 + i, counts[i]));
            rig_run(rig);
            for (unsigned i = 0; i < 3; i++)
                io[i] = rig->store.held[i];
            for (unsigned n = 0; n < 3; n++) {
                for (unsigned i = 0; i < rig->store.held_count; i++)
                    if (rig->store.held[i] == io[orders[order][n]]) {
                        fake_store_finish(&rig->store, i, 0);
                        break;
                    }
                if (!together) {
                    (void)rig_settle(rig);
                    rig_expect(rig, 10U + orders[order][n], BLKIF_OP_READ, BLKIF_RSP_OKAY);
                }
            }
            (void)rig_settle(rig);
            for (unsigned n = 0; together && n < 3; n++)
                rig_expect(rig, 10U + orders[order][n], BLKIF_OP_READ, BLKIF_RSP_OKAY);
            rig_expect_rest(rig);
            rig_destroy(rig);
        }
}

/* A successor finds by them which requests were answered: see journal.h. */
static void every_slot_of_an_answer_names_its_entry(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255, .start = 25});
    const struct slab_queue *queue = &rig->slab.header->queues[0];
    (void)state;

    put(rig, transfer(BLKIF_OP_READ, 1, 11));
    put(rig, transfer(BLKIF_OP_READ, 2, 128));
    put(rig, transfer(BLKIF_OP_READ, 3, 26));
    rig_run(rig);
    fake_store_finish(&rig->store, 1, 0);
    fake_store_finish(&rig->store, 1, 0);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    for (uint32_t tag = 0; tag < 3; tag++)
        assert_ptr_equal(slab_at(&rig->slab, rig->queue[0]->journal.entries[tag].extent),
                         rig->queue[0]->requests[tag].segments);
    const uint16_t first = queue->publishing[25], second = queue->publishing[(25 + 10) % 32],
                   third = queue->publishing[(25 + 13) % 32];

    assert_int_not_equal(first, 0);
    assert_true(first != second && second != third && first != third);
    for (uint32_t i = 0; i < 14; i++)
        assert_int_equal(queue->publishing[(25 + i) % 32], i < 10   ? first
                                                           : i < 13 ? second
                                                                    : third);
    assert_int_equal(rig->queue[0]->journal.entries[first - 1].id, 2);
    assert_int_equal(rig->queue[0]->journal.entries[second - 1].id, 3);
    assert_int_equal(rig->queue[0]->journal.entries[third - 1].id, 1);
    assert_int_equal(queue->publishing[(25 + 14) % 32], 0);
    rig_destroy(rig);
}

/* However much of it has come, it is left alone until the rest is there, and the loop sleeps. */
static void a_request_that_comes_in_pieces_waits_for_the_rest(void **state)
{
    (void)state;
    for (uint32_t missing = 1; missing < 10; missing++) {
        struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255, .start = 28});
        const struct ring_shared *shared = (struct ring_shared *)rig->front[0].pages;
        struct rig_response response;

        put(rig, transfer(BLKIF_OP_READ, 1, 11));
        put(rig, transfer(BLKIF_OP_READ, 2, 128));
        front_push_but(&rig->front[0], missing);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        assert_string_equal(rig->store.trace, "r");
        assert_int_equal(rig->slab.header->queues[0].req_cons, 29);
        /* The very next slot of it wakes the backend. */
        assert_int_equal(shared->req_event, rig->front[0].req_prod - missing + 1);
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
        rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
        assert_int_equal(shared->req_event, rig->front[0].req_prod - missing + 1);
        if (missing > 1) {
            front_push_but(&rig->front[0], 1);
            rig_event(rig, 0);
            (void)rig_settle(rig);
            assert_string_equal(rig->store.trace, "rR");
        }
        rig_run_to_the_end(rig);
        rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
        assert_false(front_take(&rig->front[0], &response));
        rig_expect_rest(rig);
        rig_destroy(rig);
    }
}

/* The rest came between the look at the ring and the arming of the event: no event comes for it. */
static void the_rest_may_come_while_the_queue_arms(void **state)
{
    struct rig *rig = rig_create(&wide);
    (void)state;

    put(rig, transfer(BLKIF_OP_READ, 1, 128));
    front_push_but(&rig->front[0], 3);
    rig_event(rig, 0);
    turn_run(&rig->turn);
    assert_null(rig->turn.ready);
    assert_true(ring_arm(&rig->queue[0]->ring, 6)); /* six were seen, seven are there */
    assert_false(ring_arm(&rig->queue[0]->ring, 7));
    rig_destroy(rig);
}

/* With all entries in use an incomplete request is no reason to spin either. */
static void an_incomplete_request_behind_a_full_journal(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255, .max_requests = 1});
    (void)state;

    put(rig, transfer(BLKIF_OP_READ, 1, 26));
    put(rig, transfer(BLKIF_OP_READ, 2, 26));
    front_push_but(&rig->front[0], 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    rig_run_to_the_end(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* The first slot was looked at when the rest was missing: only what it says in the end counts. */
static void a_guest_that_changes_an_incomplete_request_gets_what_it_says_last(void **state)
{
    struct rig *rig = rig_create(&wide);
    struct front *front = &rig->front[0];
    (void)state;

    put(rig, transfer(BLKIF_OP_READ, 1, 26));
    front_push_but(front, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    front->req_prod = 0;
    put(rig, transfer(BLKIF_OP_READ, 2, 12));
    put(rig, transfer(BLKIF_OP_READ, 3, 1));
    rig_run_to_the_end(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect(rig, 3, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

static void the_answer_lies_in_the_first_slot_that_it_frees(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255, .start = 30});
    const struct front *front = &rig->front[0];
    (void)state;

    put(rig, transfer(BLKIF_OP_READ, 0x1122334455667788, 40));
    put(rig, transfer(BLKIF_OP_READ, 9, 1));
    rig_run_to_the_end(rig);
    const uint8_t *slot = front->pages + BLKIF_RING_HEADER_BYTES + (size_t)30 * front->slot_bytes;
    const uint8_t *next = front->pages + BLKIF_RING_HEADER_BYTES + (size_t)2 * front->slot_bytes;
    const uint64_t id = 0x1122334455667788, second = 9;

    assert_memory_equal(slot, &id, sizeof(id));
    assert_int_equal(slot[8], BLKIF_OP_READ);
    assert_memory_equal(next, &second, sizeof(second));
    rig_destroy(rig);
}

static void a_barrier_may_span_slots(void **state)
{
    struct rig *rig = rig_create(&wide);
    (void)state;

    fill_pages();
    put(rig, transfer(BLKIF_OP_READ, 1, 1));
    put(rig, transfer(BLKIF_OP_WRITE_BARRIER, 2, 200));
    put(rig, transfer(BLKIF_OP_READ, 3, 1));
    rig_run_to_the_end(rig);
    assert_string_equal(rig->store.trace, "rRfFwWfFrR");
    for (uint64_t id = 1; id <= 3; id++)
        rig_expect(rig, id, id == 2 ? BLKIF_OP_WRITE_BARRIER : BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_memory_equal(rig->store.disk, fake_gnttab.pages[WRITE_PAGES],
                        (size_t)200 * GNTTAB_PAGE_SIZE);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* As many as a ring of 32 pages holds, of the largest, again and again. */
static void a_long_ring_full_of_large_requests(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.max_segments = 255, .order = 5, .max_requests = 40});
    (void)state;

    for (unsigned round = 0; round < 5; round++) {
        for (uint64_t id = 0; id < 1024 / 19; id++)
            put(rig, transfer(BLKIF_OP_READ, id, 255));
        rig_run_to_the_end(rig);
        for (unsigned i = 0; i < 1024 / 19; i++) {
            struct rig_response response;

            assert_true(front_take(&rig->front[0], &response));
            assert_int_equal(response.status, BLKIF_RSP_OKAY);
        }
        rig_expect_rest(rig);
    }
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_takes_the_slots_that_its_segments_need),
        cmocka_unit_test(data_of_every_length_arrives_in_every_abi),
        cmocka_unit_test(each_segment_is_taken_from_its_own_place),
        cmocka_unit_test(a_request_may_wrap_around_the_rings_end),
        cmocka_unit_test(answers_advance_by_the_slots_of_their_request_in_any_order),
        cmocka_unit_test(every_slot_of_an_answer_names_its_entry),
        cmocka_unit_test(a_request_that_comes_in_pieces_waits_for_the_rest),
        cmocka_unit_test(the_rest_may_come_while_the_queue_arms),
        cmocka_unit_test(an_incomplete_request_behind_a_full_journal),
        cmocka_unit_test(a_guest_that_changes_an_incomplete_request_gets_what_it_says_last),
        cmocka_unit_test(the_answer_lies_in_the_first_slot_that_it_frees),
        cmocka_unit_test(a_barrier_may_span_slots),
        cmocka_unit_test(a_long_ring_full_of_large_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
