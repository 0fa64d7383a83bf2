/* SPDX-License-Identifier: BSD-2-Clause */
/* Data between granted pages and buffers: which bytes, and whose failure it is. */
#include "blkback/buffer_pool.h"
#include "blkback/guest_memory.h"
#include "fake_xen.h"
#include "request.h"
#include "testing.h"

#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define REQUESTS 64U
#define SEGMENTS 11U

struct many {
    struct slab_entry entry[REQUESTS];
    struct slab_segment segment[REQUESTS][SEGMENTS];
    struct request request[REQUESTS];
    uint8_t *place[REQUESTS];
    uint8_t buffer[REQUESTS][SEGMENTS * 512];
};

static struct many many;
static struct guest_memory *memory;
static struct slab_statistics statistics;

static int set_up(void **state)
{
    (void)state;
    fake_xen_reset();
    statistics = (struct slab_statistics){0};
    memset(&many, 0, sizeof(many));
    for (uint32_t i = 0; i < REQUESTS; i++) {
        many.entry[i] = (struct slab_entry){.operation = BLKIF_OP_WRITE, .segments = SEGMENTS};
        many.request[i] = (struct request){
            .entry = &many.entry[i],
            .segments = many.segment[i],
            .buffers = &many.place[i],
            .buffer_count = 1,
        };
        many.place[i] = many.buffer[i];
        for (uint32_t n = 0; n < SEGMENTS; n++)
            many.segment[i][n] =
                (struct slab_segment){.gref = i, .first_sector = 1, .last_sector = 1};
    }
    return guest_memory_create(fake_gnttab_handle(), 1, &memory);
}

static int tear_down(void **state)
{
    (void)state;
    guest_memory_destroy(memory);
    guest_memory_destroy(NULL);
    return 0;
}

static void each_segment_goes_to_its_place(void **state)
{
    struct request *request = &many.request[0];
    (void)state;

    for (unsigned i = 0; i < GNTTAB_PAGE_SIZE; i++)
        fake_gnttab.pages[3][i] = (uint8_t)(i / 512 + 1);
    many.entry[0].segments = 3;
    many.segment[0][0] = (struct slab_segment){.gref = 3, .first_sector = 7, .last_sector = 7};
    many.segment[0][1] = (struct slab_segment){.gref = 3, .first_sector = 0, .last_sector = 1};
    many.segment[0][2] = (struct slab_segment){.gref = 3, .first_sector = 7, .last_sector = 7};
    assert_true(guest_memory_add(memory, request));
    guest_memory_run(memory, &statistics);
    assert_true(request->copied);
    assert_int_equal(many.buffer[0][0], 8);
    assert_int_equal(many.buffer[0][512], 1);
    assert_int_equal(many.buffer[0][1024], 2);
    assert_int_equal(many.buffer[0][1536], 8);
    assert_int_equal(many.buffer[0][2048], 0);
    assert_int_equal(statistics.copied_segments, 3);

    many.entry[0].operation = BLKIF_OP_READ;
    many.segment[0][0].gref = 4;
    many.segment[0][1].gref = 5;
    many.segment[0][2].gref = 6;
    assert_true(guest_memory_add(memory, request));
    guest_memory_run(memory, &statistics);
    assert_int_equal(fake_gnttab.pages[4][7 * 512], 8);
    assert_int_equal(fake_gnttab.pages[4][7 * 512 - 1], 0);
    assert_int_equal(fake_gnttab.pages[5][0], 1);
    assert_int_equal(fake_gnttab.pages[5][1024], 0);
    assert_int_equal(fake_gnttab.pages[6][7 * 512], 8);
}

static void a_batch_has_an_end(void **state)
{
    unsigned added = 0;
    (void)state;

    while (added < REQUESTS && guest_memory_add(memory, &many.request[added]))
        added++;
    assert_int_equal(added, GNTTAB_COPY_MAX / SEGMENTS);
    guest_memory_run(memory, &statistics);
    assert_int_equal(fake_gnttab.calls, 1);
    assert_true(guest_memory_add(memory, &many.request[added]));
    guest_memory_run(memory, &statistics);
    assert_int_equal(fake_gnttab.calls, 2);
    guest_memory_run(memory, &statistics); /* nothing to do */
    assert_int_equal(fake_gnttab.calls, 2);
    for (unsigned i = 0; i <= added; i++)
        assert_true(many.request[i].copied);
}

