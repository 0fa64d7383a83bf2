/* SPDX-License-Identifier: BSD-2-Clause */
/* Attacks by what is in the ring. */
#include "attacker.h"

#include <string.h>
#include <xen/io/blkif.h>

static int producer_ahead(struct attacker *a)
{
    a->words[REQ_PROD] = a->words[RSP_PROD] + RING_SLOTS + 1 + random_below(a, 1u << 30);
    front_notify(a->queue);
    return 0;
}

static int producer_backwards(struct attacker *a)
{
    a->words[REQ_PROD] = a->words[RSP_PROD] - 1 - random_below(a, 1u << 30);
    front_notify(a->queue);
    return 0;
}

const struct attack ring_attacks[] = {
    {"producer-ahead", producer_ahead, STOPS, "req_prod beyond the ring"},
    {"producer-backwards", producer_backwards, STOPS, "req_prod below what was answered"},
    {NULL, NULL, STOPS, NULL},
};
