/* SPDX-License-Identifier: BSD-2-Clause */
/* What a queue costs the others of its thread: events that bring nothing, and the work of a pass.
 */
#include "rig.h"

#include <errno.h>
#include <xen/io/blkif.h>

#define DELAY_MS 16U

/* Data of four requests, which is moved twice. */
#define WORK_OF_FOUR .work_per_turn = 2 * 4 * 11 * GNTTAB_PAGE_SIZE

static const struct slab_statistics *statistics_of(const struct rig *rig, unsigned index)
{
    return &rig->slab.header->queues[index].statistics;
}

static bool masked(const struct rig *rig)
{
    return rig->front[0].evtchn->takes > rig->front[0].evtchn->unmasks;
}

/* The frontend notifies; the event arrives if the port is not masked, and else stays pending. */
static bool notify(struct rig *rig)
{
    if (masked(rig))
        return false;
    rig_event(rig, 0);
    (void)rig_settle(rig);
    return true;
}

/* Events without requests, until they are left alone. Returns how many there were. */
static unsigned storm(struct rig *rig)
{
    unsigned events = 0;

    while (notify(rig)) {
        events++;
        assert_true(events < 100);
    }
    return events;
}

static void end_delay(struct rig *rig)
{
    rig_now_ms += rig->delay_ms;
    queue_end_delay(rig->queue[0]);
    (void)rig_settle(rig);
}

static void fruitless_events_are_delayed_more_and_more(void **state)
{
    const struct rig_options options = {.max_event_delay_ms = DELAY_MS};
    struct rig *rig = rig_create(&options);
    uint32_t delay = 1;
    (void)state;

    rig_now_ms = 1000;
    assert_int_equal(storm(rig), EVENT_STORM_FREE + 1);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(rig->delay_ms, delay);
        end_delay(rig);
        assert_int_equal(storm(rig), 1); /* the one that was pending */
        delay = delay * 2 < DELAY_MS ? delay * 2 : DELAY_MS;
    }
    assert_int_equal(statistics_of(rig, 0)->fruitless_events, EVENT_STORM_FREE + 11);
    assert_int_equal(statistics_of(rig, 0)->events_delayed, 11);
    assert_int_equal(statistics_of(rig, 0)->wakeups, EVENT_STORM_FREE + 11);
    rig_destroy(rig);
}

/* Its event is kept by the masked port; even if it were not, the ring is looked at. */
static void a_request_during_a_delay_is_taken_at_its_end(void **state)
{
    const struct rig_options options = {.max_event_delay_ms = DELAY_MS};
    struct rig *rig = rig_create(&options);
    (void)state;

    (void)storm(rig);
    rig->store.at_once = true;
    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 0);
    assert_false(notify(rig));
    rig_expect_none(rig);
    end_delay(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_false(masked(rig));
    rig_destroy(rig);
}

static void requests_end_a_storm(void **state)
{
    const struct rig_options options = {.max_event_delay_ms = DELAY_MS};
    struct rig *rig = rig_create(&options);
    (void)state;

    for (uint32_t i = 0; i < 5; i++) {
        (void)storm(rig);
        end_delay(rig);
        rig_transfer(rig, BLKIF_OP_READ, i, 0, 0);
        assert_true(notify(rig));
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
        rig_expect(rig, i, BLKIF_OP_READ, BLKIF_RSP_OKAY);
        assert_int_equal(rig->delay_ms, 1); /* not 2, 4, 8 */
    }
    rig_destroy(rig);
}

/* A pass for another reason, I/O that came back, finds requests in the ring: they are no storm's.
 */
static void requests_during_a_delay_end_it(void **state)
{
    const struct rig_options options = {.max_event_delay_ms = DELAY_MS};
    struct rig *rig = rig_create(&options);
    (void)state;

    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 0);
    assert_true(notify(rig));
    (void)storm(rig);
    assert_true(masked(rig));
    rig_transfer(rig, BLKIF_OP_READ, 2, 0, 0);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_false(masked(rig));
    assert_true(rig->store.held_count == 1);
    queue_end_delay(rig->queue[0]); /* which changes nothing any more */
    assert_null(rig->turn.ready);
    rig_destroy(rig);
}

/* Every event has its request, which a pass took before the event came. */
static void an_honest_frontend_is_never_delayed(void **state)
{
    const struct rig_options options = {.max_event_delay_ms = DELAY_MS};
    struct rig *rig = rig_create(&options);
    (void)state;

    rig->store.at_once = true;
    for (uint32_t i = 0; i < 1000; i++) {
        rig_transfer(rig, BLKIF_OP_READ, i, 0, 0);
        turn_mark_ready(rig->queue[0]);
        (void)rig_settle(rig);
        rig_expect(rig, i, BLKIF_OP_READ, BLKIF_RSP_OKAY);
        assert_true(notify(rig));
    }
    assert_int_equal(statistics_of(rig, 0)->events_delayed, 0);
    rig_destroy(rig);
}

