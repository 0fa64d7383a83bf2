/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that need many buffers, where there are few: everybody's turn comes. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define LARGE   255U /* segments: 16 buffers */
#define BUFFERS 16U

static const struct rig_options tight = {.max_segments = 255, .buffers = BUFFERS};

static void put(struct rig *rig, unsigned queue, uint8_t segments, uint64_t id)
{
    front_put(&rig->front[queue],
              &(struct rig_request){
                  .operation = BLKIF_OP_READ, .segments = segments, .id = id, .last_sector = 7});
    front_push(&rig->front[queue]);
    rig_event(rig, queue);
}

static unsigned answers(struct rig *rig, unsigned queue)
{
    struct rig_response response;
    unsigned count = 0;

    for (; front_take(&rig->front[queue], &response); count++)
        assert_int_equal(response.status, BLKIF_RSP_OKAY);
    return count;
}

static void one_that_takes_all_buffers_goes_after_the_other(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.max_segments = 255, .order = 1, .buffers = BUFFERS});
    (void)state;

    for (uint64_t id = 0; id < 3; id++)
        put(rig, 0, LARGE, id);
    for (unsigned i = 0; i < 3; i++) {
        (void)rig_settle(rig);
        assert_int_equal(rig->store.held_count, 1);
        assert_int_equal(buffer_pool_free(rig->turn.buffers), 0);
        fake_store_finish(&rig->store, 0, 0);
    }
    (void)rig_settle(rig);
    assert_int_equal(answers(rig, 0), 3);
    assert_int_equal(buffer_pool_free(rig->turn.buffers), BUFFERS);
    rig_destroy(rig);
}

/* What was taken for a request that then can't go on is given back. */
static void buffers_come_back_from_every_failure(void **state)
{
    struct rig *rig = rig_create(&tight);
    (void)state;

    for (unsigned i = 0; i < 8; i++) {
        const struct rig_request request = {.operation = i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE,
                                            .segments = 200,
                                            .id = i,
                                            .gref = FAKE_PAGES - 199,
                                            .last_sector = 7};

        front_put(&rig->front[0], &request);
        front_push(&rig->front[0]);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        while (rig->store.held_count) {
            fake_store_finish(&rig->store, 0, i % 4 == 1 ? -EIO : 0);
            (void)rig_settle(rig);
        }
        rig_expect(rig, i, request.operation, BLKIF_RSP_ERROR);
        assert_int_equal(buffer_pool_free(rig->turn.buffers), BUFFERS);
        assert_int_equal(rig->queue[0]->buffers, 0);
    }
    rig_destroy(rig);
}

static void several_queues_with_large_requests_take_turns(void **state)
{
    struct rig *rig = rig_create(&tight);
    unsigned served[RIG_QUEUES] = {0};
    (void)state;

    rig_connect(rig, 1);
    for (unsigned queue = 0; queue < RIG_QUEUES; queue++)
        put(rig, queue, LARGE, 0);
    for (unsigned i = 0; i < 40; i++) {
        (void)rig_settle(rig);
        assert_int_equal(rig->store.held_count, 1);
        fake_store_finish(&rig->store, 0, 0);
        (void)rig_settle(rig);
        /* Whoever got an answer asks for more at once. */
        for (unsigned queue = 0; queue < RIG_QUEUES; queue++)
            if (answers(rig, queue)) {
                served[queue]++;
                put(rig, queue, LARGE, i);
            }
    }
    assert_int_equal(served[0], 20);
    assert_int_equal(served[1], 20);
    rig_destroy(rig);
}

