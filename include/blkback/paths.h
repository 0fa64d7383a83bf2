/* SPDX-License-Identifier: BSD-2-Clause */
/* Where things are unless the configuration says otherwise; the names in a run folder that broker
 * and blkbackctl share. */
#ifndef BLKBACK_PATHS_H
#define BLKBACK_PATHS_H

#define BLKBACKD_CONFIG_FILE "/etc/blkbackd/blkbackd.conf"
#define BLKBACKD_DISKS_DIR   "/etc/blkbackd/disks.d"
#define BLKBACKD_RUN_DIR     "/run/blkbackd"

/* Within the run folder. */
#define BLKBACKD_STATE_NAME   "state"
#define BLKBACKD_CONTROL_NAME "control"

#endif
