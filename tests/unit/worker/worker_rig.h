/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker within the test's process: its loop runs while the test waits for a message, so that
 * everything happens in one thread. The null store is the test's own, see fake_store.h.
 */
#ifndef BLKBACK_TEST_WORKER_RIG_H
#define BLKBACK_TEST_WORKER_RIG_H

#include "../blkif/fake_store.h"
#include "../blkif/fake_xen.h"
#include "blkback/worker_protocol.h"
#include "ring.h"
#include "testing.h"
#include "worker.h"

#define RIG_DOMID 7U
#define RIG_DEVID 51712U

extern struct worker rig_worker;
extern struct fake_store *rig_store; /* the null store opened last; NULL: closed */
extern int rig_socket;               /* the broker's end */

/* cmocka's setup and teardown; the latter fails when a descriptor was leaked. */
int rig_set_up(void **state);
int rig_tear_down(void **state);

/* Lets the loop run for that long. */
void rig_run(unsigned milliseconds);

/* Runs the loop for a moment: the next message must be of that type, for that vbd. */
struct worker_message rig_expect(enum worker_message_type type, uint32_t vbd);
void rig_expect_silence(unsigned milliseconds);

void rig_send(const struct worker_message *message, const int *fds, unsigned count);
void rig_send_plain(enum worker_message_type type, uint32_t vbd);

/* Opens a null store as `vbd` and takes its answer. */
void rig_open(uint32_t vbd);

/* Closes the store of `vbd`, which is the one opened last, and takes the answer. */
void rig_close(uint32_t vbd);

/* A message that connects queue 0 to a blank ring of one page at gref 0. */
struct worker_message rig_connect_message(uint32_t vbd);
/* The same, sent with an event channel whose other end is returned, answer taken. */
int rig_connect(uint32_t vbd);

/* The ring that rig_connect() connects. */
struct ring_shared *rig_shared(void);

/* A request of the frontend's on it, of a page where it has data. */
void rig_put(uint8_t operation, uint64_t sector);
/* The same with its event, `event` being what rig_connect() returned, and a moment for the worker.
 */
void rig_request(int event, uint8_t operation, uint64_t sector);

/* Descriptors of this process. */
unsigned rig_descriptors(void);

#endif
