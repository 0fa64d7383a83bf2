/* SPDX-License-Identifier: BSD-2-Clause */
/* What surrounds the broker's vbds, in the place of parts of the broker, Xen and the host. */
#ifndef BLKBACK_FUZZ_FAKE_OUTSIDE_H
#define BLKBACK_FUZZ_FAKE_OUTSIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the place of control_server.c's: counts its answers, of which there may be one. */
struct control_call_token {
    unsigned answers;
    int error; /* of the last one */
    char text[128];
};

extern unsigned fake_bind_errors; /* so many of the next event channels can't be bound */
extern bool fake_domains_gone;    /* the hypervisor knows none any more; else it does not answer */

/* What `params` may be; the first is the image. */
const char *fake_target(uint8_t choice);

void fake_image(off_t size);

/* I/O of a worker that is dead holds the image, or does not any more. */
void fake_toggle_fence(uint32_t domid, uint32_t devid);
void fake_free_fence(void);

#endif