/* A queue of small requests that never lets go of more than one buffer at a time. */
static void small_requests_do_not_starve_a_large_one(void **state)
{
    (void)state;
    for (unsigned depth = 1; depth <= 16; depth += 5) {
        struct rig *rig = rig_create(&tight);
        unsigned completions = 0, large = 0;
        uint64_t id = 0;

        rig_connect(rig, 1);
        for (; id < depth; id++)
            put(rig, 0, 1, id);
        (void)rig_settle(rig);
        put(rig, 1, LARGE, 1);
        while (large == 0) {
            (void)rig_settle(rig);
            large = answers(rig, 1);
            for (unsigned n = answers(rig, 0); n; n--)
                put(rig, 0, 1, id++);
            (void)rig_settle(rig);
            assert_true(rig->store.held_count > 0);
            assert_true(completions++ < 50);
            fake_store_finish(&rig->store, 0, 0);
        }
        /* And the small ones go on afterwards. */
        (void)rig_settle(rig);
        while (rig->store.held_count) {
            fake_store_finish(&rig->store, 0, 0);
            (void)rig_settle(rig);
        }
        assert_int_equal(rig->front[0].req_prod, rig->queue[0]->ring.rsp_prod);
        rig_destroy(rig);
    }
}

/* Whoever waits for all buffers and then goes away, or has to pause, must not hold up the others.
 */
static void one_that_waits_and_goes_away_lets_the_others_on(void **state)
{
    struct rig *rig = rig_create(&tight);
    (void)state;

    rig_connect(rig, 1);
    put(rig, 0, 1, 1);
    (void)rig_settle(rig);
    put(rig, 1, LARGE, 1);
    (void)rig_settle(rig);
    put(rig, 0, 1, 2);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 1);
    queue_disconnect(rig->queue[1]);
    (void)rig_settle(rig);
    turn_run(&rig->turn);
    assert_int_equal(rig->store.held_count, 2);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(answers(rig, 0), 2);
    rig_destroy(rig);
}

static void one_that_waits_and_is_held_lets_the_others_on(void **state)
{
    struct rig *rig = rig_create(&tight);
    (void)state;

    rig_connect(rig, 1);
    put(rig, 0, 1, 1);
    (void)rig_settle(rig);
    put(rig, 1, LARGE, 1);
    (void)rig_settle(rig);
    queue_hold(rig->queue[1]);
    put(rig, 0, 1, 2);
    put(rig, 0, 1, 3);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(rig->store.held_count > 0);
        fake_store_finish(&rig->store, 0, 0);
        (void)rig_settle(rig);
    }
    assert_int_equal(answers(rig, 0), 3);
    queue_resume(rig->queue[1], &rig->store.base);
    (void)rig_settle(rig);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(answers(rig, 1), 1);
    rig_destroy(rig);
}

static void weights_share_the_buffers(void **state)
{
    struct rig *rig = rig_create(&tight);
    (void)state;

    rig_connect(rig, 1);
    queue_set_weight(rig->queue[0], 300);
    assert_int_equal(rig->turn.weights, 400);
    for (uint64_t id = 0; id < 16; id++) {
        put(rig, 0, 1, id);
        put(rig, 1, 1, id);
    }
    (void)rig_settle(rig);
    assert_int_equal(rig->queue[0]->buffers, 12);
    assert_int_equal(rig->queue[1]->buffers, 4);
    queue_disconnect(rig->queue[0]);
    assert_int_equal(rig->turn.weights, 100);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(rig->queue[1]->buffers, 12);
    rig_destroy(rig);
}

/* Who was told to wait for it is not forgotten when it got less than there was. */
static void what_one_leaves_over_is_used_at_once(void **state)
{
    struct rig *rig = rig_create(&tight);
    (void)state;

    rig_connect(rig, 1);
    for (uint64_t id = 0; id < 8; id++)
        put(rig, 0, 1, id);
    (void)rig_settle(rig);
    put(rig, 1, 160, 1); /* 10 buffers, of a share of 8 */
    (void)rig_settle(rig);
    for (uint64_t id = 8; id < 14; id++)
        put(rig, 0, 1, id);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 8);
    fake_store_finish(&rig->store, 0, 0);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 7);
    assert_int_equal(buffer_pool_free(rig->turn.buffers), 0);
    rig_destroy(rig);

    /* Whoever of the two is looked at first. */
    for (unsigned large = 0; large < RIG_QUEUES; large++) {
        rig = rig_create(&tight);
        rig_connect(rig, 1);
        put(rig, !large, 112, 1); /* 7 */
        (void)rig_settle(rig);
        put(rig, large, 160, 1);
        (void)rig_settle(rig);
        put(rig, !large, 1, 2);
        (void)rig_settle(rig);
        assert_int_equal(rig->store.held_count, 1);
        fake_store_finish(&rig->store, 0, 0);
        (void)rig_settle(rig);
        assert_int_equal(rig->store.held_count, 2);
        assert_int_equal(buffer_pool_free(rig->turn.buffers), 5);
        rig_destroy(rig);
    }
}

