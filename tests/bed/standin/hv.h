/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bed's hypervisor: one sparse file, mapped by every process of the bed, with the domains,
 * their grant tables, their event channels and their memory. The stand-ins for libxen* and the
 * frontend library are built on it.
 *
 * Rules that let a sealed process live on it: everything is opened when a library is loaded or in
 * xen*_open(); later calls use mmap, munmap, read, sendmsg (of four bytes, on the event channel's
 * own descriptor) and futexes.
 */
#ifndef BED_HV_H
#define BED_HV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HV_MAGIC         0x62656468u
#define HV_VERSION       2u
#define HV_PAGE          4096u
#define HV_DOMAINS       128u
#define HV_PORTS         8192u   /* per domain */
#define HV_GREFS         131072u /* per domain */
#define HV_PAGES         131072u /* per domain, 512 MiB, sparse; as many as references */
#define HV_EVT_HANDLES   8192u   /* descriptors that receive events, all processes */
#define HV_GNT_HANDLES   1024u   /* open grant handles, all processes */
#define HV_TRACKS        524288u /* mapped pages, all processes */
#define HV_NAME_LEN      28u     /* abstract socket name of an event-channel handle */
#define HV_NONE          UINT32_MAX
#define HV_XENSTORE_GREF 1u /* GNTTAB_RESERVED_XENSTORE */
#define HV_XENSTORE_PORT 1u /* every domain's first port is xenstored's */
#define HV_FIRST_GREF    8u /* the ones before are reserved, as in Xen */
#define HV_LOCK_BASE \
    ((int64_t)1 << 52) /* byte HV_LOCK_BASE + n is locked while grant handle n is open */

enum hv_port_state { HV_PORT_FREE, HV_PORT_UNBOUND, HV_PORT_INTERDOMAIN, HV_PORT_VIRQ };

#define HV_EVT_MASKED  1u /* delivered and not yet unmasked */
#define HV_EVT_PENDING 2u /* raised again while masked */
#define HV_EVT_LOST    4u /* raised while the receiver's queue was full; found by its next read */

struct hv_port {
    _Atomic uint64_t link;   /* state, remote domain and remote port (or virq): hv_link() */
    _Atomic uint32_t flags;  /* HV_EVT_* */
    _Atomic uint32_t handle; /* receiver, index into evt_handles; HV_NONE: nobody */
};

struct hv_evt_handle {
    _Atomic uint32_t in_use;
    uint32_t serial;
    uint16_t domid;
    uint16_t restricted; /* DOMID_INVALID: not restricted */
    _Atomic uint32_t lost;
    uint64_t inode; /* of the socket */
    char name[HV_NAME_LEN];
};

#define HV_GRANT_VALID    1u
#define HV_GRANT_READONLY 2u

struct hv_grant {
    _Atomic uint32_t flags; /* HV_GRANT_* */
    uint32_t page;
    uint16_t domid; /* who may use it */
    uint16_t pad;
    _Atomic uint32_t maps; /* how often it is mapped now */
};

struct hv_track {
    uint32_t handle; /* grant handle + 1; 0: free */
    uint16_t domid;
    uint16_t pad;
    uint32_t ref;
};

struct hv_counters {
    _Atomic uint64_t notifies, deliveries, unmasks;
    _Atomic uint64_t map_calls, mapped_pages, unmap_calls, unmapped_pages;
    _Atomic uint64_t copy_calls, copy_segments, copy_bytes, copy_errors, map_errors;
};

struct hv_domain {
    _Atomic uint32_t exists, paused, shutdown, dying;
    uint32_t shutdown_reason;
    _Atomic uint32_t port_top; /* ports from here on were never used */
    uint8_t uuid[16];
    struct hv_counters count; /* of calls made by this domain */
    struct hv_port port[HV_PORTS];
    struct hv_grant grant[HV_GREFS];
};

