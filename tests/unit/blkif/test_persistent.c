/* SPDX-License-Identifier: BSD-2-Clause */
/* Grants that stay mapped: when they are, how many of them, and when they are given back. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define CHUNK        PERSISTENT_CHUNK
#define USED_AT_ONCE 8U

static const struct rig_options roomy = {.persistent = true, .grant_budget = 4096};

/* All of it holds both for I/O on the guest's pages and for data that is copied from and to them.
 */
static bool copy_mapped;

static int in_place(void **state)
{
    (void)state;
    copy_mapped = false;
    return 0;
}

static int copied(void **state)
{
    (void)state;
    copy_mapped = true;
    return 0;
}

static struct rig *create(const struct rig_options *options)
{
    struct rig_options all = *options;

    all.copy_mapped = copy_mapped;
    return rig_create(&all);
}

/* A request over `segments` whole pages from grant `gref` on, carried out. */
static void run(struct rig *rig, unsigned queue, uint8_t operation, uint32_t gref, uint8_t segments)
{
    struct front *front = &rig->front[queue];
    struct rig_response response;

    front_put(front, &(struct rig_request){.operation = operation,
                                           .segments = segments,
                                           .id = gref,
                                           .sector = (uint64_t)gref * 8,
                                           .gref = gref,
                                           .last_sector = 7});
    front_push(front);
    rig_event(rig, queue);
    (void)rig_settle(rig);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_true(front_take(front, &response));
    assert_int_equal(response.status, BLKIF_RSP_OKAY);
}

/* Uses grants, by requests of eight where possible, which are mapped as a chunk each. */
static void use(struct rig *rig, unsigned queue, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += USED_AT_ONCE)
        run(rig, queue, BLKIF_OP_WRITE, first + i,
            (uint8_t)(count - i < USED_AT_ONCE ? count - i : USED_AT_ONCE));
}

/* How many copies one more request over these pages costs: none if they are mapped. */
static unsigned copies_for(struct rig *rig, uint32_t gref, uint8_t segments)
{
    const unsigned before = fake_gnttab.calls;

    run(rig, 0, BLKIF_OP_WRITE, gref, segments);
    return fake_gnttab.calls - before;
}

static void grants_are_mapped_when_they_are_first_used(void **state)
{
    struct rig *rig = create(&roomy);
    (void)state;

    assert_int_equal(copies_for(rig, 7, 1), 0);
    assert_int_equal(fake_gnttab.mapped, 1);
    assert_int_equal(copies_for(rig, 0, 11), 0); /* one of them is known */
    assert_int_equal(fake_gnttab.mapped, 11);
    assert_int_equal(copies_for(rig, 0, 11), 0); /* the same ones again are no news */
    assert_int_equal(fake_gnttab.mapped, 11);
    rig_destroy(rig);
}

/* Linux ends a grant that is not mapped when its request is answered, and the reference may be
 * another device's at once: mapping it then would break that device. */
static void grants_of_former_requests_are_never_mapped(void **state)
{
    struct rig *rig = create(&(struct rig_options){.persistent = true});
    (void)state;

    use(rig, 0, 0, CHUNK - 1);
    assert_int_equal(fake_gnttab.mapped, 0); /* there is no room */
    rig->budget.limit = 4096;
    (void)queue_trim(rig->queue[0]);
    use(rig, 0, 4 * CHUNK, 1);
    assert_int_equal(fake_gnttab.mapped, 1);
    rig_destroy(rig);
}

/* What was mapped for a request stays, and the rest of it is copied. */
static void a_request_larger_than_the_budget_is_copied(void **state)
{
    struct rig *rig = create(&(struct rig_options){.persistent = true, .grant_budget = 10});
    (void)state;

    assert_int_equal(copies_for(rig, 0, 11), 1);
    assert_int_equal(fake_gnttab.mapped, 0);
    assert_int_equal(copies_for(rig, 0, 10), 0);
    assert_int_equal(copies_for(rig, 0, 11), 1);
    assert_int_equal(fake_gnttab.mapped, 10);
    rig_destroy(rig);
}