static void one_bad_segment_at_any_place_fails_its_request_only(void **state)
{
    (void)state;
    for (unsigned bad = 0; bad < SEGMENTS; bad++) {
        many.segment[1][bad].gref = FAKE_PAGES;
        for (unsigned i = 0; i < 3; i++)
            assert_true(guest_memory_add(memory, &many.request[i]));
        guest_memory_run(memory, &statistics);
        assert_true(many.request[0].copied);
        assert_false(many.request[1].copied);
        assert_true(many.request[2].copied);
        many.segment[1][bad].gref = 1;
    }
}

/* gntdev may have carried out a part of it: none of it counts. */
static void a_call_that_fails_is_repeated_request_by_request(void **state)
{
    (void)state;
    memset(fake_gnttab.pages[2], 0x33, GNTTAB_PAGE_SIZE);
    many.segment[1][10].gref = FAKE_PAGES;
    fake_gnttab.fail_next = 1;
    for (unsigned i = 0; i < 3; i++)
        assert_true(guest_memory_add(memory, &many.request[i]));
    guest_memory_run(memory, &statistics);
    assert_int_equal(fake_gnttab.calls, 4);
    assert_int_equal(statistics.grant_copies, 4);
    assert_true(many.request[0].copied);
    assert_false(many.request[1].copied);
    assert_true(many.request[2].copied);
    assert_int_equal(many.buffer[2][0], 0x33);

    fake_gnttab.fail_next = 2; /* the whole, and the first alone */
    for (unsigned i = 0; i < 3; i += 2)
        assert_true(guest_memory_add(memory, &many.request[i]));
    guest_memory_run(memory, &statistics);
    assert_false(many.request[0].copied);
    assert_true(many.request[2].copied);
}

/* 512-byte segments ahead of whole pages: every buffer's end cuts one in two. */
static void pieces_of_cut_segments_fit_the_batch(void **state)
{
    static struct slab_segment segments[2][256];
    static uint8_t data[2][16][BUFFER_BYTES];
    uint8_t *buffers[2][16];
    struct slab_entry entry[2];
    struct request request[2];
    (void)state;

    for (uint32_t i = 0; i < GNTTAB_PAGE_SIZE; i++)
        for (unsigned page = 0; page < 256; page++)
            fake_gnttab.pages[page][i] = (uint8_t)(page + i / 512 * 3);
    for (unsigned n = 0; n < 2; n++) {
        const unsigned count = n ? 240 : 256; /* 271 pieces, and 254 with as many cuts */

        for (unsigned i = 0; i < 256; i++)
            segments[n][i] = (struct slab_segment){.gref = i, .last_sector = i ? 7 : 0};
        for (unsigned i = 0; i < 16; i++)
            buffers[n][i] = data[n][i];
        entry[n] = (struct slab_entry){.operation = BLKIF_OP_WRITE, .segments = (uint16_t)count};
        request[n] = (struct request){.entry = &entry[n],
                                      .segments = segments[n],
                                      .buffers = buffers[n],
                                      .buffer_count = (uint16_t)((count + 15) / 16)};
    }
    assert_true(guest_memory_add(memory, &request[0]));
    if (!guest_memory_add(memory, &request[1])) {
        guest_memory_run(memory, &statistics);
        assert_true(guest_memory_add(memory, &request[1]));
    }
    guest_memory_run(memory, &statistics);
    for (unsigned n = 0; n < 2; n++) {
        const uint8_t *at = data[n][0];

        assert_true(request[n].copied);
        for (unsigned i = 0; i < entry[n].segments; i++) {
            const size_t bytes = i ? GNTTAB_PAGE_SIZE : 512;

            assert_memory_equal(at, fake_gnttab.pages[i], bytes);
            at += bytes;
        }
    }
}

static void an_indirect_page_is_copied_from_its_beginning(void **state)
{
    uint8_t local[64];
    (void)state;

    memset(local, 0x11, sizeof(local));
    memset(fake_gnttab.pages[9], 0x99, GNTTAB_PAGE_SIZE);
    fake_gnttab.pages[9][0] = 0x98;
    assert_true(guest_memory_add_page(memory, &many.request[0], 9, local, 24));
    assert_true(guest_memory_add_page(memory, &many.request[1], FAKE_PAGES, local + 32, 24));
    assert_int_equal(local[0], 0x11);
    guest_memory_run(memory, &statistics);
    assert_true(many.request[0].copied);
    assert_false(many.request[1].copied);
    assert_int_equal(local[0], 0x98);
    assert_int_equal(local[23], 0x99);
    assert_int_equal(local[24], 0x11);
    assert_int_equal(local[32], 0x11);
    assert_int_equal(fake_gnttab.calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_segment_goes_to_its_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_has_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_bad_segment_at_any_place_fails_its_request_only, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(pieces_of_cut_segments_fit_the_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_indirect_page_is_copied_from_its_beginning, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_call_that_fails_is_repeated_request_by_request, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