/* The one that was refused first is looked at first, too early: it must be told again. */
static void one_that_is_looked_at_before_the_claimant_is_told_again(void **state)
{
    struct rig *rig = rig_create(&tight);
    (void)state;

    rig_connect(rig, 1);
    put(rig, 0, 112, 1); /* 7 */
    (void)rig_settle(rig);
    put(rig, 0, 48, 2); /* 3: over its share, and too little would be left for the other */
    (void)rig_settle(rig);
    put(rig, 1, 160, 1); /* 10 */
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 1);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 2);
    assert_int_equal(buffer_pool_free(rig->turn.buffers), 3);
    rig_destroy(rig);
}

/* One that waits for its own I/O must not make the others wait for it too: it may be slow. */
static void one_that_has_buffers_holds_up_nobody_with_its_next_request(void **state)
{
    struct rig *rig = rig_create(
        &(struct rig_options){.max_segments = 255, .order = 1, .buffers = BUFFERS + BUFFERS / 2});
    (void)state;

    rig_connect(rig, 1);
    put(rig, 1, LARGE, 1);
    put(rig, 1, LARGE, 2);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 1);
    put(rig, 0, 1, 1);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 2);
    rig_destroy(rig);
}

static void no_buffer_is_taken_that_is_not_needed(void **state)
{
    (void)state;
    assert_int_equal(request_buffers(512), 1);
    assert_int_equal(request_buffers(BUFFER_BYTES), 1);
    assert_int_equal(request_buffers(BUFFER_BYTES + 512), 2);
    assert_int_equal(request_buffers(255 * UINT64_C(4096)), 16);
    assert_int_equal(request_buffers(256 * UINT64_C(4096)), 16);
}

/* Rather than take requests that could never start. */
static void too_few_for_the_largest_request_are_refused(void **state)
{
    static const struct {
        uint32_t segments, indirect;
    } sizes[] = {{255, 0}, {241, 0}, {11, 256}, {11, 241}};
    struct rig *rig =
        rig_create(&(struct rig_options){.max_segments = 240, .buffers = BUFFERS - 1});
    struct queue *queue = NULL;
    (void)state;

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct queue_params params = {
            .turn = &rig->turn,
            .store = &rig->store.base,
            .slab = &rig->slab,
            .overlaps = rig->overlaps,
            .index = 1,
            .ring_pages = rig->front[0].pages,
            .max_requests = 32,
            .max_segments = sizes[i].segments,
            .max_indirect_segments = sizes[i].indirect,
        };

        assert_int_equal(queue_connect(&params, &queue), -ENOBUFS);
        assert_null(queue);
    }
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_takes_all_buffers_goes_after_the_other),
        cmocka_unit_test(buffers_come_back_from_every_failure),
        cmocka_unit_test(several_queues_with_large_requests_take_turns),
        cmocka_unit_test(small_requests_do_not_starve_a_large_one),
        cmocka_unit_test(one_that_waits_and_goes_away_lets_the_others_on),
        cmocka_unit_test(one_that_waits_and_is_held_lets_the_others_on),
        cmocka_unit_test(what_one_leaves_over_is_used_at_once),
        cmocka_unit_test(weights_share_the_buffers),
        cmocka_unit_test(one_that_is_looked_at_before_the_claimant_is_told_again),
        cmocka_unit_test(one_that_has_buffers_holds_up_nobody_with_its_next_request),
        cmocka_unit_test(no_buffer_is_taken_that_is_not_needed),
        cmocka_unit_test(too_few_for_the_largest_request_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
