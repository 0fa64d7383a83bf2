/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether this program can go on with what another version's daemon serves. */
#ifndef BLKBACK_BROKER_CHECK_UPGRADE_H
#define BLKBACK_BROKER_CHECK_UPGRADE_H

#include <stdio.h>

struct check_upgrade {
    unsigned disks; /* whose rings are connected, as far as their files can be read */
    unsigned wrong; /* that could not be taken up */
};

/*
 * Reads every state file in the folder, which a daemon may be using, and writes a line for each
 * disk that could not be taken up: which file, and why. Changes nothing. Returns 0 when all were
 * looked at, also where there is no folder; else -errno.
 */
int check_upgrade(const char *state_dir, FILE *lines, struct check_upgrade *out);

#endif
