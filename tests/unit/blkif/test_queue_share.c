/* SPDX-License-Identifier: BSD-2-Clause */
/* How two queues that always have requests in their rings share their thread's time: by their
 * weights, over some turns, whatever the size of their requests. */
#include "rig.h"

#include <xen/io/blkif.h>

#define ORDER       3U
#define TURNS       400U
#define TOLERANCE   5U         /* percent */
#define COST        6144U      /* of a request, besides its data */
#define MOVES       2U         /* of its data: to or from the store, and the guest */
#define SLOW_TURNS  4000U      /* where a request is many turns' work */
#define LARGE       256U       /* segments of an indirect request */
#define PAGE_OF(i)  ((i) % 8U) /* granted, with the segments of those */
#define WRITE_SPACE (FAKE_DISK_BYTES / GNTTAB_PAGE_SIZE)

/* What a frontend asks for, again and again. */
struct wish {
    uint8_t operation;
    uint16_t segments;
    uint32_t weight;
};

static void put(struct front *front, const struct wish *wish, uint32_t id)
{
    const uint64_t place = (uint64_t)(id % (WRITE_SPACE / wish->segments)) * wish->segments * 8U;

    if (wish->segments > 11)
        front_put_indirect(front, &(struct rig_indirect){.operation = wish->operation,
                                                         .segments = wish->segments,
                                                         .id = id,
                                                         .sector = place,
                                                         .page = PAGE_OF(id),
                                                         .gref = LARGE,
                                                         .last_sector = 7});
    else
        front_put(front, &(struct rig_request){.operation = wish->operation,
                                               .segments = (uint8_t)wish->segments,
                                               .id = id,
                                               .sector = place,
                                               .gref = LARGE,
                                               .last_sector = 7});
}

/* Takes what was answered, and fills the ring again. Returns how many requests were answered. */
static uint64_t refill(struct rig *rig, unsigned index, const struct wish *wish)
{
    struct front *front = &rig->front[index];
    struct rig_response response;
    uint64_t answered = 0;

    for (; front_take(front, &response); answered++)
        assert_int_equal(response.status, BLKIF_RSP_OKAY);
    while (front->req_prod - front->rsp_cons < front->count)
        put(front, wish, front->req_prod);
    front_push(front);
    return answered;
}

/* Requests answered in so many turns; the first tenth of them does not count. */
static void compete(struct rig *rig, const struct wish wishes[2], unsigned turns,
                    uint64_t answered[2])
{
    for (unsigned i = 0; i < 2; i++) {
        answered[i] = 0;
        if (wishes[i].weight)
            queue_set_weight(rig->queue[i], wishes[i].weight);
        (void)refill(rig, i, &wishes[i]);
        rig_event(rig, i);
    }
    for (unsigned turn = 0; turn < turns; turn++) {
        turn_run(&rig->turn);
        for (unsigned i = 0; i < 2; i++) {
            const uint64_t more = refill(rig, i, &wishes[i]);

            answered[i] += turn < turns / 10 ? 0 : more;
        }
    }
}

static struct rig *with_two(void)
{
    const struct rig_options options = {
        .work_per_turn = 1U << 20, .order = ORDER, .max_indirect_segments = LARGE};
    struct rig *rig = rig_create(&options);

    rig_connect(rig, 1);
    rig->store.at_once = true;
    return rig;
}

static uint64_t cost(const struct wish *wish, uint64_t requests)
{
    return requests * (COST + (uint64_t)MOVES * wish->segments * GNTTAB_PAGE_SIZE);
}

/* Their weights share the work. */
static void check(struct wish first, struct wish second, unsigned turns)
{
    const struct wish wishes[2] = {first, second};
    struct rig *rig = with_two();
    uint64_t answered[2];

    compete(rig, wishes, turns, answered);
    const uint64_t wanted = cost(&first, answered[0]) * second.weight / first.weight;

    assert_in_range(cost(&second, answered[1]) * 100, wanted * (100 - TOLERANCE),
                    wanted * (100 + TOLERANCE));
    rig_destroy(rig);
}

