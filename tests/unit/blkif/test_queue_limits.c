/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue short of something: engines that are busy, no buffers, a broken ring, a ring that goes
 * away under its I/O. */
#include "rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static const struct rig_options plain = {0};

static struct ring_shared *shared(struct rig *rig)
{
    return (struct ring_shared *)rig->front[0].pages;
}

static void a_busy_engine_is_tried_again_after_a_completion(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.room = 2;
    for (uint32_t i = 0; i < 8; i++)
        rig_transfer(rig, BLKIF_OP_READ, i, i * 16U, i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    for (uint32_t i = 0; i < 8; i++) {
        const unsigned refused = rig->store.refused;

        assert_in_range(rig->store.held_count, 1, 2);
        fake_store_finish(&rig->store, 0, 0);
        rig->turn.freed = true; /* as the worker says after it reaped */
        (void)rig_settle(rig);
        /* At most one attempt for each that waits, twice: by its own completion and as stalled. */
        assert_in_range(rig->store.refused - refused, 0, 12);
    }
    for (uint32_t i = 0; i < 8; i++)
        rig_expect(rig, i, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void put_reads(struct front *front, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        front_put(front, &(struct rig_request){.operation = BLKIF_OP_READ,
                                               .segments = 1,
                                               .id = i,
                                               .sector = i * 16U,
                                               .gref = i,
                                               .last_sector = 7});
    front_push(front);
}

static unsigned answers(struct front *front)
{
    struct rig_response response;
    unsigned count = 0;

    while (front_take(front, &response)) {
        assert_int_equal(response.status, BLKIF_RSP_OKAY);
        count++;
    }
    return count;
}

static void two_queues_share_too_few_buffers(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.buffers = 3});
    unsigned answered[RIG_QUEUES] = {0};
    (void)state;

    rig_connect(rig, 1);
    for (unsigned i = 0; i < RIG_QUEUES; i++) {
        put_reads(&rig->front[i], 16);
        rig_event(rig, i);
    }
    for (unsigned i = 0; i < 2 * 16; i++) {
        (void)rig_settle(rig);
        assert_in_range(rig->store.held_count, 1, 3);
        fake_store_finish(&rig->store, 0, 0);
    }
    (void)rig_settle(rig);
    for (unsigned i = 0; i < RIG_QUEUES; i++)
        answered[i] = answers(&rig->front[i]);
    assert_int_equal(answered[0], 16);
    assert_int_equal(answered[1], 16);
    rig_destroy(rig);
}

/* A queue that always has more to do must not keep the buffers that it gives back. */
static void a_busy_queue_does_not_starve_another_of_buffers(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.buffers = 2});
    (void)state;

    rig_connect(rig, 1);
    put_reads(&rig->front[0], 32);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    put_reads(&rig->front[1], 1);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < 4; i++) {
        fake_store_finish(&rig->store, 0, 0);
        (void)rig_settle(rig);
    }
    assert_int_equal(answers(&rig->front[1]), 1);
    rig_destroy(rig);
}

/* Nor the room in an engine that its completions make. */
static void a_busy_queue_does_not_starve_another_of_the_engine(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.room = 2;
    rig_connect(rig, 1);
    put_reads(&rig->front[0], 32);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    put_reads(&rig->front[1], 1);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < 6; i++) {
        fake_store_finish(&rig->store, 0, 0);
        rig->turn.freed = true;
        (void)rig_settle(rig);
    }
    assert_int_equal(answers(&rig->front[1]), 1);
    rig_destroy(rig);
}

static void a_forged_producer_stops_the_ring(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        const uint32_t forged[] = {33, UINT32_MAX, 0x80000000};
        struct rig *rig = rig_create(&plain);

        shared(rig)->req_prod = forged[i];
        rig_event(rig, 0);
        (void)rig_settle(rig);
        assert_int_equal(rig->broken, 1);
        assert_int_equal(rig->store.trace_length, 0);
        assert_int_equal(shared(rig)->rsp_prod, 0);
        rig_destroy(rig);
    }
}

/* Broken with I/O in flight: nothing more is published, and the loop may sleep. */
static void a_broken_ring_gets_no_more_answers_and_does_not_spin(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 0, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    shared(rig)->req_prod = 1; /* backwards */
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->broken, 1);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(shared(rig)->rsp_prod, 0);
    assert_int_equal(rig->front[0].evtchn->notifies, 0);
    shared(rig)->req_prod = 2;
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(shared(rig)->rsp_prod, 0);
    assert_int_equal(rig->broken, 1);
    rig_destroy(rig);
}

