/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The broker as a whole: the control plane's loop, its session with xenstored, and what all vbds
 * share. Everything here runs on one thread; nothing waits except in calls to xenstored.
 */
#ifndef BLKBACK_BROKER_BROKER_H
#define BLKBACK_BROKER_BROKER_H

#include "blkback/domain_info.h"
#include "blkback/table.h"
#include "blkback/xenstore.h"
#include "config.h"
#include "image.h"
#include "size_watch.h"
#include "worker_process.h"

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct vbd;
struct domain;
struct control_server;

TAILQ_HEAD(vbd_list, vbd);
TAILQ_HEAD(domain_list, domain);
TAILQ_HEAD(orphan_list, orphan);

struct broker {
    struct ev_loop *loop;
    const char *config_path; /* NULL: built-in defaults */
    struct config config;
    struct xenstore *xs;
    struct domain_info_source *domain_info; /* NULL where the hypervisor doesn't answer us */
    struct image_table *images;
    struct control_server *control;
    struct worker_binary worker;
    uint32_t own_domid;
    int state_dir; /* descriptor */
    char boot_id[40];
    bool told_of_release;   /* xenstored says when a domain ends; else we look */
    bool released;          /* it has said so since the last turn */
    bool session_lost;      /* xenstored is gone, and waited for */
    bool stopping;          /* no new vbds; nothing is written to XenStore any more */
    struct vbd_list vbds;   /* those whose backend node exists */
    struct vbd_list ghosts; /* node gone, I/O or worker not yet */
    struct vbd_list dirty;  /* to be evaluated in this turn */
    struct table addresses; /* `vbds` by domain and device */
    struct table numbers;   /* those that a worker knows, by domain and number */
    struct domain_list domains;
    struct orphan_list orphans; /* see orphans.h */
    ev_io xs_ready;
    ev_io xs_hangup;   /* the session's end, where it is an event */
    ev_timer xs_retry; /* while the session is lost */
    ev_prepare turn_end;
    ev_idle again;
    ev_timer look; /* at what nobody tells us of, while there is such */
    struct size_watch sizes;
    ev_timer trim;     /* gives back the memory of vbds that are gone */
    ev_timer deadline; /* of the clean stop */
};

/*
 * Opens everything the broker needs and starts watching. `config_path` must outlive it. Returns 0,
 * or -errno with the reason in `why` (CONFIG_WHY_MAX bytes); then broker_finish() still has to be
 * called.
 */
int broker_start(struct broker *broker, struct ev_loop *loop, const char *config_path,
                 const struct config *config, char *why);

/*
 * Stops cleanly: takes nothing new, has the workers finish and answer what they have started, and
 * breaks the loop when they have left, or after 10 s. Disks stay connected: XenStore and the state
 * files are left as they are, for a successor.
 */
void broker_stop(struct broker *broker);

/* Reads the configuration again; all or nothing. Returns 0 or -errno with the reason in `why`
 * (CONFIG_WHY_MAX bytes). */
int broker_reload(struct broker *broker, char *why);

/* Frees everything. Accepts one that was not or only half started. */
void broker_finish(struct broker *broker);

/* CLOCK_MONOTONIC, in seconds: for measuring time, which libev's own clock may jump over. */
double broker_seconds(void);

/* Has what nobody tells us of looked at in a while, and on while there is such. */
void broker_look_later(struct broker *broker);

/* Has memory that was freed given back to the kernel in a while. */
void broker_trim_later(struct broker *broker);

/* Breaks the loop if a clean stop is under way and the last worker is gone. */
void broker_check_stopped(struct broker *broker);

#endif
