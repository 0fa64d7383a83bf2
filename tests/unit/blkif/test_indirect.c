/* SPDX-License-Identifier: BSD-2-Clause */
/* Indirect requests: their segments lie in a page of the guest, which is copied once and believed
 * as little as a slot. */
#include "rig.h"

#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define WRITE_PAGES 0U   /* granted pages that writes take data from */
#define READ_PAGES  256U /* and that reads bring it to */
#define LISTS       512U /* pages for segments */

static const struct rig_options offered = {.max_indirect_segments = 256};

static void fill_pages(void)
{
    for (uint32_t page = 0; page < 256; page++)
        for (uint32_t i = 0; i < GNTTAB_PAGE_SIZE; i++)
            fake_gnttab.pages[WRITE_PAGES + page][i] = (uint8_t)(page * 5 + i / 32 + i);
}

static struct rig_indirect indirect(uint8_t operation, uint64_t id, uint16_t segments)
{
    return (struct rig_indirect){
        .operation = operation,
        .segments = segments,
        .id = id,
        .page = LISTS + (uint32_t)id % 256,
        .gref = operation == BLKIF_OP_READ ? READ_PAGES : WRITE_PAGES,
        .last_sector = 7,
    };
}

static void put(struct rig *rig, struct rig_indirect request)
{
    front_put_indirect(&rig->front[0], &request);
}

/* One request alone is answered so, and nothing reaches the store unless it is OKAY. */
static void expect_alone(struct rig *rig, struct rig_indirect request, int16_t status)
{
    const unsigned before = rig->store.trace_length;

    put(rig, request);
    rig_run_to_the_end(rig);
    rig_expect(rig, request.id, request.operation, status);
    rig_expect_none(rig);
    assert_int_equal(rig->store.trace_length - before, status == BLKIF_RSP_OKAY ? 2 : 0);
}

static void data_of_every_length_arrives_in_every_abi(void **state)
{
    (void)state;
    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++) {
        struct rig *rig = rig_create(
            &(struct rig_options){.abi = (enum blkif_abi)abi, .max_indirect_segments = 256});

        fill_pages();
        for (unsigned segments = 1; segments <= 256; segments++) {
            const size_t bytes = (size_t)segments * GNTTAB_PAGE_SIZE;
            struct rig_indirect request = indirect(BLKIF_OP_WRITE, segments, (uint16_t)segments);

            request.sector = 8;
            expect_alone(rig, request, BLKIF_RSP_OKAY);
            assert_memory_equal(rig->store.disk + 4096, fake_gnttab.pages[WRITE_PAGES], bytes);
            request.operation = BLKIF_OP_READ;
            request.gref = READ_PAGES;
            memset(fake_gnttab.pages[READ_PAGES + segments - 1], 0, GNTTAB_PAGE_SIZE);
            expect_alone(rig, request, BLKIF_RSP_OKAY);
            assert_memory_equal(fake_gnttab.pages[READ_PAGES], fake_gnttab.pages[WRITE_PAGES],
                                bytes);
        }
        rig_destroy(rig);
    }
}