static void a_ring_broken_from_the_start_is_refused(void **state)
{
    struct rig *rig = rig_create(&plain);
    struct evtchn *evtchn = fake_evtchn_create();
    struct queue *queue = NULL;
    uint8_t *pages = aligned_alloc(GNTTAB_PAGE_SIZE, GNTTAB_PAGE_SIZE);
    (void)state;

    memset(pages, 0, GNTTAB_PAGE_SIZE);
    ((struct ring_shared *)pages)->req_prod = 33;
    const struct queue_params params = {.turn = &rig->turn,
                                        .store = &rig->store.base,
                                        .slab = &rig->slab,
                                        .overlaps = rig->overlaps,
                                        .evtchn = evtchn,
                                        .ring_pages = pages,
                                        .index = 1,
                                        .max_requests = 32,
                                        .max_segments = 11};

    assert_int_equal(queue_connect(&params, &queue), -EPROTO);
    assert_null(queue);
    assert_null(rig->turn.ready);
    evtchn_close(evtchn); /* still ours */
    free(pages);
    rig_destroy(rig);
}

static void disconnecting_lets_go_of_the_ring_at_once(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->store.room = 3;
    for (uint32_t i = 0; i < 6; i++)
        rig_transfer(rig, i % 2 ? BLKIF_OP_WRITE : BLKIF_OP_READ, i, i * 16U, i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0); /* came back, not answered yet */
    queue_disconnect(rig->queue[0]);
    assert_int_equal(fake_evtchns_open, 0);
    /* The owner unmaps it now: any touch shows under the address sanitizer and valgrind. */
    free(rig->front[0].pages);
    rig->front[0].pages = NULL;
    assert_int_equal(queue_in_flight(rig->queue[0]), 2);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    assert_int_equal(rig->drained, 0);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->drained, 1);
    assert_int_equal(queue_in_flight(rig->queue[0]), 0);
    assert_int_equal(rig->store.held_count, 0);
    rig_destroy(rig);
}

/* Every buffer and range is given back: the next connection can use them. */
static void nothing_is_lost_by_a_disconnection(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.buffers = 2});
    (void)state;

    for (unsigned i = 0; i < 4; i++) {
        rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
        rig_transfer(rig, BLKIF_OP_WRITE, 2, 16, 0);
        rig_transfer(rig, BLKIF_OP_WRITE, 3, 0, 0);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        assert_int_equal(rig->store.held_count, 2);
        queue_disconnect(rig->queue[0]);
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
        queue_destroy(rig->queue[0]);
        free(rig->front[0].pages);
        slab_reset(&rig->slab);
        rig_connect(rig, 0);
    }
    rig_destroy(rig);
}

static void what_came_back_is_in_flight_until_it_is_given_up(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    queue_disconnect(rig->queue[0]);
    fake_store_finish_all(&rig->store);
    /* The buffer and the range are given back by the next turn. */
    assert_int_equal(queue_in_flight(rig->queue[0]), 1);
    (void)rig_settle(rig);
    assert_int_equal(queue_in_flight(rig->queue[0]), 0);
    assert_int_equal(rig->drained, 1);
    rig_destroy(rig);
}

/* Both came back before the turn: destroying them all from within `drained` is safe. */
static void queues_may_be_destroyed_when_the_last_is_drained(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->destroy_when_drained = true;
    rig_connect(rig, 1);
    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    front_put(&rig->front[1], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                    .segments = 1,
                                                    .id = 2,
                                                    .sector = 64,
                                                    .gref = 1,
                                                    .last_sector = 7});
    front_push(&rig->front[1]);
    rig_event(rig, 0);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    queue_disconnect(rig->queue[0]);
    queue_disconnect(rig->queue[1]);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(rig->drained, 2);
    assert_null(rig->queue[0]);
    assert_null(rig->queue[1]);
    rig_destroy(rig);
}

