/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Passes over a ring, to be counted instruction by instruction: see run-cost. Usage:
 *     blkif_cost_requests read|write kept|copied PASSES
 * Each pass finds 32 requests of one page, at places without an order, in a store that moves
 * nothing and is done at once.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/blkif.h>

#define DEPTH 32U

static enum io_submit submit(struct store *store, struct io *io)
{
    (void)store;
    io->result = 0;
    return IO_DONE;
}

static const struct store_driver driver = {.name = "nothing", .submit = submit};

static uint64_t next_sector(void)
{
    static uint64_t random = 88172645463325252U;

    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random % (FAKE_DISK_BYTES / GNTTAB_PAGE_SIZE) * (GNTTAB_PAGE_SIZE / 512);
}

static void pass(struct rig *rig, uint8_t operation)
{
    for (unsigned i = 0; i < DEPTH; i++)
        front_put(&rig->front[0], &(struct rig_request){.operation = operation,
                                                        .segments = 1,
                                                        .id = i,
                                                        .sector = next_sector(),
                                                        .gref = i,
                                                        .last_sector = 7});
    front_push(&rig->front[0]);
    rig_event(rig, 0);
    (void)rig_settle(rig);
    for (unsigned i = 0; i < DEPTH; i++)
        rig_expect(rig, i, operation, BLKIF_RSP_OKAY);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fprintf(stderr, "usage: %s read|write kept|copied PASSES\n", argv[0]);
        return EXIT_FAILURE;
    }
    const uint8_t operation = strcmp(argv[1], "write") == 0 ? BLKIF_OP_WRITE : BLKIF_OP_READ;
    const bool kept = strcmp(argv[2], "kept") == 0;
    const long passes = strtol(argv[3], NULL, 10);
    struct rig *rig = rig_create(&(struct rig_options){
        .order = 3, .persistent = kept, .grant_budget = kept ? DEPTH : 0, .max_requests = 256});

    rig->store.base.driver = &driver;
    for (long i = 0; i < passes; i++)
        pass(rig, operation);
    rig_destroy(rig);
    return EXIT_SUCCESS;
}