static void a_ring_that_goes_away_in_its_delay(void **state)
{
    const struct rig_options options = {.max_event_delay_ms = DELAY_MS};
    struct rig *rig = rig_create(&options);
    (void)state;

    (void)storm(rig);
    queue_disconnect(rig->queue[0]);
    queue_end_delay(rig->queue[0]);
    assert_null(rig->turn.ready);
    rig_destroy(rig);
}

static void put_writes(struct rig *rig, unsigned index, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        front_put(&rig->front[index], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                            .segments = 11,
                                                            .id = i,
                                                            .sector = (index * 32 + i) * 88U,
                                                            .gref = 0,
                                                            .last_sector = 7});
    front_push(&rig->front[index]);
    rig_event(rig, index);
}

/* The flood takes several passes, the one request of the other queue has its turn in the first. */
static void a_flood_leaves_others_their_turn(void **state)
{
    const struct rig_options options = {WORK_OF_FOUR};
    struct rig *rig = rig_create(&options);
    (void)state;

    rig_connect(rig, 1);
    put_writes(rig, 1, 1);
    put_writes(rig, 0, 32);
    turn_run(&rig->turn);
    assert_in_range(rig->store.held_count, 2, 6);
    assert_int_equal(rig->slab.header->queues[1].in_flight, 1);
    assert_non_null(rig->turn.ready);
    (void)rig_settle(rig);
    assert_in_range(statistics_of(rig, 0)->passes_limited, 6, 12);
    assert_int_equal(statistics_of(rig, 1)->passes_limited, 0);
    while (rig->store.held_count) {
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
    }
    for (uint32_t i = 0; i < 32; i++)
        rig_expect(rig, i, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* Nobody waits for it. */
static void a_queue_alone_is_not_interrupted(void **state)
{
    const struct rig_options options = {WORK_OF_FOUR};
    struct rig *rig = rig_create(&options);
    (void)state;

    put_writes(rig, 0, 32);
    turn_run(&rig->turn);
    assert_int_equal(rig->slab.header->queues[0].in_flight, 32);
    assert_int_equal(statistics_of(rig, 0)->passes_limited, 0);
    assert_null(rig->turn.ready);
    rig_destroy(rig);
}

/* All came back at once: their data is copied in several passes, too. */
static void answers_are_work_too(void **state)
{
    const struct rig_options options = {.work_per_turn = 4 * 11 * GNTTAB_PAGE_SIZE};
    struct rig *rig = rig_create(&options);
    struct rig_response response;
    unsigned answered = 0;
    (void)state;

    rig_connect(rig, 1);
    for (uint32_t i = 0; i < 32; i++)
        front_put(&rig->front[0], &(struct rig_request){.operation = BLKIF_OP_READ,
                                                        .segments = 11,
                                                        .id = i,
                                                        .sector = i * 96U,
                                                        .last_sector = 7});
    rig_run(rig);
    assert_int_equal(rig->slab.header->queues[0].statistics.bytes_in_flight,
                     32 * 11 * GNTTAB_PAGE_SIZE);
    fake_store_finish_all(&rig->store);
    turn_run(&rig->turn);
    while (front_take(&rig->front[0], &response))
        answered++;
    assert_in_range(answered, 1, 6);
    (void)rig_settle(rig);
    while (front_take(&rig->front[0], &response))
        answered++;
    assert_int_equal(answered, 32);
    assert_int_equal(rig->slab.header->queues[0].statistics.bytes_in_flight, 0);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

static void what_could_not_be_had_is_counted(void **state)
{
    const struct rig_options options = {.persistent = true, .grant_budget = 64, .buffers = 2};
    struct rig *rig = rig_create(&options);
    const struct slab_statistics *statistics = statistics_of(rig, 0);
    (void)state;

    fake_gnttab.map_error = -ENOSPC; /* no entry of the grant or maptrack table is left */
    for (uint32_t i = 0; i < 3; i++)
        rig_transfer(rig, BLKIF_OP_WRITE, i, i * 16, i);
    rig_transfer(rig, BLKIF_OP_WRITE, 3, 64, FAKE_PAGES + 1);
    rig_run_to_the_end(rig);
    assert_int_equal(statistics->requests_unmapped, 4);
    assert_in_range(statistics->maps_failed, 4, 8);
    assert_int_equal(statistics->mapped_grants, 0);
    assert_int_equal(statistics->buffer_waits, 1);
    assert_int_equal(statistics->segments_failed, 1);
    fake_gnttab.map_error = 0;
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fruitless_events_are_delayed_more_and_more),
        cmocka_unit_test(a_request_during_a_delay_is_taken_at_its_end),
        cmocka_unit_test(requests_end_a_storm),
        cmocka_unit_test(requests_during_a_delay_end_it),
        cmocka_unit_test(an_honest_frontend_is_never_delayed),
        cmocka_unit_test(a_ring_that_goes_away_in_its_delay),
        cmocka_unit_test(a_flood_leaves_others_their_turn),
        cmocka_unit_test(a_queue_alone_is_not_interrupted),
        cmocka_unit_test(answers_are_work_too),
        cmocka_unit_test(what_could_not_be_had_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
