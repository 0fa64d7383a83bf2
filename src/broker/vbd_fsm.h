/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The XenBus state machine of a vbd: a pure table from where the backend is, what the frontend says
 * and whether the toolstack wants the disk, to what is to be done next. It is level-triggered:
 * whoever calls it reads the current values, does what the answer says and asks again until nothing
 * is left to do, so events may be lost, doubled or late.
 */
#ifndef BLKBACK_BROKER_VBD_FSM_H
#define BLKBACK_BROKER_VBD_FSM_H

#include "blkback/xenbus.h"

#include <stdbool.h>
#include <stdint.h>

/* Where the backend is. Each phase but VBD_NEW is the XenBus state that it shows. */
enum vbd_phase {
    VBD_NEW,       /* nothing published yet; the toolstack wrote state 1 */
    VBD_INIT_WAIT, /* limits are published, the frontend may come */
    VBD_CONNECTED, /* serving */
    VBD_CLOSING,   /* state 5 is shown; still serving if it was */
    VBD_CLOSED,    /* not serving; a frontend may begin again while the disk is online */
    VBD_PHASES
};

enum vbd_action {
    VBD_NOTHING,
    VBD_ENTER_INIT_WAIT, /* publish everything and show state 2 */
    VBD_CONNECT,         /* negotiate, connect the rings, show state 4 */
    VBD_CHECK_RINGS, /* the frontend says that it is (again) ready: if its rings are new ones, drain
                        the old and connect them */
    VBD_START_CLOSING, /* show state 5; a connected ring is served until the frontend has closed */
    VBD_CLOSE,         /* give back rings and channels if there are any, then show state 6 */
};

/* `frontend` is the number in the frontend's state node, 0 when there is none; numbers that are no
 * state ask for nothing. */
enum vbd_action vbd_fsm(enum vbd_phase phase, uint32_t frontend, bool online);

const char *vbd_phase_name(enum vbd_phase phase);

/* The XenBus state that the phase shows. */
enum xenbus_state vbd_phase_state(enum vbd_phase phase);

#endif