static void the_answer_has_the_inner_operation(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    expect_alone(rig, indirect(BLKIF_OP_READ, 1, 20), BLKIF_RSP_OKAY);
    expect_alone(rig, indirect(BLKIF_OP_WRITE, 2, 20), BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void only_reads_and_writes_can_be_inside(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    for (unsigned inner = 0; inner < 256; inner++)
        if (inner != BLKIF_OP_READ && inner != BLKIF_OP_WRITE)
            expect_alone(rig, indirect((uint8_t)inner, inner, 20), BLKIF_RSP_ERROR);
    rig_destroy(rig);
}

static void where_it_is_not_offered_it_is_not_supported(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){.max_segments = 255});
    (void)state;

    expect_alone(rig, indirect(BLKIF_OP_READ, 1, 1), BLKIF_RSP_EOPNOTSUPP);
    expect_alone(rig, indirect(BLKIF_OP_WRITE, 2, 300), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(fake_gnttab.calls, 0);
    rig_destroy(rig);
}

static void counts_that_cannot_be(void **state)
{
    (void)state;
    for (uint32_t most = 1; most <= 256; most += 51) {
        struct rig *rig = rig_create(&(struct rig_options){.max_indirect_segments = most});
        const uint16_t bad[] = {0, (uint16_t)(most + 1), 257, 512, 513, 0x8000, 0xffff};

        for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
            expect_alone(rig, indirect(BLKIF_OP_READ, i, bad[i]), BLKIF_RSP_ERROR);
        /* Not even the page was looked at. */
        assert_int_equal(fake_gnttab.calls, 0);
        expect_alone(rig, indirect(BLKIF_OP_READ, 99, (uint16_t)most), BLKIF_RSP_OKAY);
        rig_destroy(rig);
    }
}

/* Fewer than fit a slot are allowed, and so are more than a direct request's limit. */
static void its_limit_is_its_own(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.max_indirect_segments = 5, .max_segments = 200});
    struct rig_request direct = {.operation = BLKIF_OP_READ, .segments = 200, .last_sector = 7};
    (void)state;

    expect_alone(rig, indirect(BLKIF_OP_READ, 1, 5), BLKIF_RSP_OKAY);
    expect_alone(rig, indirect(BLKIF_OP_READ, 2, 6), BLKIF_RSP_ERROR);
    direct.id = 3;
    direct.gref = READ_PAGES;
    front_put(&rig->front[0], &direct);
    rig_run_to_the_end(rig);
    rig_expect(rig, 3, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void a_page_that_is_not_granted_fails_its_own_request_only(void **state)
{
    (void)state;
    for (unsigned whole_call = 0; whole_call < 2; whole_call++) {
        struct rig *rig = rig_create(&offered);

        for (uint64_t id = 0; id < 5; id++) {
            struct rig_indirect request = indirect(BLKIF_OP_READ, id, 30);

            if (id == 2)
                request.page = FAKE_PAGES;
            put(rig, request);
        }
        fake_gnttab.fail_next = whole_call;
        rig_run_to_the_end(rig);
        rig_expect(rig, 2, BLKIF_OP_READ, BLKIF_RSP_ERROR);
        for (uint64_t id = 0; id < 5; id++)
            if (id != 2)
                rig_expect(rig, id, BLKIF_OP_READ, BLKIF_RSP_OKAY);
        rig_expect_none(rig);
        rig_destroy(rig);
    }
}

static void the_pages_of_a_pass_are_copied_in_one_call(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    for (uint64_t id = 0; id < 32; id++)
        put(rig, indirect(BLKIF_OP_READ, id, 12));
    rig_run(rig);
    assert_int_equal(fake_gnttab.calls, 1);
    assert_int_equal(rig->store.held_count, 32);
    rig_destroy(rig);
}

/* More pages than a call takes: a ring of 1024 slots full of them. */
static void more_pages_than_a_call_takes(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.max_indirect_segments = 1, .order = 5, .buffers = 2048});
    (void)state;

    for (uint64_t id = 0; id < 1024; id++)
        put(rig, indirect(BLKIF_OP_READ, id, 1));
    rig->store.at_once = true;
    rig_run(rig);
    for (unsigned i = 0; i < 1024; i++) {
        struct rig_response response;

        assert_true(front_take(&rig->front[0], &response));
        assert_int_equal(response.status, BLKIF_RSP_OKAY);
    }
    rig_destroy(rig);
}

/* The guest changes its list while the request is under way: what was copied counts. */
static void a_list_that_changes_after_it_was_copied_changes_nothing(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    memset(rig->store.disk, 0x77, 100 * GNTTAB_PAGE_SIZE);
    put(rig, indirect(BLKIF_OP_READ, 1, 100));
    rig_run(rig);
    for (unsigned i = 0; i < 100; i++) {
        const struct slab_segment evil = {.gref = 700 + i, .first_sector = 200, .last_sector = 255};

        memcpy(fake_gnttab.pages[LISTS + 1] + (size_t)i * 8, &evil, sizeof(evil));
    }
    fake_store_finish_all(&rig->store);
    (void)rig_settle(rig);
    rig_expect(rig, 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(fake_gnttab.pages[READ_PAGES + i][4095], 0x77);
        assert_int_equal(fake_gnttab.pages[700 + i][0], 0);
    }
    rig_destroy(rig);
}

static void a_bad_segment_at_any_place_fails_the_request(void **state)
{
    static const struct slab_segment bad[] = {
        {.first_sector = 4, .last_sector = 3},   {.first_sector = 0, .last_sector = 8},
        {.first_sector = 255, .last_sector = 7}, {.first_sector = 0, .last_sector = 255},
        {.first_sector = 8, .last_sector = 8},
    };
    static const uint16_t places[] = {0, 10, 11, 100, 254, 255};
    struct rig *rig = rig_create(&offered);
    struct slab_segment list[256];
    (void)state;

    for (unsigned kind = 0; kind < sizeof(bad) / sizeof(bad[0]); kind++)
        for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            struct rig_indirect request = indirect(BLKIF_OP_WRITE, i, 256);

            for (unsigned n = 0; n < 256; n++)
                list[n] = (struct slab_segment){.gref = n, .last_sector = 7};
            list[places[i]] = bad[kind];
            request.list = list;
            expect_alone(rig, request, BLKIF_RSP_ERROR);
        }
    rig_destroy(rig);
}

static void segments_are_whole_sectors_of_4_kib(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.max_indirect_segments = 256, .sector_size = 4096});
    struct rig_indirect request = indirect(BLKIF_OP_READ, 1, 40);
    (void)state;

    expect_alone(rig, request, BLKIF_RSP_OKAY);
    request.last_sector = 3;
    expect_alone(rig, request, BLKIF_RSP_ERROR);
    request.last_sector = 7;
    request.sector = 4;
    expect_alone(rig, request, BLKIF_RSP_ERROR);
    rig_destroy(rig);
}

