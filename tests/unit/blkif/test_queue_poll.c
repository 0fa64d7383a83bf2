/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread that looks at its rings itself instead of being woken. */
#include "rig.h"

#include <xen/io/blkif.h>

static const struct rig_options plain;

static struct ring_shared *shared(const struct rig *rig)
{
    return (struct ring_shared *)(void *)rig->front[0].pages;
}

/* Has a first request served, after which the queue is left unarmed. */
static struct rig *begin_polling(const struct rig_options *options)
{
    struct rig *rig = rig_create(options);

    rig->turn.polling = true;
    rig->store.at_once = true;
    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 0);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    return rig;
}

static void no_event_is_asked_for_while_it_looks(void **state)
{
    struct rig *rig = begin_polling(&plain);
    (void)state;

    assert_int_equal(shared(rig)->req_event, 1);
    assert_int_equal(rig->front[0].evtchn->unmasks, 0);
    assert_false(turn_poll(&rig->turn));
    rig_transfer(rig, BLKIF_OP_READ, 2, 8, 1);
    assert_true(turn_poll(&rig->turn));
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(shared(rig)->req_event, 1);
    rig_destroy(rig);
}

static void before_it_sleeps_it_asks_after_all(void **state)
{
    struct rig *rig = begin_polling(&plain);
    (void)state;

    turn_arm(&rig->turn);
    assert_null(rig->turn.ready);
    assert_int_equal(shared(rig)->req_event, 2);
    assert_int_equal(rig->front[0].evtchn->unmasks, 1);
    rig_transfer(rig, BLKIF_OP_READ, 2, 8, 1);
    assert_false(turn_poll(&rig->turn)); /* it waits for the event now */
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void what_came_before_it_asked_is_served(void **state)
{
    struct rig *rig = begin_polling(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_READ, 2, 8, 1);
    turn_arm(&rig->turn);
    assert_non_null(rig->turn.ready);
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

/* A ring whose requests can't be taken is nothing to find: the thread would look for ever. */
static void what_cannot_be_taken_is_not_found(void **state)
{
    struct rig *rig = begin_polling(&(struct rig_options){.max_requests = 1});
    (void)state;

    rig->store.at_once = false;
    rig_transfer(rig, BLKIF_OP_READ, 2, 8, 1);
    rig_transfer(rig, BLKIF_OP_READ, 3, 16, 2);
    assert_true(turn_poll(&rig->turn));
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 1);
    assert_false(turn_poll(&rig->turn));
    turn_arm(&rig->turn);
    assert_null(rig->turn.ready);

    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_expect(rig, 3, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(shared(rig)->req_event, 4);
    rig_destroy(rig);
}

static void a_held_ring_is_left_alone(void **state)
{
    struct rig *rig = begin_polling(&plain);
    (void)state;

    queue_hold(rig->queue[0]);
    rig_transfer(rig, BLKIF_OP_READ, 2, 8, 1);
    assert_false(turn_poll(&rig->turn));
    turn_arm(&rig->turn);
    assert_int_equal(shared(rig)->req_event, 1);
    queue_resume(rig->queue[0], &rig->store.base);
    (void)rig_settle(rig);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

/* Its ring's pages are gone. */
static void a_ring_that_was_let_go_is_not_looked_at(void **state)
{
    struct rig *rig = begin_polling(&plain);
    (void)state;

    queue_disconnect(rig->queue[0]);
    assert_false(turn_poll(&rig->turn));
    turn_arm(&rig->turn);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_event_is_asked_for_while_it_looks),
        cmocka_unit_test(before_it_sleeps_it_asks_after_all),
        cmocka_unit_test(what_came_before_it_asked_is_served),
        cmocka_unit_test(what_cannot_be_taken_is_not_found),
        cmocka_unit_test(a_held_ring_is_left_alone),
        cmocka_unit_test(a_ring_that_was_let_go_is_not_looked_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
