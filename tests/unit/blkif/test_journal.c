/* SPDX-License-Identifier: BSD-2-Clause */
/* The journal: its states as the file shows them. Its order of stores is test_journal_kills.c's. */
#include "journal.h"
#include "testing.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define SLOTS    32U
#define CAPACITY 3U
#define START    (UINT32_MAX - 3U) /* the counters wrap in the middle */

struct rig {
    uint8_t *ring_page;
    struct ring ring;
    struct slab slab;
    struct journal journal;
};

static struct rig rig;

static int set_up(void **state)
{
    const struct journal_shape shape = {
        .slots = SLOTS, .requests = CAPACITY, .segments = 11, .start = START};

    (void)state;
    rig.ring_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ((struct ring_shared *)rig.ring_page)->rsp_prod = START;
    ((struct ring_shared *)rig.ring_page)->req_prod = START + SLOTS;
    assert_int_equal(ring_init(&rig.ring, rig.ring_page, BLKIF_ABI_NATIVE, 0), 0);
    assert_int_equal(slab_open(memfd_create("slab", MFD_CLOEXEC), &rig.slab), 0);
    return journal_create(&rig.slab, 0, &shape, &rig.journal);
}

static int tear_down(void **state)
{
    (void)state;
    journal_destroy(&rig.journal);
    slab_close(&rig.slab);
    (void)munmap(rig.ring_page, 4096);
    return 0;
}

static uint16_t take(uint64_t id)
{
    const struct decoded_request request = {.id = id,
                                            .sector = id * 8,
                                            .operation = BLKIF_OP_WRITE,
                                            .response_operation = BLKIF_OP_WRITE,
                                            .segments = 2,
                                            .bytes = 8192,
                                            .slots = 1,
                                            .status = BLKIF_RSP_OKAY};
    const uint32_t tag = journal_reserve(&rig.journal);

    journal_extent(&rig.journal, tag)[1] =
        (struct slab_segment){.gref = (uint32_t)id, .last_sector = 7};
    ring_consume(&rig.ring, 1);
    journal_take(&rig.journal, tag, &request);
    return (uint16_t)tag;
}

static struct slab_header read_header(void)
{
    struct slab_header header;

    assert_int_equal(slab_read_header(rig.slab.fd, &header), 0);
    return header;
}

static struct slab_entry read_entry(uint32_t tag)
{
    struct slab_header header = read_header();
    struct slab_entry entry;
    const off_t at = header.queues[0].entries_offset + (off_t)(tag * sizeof(entry));

    assert_int_equal(pread(rig.slab.fd, &entry, sizeof(entry), at), (ssize_t)sizeof(entry));
    return entry;
}

static uint32_t state_of(uint32_t tag)
{
    const struct slab_entry entry = read_entry(tag);

    return entry.state;
}

static void the_file_shows_each_state(void **state)
{
    const uint16_t tag = take(77);
    struct slab_entry entry = read_entry(tag);
    struct slab_segment segments[2];
    (void)state;

    assert_int_equal(entry.state, SLAB_TAKEN);
    assert_int_equal(entry.epoch, 1);
    assert_int_equal(entry.seq, START);
    assert_int_equal(entry.id, 77);
    assert_int_equal(entry.sector, 77 * 8);
    assert_int_equal(entry.operation, BLKIF_OP_WRITE);
    assert_int_equal(entry.bytes, 8192);
    assert_int_equal(entry.slots, 1);
    assert_int_equal(entry.segments, 2);
    assert_int_equal(pread(rig.slab.fd, segments, sizeof(segments), entry.extent),
                     (ssize_t)sizeof(segments));
    assert_int_equal(segments[1].gref, 77);
    assert_int_equal(segments[1].last_sector, 7);
    assert_ptr_equal(slab_at(&rig.slab, entry.extent), journal_extent(&rig.journal, tag));
    struct slab_header header = read_header();
    assert_int_equal(header.queues[0].req_cons, (uint64_t)START + 1);
    assert_int_equal(header.queues[0].in_flight, 1);

    journal_start(&rig.journal, tag);
    assert_int_equal(state_of(tag), SLAB_STARTED);
    journal_done(&rig.journal, tag, BLKIF_RSP_ERROR);
    entry = read_entry(tag);
    assert_int_equal(entry.state, SLAB_DONE);
    assert_int_equal(entry.status, BLKIF_RSP_ERROR);
    journal_publish(&rig.journal, &rig.ring, &tag, 1);
    assert_int_equal(state_of(tag), SLAB_FREE);
    header = read_header();
    assert_int_equal(header.queues[0].publishing[START % SLOTS], tag + 1);
    assert_int_equal(header.queues[0].rsp_prod, (uint64_t)START + 1);
    assert_int_equal(header.queues[0].in_flight, 0);
    assert_int_equal(((struct ring_shared *)rig.ring_page)->rsp_prod, START + 1);
}

static void entries_run_out_and_come_back(void **state)
{
    uint16_t tags[CAPACITY];
    (void)state;

    for (unsigned i = 0; i < CAPACITY; i++)
        tags[i] = take(i);
    assert_int_equal(journal_free_entries(&rig.journal), 0);
    assert_true(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
    journal_start(&rig.journal, tags[1]);
    journal_done(&rig.journal, tags[1], 0);
    journal_publish(&rig.journal, &rig.ring, &tags[1], 1);
    assert_int_equal(journal_free_entries(&rig.journal), 1);
    assert_int_equal(state_of(tags[1]), SLAB_FREE);
    assert_int_equal(take(9), tags[1]);
}

/* With fewer entries than slots, as max-requests may say, the file is not damaged. */
static void readers_take_few_entries_in_a_large_ring(void **state)
{
    const struct journal_shape shape = {.slots = 512, .requests = 1, .segments = 11};
    struct slab slab = {0};
    struct journal journal;
    struct slab_header header;
    (void)state;

    assert_int_equal(slab_open(memfd_create("slab", MFD_CLOEXEC), &slab), 0);
    assert_int_equal(journal_create(&slab, 0, &shape, &journal), 0);
    assert_int_equal(slab_read_header(slab.fd, &header), 0);
    assert_int_equal(header.queues[0].entries, 1);
    assert_int_equal(header.queues[0].slots, 512);
    journal_destroy(&journal);
    slab_close(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_file_shows_each_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(entries_run_out_and_come_back, set_up, tear_down),
        cmocka_unit_test(readers_take_few_entries_in_a_large_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
