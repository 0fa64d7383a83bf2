/* SPDX-License-Identifier: BSD-2-Clause */
/* The time that rate limits go by; a file of its own, so that a test can put its own in its place.
 */
#include "blkback/rate_limit.h"

#include <time.h>

uint64_t rate_clock(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
