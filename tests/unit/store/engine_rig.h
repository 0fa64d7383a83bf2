/* SPDX-License-Identifier: BSD-2-Clause */
/* An engine with a file to work on, made for each test, and tests that are run for several engines.
 */
#ifndef TEST_STORE_ENGINE_RIG_H
#define TEST_STORE_ENGINE_RIG_H

#include "faulty_kernel.h"
#include "harness.h"

#define DEPTH      (ENGINE_BATCH - 1) /* what is submitted waits for the commit */
#define IMAGE_SIZE (2 * MIB)
#define PAGE       ((size_t)4096)

/* An engine under test with a file to work on. */
struct rig {
    const struct engine_ops *ops;
    struct engine *engine;
    struct test_image image;
    int fd;
};

/* Which engines a test is about. */
enum { URING = 1, AIO = 2, INLINE = 4, QUEUED = URING | AIO, ALL = 7 };

struct engine_test {
    const char *name;
    CMUnitTestFunction run;
    unsigned engines;
};

/* A test's own rig. Skips the test where the kernel does not have the engine. */
struct rig *rig_of(void **state);

/* Submits, commits and waits; returns the result. */
int rig_run(const struct rig *rig, struct test_io *t);

/* Writes and reads back a vector of uneven entries; both must be whole, however it is cut up below.
 */
void rig_expect_whole_transfers(const struct rig *rig);

/* Runs each test once for each of its engines. Returns the exit status of a test program. */
int rig_run_suite(const struct engine_test *suite, size_t count);

#endif
