/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whole vbds of the broker, with what the fuzz target of the same name has in the place of workers,
 * Xen and time, and a XenStore in memory.
 */
#ifndef TEST_BROKER_VBD_RIG_H
#define TEST_BROKER_VBD_RIG_H

#include "testing.h"

#include "fake_outside.h"
#include "fake_time.h"
#include "fake_worker.h"
#include "fake_xenstore.h"

#include "domain.h"
#include "domains.h"
#include "kernel_blkback.h"
#include "vbd.h"

extern const struct vbd_address disk; /* of domain 7 */
extern struct broker broker;
extern uint8_t rig_target; /* for fake_target(): what disks are made of, a null one at first */
extern const struct input quick; /* for work(): a worker that does all at once */

/* A node of the disk's directory, the frontend's or ours; NULL removes it. */
void set(const struct vbd_address *address, bool front, const char *node, const char *value);
unsigned backend_state(const struct vbd_address *address);
struct vbd *find(const struct vbd_address *address);

/* Has the broker look at what has changed; at the disk in any case. */
void turn(void);
void look(const struct vbd_address *address);

/* The worker does all that it was asked for, and says so. */
void work(const struct input *how);

/* Time goes by. */
void pass(double seconds);

/* A disk as xl makes it; with a ring that is offered; one that is connected. */
void make(const struct vbd_address *address);
void offer_ring(const struct vbd_address *address, const char *ref);
void connect_with(const struct vbd_address *address, const struct input *how);

/* Of each test. */
int set_up(void **state);
int tear_down(void **state);

/* Of all of them together. */
int prepare(void **state);
int finish(void **state);

#endif
