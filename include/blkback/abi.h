/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The three layouts of a blkif ring, which differ in the alignment of 64-bit members: x86_32 packs
 * them to 4 bytes. After decoding all are alike. `native` is the layout of this host's
 * architecture, 64-bit.
 */
#ifndef BLKBACK_ABI_H
#define BLKBACK_ABI_H

#include <stdint.h>

enum blkif_abi { BLKIF_ABI_NATIVE = 0, BLKIF_ABI_X86_64 = 1, BLKIF_ABI_X86_32 = 2, BLKIF_ABIS };

#define BLKIF_SLOT_BYTES_MAX    112U
#define BLKIF_RING_HEADER_BYTES 64U
#define BLKIF_MAX_RING_ORDER    4U /* offered by default: 16 pages */

/* Bytes of one ring entry: 112 or 108. */
uint32_t blkif_abi_slot_bytes(enum blkif_abi abi);

/* Entries of a ring of 1 << order pages: a power of two, 32 for one page in every ABI. */
uint32_t blkif_abi_ring_slots(enum blkif_abi abi, uint32_t order);

/*
 * From the value of the frontend's `protocol` node: "x86_64-abi", "x86_32-abi"; other known ABIs
 * are native where they are the host's. NULL (no node) is native, as blkif.h says. Returns 0 or
 * -EINVAL.
 */
int blkif_abi_parse(const char *protocol, enum blkif_abi *out);

const char *blkif_abi_name(enum blkif_abi abi);

#endif