static void the_end_of_the_disk_is_the_end(void **state)
{
    struct rig *rig = rig_create(&offered);
    const uint64_t end = FAKE_DISK_BYTES / 512;
    const uint64_t bad[] = {end - 7, end, end + 1, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 55};
    struct rig_indirect request = indirect(BLKIF_OP_WRITE, 1, 256);
    (void)state;

    request.sector = end - UINT64_C(256) * 8;
    expect_alone(rig, request, BLKIF_RSP_OKAY);
    request.sector++;
    expect_alone(rig, request, BLKIF_RSP_ERROR);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        request.segments = 1;
        request.sector = bad[i];
        expect_alone(rig, request, BLKIF_RSP_ERROR);
    }
    rig_destroy(rig);
}

static void a_read_only_disk_refuses_indirect_writes(void **state)
{
    struct rig *rig =
        rig_create(&(struct rig_options){.max_indirect_segments = 256, .read_only = true});
    (void)state;

    expect_alone(rig, indirect(BLKIF_OP_WRITE, 1, 20), BLKIF_RSP_ERROR);
    expect_alone(rig, indirect(BLKIF_OP_READ, 2, 20), BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

static void a_data_page_that_is_not_granted_is_an_error(void **state)
{
    struct rig *rig = rig_create(&offered);
    struct rig_indirect request = indirect(BLKIF_OP_WRITE, 1, 40);
    (void)state;

    request.gref = FAKE_PAGES - 39; /* all but the last */
    expect_alone(rig, request, BLKIF_RSP_ERROR);
    rig_destroy(rig);
}

/* The list may be its own data, and the page of several: memory-safe, and each is answered. */
static void one_page_for_several_lists_and_as_data(void **state)
{
    struct rig *rig = rig_create(&offered);
    (void)state;

    for (uint64_t id = 0; id < 4; id++) {
        struct rig_indirect request = indirect(BLKIF_OP_READ, id, 1);

        request.page = request.gref = LISTS;
        put(rig, request);
    }
    rig_run_to_the_end(rig);
    for (uint64_t id = 0; id < 4; id++)
        rig_expect(rig, id, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    rig_destroy(rig);
}

/* Copying their lists later must not let direct requests overtake them: a successor replays by
 * seq, and barriers fence by it. */
static void the_journal_keeps_the_order_of_the_ring(void **state)
{
    struct rig *rig = rig_create(&(struct rig_options){
        .max_indirect_segments = 256, .max_segments = 255, .start = 5, .discard = true});
    const struct journal *journal = &rig->queue[0]->journal;
    uint64_t last = 0;
    (void)state;

    for (uint64_t id = 0; id < 9; id++) {
        if (id % 3 == 1)
            put(rig, indirect(BLKIF_OP_WRITE, id, 256));
        else
            front_put(&rig->front[0], &(struct rig_request){.operation = BLKIF_OP_WRITE,
                                                            .segments = id % 3 ? 1 : 26,
                                                            .id = id,
                                                            .last_sector = 7});
    }
    rig_run(rig);
    /* All write the same sectors: they are carried out one by one, in order. */
    for (uint64_t id = 0; id < 9; id++) {
        assert_int_equal(rig->store.held_count, 1);
        fake_store_finish_all(&rig->store);
        (void)rig_settle(rig);
        rig_expect(rig, id, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    }
    for (unsigned tag = 0; tag < 9; tag++) {
        const uint64_t seq = 5 + tag + 2 * ((tag + 2) / 3); /* each first of three has 3 slots */

        assert_int_equal(journal->entries[tag].id, tag);
        assert_int_equal(journal->entries[tag].seq, seq);
        assert_true(tag == 0 || journal->entries[tag].seq > last);
        last = journal->entries[tag].seq;
    }
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_of_every_length_arrives_in_every_abi),
        cmocka_unit_test(the_answer_has_the_inner_operation),
        cmocka_unit_test(only_reads_and_writes_can_be_inside),
        cmocka_unit_test(where_it_is_not_offered_it_is_not_supported),
        cmocka_unit_test(counts_that_cannot_be),
        cmocka_unit_test(its_limit_is_its_own),
        cmocka_unit_test(a_page_that_is_not_granted_fails_its_own_request_only),
        cmocka_unit_test(the_pages_of_a_pass_are_copied_in_one_call),
        cmocka_unit_test(more_pages_than_a_call_takes),
        cmocka_unit_test(a_list_that_changes_after_it_was_copied_changes_nothing),
        cmocka_unit_test(a_bad_segment_at_any_place_fails_the_request),
        cmocka_unit_test(segments_are_whole_sectors_of_4_kib),
        cmocka_unit_test(the_end_of_the_disk_is_the_end),
        cmocka_unit_test(a_read_only_disk_refuses_indirect_writes),
        cmocka_unit_test(a_data_page_that_is_not_granted_is_an_error),
        cmocka_unit_test(one_page_for_several_lists_and_as_data),
        cmocka_unit_test(the_journal_keeps_the_order_of_the_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
