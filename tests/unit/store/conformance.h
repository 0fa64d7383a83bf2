/* SPDX-License-Identifier: BSD-2-Clause */
/* The conformance suite's parts: the store under test, and the tests that have files of their own.
 */
#ifndef TEST_STORE_CONFORMANCE_H
#define TEST_STORE_CONFORMANCE_H

#include "harness.h"

#define DEPTH      8U
#define IMAGE_SIZE (4 * MIB)
#define PAGE       ((size_t)4096)
#define ENTRY_MAX  (8 * PAGE) /* room for an entry of a vector */

/* A store × an engine; the initial state of each of its tests. */
struct subject {
    enum image_kind kind;
    const struct engine_ops *ops;
    char name[48];
    struct test_image image;
    struct engine_set engines;
    struct store *store;
    size_t sector;
    int fd; /* the store's */
};

struct engine *engine_of(const struct subject *s);

/* The subject of a running test, which is skipped if this machine can't provide it. */
struct subject *subject_of(void **state);

/* Reads and compares: what was written must be read; a null store reads zeros. */
void expect_read(struct subject *s, uint64_t offset, const char *expected, size_t length);

/* conformance_transfers.c */
void write_and_read_back(void **state);
void write_reaches_the_image(void **state);
void first_and_last_sector(void **state);
void vectors(void **state);
void more_entries_than_the_kernel_takes(void **state);
void merged_requests(void **state);
void many_in_flight(void **state);
void submission_from_a_completion(void **state);
void mixed_batch(void **state);

/* conformance_discard.c */
void discard_gives_space_back(void **state);
void discard_of_whole_granules_only(void **state);
void discard_among_other_io(void **state);
void discard_refusals(void **state);
void discard_is_forgotten(void **state);

/* conformance_refusals.c */
void unaligned_is_refused(void **state);
void past_the_end_is_refused(void **state);
void nothing_to_transfer(void **state);
void truncated_underneath(void **state);

#endif
