/* SPDX-License-Identifier: BSD-2-Clause */
/* The XenBus state machine of a vbd, as two tables: while the toolstack wants the disk, and when it
 * does not any more. */
#include "vbd_fsm.h"

/* Short names, so that a table can be read as one. */
#define NONE  VBD_NOTHING
#define WAIT  VBD_ENTER_INIT_WAIT
#define CONN  VBD_CONNECT
#define CHECK VBD_CHECK_RINGS
#define START VBD_START_CLOSING
#define CLOSE VBD_CLOSE

/*
 * Columns: the frontend's state, 0 to 8.
 *
 * - New enters InitWait whatever the frontend's state is: libxl waits for exactly that state before
 *   it runs the hook.
 * - InitWait connects at 3 or straight at 4, since firmware skips states, and follows a frontend
 *   that closes.
 * - Connected: a frontend at 1 has restarted; 3 is a repeated or a resumed guest's announcement; at
 *   5 it still has requests under way, so the rings are served until 6.
 * - Closed: a frontend that begins again is taken back, as boot loaders hand over to kernels so.
 */
/* clang-format off */
static const enum vbd_action wanted[VBD_PHASES][XENBUS_STATES] = {
    /*                   0      1      2      3      4      5      6      7      8 */
    [VBD_NEW]       = { WAIT,  WAIT,  WAIT,  WAIT,  WAIT,  WAIT,  WAIT,  WAIT,  WAIT },
    [VBD_INIT_WAIT] = { CLOSE, NONE,  NONE,  CONN,  CONN,  START, CLOSE, NONE,  NONE },
    [VBD_CONNECTED] = { CLOSE, CLOSE, NONE,  CHECK, NONE,  START, CLOSE, NONE,  NONE },
    [VBD_CLOSING]   = { CLOSE, CLOSE, NONE,  NONE,  NONE,  NONE,  CLOSE, NONE,  NONE },
    [VBD_CLOSED]    = { NONE,  WAIT,  NONE,  WAIT,  WAIT,  NONE,  NONE,  NONE,  NONE },
};

/* While the disk is being removed the frontend is given the time that it needs to close, and
 * nothing begins any more. */
static const enum vbd_action unwanted[VBD_PHASES][XENBUS_STATES] = {
    /*                   0      1      2      3      4      5      6      7      8 */
    [VBD_NEW]       = { CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE },
    [VBD_INIT_WAIT] = { CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE },
    [VBD_CONNECTED] = { CLOSE, START, START, START, START, START, CLOSE, START, START },
    [VBD_CLOSING]   = { CLOSE, CLOSE, CLOSE, NONE,  NONE,  NONE,  CLOSE, NONE,  NONE },
    [VBD_CLOSED]    = { NONE,  NONE,  NONE,  NONE,  NONE,  NONE,  NONE,  NONE,  NONE },
};
/* clang-format on */

enum vbd_action vbd_fsm(enum vbd_phase phase, uint32_t frontend, bool online)
{
    if (phase >= VBD_PHASES || frontend >= XENBUS_STATES)
        return VBD_NOTHING;
    return online ? wanted[phase][frontend] : unwanted[phase][frontend];
}

enum xenbus_state vbd_phase_state(enum vbd_phase phase)
{
    static const enum xenbus_state states[VBD_PHASES] = {
        [VBD_NEW] = XENBUS_INITIALISING,    [VBD_INIT_WAIT] = XENBUS_INIT_WAIT,
        [VBD_CONNECTED] = XENBUS_CONNECTED, [VBD_CLOSING] = XENBUS_CLOSING,
        [VBD_CLOSED] = XENBUS_CLOSED,
    };
    return states[phase];
}

const char *vbd_phase_name(enum vbd_phase phase)
{
    return xenbus_state_name(vbd_phase_state(phase));
}