struct hv_shared {
    uint32_t magic, version;
    uint32_t id; /* tells beds that run side by side apart */
    uint32_t track_hint;
    pthread_mutex_t
        lock; /* robust; binding, mapping, creating: everything but notify, unmask and copy */
    struct hv_evt_handle evt_handle[HV_EVT_HANDLES];
    _Atomic uint32_t gnt_handle[HV_GNT_HANDLES]; /* in use */
    struct hv_track track[HV_TRACKS];
    struct hv_domain domain[HV_DOMAINS];
};

/* One process's view of the file. */
struct hv {
    struct hv_shared *s;
    uint8_t *memory;  /* every domain's pages; domain d's start at d * HV_PAGES * HV_PAGE */
    uint16_t domid;   /* the domain this process is part of: BLKBACKD_BED_DOMID, 0 when unset */
    uint32_t spin_ns; /* BLKBACKD_BED_HYPERCALL_NS */
};

/* Creates the file below dir with domain 0 in it. 0 or -errno. */
int hv_create(const char *dir);
/* The process's view, made on first use from BLKBACKD_BED_DIR; NULL with errno when there is no
 * bed. */
struct hv *hv_get(void);
/* A new open file description of the file, close-on-exec, or -errno. */
int hv_open_file(void);
/* Offset of a page of a domain's memory in the file. */
int64_t hv_page_offset(uint16_t domid, uint32_t page);
uint8_t *hv_page(const struct hv *hv, uint16_t domid, uint32_t page);
void hv_lock(struct hv *hv);
void hv_unlock(struct hv *hv);
/* What a hypercall costs on a real host, as far as asked for. */
void hv_spin(const struct hv *hv);
bool hv_domain_alive(const struct hv *hv, uint32_t domid);
struct hv_counters *hv_count(const struct hv *hv);

/* Event channels. fd is always the calling handle's own descriptor. All return 0 or -errno. */
uint64_t hv_link(enum hv_port_state state, uint16_t domid, uint32_t port);
enum hv_port_state hv_link_state(uint64_t link);
uint16_t hv_link_domid(uint64_t link);
uint32_t hv_link_port(uint64_t link);
int hv_evt_open(struct hv *hv, uint16_t domid, bool cloexec, int *fd, uint32_t *handle);
int hv_evt_identify(const struct hv *hv, int fd, uint32_t *handle);
int hv_evt_restrict(struct hv *hv, uint32_t handle, uint16_t domid);
int hv_evt_alloc_unbound(struct hv *hv, uint32_t handle, uint16_t remote, uint32_t *port);
int hv_evt_bind(struct hv *hv, int fd, uint32_t handle, uint16_t remote, uint32_t remote_port,
                uint32_t *port);
int hv_evt_bind_virq(struct hv *hv, uint32_t handle, uint32_t virq, uint32_t *port);
int hv_evt_unbind(struct hv *hv, uint16_t domid, uint32_t port);
int hv_evt_notify(struct hv *hv, int fd, uint16_t domid, uint32_t port);
int hv_evt_unmask(struct hv *hv, int fd, uint16_t domid, uint32_t port);
int hv_evt_raise_virq(struct hv *hv, int fd, uint32_t virq);
/* After a read: sends what did not fit into the handle's queue. */
void hv_evt_redeliver(struct hv *hv, int fd, uint16_t domid, uint32_t port);
/* Closes the ends of every handle whose last descriptor is gone. */
void hv_evt_reap(struct hv *hv);
void hv_evt_close_domain(struct hv *hv, uint16_t domid);

/* Grants. */
int hv_gnt_open(struct hv *hv, int *fd, uint32_t *handle);
/* Marks pages as mapped by handle: all or none; tracks gets one index per page. 0 or -errno. */
int hv_gnt_get(struct hv *hv, uint32_t handle, uint32_t domid, uint32_t ref, bool writable,
               uint32_t *track);
void hv_gnt_put(struct hv *hv, uint32_t track);
/* Drops the mappings of every grant handle that nobody holds open or mapped any more. */
void hv_gnt_reap(struct hv *hv);

#endif
