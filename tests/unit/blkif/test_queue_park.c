/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that the store fails and that are kept until it does them: what waits with them, what
 * goes on, and what a kill leaves. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static struct rig *pausing(const struct rig_options *options)
{
    struct rig *rig = rig_create(options);

    rig->store.base.faults.pause_no_space = true;
    return rig;
}

static const struct rig_options plain = {0};

static void put(struct rig *rig, unsigned front, uint8_t operation, uint64_t id, uint64_t sector)
{
    memset(fake_gnttab.pages[id], (int)id, GNTTAB_PAGE_SIZE);
    front_put(&rig->front[front], &(struct rig_request){.operation = operation,
                                                        .id = id,
                                                        .segments = 1,
                                                        .sector = sector,
                                                        .gref = (uint32_t)id,
                                                        .last_sector = 7});
    front_push(&rig->front[front]);
    rig_event(rig, front);
    (void)rig_settle(rig);
}

static void finish(struct rig *rig, int result)
{
    fake_store_finish(&rig->store, 0, result);
    (void)rig_settle(rig);
}

static void a_write_without_space_waits_and_is_done_later(void **state)
{
    struct rig *rig = pausing(&plain);
    (void)state;

    put(rig, 0, BLKIF_OP_WRITE, 1, 8);
    finish(rig, -ENOSPC);
    rig_expect_none(rig);
    assert_int_equal(rig->io_parked, 1);
    assert_int_equal(rig->io_failed, 0);
    assert_int_equal(rig->slab.header->store_paused, 1);
    assert_int_equal(queue_unfinished(rig->queue[0]), 0);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    finish(rig, -ENOSPC);
    assert_int_equal(rig->io_parked, 2);
    assert_int_equal(rig->slab.header->store_paused, 1);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    assert_int_equal(rig->continued, 0);
    finish(rig, 0);
    assert_int_equal(rig->continued, 1);
    assert_int_equal(rig->slab.header->store_paused, 0);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[8 * 512], 1);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* Reads need no space; what changes the disk waits, on every ring. */
static void reads_go_on_and_nothing_else_does(void **state)
{
    struct rig *rig = pausing(&plain);
    struct rig_response response;
    (void)state;

    rig_connect(rig, 1);
    put(rig, 0, BLKIF_OP_WRITE, 1, 0);
    finish(rig, -ENOSPC);
    put(rig, 0, BLKIF_OP_WRITE, 2, 64);
    put(rig, 1, BLKIF_OP_WRITE, 3, 128);
    assert_int_equal(rig->store.held_count, 0);
    put(rig, 0, BLKIF_OP_READ, 4, 64);
    put(rig, 1, BLKIF_OP_READ, 5, 0);
    assert_int_equal(rig->store.held_count, 2);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 4, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_true(front_take(&rig->front[1], &response));
    assert_int_equal(response.id, 5);
    queue_retry(rig->queue[0]);
    queue_retry(rig->queue[1]);
    (void)rig_settle(rig);
    /* Only what had failed. */
    assert_int_equal(rig->store.held_count, 1);
    finish(rig, 0);
    assert_int_equal(rig->store.held_count, 2);
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_true(front_take(&rig->front[1], &response));
    assert_int_equal(response.id, 3);
    rig_destroy(rig);
}

