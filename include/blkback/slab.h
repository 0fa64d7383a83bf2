/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vbd's slab file, mapped by its worker: see state_files.h for the layout. Space is allocated
 * before it is used, for a store into a hole of a full tmpfs is SIGBUS; a refusal comes back as an
 * error where there is still somebody to tell.
 */
#ifndef BLKBACK_SLAB_H
#define BLKBACK_SLAB_H

#include "blkback/state_files.h"

#include <stdint.h>

struct slab {
    int fd; /* owned */
    struct slab_header *header;
    uint64_t mapped;    /* bytes of address space, more than the file has */
    uint32_t allocated; /* bytes of the file that are in use */
};

/*
 * Maps the file and lays it out anew, with a raised epoch if it was a slab before. Owns the
 * descriptor on success. Returns 0 or -errno (-ENOSPC: the tmpfs is full, but for what is kept for
 * connection files).
 */
int slab_open(int fd, struct slab *out);

/*
 * Maps the file as a predecessor left it, with a raised epoch. What is in it is not to be trusted;
 * the header's ranges are checked. Owns the descriptor on success. Returns 0, -EBADMSG for what is
 * no slab, -EPROTO for one of another major version, or -errno.
 */
int slab_adopt(int fd, struct slab *out);

/* Allocates `bytes` at the end, zeroed, aligned to 64; `offset` from the start of the file. Returns
 * 0 or -errno as above; then the slab is as it was. */
int slab_reserve(struct slab *slab, uint32_t bytes, uint32_t *offset);

/* Back to the header alone; no queue may be connected. */
void slab_reset(struct slab *slab);

static inline void *slab_at(const struct slab *slab, uint32_t offset)
{
    return (uint8_t *)slab->header + offset;
}

/* Unmaps and closes; the file stays. Accepts one that was never opened, if zeroed. */
void slab_close(struct slab *slab);

#endif
