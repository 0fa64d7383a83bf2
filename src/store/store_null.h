/* SPDX-License-Identifier: BSD-2-Clause */
/* What only a null store can be told. */
#ifndef BLKBACK_STORE_NULL_H
#define BLKBACK_STORE_NULL_H

#include "blkback/store.h"

/* What its image would be if it had one: seen by store_refresh_size(). Bytes. */
void store_null_set_size(struct store *store, uint64_t size);

#endif
