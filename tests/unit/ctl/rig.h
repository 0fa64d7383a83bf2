/* SPDX-License-Identifier: BSD-2-Clause */
/* blkbackctl as its user sees it: the program runs on state files made here and a broker that is a
 * child of the test. */
#ifndef BLKBACK_TEST_CTL_RIG_H
#define BLKBACK_TEST_CTL_RIG_H

#include "testing.h"

#include "blkback/state_files.h"

#include <stdint.h>

/* The program's path, for the test's main() to set. */
extern const char *rig_program;

/* Paths of the test that runs. */
extern char rig_run_dir[TEST_PATH_MAX];
extern char rig_state_dir[TEST_PATH_MAX];
extern char rig_config[TEST_PATH_MAX];

/* What the last run printed. */
extern char rig_output[65536];
extern char rig_errors[65536];

/* Around each test: an empty state folder and a configuration; what is left of the broker ends. */
int rig_set_up(void **state);
int rig_tear_down(void **state);

#define RIG_TEST(function) cmocka_unit_test_setup_teardown(function, rig_set_up, rig_tear_down)

/* A broker that answers each command in its own way; it serves the disks of domain 3. */
void rig_start_broker(void);

/* Runs "blkbackctl --config FILE WORDS..."; returns its exit code. */
int rig_run(const char *words);

void rig_expect_in(const char *text, const char *part);

/* What the broker says of a connected disk. */
struct connection_file rig_connection(uint32_t domid, uint32_t devid, const char *vdev);

/* Writes the disk's state file. */
void rig_store(struct connection_file *made);

/* An empty slab of one ring, for rig_store_slab_as() to write and free. */
struct slab_header *rig_slab(void);
void rig_store_slab_as(const char *name, struct slab_header *header);

/* A slab of one ring with its counters. */
void rig_store_slab(const char *name, uint64_t reads, uint64_t read_bytes);

#endif
