/* SPDX-License-Identifier: BSD-2-Clause */
/* What the broker keeps of root's rights. */
#ifndef BLKBACK_BROKER_CAPABILITIES_H
#define BLKBACK_BROKER_CAPABILITIES_H

/*
 * Gives up every capability that neither the broker nor the setting up of a worker needs, as the
 * service's unit does, for a broker that is started otherwise. Before there are threads. Returns 0
 * or -errno; what can't be given up stays, as for a user without capabilities.
 */
int capabilities_drop(void);

#endif
