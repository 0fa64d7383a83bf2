/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of XenBus states. */
#include "blkback/xenbus.h"

const char *xenbus_state_name(uint32_t state)
{
    static const char *const names[XENBUS_STATES] = {
        [XENBUS_UNKNOWN] = "Unknown",
        [XENBUS_INITIALISING] = "Initialising",
        [XENBUS_INIT_WAIT] = "InitWait",
        [XENBUS_INITIALISED] = "Initialised",
        [XENBUS_CONNECTED] = "Connected",
        [XENBUS_CLOSING] = "Closing",
        [XENBUS_CLOSED] = "Closed",
        [XENBUS_RECONFIGURING] = "Reconfiguring",
        [XENBUS_RECONFIGURED] = "Reconfigured",
    };
    return state < XENBUS_STATES ? names[state] : "unknown";
}
