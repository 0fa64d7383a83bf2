/* SPDX-License-Identifier: BSD-2-Clause */
/* A store in memory whose I/O completes when and how the test says. */
#ifndef BLKBACK_TEST_FAKE_STORE_H
#define BLKBACK_TEST_FAKE_STORE_H

#include "blkback/store.h"

#include <stdbool.h>
#include <stdint.h>

#ifndef FAKE_DISK_BYTES /* fuzz targets have a small one */
#define FAKE_DISK_BYTES (4U << 20)
#endif
#define FAKE_HELD_MAX  256U
#define FAKE_TRACE_MAX 4096U
#define FAKE_DISCARDED 0xdc

struct fake_store {
    struct store base;
    uint8_t disk[FAKE_DISK_BYTES];
    bool at_once;                   /* I/O is over within submit */
    unsigned room;                  /* I/Os it holds at most; more is BUSY */
    int result;                     /* of what is over at once: 0 or -errno */
    struct io *held[FAKE_HELD_MAX]; /* oldest first */
    unsigned held_count;
    unsigned refused;        /* submissions answered with BUSY */
    bool secure;             /* what the last discard asked for */
    uint64_t discard_offset; /* and its range, bytes */
    uint64_t discard_length;
    /* One letter each: r w f d when submitted, R W F D when over. */
    char trace[FAKE_TRACE_MAX];
    unsigned trace_length;
};

/* 512-byte sectors, writable, holds everything. */
void fake_store_init(struct fake_store *store);

/* Ends the I/O at `index` of what is held; its data is moved now if `result` is 0. What is
 * discarded is FAKE_DISCARDED from then on. */
void fake_store_finish(struct fake_store *store, unsigned index, int result);

/* Ends all that is held now, oldest first, well. */
void fake_store_finish_all(struct fake_store *store);

#endif