static void data_goes_to_and_from_the_pages(void **state)
{
    struct rig *rig = create(&roomy);
    const unsigned buffers = buffer_pool_count(rig->turn.buffers);
    uint8_t *data = fake_gnttab.pages[3];
    (void)state;

    use(rig, 0, 0, CHUNK);
    for (uint32_t i = 0; i < 11 * GNTTAB_PAGE_SIZE; i++)
        data[i] = (uint8_t)(i / 7);
    assert_int_equal(copies_for(rig, 3, 11), 0);
    assert_memory_equal(rig->store.disk + 3 * 4096, data, 11 * 4096);
    memset(data, 0, 11 * 4096);
    run(rig, 0, BLKIF_OP_READ, 3, 11);
    assert_memory_equal(rig->store.disk + 3 * 4096, data, 11 * 4096);

    /* In place it takes no buffer meanwhile. */
    rig_transfer(rig, BLKIF_OP_READ, 1, 0, 4);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(rig->store.held_count, 1);
    assert_int_equal(buffer_pool_free(rig->turn.buffers), copy_mapped ? buffers - 1 : buffers);
    rig_destroy(rig);
}

/* Parts of pages, and pages in any order. */
static void each_segment_is_its_own_part_of_its_page(void **state)
{
    struct rig *rig = create(&roomy);
    const struct slab_segment list[4] = {
        {.gref = 9, .first_sector = 7, .last_sector = 7},
        {.gref = 8, .first_sector = 0, .last_sector = 2},
        {.gref = 9, .first_sector = 0, .last_sector = 0},
        {.gref = 10, .first_sector = 2, .last_sector = 7},
    };
    uint8_t *pages = fake_gnttab.pages[8];
    size_t at = 0;
    (void)state;

    use(rig, 0, 0, CHUNK);
    for (uint32_t i = 0; i < 3 * GNTTAB_PAGE_SIZE; i++)
        pages[i] = (uint8_t)(i / 512 + 1);
    const unsigned calls = fake_gnttab.calls;

    front_put(&rig->front[0],
              &(struct rig_request){.operation = BLKIF_OP_WRITE, .segments = 4, .list = list});
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(fake_gnttab.calls, calls);
    for (unsigned i = 0; i < 4; i++) {
        const size_t bytes = (size_t)(list[i].last_sector - list[i].first_sector + 1) * 512;

        assert_memory_equal(rig->store.disk + at,
                            fake_gnttab.pages[list[i].gref] + (size_t)list[i].first_sector * 512,
                            bytes);
        at += bytes;
    }
    rig_destroy(rig);
}

static void the_budget_is_kept(void **state)
{
    (void)state;
    for (uint32_t budget = 0; budget <= 3 * CHUNK; budget += CHUNK / 2) {
        struct rig *rig = create(&(struct rig_options){.persistent = true, .grant_budget = budget});

        rig_connect(rig, 1);
        for (unsigned round = 0; round < 3; round++)
            for (uint32_t first = 0; first < 4 * CHUNK; first += CHUNK) {
                use(rig, first / CHUNK % 2, first, CHUNK);
                assert_in_range(fake_gnttab.mapped, 0, budget);
                assert_int_equal(rig->budget.used, fake_gnttab.mapped);
            }
        assert_int_equal(fake_gnttab.mapped, budget / USED_AT_ONCE * USED_AT_ONCE);
        rig_destroy(rig);
    }
}

/* Where there is no room, what was not used lately makes some. */
static void the_chunk_out_of_use_gives_way(void **state)
{
    struct rig *rig = create(&(struct rig_options){.persistent = true, .grant_budget = 2 * CHUNK});
    (void)state;

    use(rig, 0, 0, 2 * CHUNK);
    assert_true(queue_trim(rig->queue[0]));
    use(rig, 0, CHUNK, CHUNK);     /* the second half is in use */
    use(rig, 0, 2 * CHUNK, CHUNK); /* others come */
    assert_int_equal(fake_gnttab.mapped, 2 * CHUNK);
    rig->budget.limit = 0; /* so that looking does not map */
    assert_int_equal(copies_for(rig, CHUNK, 1), 0);
    assert_int_equal(copies_for(rig, 2 * CHUNK, 1), 0);
    assert_int_equal(copies_for(rig, 0, 1), 1);
    rig_destroy(rig);
}

