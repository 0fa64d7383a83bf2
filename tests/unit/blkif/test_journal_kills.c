/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal's order of stores: run one instruction at a time, for a kill may come after each. A
 * successor that takes up a copy of what is there must account for every request exactly once; and
 * so must the successor of one that is killed while it does so.
 */
#include "journal.h"
#include "testing.h"

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
#define BYTES    65536U            /* more than the slab has */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* Slots of the requests, by their ids: more than the ring has. */
#define REQUESTS 7U
static const uint8_t spans[REQUESTS] = {2, 1, 19, 1, 3, 10, 2};

/* All that outlives a process: two of them share it. */
struct world {
    uint8_t ring[4096];
    uint8_t slab[BYTES];
    /* What became of a request beyond the journal: its I/O was submitted, and was over. */
    bool submitted[REQUESTS], over[REQUESTS];
};

/* The guest, which saw some of the answers. */
struct frontend {
    uint32_t rsp_cons;
    unsigned seen[REQUESTS];
};

struct process {
    struct slab slab;
    struct journal journal;
    struct ring ring;
};

static const struct journal_shape shape = {
    .slots = SLOTS, .requests = CAPACITY, .segments = 11, .start = START};

static struct ring_shared *shared_of(struct world *world)
{
    return (struct ring_shared *)(void *)world->ring;
}

static struct slab slab_in(struct world *world)
{
    struct slab_header *header = (struct slab_header *)(void *)world->slab;

    return (struct slab){
        .fd = -1, .header = header, .mapped = BYTES, .allocated = (uint32_t)header->file_size};
}

static struct world *new_world(void)
{
    struct world *world =
        mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(world, MAP_FAILED);
    return world;
}

/* A slab as journal_create() makes it, with a ring that is attached. */
static struct world *begin(struct process *process)
{
    struct world *world = new_world();
    struct slab slab = {0};

    assert_int_equal(slab_open(memfd_create("slab", MFD_CLOEXEC), &slab), 0);
    assert_int_equal(journal_create(&slab, 0, &shape, &process->journal), 0);
    assert_true(slab.allocated <= BYTES);
    memcpy(world->slab, slab.header, slab.allocated);
    journal_destroy(&process->journal);
    slab_close(&slab);
    shared_of(world)->rsp_prod = START;
    shared_of(world)->req_prod = START + SLOTS;
    return world;
}

/* ---- a process that serves ---- */

/* Attaches as a worker does, to what is there. NULL, or what is wrong. */
static const char *take_up(struct world *world, struct process *process,
                           struct journal_recovered *recovered)
{
    struct journal_shape found = shape;

    found.start = shared_of(world)->rsp_prod;
    shared_of(world)->req_prod = found.start + SLOTS;
    process->slab = slab_in(world);
    if (journal_recover(&process->slab, 0, &found, &process->journal, recovered))
        return "what a kill has left is refused";
    if (ring_init(&process->ring, world->ring, BLKIF_ABI_NATIVE, 0) ||
        ring_resume(&process->ring, recovered->req_cons))
        return "the ring is refused";
    return NULL;
}

static uint16_t take(struct process *process, uint64_t id)
{
    const struct decoded_request request = {.id = id,
                                            .sector = id * 8,
                                            .operation = BLKIF_OP_WRITE,
                                            .response_operation = BLKIF_OP_WRITE,
                                            .segments = 2,
                                            .bytes = 8192,
                                            .slots = spans[id],
                                            .status = BLKIF_RSP_OKAY};
    const uint32_t tag = journal_reserve(&process->journal);

    journal_extent(&process->journal, tag)[1] =
        (struct slab_segment){.gref = (uint32_t)id, .last_sector = 7};
    ring_consume(&process->ring, spans[id]);
    journal_take(&process->journal, tag, &request);
    return (uint16_t)tag;
}

static void start(struct world *world, struct process *process, uint16_t tag)
{
    journal_start(&process->journal, tag);
    world->submitted[journal_entry(&process->journal, tag)->id] = true;
}

/* The status tells whose it is. */
static void done(struct world *world, struct process *process, uint16_t tag)
{
    const uint64_t id = journal_entry(&process->journal, tag)->id;

    world->over[id] = true;
    journal_done(&process->journal, tag, (int16_t) - (int)id);
}

