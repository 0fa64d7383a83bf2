/* SPDX-License-Identifier: BSD-2-Clause */
/* What an open image is: its kind, size, sectors, and whether and how it does direct I/O. */
#ifndef BLKBACK_STORE_IMAGE_H
#define BLKBACK_STORE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

struct image {
    uint64_t size;            /* bytes, as found */
    uint32_t logical_sector;  /* bytes; the least that I/O may be aligned to */
    uint32_t physical_sector; /* bytes; what the guest had better align to */
    bool writable;            /* neither the descriptor nor the device is read-only */
    bool is_device;           /* a block device, not a file */
    bool in_memory; /* a file on tmpfs or ramfs: nothing to wait for, no page cache to bypass */
};

/* Asks what `fd` is. Returns 0, or -errno with the reason for people in `why`. */
int image_probe(int fd, char *why, unsigned why_size, struct image *out);

/* The size of an image that was probed, as it is now, in bytes. Returns 0 or -errno. */
int image_size(int fd, uint64_t *out);

/*
 * Switches O_DIRECT on if `fd` can do direct I/O at every multiple of `sector` bytes, and off if
 * not. `size` is what may be read of it. Returns the alignment of memory in bytes that direct I/O
 * needs; 0: buffered. The flag belongs to the open file description: it must be the caller's alone.
 */
uint32_t image_enable_direct(int fd, uint32_t sector, uint64_t size);

/* Switches O_DIRECT off. Returns 0 or -errno. */
int image_disable_direct(int fd);

#endif
