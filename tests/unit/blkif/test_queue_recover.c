/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue that is killed, and the successor that goes on with it: every request is answered once,
 * and what was under way is on the disk as if nothing had happened. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static const struct rig_options plain = {0};

static struct slab_queue *slab_queue(const struct rig *rig, unsigned index)
{
    return &rig->slab.header->queues[index];
}

static struct slab_entry *entries_of(const struct rig *rig, unsigned index)
{
    return slab_at(&rig->slab, slab_queue(rig, index)->entries_offset);
}

/* A write of one page filled with `value`. */
static void put_write(struct rig *rig, uint64_t id, uint64_t sector, uint32_t gref, int value)
{
    memset(fake_gnttab.pages[gref], value, GNTTAB_PAGE_SIZE);
    rig_transfer(rig, BLKIF_OP_WRITE, id, sector, gref);
}

static void take_up(struct rig *rig)
{
    assert_int_equal(rig_take_up(rig), 0);
}

static void a_write_in_flight_is_carried_out_again(void **state)
{
    (void)state;
    for (unsigned lands = 0; lands < 2; lands++) {
        struct rig *rig = rig_create(&plain);
        const unsigned notified = fake_notifies;

        put_write(rig, 1, 8, 0, 0x5a);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        rig_kill(rig, lands);
        rig_expect_none(rig);
        take_up(rig);
        assert_int_equal(rig->store.held_count, 1);
        assert_int_equal(rig->slab.header->epoch, 2);
        assert_int_equal(fake_notifies, notified + 1); /* in any case */
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
        rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
        rig_expect_none(rig);
        assert_int_equal(rig->store.disk[8 * 512], 0x5a);
        rig_expect_rest(rig);
        rig_destroy(rig);
    }
}

static void a_read_in_flight_brings_its_data(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    memset(rig->store.disk, 0x77, 4096);
    rig_transfer(rig, BLKIF_OP_READ, 9, 0, 3);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_kill(rig, false);
    take_up(rig);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 9, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(fake_gnttab.pages[3][4095], 0x77);
    rig_destroy(rig);
}

/* Started ones come first: one that was only taken may overlap them. */
static void what_was_taken_waits_for_what_was_started(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    put_write(rig, 1, 0, 0, 0x11);
    put_write(rig, 2, 0, 1, 0x22); /* the same place: it waits */
    put_write(rig, 3, 512, 2, 0x33);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "w");
    rig_kill(rig, true);
    take_up(rig);
    assert_int_equal(rig->store.held_count, 1);
    rig_run_to_the_end(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect(rig, 3, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[0], 0x22);
    assert_int_equal(rig->store.disk[512 * 512], 0x33);
    rig_destroy(rig);
}

/* The ranges of all queues are held again before any of them starts what it had only taken. */
static void another_queue_waits_for_what_was_started(void **state)
{
    struct rig *rig = rig_create(&plain);
    struct front *second = &rig->front[1];
    (void)state;

    rig_connect(rig, 1);
    memset(fake_gnttab.pages[0], 0x11, GNTTAB_PAGE_SIZE);
    memset(fake_gnttab.pages[1], 0x22, GNTTAB_PAGE_SIZE);
    front_put(
        second,
        &(struct rig_request){
            .operation = BLKIF_OP_WRITE, .id = 1, .segments = 1, .gref = 0, .last_sector = 7});
    front_push(second);
    rig_event(rig, 1);
    (void)rig_settle(rig);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 0, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "w");
    rig_kill(rig, true);
    take_up(rig); /* queue 0 first, which has the later one */
    assert_int_equal(rig->store.held_count, 1);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.disk[0], 0x11);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.disk[0], 0x22);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void a_replay_keeps_its_range_while_it_waits_for_buffers(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.buffers = 1});
    struct front *second = &rig->front[1];
    (void)state;

    rig_connect(rig, 1);
    put_write(rig, 1, 0, 0, 0x11);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_kill(rig, false);
    /* Somebody else has the only buffer when the successor comes. */
    uint8_t *taken = buffer_pool_get(rig->turn.buffers);
    memset(fake_gnttab.pages[1], 0x22, GNTTAB_PAGE_SIZE);
    front_put(
        second,
        &(struct rig_request){
            .operation = BLKIF_OP_WRITE, .id = 2, .segments = 1, .gref = 1, .last_sector = 7});
    front_push(second);
    take_up(rig);
    assert_int_equal(rig->store.held_count, 0);
    buffer_pool_put(rig->turn.buffers, taken);
    rig->turn.freed = true;
    for (unsigned i = 0; i < 3; i++) {
        (void)rig_settle(rig);
        assert_true(rig->store.held_count <= 1);
        fake_store_finish_all(&rig->store);
    }
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    assert_int_equal(rig->store.disk[0], 0x22);
    rig_destroy(rig);
}