/* Ids count from 0 in the order of the ring. */
static void work(struct world *world, struct process *process)
{
    struct journal *journal = &process->journal;
    struct ring *ring = &process->ring;
    uint16_t tags[REQUESTS];

    for (unsigned i = 0; i < CAPACITY; i++)
        tags[i] = take(process, i);
    start(world, process, tags[2]); /* 1 overlaps 0, and waits */
    start(world, process, tags[0]);
    done(world, process, tags[2]);
    done(world, process, tags[0]);
    journal_publish(journal, ring, (const uint16_t[]){tags[2], tags[0]}, 2);
    start(world, process, tags[1]);
    for (unsigned i = 3; i < 5; i++) {
        tags[i] = take(process, i);
        start(world, process, tags[i]);
        done(world, process, tags[i]);
    }
    journal_publish(journal, ring, &tags[4], 1);
    tags[5] = take(process, 5);
    start(world, process, tags[5]);
    done(world, process, tags[1]);
    done(world, process, tags[5]);
    journal_publish(journal, ring, (const uint16_t[]){tags[1], tags[3], tags[5]}, 3);
    tags[6] = take(process, 6);
}

/* A successor's: carries out what is left and answers it. */
static void settle(struct world *world, struct process *process,
                   const struct journal_recovered *recovered)
{
    for (uint32_t i = recovered->done; i < recovered->count; i++) {
        start(world, process, recovered->tags[i]);
        done(world, process, recovered->tags[i]);
    }
    if (recovered->count)
        journal_publish(&process->journal, &process->ring, recovered->tags, recovered->count);
}

/* ---- what must hold ---- */

static uint64_t seq_of(uint64_t id)
{
    uint64_t seq = START;

    while (id-- > 0)
        seq += spans[id];
    return seq;
}

/* The guest takes the answers that are there. */
static const char *look(struct world *world, struct frontend *frontend)
{
    const uint32_t end = shared_of(world)->rsp_prod;

    while (frontend->rsp_cons != end) {
        uint64_t id;
        int16_t status;
        const uint8_t *slot =
            world->ring + BLKIF_RING_HEADER_BYTES + (size_t)(frontend->rsp_cons % SLOTS) * 112;

        memcpy(&id, slot, sizeof(id));
        memcpy(&status, slot + 10, sizeof(status));
        if (id >= REQUESTS || status != -(int)id)
            return "an answer that is none, or at another place";
        if (frontend->seen[id]++)
            return "a request that is answered twice";
        if (!world->over[id])
            return "a request that is answered before it is over";
        frontend->rsp_cons += spans[id];
    }
    return NULL;
}

static const char *check_entry(const struct world *world, const struct process *process,
                               uint16_t tag)
{
    const struct slab_entry *entry = journal_entry(&process->journal, tag);
    const uint64_t id = entry->id;

    if (id >= REQUESTS || entry->seq != seq_of(id) || entry->sector != id * 8 ||
        entry->segments != 2 || entry->slots != spans[id] ||
        journal_extent(&process->journal, tag)[1].gref != id)
        return "an entry that is not whole";
    if (entry->state == SLAB_DONE && entry->status != -(int)id)
        return "a status that is another's";
    if (entry->state == SLAB_DONE && !world->over[id])
        return "a request that is called done and is not";
    if (entry->state == SLAB_TAKEN && world->submitted[id])
        return "a request that was started and is not known as such";
    return NULL;
}

static const char *check_recovered(const struct world *world, const struct process *process,
                                   const struct journal_recovered *recovered,
                                   const struct frontend *frontend)
{
    unsigned had[REQUESTS];
    uint64_t id = 0;

    memcpy(had, frontend->seen, sizeof(had));
    for (uint32_t i = 0; i < recovered->count; i++) {
        const struct slab_entry *entry = journal_entry(&process->journal, recovered->tags[i]);
        const uint32_t rank = i < recovered->done                        ? SLAB_DONE
                              : i < recovered->done + recovered->started ? SLAB_STARTED
                                                                         : SLAB_TAKEN;
        const char *wrong = check_entry(world, process, recovered->tags[i]);

        if (wrong)
            return wrong;
        if (entry->state != rank)
            return "what was started is not before what was not";
        had[entry->id]++;
    }
    if (process->journal.free_count + recovered->count != CAPACITY)
        return "an entry that is neither free nor taken";
    for (; id < REQUESTS && (uint32_t)seq_of(id) != recovered->req_cons; id++)
        if (had[id] != 1)
            return had[id] ? "a request that is had twice" : "a request that is lost";
    if ((uint32_t)seq_of(id) != recovered->req_cons)
        return "a request that is consumed in part";
    for (; id < REQUESTS; id++)
        if (had[id])
            return "a request that will be taken again";
    return NULL;
}

