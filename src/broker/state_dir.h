/* SPDX-License-Identifier: BSD-2-Clause */
/* The folder of the state files, as a list of the disks that they belong to. */
#ifndef BLKBACK_BROKER_STATE_DIR_H
#define BLKBACK_BROKER_STATE_DIR_H

#include "broker.h"

/* One state file. Only its name has been looked at. */
struct state_file {
    const char *name;
    uint32_t domid;
    uint32_t devid;
    bool connection; /* else a slab */
    bool unfinished; /* a connection file whose writer was killed: of no use to anybody */
};

/* Calls `use` for each, in no particular order; it may remove the file. What is no state file is
 * left out. */
void state_dir_for_each(struct broker *broker,
                        void (*use)(struct broker *broker, const struct state_file *file));

/* Removes what a broker left that was killed while it wrote. Only for the start: later, such a file
 * may be one that is being written. */
void state_dir_remove_unfinished(struct broker *broker);

#endif
