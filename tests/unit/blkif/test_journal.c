/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal: its states as the file shows them, and its order of stores. The latter by running it
 * one instruction at a time: after each, what a successor would find must account for every request
 * exactly once, since a kill may come there.
 */
#include "journal.h"
#include "testing.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define SLOTS    32U
#define CAPACITY 3U
#define START    (UINT32_MAX - 3U) /* the counters wrap in the middle */

struct rig {
    uint8_t *ring_page; /* shared with a traced child */
    struct ring ring;
    struct slab slab;
    struct journal journal;
};

static struct rig rig;

/* Slots of the first requests, by their ids, and of all others. */
#define REQUESTS 7U
static const uint8_t spans[REQUESTS + 1] = {2, 1, 19, 1, 3, 10, 2, 1};

static uint8_t span_of(uint64_t id)
{
    return spans[id < REQUESTS ? id : REQUESTS];
}

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
                                            .slots = span_of(id),
                                            .status = BLKIF_RSP_OKAY};
    const uint32_t tag = journal_reserve(&rig.journal);

    journal_extent(&rig.journal, tag)[1] =
        (struct slab_segment){.gref = (uint32_t)id, .last_sector = 7};
    ring_consume(&rig.ring, span_of(id));
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
    journal_drop(&rig.journal, tags[1]);
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

/* ---- one instruction at a time ---- */

/* Ids count from 0 in the order of the ring. */
static void work(void)
{
    uint16_t tags[REQUESTS];

    for (unsigned i = 0; i < CAPACITY; i++)
        tags[i] = take(i);
    for (unsigned i = 0; i < CAPACITY; i++)
        journal_start(&rig.journal, tags[i]);
    journal_done(&rig.journal, tags[2], 0);
    journal_done(&rig.journal, tags[0], 0);
    journal_publish(&rig.journal, &rig.ring, (const uint16_t[]){tags[2], tags[0]}, 2);
    for (unsigned i = 3; i < 5; i++) {
        tags[i] = take(i);
        journal_start(&rig.journal, tags[i]);
        journal_done(&rig.journal, tags[i], 0);
    }
    journal_publish(&rig.journal, &rig.ring, &tags[4], 1);
    tags[5] = take(5);
    journal_done(&rig.journal, tags[1], 0);
    journal_done(&rig.journal, tags[5], 0);
    journal_publish(&rig.journal, &rig.ring, (const uint16_t[]){tags[1], tags[3], tags[5]}, 3);
    tags[6] = take(6);
    journal_drop(&rig.journal, tags[6]);
}

/* Number of a request's first slot. */
static uint64_t seq_of(uint64_t id)
{
    uint64_t seq = START;

    while (id-- > 0)
        seq += span_of(id);
    return seq;
}

/*
 * Looks at the answers in the ring, each where the one before ended. Those the journal did not
 * retire must be named by publishing[], in every slot. Returns what is wrong.
 */
static const char *look_at_answers(unsigned *seen)
{
    const struct slab_queue *queue = &rig.slab.header->queues[0];
    const struct slab_entry *entries = slab_at(&rig.slab, queue->entries_offset);
    const uint32_t answered = ((struct ring_shared *)rig.ring_page)->rsp_prod;
    const uint32_t retired = (uint32_t)queue->rsp_prod;
    uint64_t id;

    for (uint32_t at = START; at != answered; at += span_of(id)) {
        memcpy(&id, rig.ring_page + BLKIF_RING_HEADER_BYTES + (size_t)(at % SLOTS) * 112, 8);
        if (id >= REQUESTS)
            return "an answer that is none, or at another place";
        seen[id]++;
        for (uint32_t slot = at; at - START >= retired - START && slot != at + span_of(id); slot++)
            if (entries[queue->publishing[slot % SLOTS] - 1].id != id)
                return "a slot of an answer whose entry is another one's";
    }
    return NULL;
}

/* What a successor finds: step by step as crash-safety's "Recover" has it. Returns what is wrong.
 */
static const char *recover(bool *dropped)
{
    const struct slab_queue *queue = &rig.slab.header->queues[0];
    const struct slab_entry *entries = slab_at(&rig.slab, queue->entries_offset);
    const uint32_t answered = ((struct ring_shared *)rig.ring_page)->rsp_prod;
    const uint64_t retired = queue->rsp_prod;
    const uint32_t publishing = answered - (uint32_t)retired;
    bool freed[CAPACITY] = {false};
    unsigned seen[REQUESTS] = {0};
    uint64_t consumed = queue->req_cons;

    if (publishing > SLOTS)
        return "the ring's producer is behind the journal's";
    for (uint64_t at = retired; at < retired + publishing; at++) {
        const uint32_t tag = (uint32_t)queue->publishing[at % SLOTS] - 1;

        if (tag >= CAPACITY)
            return "an answer in the ring that publishing[] does not name";
        if (entries[tag].state != SLAB_DONE && entries[tag].state != SLAB_FREE)
            return "an answer in the ring of an entry that is not done";
        freed[tag] = true;
    }
    const char *wrong = look_at_answers(seen);

    if (wrong)
        return wrong;
    for (uint32_t tag = 0; tag < CAPACITY; tag++) {
        const struct slab_entry *entry = &entries[tag];

        if (entry->state == SLAB_FREE || freed[tag])
            continue;
        if (entry->id >= REQUESTS || entry->seq != seq_of(entry->id) ||
            entry->sector != entry->id * 8 || entry->segments != 2)
            return "an entry that is taken and not whole";
        seen[entry->id]++;
        if (entry->seq + entry->slots > consumed)
            consumed = entry->seq + entry->slots;
    }
    *dropped = consumed == seq_of(REQUESTS) && seen[REQUESTS - 1] == 0;
    uint64_t id;

    for (id = 0; seq_of(id) < consumed; id++)
        if (seen[id] != 1 && !(id == REQUESTS - 1 && *dropped))
            return seen[id] ? "a request that is had twice" : "a request that is lost";
    if (seq_of(id) != consumed)
        return "a request that is consumed in part";
    for (; id < REQUESTS; id++)
        if (seen[id])
            return "a request from beyond what was consumed";
    return NULL;
}

static void a_kill_after_any_instruction_loses_and_repeats_nothing(void **state)
{
    const char *preload = getenv("LD_PRELOAD");
    bool dropped = false;
    unsigned long steps = 0;
    int status = 0;
    (void)state;

    /* Its child would run valgrind's instructions. */
    if (preload && strstr(preload, "vgpreload"))
        skip();
    const pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        (void)raise(SIGSTOP);
        work();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    while (WIFSTOPPED(status)) {
        const char *wrong = recover(&dropped);

        if (wrong) {
            (void)kill(child, SIGKILL);
            (void)waitpid(child, &status, 0);
            fail_msg("after %lu instructions: %s", steps, wrong);
        }
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) < 0)
            break;
        steps++;
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(dropped);
    assert_true(steps > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_file_shows_each_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(entries_run_out_and_come_back, set_up, tear_down),
        cmocka_unit_test(readers_take_few_entries_in_a_large_ring),
        cmocka_unit_test_setup_teardown(a_kill_after_any_instruction_loses_and_repeats_nothing,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