static void a_barrier_under_way_is_one_again(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    rig_transfer(rig, BLKIF_OP_WRITE_BARRIER, 1, 0, 0);
    rig_transfer(rig, BLKIF_OP_WRITE, 2, 64, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish_all(&rig->store); /* the first of its flushes */
    (void)rig_settle(rig);
    assert_string_equal(rig->store.trace, "fFw");
    rig_kill(rig, false);
    take_up(rig);
    assert_string_equal(rig->store.trace, "fFwWf");
    rig_run_to_the_end(rig);
    assert_string_equal(rig->store.trace, "fFwWfFwWfFwW");
    rig_expect(rig, 1, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_OKAY);
    rig_expect(rig, 2, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void requests_of_many_slots_and_indirect_ones(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.max_segments = 255, .max_indirect_segments = 64});
    (void)state;

    for (uint32_t i = 0; i < 200; i++)
        memset(fake_gnttab.pages[i], (int)i, GNTTAB_PAGE_SIZE);
    front_put(
        &rig->front[0],
        &(struct rig_request){
            .operation = BLKIF_OP_WRITE, .segments = 100, .id = 1, .gref = 0, .last_sector = 7});
    front_put_indirect(&rig->front[0], &(struct rig_indirect){.operation = BLKIF_OP_WRITE,
                                                              .segments = 64,
                                                              .id = 2,
                                                              .sector = 1000,
                                                              .page = 300,
                                                              .gref = 100,
                                                              .last_sector = 7});
    front_put(&rig->front[0], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                    .segments = 30,
                                                    .id = 3,
                                                    .sector = 2000,
                                                    .gref = 164,
                                                    .last_sector = 7});
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig_kill(rig, false);
    memset(fake_gnttab.pages[300], 0, GNTTAB_PAGE_SIZE); /* it was copied once */
    take_up(rig);
    rig_run_to_the_end(rig);
    for (unsigned id = 1; id <= 3; id++)
        rig_expect(rig, id, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig_expect_none(rig);
    assert_int_equal(rig->store.disk[99 * 4096], 99);
    assert_int_equal(rig->store.disk[1000 * 512 + 63 * 4096], 163);
    assert_int_equal(rig->store.disk[2000 * 512 + 29 * 4096], 193);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

static void again_and_again(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.start = UINT32_MAX - 5});
    unsigned answered = 0;
    (void)state;

    for (uint32_t i = 0; i < 300; i++) {
        struct rig_response response;

        put_write(rig, i, i * 16U % 4096U, i % 32U, (int)(i & 0x7f));
        if (i % 3 == 0)
            rig_transfer(rig, BLKIF_OP_READ, 1000 + i, i * 16U % 4096U, 100 + i % 32U);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        if (i % 4 == 0 && rig->store.held_count)
            fake_store_finish(&rig->store, rig->store.held_count - 1, 0);
        rig_kill(rig, i % 2);
        take_up(rig);
        if (i % 5 == 0)
            rig_run_to_the_end(rig);
        while (front_take(&rig->front[0], &response)) {
            assert_int_equal(response.status, BLKIF_RSP_OKAY);
            answered++;
        }
    }
    rig_run_to_the_end(rig);
    struct rig_response response;
    while (front_take(&rig->front[0], &response))
        answered++;
    assert_int_equal(answered, 400);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

/* What a predecessor in a guest's hands may leave: refused, or served without harm. */
struct lie {
    const char *what;
    void (*tell)(struct rig *rig, struct slab_entry *entry);
};

static void far_behind(struct rig *rig, struct slab_entry *entry)
{
    (void)entry;
    slab_queue(rig, 0)->rsp_prod -= 100;
}
static void far_ahead(struct rig *rig, struct slab_entry *entry)
{
    (void)entry;
    slab_queue(rig, 0)->req_cons += 100;
}
static void no_such_state(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry->state = 4;
}
static void forgotten(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry->state = SLAB_FREE;
}
static void twice(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry[1] = entry[0];
}
static void no_slots(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry->slots = 0;
}
static void many_slots(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry->slots = 200;
}
static void many_segments(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry->segments = 60000;
}
static void not_come_yet(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry->seq += 1000;
}
static void before_its_time(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry->seq = UINT64_MAX;
}
static void another_ring(struct rig *rig, struct slab_entry *entry)
{
    (void)entry;
    slab_queue(rig, 0)->slots = 64;
}
static void elsewhere(struct rig *rig, struct slab_entry *entry)
{
    (void)entry;
    slab_queue(rig, 0)->entries_offset = rig->slab.allocated - 64;
}
static void in_the_header(struct rig *rig, struct slab_entry *entry)
{
    (void)entry;
    slab_queue(rig, 0)->entries_offset = 64;
}
static void over_itself(struct rig *rig, struct slab_entry *entry)
{
    (void)rig;
    entry[1] = entry[0];
    entry[1].seq--;
    entry[0].slots = 1;
}

static const struct lie lies[] = {
    {"far behind", far_behind},
    {"far ahead", far_ahead},
    {"no such state", no_such_state},
    {"forgotten", forgotten},
    {"twice", twice},
    {"no slots", no_slots},
    {"many slots", many_slots},
    {"many segments", many_segments},
    {"not come yet", not_come_yet},
    {"before its time", before_its_time},
    {"another ring", another_ring},
    {"elsewhere", elsewhere},
    {"in the header", in_the_header},
    {"over itself", over_itself},
};

static void what_no_kill_leaves_is_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct rig *rig = rig_create(&plain);

        put_write(rig, 1, 0, 0, 1);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        struct slab_entry *entry = entries_of(rig, 0);
        while (entry->state == SLAB_FREE)
            entry++;
        struct slab saved = rig->slab;
        lies[i].tell(rig, entry);
        rig->slab = saved;
        rig_kill(rig, false);
        const int error = rig_take_up(rig);
        if (error != -EPROTO && error != -EBADMSG)
            fail_msg("%s: %d", lies[i].what, error);
        assert_int_equal(rig->store.held_count, 0);
        rig_expect_none(rig);
        rig_destroy(rig);
    }
}