static void by_weight(struct wish first, struct wish second, unsigned turns)
{
    static const uint32_t weights[][2] = {{100, 300}, {500, 100}, {300, 300}, {70, 110}};

    for (unsigned i = 0; i < sizeof(weights) / sizeof(*weights); i++) {
        first.weight = weights[i][0];
        second.weight = weights[i][1];
        check(first, second, turns);
    }
}

static const struct wish small_reads = {BLKIF_OP_READ, 1, 0};
static const struct wish reads = {BLKIF_OP_READ, 11, 0};
static const struct wish large_reads = {BLKIF_OP_READ, LARGE, 0};
static const struct wish small_writes = {BLKIF_OP_WRITE, 1, 0};

static void of_requests_of_one_size(void **state)
{
    (void)state;
    by_weight(reads, reads, TURNS);
    by_weight(small_reads, small_reads, TURNS);
    by_weight(large_reads, large_reads, SLOW_TURNS);
}

static void of_small_and_large_requests(void **state)
{
    (void)state;
    by_weight(small_reads, reads, TURNS);
    by_weight(reads, small_reads, TURNS);
    by_weight(small_reads, large_reads, SLOW_TURNS);
    by_weight(large_reads, reads, SLOW_TURNS);
}

static void of_reads_and_writes(void **state)
{
    (void)state;
    by_weight(small_writes, small_reads, TURNS);
    by_weight(reads, small_writes, TURNS);
}

/* Without weights a pass is as much work as is configured, and what it takes beyond that counts. */
static void without_weights_all_are_equal(void **state)
{
    struct wish first = small_reads, second = large_reads;
    (void)state;

    first.weight = second.weight = QUEUE_WEIGHT_STANDARD;
    check(first, second, SLOW_TURNS);
}

/* A disk of little weight whose requests are the work of hundreds of turns: once the other has
 * nothing to do, it does not wait for turns in which nobody works. */
static void nobody_pauses_for_others_that_rest(void **state)
{
    const struct wish wishes[2] = {{BLKIF_OP_READ, LARGE, 1}, {BLKIF_OP_READ, 1, 1000}};
    struct rig *rig = with_two();
    uint64_t answered[2];
    (void)state;

    compete(rig, wishes, SLOW_TURNS / 4, answered);
    for (unsigned i = 0; i < 100 && rig->turn.ready; i++)
        turn_run(&rig->turn); /* what is left in both rings */
    (void)refill(rig, 0, &wishes[0]);
    rig_event(rig, 0);
    uint64_t alone = 0;
    for (unsigned turn = 0; turn < 20; turn++) {
        turn_run(&rig->turn);
        alone += refill(rig, 0, &wishes[0]);
    }
    assert_in_range(alone, 8, 20);
    rig_destroy(rig);
}

/* One that rested has saved nothing up: when both want all there is they share at once. */
static void rest_is_not_saved_up(void **state)
{
    const struct wish wishes[2] = {{BLKIF_OP_READ, 11, 100}, {BLKIF_OP_READ, 11, 300}};
    struct rig *rig = with_two();
    uint64_t answered[2] = {0, 0};
    (void)state;

    queue_set_weight(rig->queue[1], 300);
    (void)refill(rig, 0, &wishes[0]);
    for (unsigned turn = 0; turn < 200; turn++) {
        rig_event(rig, 1); /* which finds nothing */
        turn_run(&rig->turn);
        (void)refill(rig, 0, &wishes[0]);
    }
    for (unsigned i = 0; i < 2; i++) {
        (void)refill(rig, i, &wishes[i]);
        rig_event(rig, i);
    }
    for (unsigned turn = 0; turn < 40; turn++) {
        turn_run(&rig->turn);
        for (unsigned i = 0; i < 2; i++)
            answered[i] += refill(rig, i, &wishes[i]);
    }
    assert_in_range(answered[1], answered[0] * 2, answered[0] * 4);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_requests_of_one_size),
        cmocka_unit_test(of_small_and_large_requests),
        cmocka_unit_test(of_reads_and_writes),
        cmocka_unit_test(without_weights_all_are_equal),
        cmocka_unit_test(nobody_pauses_for_others_that_rest),
        cmocka_unit_test(rest_is_not_saved_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
