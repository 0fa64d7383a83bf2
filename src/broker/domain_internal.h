/* SPDX-License-Identifier: BSD-2-Clause */
/* A domain from the inside, for the files that make it up: domain.c (its worker and its vbds),
 * domain_look.c (whether it lives), domain_grants.c (what it may keep mapped). */
#ifndef BLKBACK_BROKER_DOMAIN_INTERNAL_H
#define BLKBACK_BROKER_DOMAIN_INTERNAL_H

#include "domain.h"
#include "worker_process.h"

struct domain {
    TAILQ_ENTRY(domain) entry;
    struct broker *broker;
    uint32_t domid;
    uint32_t last_number;
    uint32_t grant_share; /* pages that its worker was told it may keep mapped */
    unsigned in_vain;     /* workers that died in a row and had answered nothing */
    bool outlived;        /* another guest has its number */
    bool retired;         /* has no vbds any more and waits for its worker's end */
    bool ready;
    bool was_introduced; /* to xenstored; asked only where the hypervisor does not answer us */
    bool losing_worker;  /* its vbds are being told of the worker's end */
    bool keeps_grants;   /* its worker has a share of the pages that may stay mapped */
    struct worker_process *worker;
    struct log_limit limit;
    ev_timer ready_timer;
    ev_timer gone_timer; /* a worker that was ended is gone before it fires; */
    bool stuck;          /* or it wasn't */
    ev_timer restart;    /* no worker is started before it fires */
    uint64_t answered;   /* by all workers so far */
    char last_death[64];
    char sandbox[STATE_SANDBOX_MAX]; /* what its worker says of it, before it knows of any guest */
    char uuid[40];
    TAILQ_HEAD(, vbd) vbds;
};

#endif