/* Its turn would have come after that of the one that was drained. */
static void a_queue_may_be_destroyed_before_its_turn(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig->destroy_when_drained = true;
    rig_connect(rig, 1);
    rig_transfer(rig, BLKIF_OP_WRITE, 1, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    queue_disconnect(rig->queue[0]);
    rig_event(rig, 1);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_null(rig->queue[1]);
    rig_destroy(rig);
}

static void a_ready_queue_can_be_destroyed(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    queue_disconnect(rig->queue[0]);
    queue_retry(rig->queue[0]);
    queue_destroy(rig->queue[0]);
    rig->queue[0] = NULL;
    (void)rig_settle(rig);
    rig_destroy(rig);
}

static void a_parked_flush_goes_with_its_ring(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_bare(rig, BLKIF_OP_FLUSH_DISKCACHE, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, -EIO);
    (void)rig_settle(rig);
    queue_disconnect(rig->queue[0]);
    assert_int_equal(queue_in_flight(rig->queue[0]), 0);
    rig_destroy(rig);
}

static void make_request(struct front *front, uint64_t id)
{
    static const uint8_t operations[] = {
        BLKIF_OP_READ,          BLKIF_OP_WRITE,           BLKIF_OP_READ,    BLKIF_OP_WRITE,
        BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_DISCARD, BLKIF_OP_WRITE};
    const uint8_t operation = operations[rand() % 8];
    const bool bare = operation == BLKIF_OP_FLUSH_DISKCACHE;

    front_put(front, &(struct rig_request){.operation = operation,
                                           .segments = (uint8_t)(bare ? 0 : rand() % 13),
                                           .id = id,
                                           .sector = (uint64_t)rand() % 128,
                                           .gref = (uint32_t)rand() % (FAKE_PAGES + 4),
                                           .last_sector = (uint8_t)(rand() % 9)});
}

/* Anything at all, with everything scarce: each request is answered exactly once, and it ends. */
static void every_request_is_answered_exactly_once(void **state)
{
    enum { TOTAL = 20000, SPAN = 64 };
    struct rig *rig =
        rig_create(&(struct rig_options){.order = 1, .max_requests = 20, .buffers = 6});
    bool open[SPAN] = {false};
    unsigned made = 0, answered = 0, idle = 0;
    struct rig_response response;
    (void)state;

    srand(1);
    rig->store.room = 5;
    while (answered < TOTAL) {
        while (made < TOTAL && made - answered < SPAN && rand() % 4 && !open[made % SPAN]) {
            open[made % SPAN] = true;
            make_request(&rig->front[0], made++);
        }
        front_push(&rig->front[0]);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        if (rig->store.held_count) {
            fake_store_finish(&rig->store, (unsigned)rand() % rig->store.held_count,
                              rand() % 20 ? 0 : -EIO);
            rig->turn.freed = true;
        }
        if (rand() % 3 == 0)
            queue_retry(rig->queue[0]);
        idle++;
        while (front_take(&rig->front[0], &response)) {
            assert_true(open[response.id % SPAN]);
            open[response.id % SPAN] = false;
            answered++;
            idle = 0;
        }
        assert_true(idle < 1000);
    }
    assert_int_equal(rig->broken, 0);
    assert_int_equal(rig->store.held_count, 0);
    assert_int_equal(rig->slab.header->queues[0].in_flight, 0);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_busy_engine_is_tried_again_after_a_completion),
        cmocka_unit_test(two_queues_share_too_few_buffers),
        cmocka_unit_test(a_busy_queue_does_not_starve_another_of_buffers),
        cmocka_unit_test(a_busy_queue_does_not_starve_another_of_the_engine),
        cmocka_unit_test(a_forged_producer_stops_the_ring),
        cmocka_unit_test(a_broken_ring_gets_no_more_answers_and_does_not_spin),
        cmocka_unit_test(a_ring_broken_from_the_start_is_refused),
        cmocka_unit_test(disconnecting_lets_go_of_the_ring_at_once),
        cmocka_unit_test(nothing_is_lost_by_a_disconnection),
        cmocka_unit_test(what_came_back_is_in_flight_until_it_is_given_up),
        cmocka_unit_test(queues_may_be_destroyed_when_the_last_is_drained),
        cmocka_unit_test(a_queue_may_be_destroyed_before_its_turn),
        cmocka_unit_test(a_ready_queue_can_be_destroyed),
        cmocka_unit_test(a_parked_flush_goes_with_its_ring),
        cmocka_unit_test(every_request_is_answered_exactly_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