static void idle_ones_are_given_back_and_used_ones_kept(void **state)
{
    struct rig *rig = create(&roomy);
    unsigned trims = 0;
    (void)state;

    use(rig, 0, 0, 2 * CHUNK);
    while (fake_gnttab.mapped == 2 * CHUNK) {
        use(rig, 0, 0, 1);
        assert_true(queue_trim(rig->queue[0]));
        assert_true(++trims < 10);
    }
    assert_true(trims > 1);
    assert_int_equal(copies_for(rig, 0, 1), 0);
    for (trims = 0; queue_trim(rig->queue[0]); trims++)
        assert_true(trims < 10);
    assert_int_equal(fake_gnttab.mapped, 0);
    rig->budget.limit = 0;
    assert_int_equal(copies_for(rig, 0, 1), 1);
    rig_destroy(rig);
}

static void a_smaller_budget_takes_effect_at_the_next_trim(void **state)
{
    struct rig *rig = create(&roomy);
    (void)state;

    use(rig, 0, 0, 4 * CHUNK);
    assert_int_equal(fake_gnttab.mapped, 4 * CHUNK);
    rig->budget.limit = CHUNK;
    assert_true(queue_trim(rig->queue[0]));
    assert_int_equal(fake_gnttab.mapped, CHUNK);
    rig->budget.limit = 0;
    assert_false(queue_trim(rig->queue[0]));
    assert_int_equal(fake_gnttab.mapped, 0);
    rig_destroy(rig);
}

/* The store writes to these pages, or reads from them, whenever it likes. */
static void pages_of_requests_under_way_stay(void **state)
{
    struct rig *rig = create(&(struct rig_options){.persistent = true, .grant_budget = CHUNK});
    (void)state;

    use(rig, 0, 0, CHUNK);
    memset(rig->store.disk + 800 * 512, 0x5c, 4096);
    rig_transfer(rig, BLKIF_OP_READ, 1, 800, 7);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    rig->budget.limit = 0;
    for (unsigned i = 0; i < 8; i++)
        assert_true(queue_trim(rig->queue[0]));
    assert_int_equal(fake_gnttab.mapped, USED_AT_ONCE); /* the others are given back */
    rig->budget.limit = USED_AT_ONCE;
    for (uint32_t i = 0; i < 31; i++) /* newcomers can't drive them out either */
        rig_transfer(rig, BLKIF_OP_READ, 100 + i, 1000 + i * 16U, 100 + i);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_int_equal(fake_gnttab.mapped, USED_AT_ONCE);
    fake_store_finish(&rig->store, 0, 0);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    assert_int_equal(fake_gnttab.pages[7][0], 0x5c);
    rig->budget.limit = 0;
    assert_false(queue_trim(rig->queue[0]));
    assert_int_equal(fake_gnttab.mapped, 0);
    rig_destroy(rig);
}

static void one_page_many_times_in_a_request(void **state)
{
    struct rig *rig = create(&roomy);
    struct slab_segment list[11];
    (void)state;

    use(rig, 0, 0, CHUNK);
    for (unsigned i = 0; i < 11; i++)
        list[i] = (struct slab_segment){.gref = 5, .last_sector = 7};
    front_put(&rig->front[0],
              &(struct rig_request){.operation = BLKIF_OP_WRITE, .segments = 11, .list = list});
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 0, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    rig->budget.limit = 0;
    assert_false(queue_trim(rig->queue[0]));
    rig_destroy(rig);
}

