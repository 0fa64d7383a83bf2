/* SPDX-License-Identifier: BSD-2-Clause */
/* The layouts of a ring: sizes and names. The broker judges ring orders by them, so they belong to
 * the base. */
#include "blkback/abi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define PAGE_BYTES 4096U /* of a ring, on every architecture of the protocol */

#if defined(__x86_64__)
#define NATIVE_PROTOCOL "x86_64-abi"
#elif defined(__aarch64__)
#define NATIVE_PROTOCOL "arm-abi"
#else
#error "the native layout of this architecture is not described"
#endif

uint32_t blkif_abi_slot_bytes(enum blkif_abi abi)
{
    return abi == BLKIF_ABI_X86_32 ? 108 : 112;
}

uint32_t blkif_abi_ring_slots(enum blkif_abi abi, uint32_t order)
{
    const uint32_t fit =
        ((PAGE_BYTES << order) - BLKIF_RING_HEADER_BYTES) / blkif_abi_slot_bytes(abi);
    uint32_t slots = 1;

    while (slots * 2 <= fit)
        slots *= 2;
    return slots;
}

int blkif_abi_parse(const char *protocol, enum blkif_abi *out)
{
    if (!protocol || strcmp(protocol, NATIVE_PROTOCOL) == 0)
        *out = BLKIF_ABI_NATIVE;
    else if (strcmp(protocol, "x86_64-abi") == 0)
        *out = BLKIF_ABI_X86_64;
    else if (strcmp(protocol, "x86_32-abi") == 0)
        *out = BLKIF_ABI_X86_32;
    else
        return -EINVAL;
    return 0;
}

const char *blkif_abi_name(enum blkif_abi abi)
{
    switch (abi) {
    case BLKIF_ABI_NATIVE:
        return "native";
    case BLKIF_ABI_X86_64:
        return "x86_64";
    case BLKIF_ABI_X86_32:
        return "x86_32";
    case BLKIF_ABIS:
        break;
    }
    return "unknown";
}