static void nothing_overtakes_a_barrier_while_paused(void **state)
{
    struct rig *rig = pausing(&plain);
    (void)state;

    put(rig, 0, BLKIF_OP_WRITE, 1, 0);
    finish(rig, -ENOSPC);
    put(rig, 0, BLKIF_OP_READ, 2, 8);
    put(rig, 0, BLKIF_OP_WRITE_BARRIER, 3, 16);
    put(rig, 0, BLKIF_OP_READ, 4, 24);
    assert_int_equal(rig->store.held_count, 1);
    finish(rig, 0);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.held_count, 0);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "wWrRw");
    rig_run_to_the_end(rig);
    assert_string_equal(rig->store.trace, "wWrRwWfFwWfFrR");
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 3, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_OKAY);
    rig_expect(rig, 4, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void a_barrier_without_space_keeps_its_place(void **state)
{
    struct rig *rig = pausing(&plain);
    (void)state;

    put(rig, 0, BLKIF_OP_WRITE_BARRIER, 1, 0);
    finish(rig, 0);
    assert_string_equal(rig->store.trace, "fFw");
    finish(rig, -ENOSPC);
    put(rig, 0, BLKIF_OP_READ, 2, 0);
    assert_int_equal(rig->store.held_count, 0);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    rig_run_to_the_end(rig);
    assert_string_equal(rig->store.trace, "fFwWwWfFrR");
    rig_expect(rig, 1, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(fake_gnttab.pages[2][0], 1);
    rig_destroy(rig);
}

/* Neighbours that went as one I/O are told apart, wait one by one, and go as one again. */
static void merged_writes_wait_in_their_order(void **state)
{
    struct rig *rig = pausing(&plain);
    (void)state;

    for (uint32_t id = 1; id <= 4; id++)
        front_put(&rig->front[0], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                        .id = id,
                                                        .segments = 1,
                                                        .sector = 8ULL * id,
                                                        .gref = id,
                                                        .last_sector = 7});
    rig_run(rig);
    assert_int_equal(rig->store.held_count, 1);
    finish(rig, -ENOSPC);
    assert_int_equal(rig->store.held_count, 4);
    for (unsigned i = 0; i < 4; i++)
        finish(rig, -ENOSPC);
    assert_int_equal(rig->slab.header->store_paused, 4);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 1);
    rig_run_to_the_end(rig);
    for (unsigned id = 1; id <= 4; id++)
        rig_expect(rig, id, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

/* Another disk of the domain may need them. */
static void what_waits_holds_no_buffers(void **state)
{
    struct rig *rig = pausing(&(struct rig_options){.buffers = 1});
    struct rig_response response;
    (void)state;

    rig_connect(rig, 1);
    put(rig, 0, BLKIF_OP_WRITE, 1, 0);
    finish(rig, -ENOSPC);
    assert_int_equal(buffer_pool_free(rig->turn.buffers), 1);
    put(rig, 1, BLKIF_OP_READ, 2, 0);
    finish(rig, 0);
    assert_true(front_take(&rig->front[1], &response));
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    finish(rig, 0);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void the_policy_decides(void **state)
{
    static const struct {
        bool no_space, error;
        uint8_t operation;
        int result;
        int16_t status; /* OKAY: it waits */
    } cases[] = {
        {false, true, BLKIF_OP_WRITE, -ENOSPC, BLKIF_RSP_ERROR},
        {false, true, BLKIF_OP_WRITE, -EDQUOT, BLKIF_RSP_ERROR},
        {true, false, BLKIF_OP_WRITE, -EDQUOT, BLKIF_RSP_OKAY},
        {true, false, BLKIF_OP_WRITE, -EIO, BLKIF_RSP_ERROR},
        {true, false, BLKIF_OP_READ, -EIO, BLKIF_RSP_ERROR},
        {false, true, BLKIF_OP_WRITE, -EIO, BLKIF_RSP_OKAY},
        {false, true, BLKIF_OP_READ, -ENODEV, BLKIF_RSP_OKAY},
        {true, true, BLKIF_OP_READ, -ENOMEDIUM, BLKIF_RSP_ERROR},
        {true, true, BLKIF_OP_WRITE, -EINVAL, BLKIF_RSP_ERROR},
    };
    (void)state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *rig = rig_create(&plain);

        rig->store.base.faults.pause_no_space = cases[i].no_space;
        rig->store.base.faults.pause_error = cases[i].error;
        put(rig, 0, cases[i].operation, 1, 0);
        finish(rig, cases[i].result);
        if (cases[i].status == BLKIF_RSP_OKAY)
            rig_expect_none(rig);
        else
            rig_expect(rig, 1, cases[i].operation, cases[i].status);
        assert_int_equal(rig->slab.header->store_paused, cases[i].status == BLKIF_RSP_OKAY);
        rig_destroy(rig);
    }
}

/* An overlapping write may not come before it. */
static void it_keeps_its_range(void **state)
{
    struct rig *rig = pausing(&plain);
    (void)state;

    put(rig, 0, BLKIF_OP_WRITE, 1, 0);
    put(rig, 0, BLKIF_OP_WRITE, 2, 0);
    assert_int_equal(rig->store.held_count, 1);
    finish(rig, -ENOSPC);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 1);
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[0], 2);
    rig_destroy(rig);
}

static void a_successor_tries_it_again_and_pauses_again(void **state)
{
    struct rig *rig = pausing(&plain);
    (void)state;

    put(rig, 0, BLKIF_OP_WRITE, 1, 0);
    finish(rig, -ENOSPC);
    put(rig, 0, BLKIF_OP_WRITE, 2, 0);
    rig_kill(rig, false);
    memset(&rig->store.base.faults, 0, sizeof(rig->store.base.faults));
    rig->store.base.faults.pause_no_space = true;
    assert_int_equal(rig_take_up(rig), 0);
    assert_int_equal(rig->store.held_count, 1);
    finish(rig, -ENOSPC);
    rig_expect_none(rig);
    assert_int_equal(rig->store.base.faults.parked, 1);
    queue_retry(rig->queue[0]);
    (void)rig_settle(rig);
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[0], 2);
    rig_destroy(rig);
}

/* Also while it is being tried again. */
static void it_goes_with_its_ring(void **state)
{
    (void)state;
    for (unsigned again = 0; again < 2; again++) {
        struct rig *rig = pausing(&plain);

        put(rig, 0, BLKIF_OP_WRITE, 1, 0);
        finish(rig, -ENOSPC);
        if (again)
            queue_retry(rig->queue[0]);
        (void)rig_settle(rig);
        queue_disconnect(rig->queue[0]);
        assert_int_equal(queue_in_flight(rig->queue[0]), again);
        if (again)
            finish(rig, -ENOSPC);
        assert_int_equal(rig->store.base.faults.parked, 0);
        assert_int_equal(rig->slab.header->store_paused, 0);
        assert_int_equal(rig->overlaps->near[0], 0);
        rig_destroy(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_without_space_waits_and_is_done_later),
        cmocka_unit_test(reads_go_on_and_nothing_else_does),
        cmocka_unit_test(nothing_overtakes_a_barrier_while_paused),
        cmocka_unit_test(a_barrier_without_space_keeps_its_place),
        cmocka_unit_test(merged_writes_wait_in_their_order),
        cmocka_unit_test(what_waits_holds_no_buffers),
        cmocka_unit_test(the_policy_decides),
        cmocka_unit_test(it_keeps_its_range),
        cmocka_unit_test(a_successor_tries_it_again_and_pauses_again),
        cmocka_unit_test(it_goes_with_its_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
