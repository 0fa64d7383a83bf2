/* SPDX-License-Identifier: BSD-2-Clause */
/* What a test tells a failing host: a file (BLKBACKD_HOST_FILE) that each of the product's
 * processes maps. */
#ifndef BED_HOST_H
#define BED_HOST_H

#include <stdatomic.h>
#include <stdint.h>

struct host_control {
    char program[16];          /* whose memory runs out */
    _Atomic uint32_t armed;    /* from now on allocations are counted */
    _Atomic uint32_t allowed;  /* so many more succeed */
    _Atomic uint32_t failures; /* and so many then don't; UINT32_MAX: none */
    _Atomic uint32_t refused;  /* how many did not */
    _Atomic uint32_t jumping;  /* the wall clock jumps at every look */
    _Atomic uint32_t looks;    /* at the wall clock */
};

/* NULL where the test wants nothing of this process, or of any. */
struct host_control *host_control(void);

#endif
