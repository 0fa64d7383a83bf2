/* SPDX-License-Identifier: BSD-2-Clause */
/* A frontend's domain: its vbds and the one worker that serves them. */
#ifndef BLKBACK_BROKER_DOMAIN_H
#define BLKBACK_BROKER_DOMAIN_H

#include "broker.h"
#include "vbd.h"

/* The domain with that number, made if need be. Returns 0 or -ENOMEM. */
int domain_get(struct broker *broker, uint32_t domid, struct domain **out);

void domain_add_vbd(struct domain *domain, struct vbd *vbd);

/* After the last vbd has left, the worker is asked to leave and the domain is forgotten. */
void domain_remove_vbd(struct domain *domain, struct vbd *vbd);

/*
 * Starts the worker if there is none. Returns 0 when it is ready, -EINPROGRESS when
 * vbd_worker_ready() will be called for every vbd that waits, or vbd_worker_lost(), or
 * vbd_open_again() after a while; else -errno.
 */
int domain_need_worker(struct domain *domain);

/* How a vbd is found in the broker's table of `numbers`. */
uint64_t domain_vbd_key(uint32_t domid, uint32_t number);

/* A number for a vbd that was never used with this worker. */
uint32_t domain_next_number(struct domain *domain);

/* Sends to the worker. One that can't be sent to is ended, and its vbds hear of it in
 * vbd_worker_lost(). Returns 0 or -ECONNRESET. */
int domain_send(struct domain *domain, const struct worker_message *message, const int *fds,
                unsigned fd_count);

/* Its worker is about to serve a ring whose grants may stay mapped: it has a share from now on. */
void domain_keep_grants(struct domain *domain);

/* Shares the pages that may be kept mapped out among those workers, and tells those whose share has
 * become another: in any case, or only less, or much more, than before. */
void domain_share_grants(struct broker *broker, bool all);

/* Ends the worker, which has not answered within `seconds` what it was `asked`, as the log says:
 * vbd_worker_lost() follows when it is gone. */
void domain_end_worker(struct domain *domain, const char *asked, double seconds);

/* It was ended, and the kernel has not let it go. */
bool domain_worker_stuck(const struct domain *domain);

/* 0: none. */
uint32_t domain_worker_pid(const struct domain *domain);

/* How its worker is confined, in words; empty while it has none that is ready. */
const char *domain_sandbox(const struct domain *domain);

/* Workers that died in a row while no request was answered. */
unsigned domain_deaths_in_vain(const struct domain *domain);

/* How the last worker ended, for people; empty: none has. */
const char *domain_last_death(const struct domain *domain);

/* Somebody asks anew: workers that died in vain are forgotten. */
void domain_forgive(struct domain *domain);

/* By the hypervisor's word alone: the domain is gone, or being torn down, or the number is another
 * guest's by now. False where it does not answer us. */
bool domain_ended(const struct domain *domain);

/* Some domain has ended, or shut down: has the vbds of those that may be meant look. The
 * hypervisor is asked once for each domain; where it does not answer, all vbds look. */
void domain_check_alive(struct broker *broker);

/* XenStore was away: what is known of domains by it is forgotten, and the disks of a number that
 * is another guest's by now are kept apart from the new ones. */
void domain_look_anew(struct broker *broker);

/* In a clean stop: asks the workers to finish what they have started, and to leave. */
void domain_stop_workers(struct broker *broker);
bool domain_any_worker(const struct broker *broker);
/* Ends all that are left without waiting for them. */
void domain_end_workers(struct broker *broker);

/* The UUID, as the hypervisor or else XenStore says; empty when neither does. */
const char *domain_uuid(struct domain *domain);

/* Whether the domain is known to be gone or being torn down, so that its frontends will never speak
 * again. In an unprivileged domain XenStore is asked, if it answers. */
bool domain_is_dead(struct domain *domain);

#endif