/* Takes a copy of the world up and goes on to the end. NULL, or what is wrong. */
static const char *check_successor(const struct world *world, const struct frontend *guest,
                                   struct world *copy)
{
    struct frontend frontend = *guest;
    struct process process = {0};
    struct journal_recovered recovered = {0};

    memcpy(copy, world, sizeof(*copy));
    const char *wrong = look(copy, &frontend);

    if (!wrong)
        wrong = take_up(copy, &process, &recovered);
    if (!wrong)
        wrong = check_recovered(copy, &process, &recovered, &frontend);
    if (!wrong) {
        settle(copy, &process, &recovered);
        wrong = look(copy, &frontend);
    }
    if (!wrong && frontend.rsp_cons != recovered.req_cons)
        wrong = "not everything is answered in the end";
    free(recovered.tags);
    journal_destroy(&process.journal);
    return wrong;
}

/* ---- one instruction at a time ---- */

static pid_t begin_steps(void (*run)(struct world *), struct world *world, int *status)
{
    const pid_t child = fork();

    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        (void)raise(SIGSTOP);
        run(world);
        _exit(0);
    }
    assert_int_equal(waitpid(child, status, 0), child);
    if (WIFEXITED(*status) && WEXITSTATUS(*status) == 77)
        skip();
    return child;
}

/*
 * Runs it to its end with a look after each instruction: `world` is changed by it. Each
 * `every`-th time the successor is run in the same way (0: never). Returns how many there were.
 */
static unsigned long run_stepped(void (*run)(struct world *), struct world *world,
                                 struct frontend *frontend, unsigned long every);

static void serve(struct world *world)
{
    struct process process = {0};
    struct journal_recovered recovered = {0};

    if (take_up(world, &process, &recovered))
        _exit(1);
    work(world, &process);
}

static void succeed(struct world *world)
{
    struct process process = {0};
    struct journal_recovered recovered = {0};

    if (take_up(world, &process, &recovered))
        _exit(1);
    settle(world, &process, &recovered);
}

static void run_successor_stepped(const struct world *world, const struct frontend *guest)
{
    struct world *inner = new_world();
    struct frontend frontend = *guest;

    memcpy(inner, world, sizeof(*inner));
    assert_true(run_stepped(succeed, inner, &frontend, 0) > 100);
    (void)munmap(inner, sizeof(*inner));
}

static unsigned long run_stepped(void (*run)(struct world *), struct world *world,
                                 struct frontend *frontend, unsigned long every)
{
    struct world *copy = new_world();
    unsigned long steps = 0;
    int status = 0;
    const pid_t child = begin_steps(run, world, &status);

    while (WIFSTOPPED(status)) {
        const char *wrong = look(world, frontend);

        if (!wrong)
            wrong = check_successor(world, frontend, copy);
        if (wrong) {
            (void)kill(child, SIGKILL);
            (void)waitpid(child, &status, 0);
            fail_msg("%s, after %lu instructions: %s", every ? "serving" : "taking up", steps,
                     wrong);
        }
        if (every && steps % every == 0)
            run_successor_stepped(world, frontend);
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) < 0)
            break;
        steps++;
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)munmap(copy, sizeof(*copy));
    return steps;
}

static void a_kill_after_any_instruction_loses_and_repeats_nothing(void **state)
{
    const char *preload = getenv("LD_PRELOAD");
    const char *stride = getenv("BLKBACK_KILL_STRIDE");
    struct frontend frontend = {.rsp_cons = START};
    struct process process = {0};
    (void)state;

    /* Its child would run valgrind's instructions, or the sanitizer's, by far the most. */
    if (SANITIZED || (preload && strstr(preload, "vgpreload")))
        skip();
    struct world *world = begin(&process);
    const unsigned long steps =
        run_stepped(serve, world, &frontend, stride ? strtoul(stride, NULL, 10) : 97);

    assert_true(steps > 500);
    for (unsigned id = 0; id + 1 < REQUESTS; id++)
        assert_int_equal(frontend.seen[id], 1);
    assert_int_equal(frontend.seen[REQUESTS - 1], 0);
    (void)munmap(world, sizeof(*world));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_after_any_instruction_loses_and_repeats_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