/* What one had checked, the other would write over. */
static void queues_that_share_entries_are_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct rig *rig = rig_create(&plain);

        rig_connect(rig, 1);
        const uint32_t first = slab_queue(rig, 0)->entries_offset;
        uint32_t *second = &slab_queue(rig, 1)->entries_offset;
        const uint32_t shared[] = {first, first + 64, *second - 64};

        *second = shared[i];
        rig_kill(rig, false);
        assert_int_equal(rig_take_up(rig), -EPROTO);
        rig_destroy(rig);
    }
}

static void contents_that_can_not_be_are_answered_with_an_error(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct rig *rig = rig_create(&plain);

        put_write(rig, 1, 0, 0, 1);
        rig_event(rig, 0);
        (void)rig_settle(rig);
        struct slab_entry *entry = entries_of(rig, 0);
        while (entry->state == SLAB_FREE)
            entry++;
        if (i == 0)
            entry->sector = UINT64_MAX;
        else if (i == 1)
            ((struct slab_segment *)slab_at(&rig->slab, entry->extent))->last_sector = 200;
        else if (i == 2)
            entry->operation = 77;
        else
            entry->segments = 0;
        rig_kill(rig, false);
        assert_int_equal(rig_take_up(rig), 0);
        assert_int_equal(rig->store.held_count, 0);
        struct rig_response response;
        assert_true(front_take(&rig->front[0], &response));
        assert_int_equal(response.id, 1);
        assert_int_not_equal(response.status, BLKIF_RSP_OKAY);
        rig_destroy(rig);
    }
}

static void a_malformed_request_keeps_its_answer(void **state)
{
    struct rig *rig = rig_create(&plain);
    (void)state;

    put_write(rig, 1, 0, 0, 1);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    /* As if killed between the entry and its end. */
    struct slab_entry *entry = entries_of(rig, 0);
    while (entry->state == SLAB_FREE)
        entry++;
    entry->state = SLAB_TAKEN;
    entry->status = BLKIF_RSP_EOPNOTSUPP;
    rig_kill(rig, false);
    take_up(rig);
    rig_expect(rig, 1, BLKIF_OP_WRITE, BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(rig->store.held_count, 0);
    rig_expect_rest(rig);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_in_flight_is_carried_out_again),
        cmocka_unit_test(a_read_in_flight_brings_its_data),
        cmocka_unit_test(what_was_taken_waits_for_what_was_started),
        cmocka_unit_test(another_queue_waits_for_what_was_started),
        cmocka_unit_test(a_replay_keeps_its_range_while_it_waits_for_buffers),
        cmocka_unit_test(a_barrier_under_way_is_one_again),
        cmocka_unit_test(requests_of_many_slots_and_indirect_ones),
        cmocka_unit_test(again_and_again),
        cmocka_unit_test(what_no_kill_leaves_is_refused),
        cmocka_unit_test(queues_that_share_entries_are_refused),
        cmocka_unit_test(contents_that_can_not_be_are_answered_with_an_error),
        cmocka_unit_test(a_malformed_request_keeps_its_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