/* A frontend that says it keeps its grants and makes them so that they can't be mapped. */
static void grants_that_cannot_be_mapped_are_copied(void **state)
{
    struct rig *rig = create(&roomy);
    (void)state;

    for (unsigned page = 0; page < FAKE_PAGES; page++)
        fake_gnttab.read_only[page] = true;
    for (unsigned i = 0; i < 20; i++)
        use(rig, 0, i * CHUNK, CHUNK);
    assert_int_equal(fake_gnttab.mapped, 0);
    assert_int_equal(rig->budget.used, 0);
    /* It was tried often enough. */
    memset(fake_gnttab.read_only, 0, sizeof(fake_gnttab.read_only));
    use(rig, 0, 0, CHUNK);
    assert_int_equal(fake_gnttab.mapped, 0);
    rig_destroy(rig);
}

/* At Closed the frontend takes its grants back. */
static void all_are_given_back_when_the_ring_goes(void **state)
{
    struct rig *rig = create(&roomy);
    (void)state;

    use(rig, 0, 0, 3 * CHUNK);
    rig_transfer(rig, BLKIF_OP_READ, 1, 0, CHUNK + 2);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    queue_disconnect(rig->queue[0]);
    /* In place the store still writes there. */
    assert_int_equal(fake_gnttab.mapped, copy_mapped ? 0 : USED_AT_ONCE);
    assert_false(queue_trim(rig->queue[0]));
    rig->destroy_when_drained = true;
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    assert_int_equal(rig->drained, 1);
    assert_int_equal(fake_gnttab.mapped, 0);
    assert_int_equal(rig->budget.used, 0);
    rig_destroy(rig);
}

/* More segments of other pages than a merged I/O has room for. */
static void scattered_neighbours_are_not_merged_beyond_measure(void **state)
{
    struct rig *rig = create(&(struct rig_options){
        .persistent = true, .grant_budget = 4096, .max_indirect_segments = 256});
    struct slab_segment list[60];
    (void)state;

    use(rig, 0, 0, 4 * CHUNK);
    for (unsigned i = 0; i < 60; i++)
        list[i] =
            (struct slab_segment){.gref = i % 2 ? 60 + i : i, .first_sector = 3, .last_sector = 3};
    for (unsigned i = 0; i < 8; i++)
        front_put_indirect(&rig->front[0], &(struct rig_indirect){.operation = BLKIF_OP_READ,
                                                                  .segments = 60,
                                                                  .id = i,
                                                                  .sector = i * UINT64_C(60),
                                                                  .page = 900 + i,
                                                                  .list = list});
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    assert_true(rig->store.held_count >= (copy_mapped ? 1 : 8 * 60 / 64));
    for (unsigned i = 0; i < rig->store.held_count; i++)
        assert_in_range(rig->store.held[i]->iov_count, 1, 64);
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < 8; i++)
        rig_expect(rig, i, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grants_are_mapped_when_they_are_first_used),
        cmocka_unit_test(grants_of_former_requests_are_never_mapped),
        cmocka_unit_test(a_request_larger_than_the_budget_is_copied),
        cmocka_unit_test(data_goes_to_and_from_the_pages),
        cmocka_unit_test(each_segment_is_its_own_part_of_its_page),
        cmocka_unit_test(the_budget_is_kept),
        cmocka_unit_test(the_chunk_out_of_use_gives_way),
        cmocka_unit_test(idle_ones_are_given_back_and_used_ones_kept),
        cmocka_unit_test(a_smaller_budget_takes_effect_at_the_next_trim),
        cmocka_unit_test(pages_of_requests_under_way_stay),
        cmocka_unit_test(one_page_many_times_in_a_request),
        cmocka_unit_test(grants_that_cannot_be_mapped_are_copied),
        cmocka_unit_test(all_are_given_back_when_the_ring_goes),
        cmocka_unit_test(scattered_neighbours_are_not_merged_beyond_measure),
    };

    return cmocka_run_group_tests(tests, in_place, NULL) +
           cmocka_run_group_tests(tests, copied, NULL);
}
