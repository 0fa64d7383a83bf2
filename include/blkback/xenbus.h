/* SPDX-License-Identifier: BSD-2-Clause */
/* XenBus states, as in xen/io/xenbus.h. */
#ifndef BLKBACK_XENBUS_H
#define BLKBACK_XENBUS_H

#include <stdint.h>

enum xenbus_state {
    XENBUS_UNKNOWN = 0, /* also: no node */
    XENBUS_INITIALISING = 1,
    XENBUS_INIT_WAIT = 2,
    XENBUS_INITIALISED = 3,
    XENBUS_CONNECTED = 4,
    XENBUS_CLOSING = 5,
    XENBUS_CLOSED = 6,
    XENBUS_RECONFIGURING = 7,
    XENBUS_RECONFIGURED = 8,
    XENBUS_STATES
};

/* "InitWait" and so on; "unknown" for a number that is none. */
const char *xenbus_state_name(uint32_t state);

#endif
