/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks whose worker or broker died: what the guest was promised is gone on with, and nothing that
 * the dead may still write reaches an image that is somebody else's by then.
 */
#include "vbd.h"

#include "blkback/worker_protocol.h"
#include "domain.h"
#include "frontend_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FENCE_RETRY_SECONDS 0.02

/* ---- I/O of a dead worker ---- */

static bool needs_fence(const struct vbd *vbd)
{
    return vbd->unfenced && vbd->image != NULL && vbd_image_mode(&vbd->disk) != IMAGE_READ_ONLY;
}

static void fenced(struct vbd *vbd)
{
    vbd->unfenced = false;
    vbd_release_image(vbd);
    vbd->store = STORE_FAILED;
    if (vbd->closing)
        vbd_close_continue(vbd);
    vbd_mark_dirty(vbd);
}

static void on_fence_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct vbd *vbd = timer->data;
    (void)loop;
    (void)events;
    if (image_fence_is_free(vbd->image, vbd->address.domid, vbd->address.devid))
        fenced(vbd);
    else
        vbd_retry_in(vbd, FENCE_RETRY_SECONDS, on_fence_timeout);
}

bool vbd_wait_for_fence(struct vbd *vbd)
{
    if (!needs_fence(vbd) ||
        image_fence_is_free(vbd->image, vbd->address.domid, vbd->address.devid)) {
        vbd->unfenced = false;
        return false;
    }
    vbd->store = STORE_FENCING;
    vbd_retry_in(vbd, FENCE_RETRY_SECONDS, on_fence_timeout);
    return true;
}

/* ---- a worker that died under us ---- */

uint64_t vbd_answered(const struct vbd *vbd)
{
    struct slab_header header;
    struct slab_statistics sum;
    uint32_t in_flight;
    char name[STATE_NAME_MAX];

    vbd_slab_name(vbd, name);
    int fd = openat(vbd->broker->state_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return 0;
    int error = slab_read_header(fd, &header);
    close(fd);
    if (error != 0)
        return 0;
    slab_sum(&header, &sum, &in_flight);
    return sum.reads + sum.writes + sum.flushes + sum.barriers + sum.discards + sum.errors;
}

void vbd_recover(struct vbd *vbd, const char *how)
{
    bool served = vbd->rings == RINGS_CONNECTED || vbd->rings == RINGS_CONNECTING ||
                  vbd->rings == RINGS_FINISHING || vbd->rings == RINGS_LOST;

    snprintf(vbd->reason, sizeof(vbd->reason), "its worker ended: %s; another takes over", how);
    vbd_log(vbd, LOG_LEVEL_WARNING, "%s", vbd->reason);
    vbd_medium_forget(vbd);
    vbd_size_forget(vbd);
    vbd_pause_forget(vbd); /* the successor will find out by itself */
    if (vbd->rings != RINGS_LOST)
        vbd->lost_at = broker_seconds();
    if (!served && vbd->phase == VBD_CONNECTED)
        vbd->phase = VBD_INIT_WAIT; /* as if it had given the rings back: new ones are to follow */
    vbd->rings = served ? RINGS_LOST : RINGS_NONE;
    vbd_open_again(vbd);
    vbd_mark_dirty(vbd);
}

void vbd_recovered(struct vbd *vbd)
{
    vbd->rings = RINGS_CONNECTED;
    vbd->taking_up = false;
    vbd->reason[0] = '\0';
    vbd_log(vbd, LOG_LEVEL_INFO, "taken up again by worker %u after %.0f ms",
            domain_worker_pid(vbd->domain), (broker_seconds() - vbd->lost_at) * 1000.);
    if (vbd->closing)
        vbd_close_continue(vbd);
    vbd_mark_dirty(vbd);
}

/* ---- a disk that another broker served ---- */

static int read_connection(const struct vbd *vbd, struct connection_file *out)
{
    char name[STATE_NAME_MAX];
    vbd_connection_name(vbd, name);
    int fd = openat(vbd->broker->state_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int error = connection_read(fd, out);
    close(fd);
    return error;
}

static void take_negotiated(struct vbd *vbd, const struct connection_file *file)
{
    vbd->negotiated = (struct negotiated){
        .abi = (enum blkif_abi)file->abi,
        .ring_order = file->ring_order,
        .max_requests = file->max_requests,
        .max_segments = file->max_segments,
        .max_indirect_segments = file->max_indirect_segments,
        .persistent = file->persistent != 0,
        .queue_count = file->queue_count,
    };
    memcpy(vbd->negotiated.queues, file->queues, sizeof(file->queues));
    vbd->evtchn_restricted = file->evtchn_restricted != 0;
}

/* Whether it is the life of the guest that the file speaks of; else why not. */
static const char *stranger(struct vbd *vbd, const struct connection_file *file)
{
    if (strcmp(file->boot_id, vbd->broker->boot_id) != 0)
        return "of another run of this host";
    if (file->domid != vbd->address.domid || file->devid != vbd->address.devid ||
        strcmp(file->class_name, vbd_class_name(vbd->address.class)) != 0)
        return "of another disk";
    if (strcmp(file->domain_uuid, domain_uuid(vbd->domain)) != 0)
        return "of another guest";
    if (file->queue_count == 0 || file->abi >= BLKIF_ABIS)
        return "without a connected ring";
    if (strcmp(file->target, vbd->toolstack.target) != 0)
        return "with another target";
    return NULL;
}

int vbd_same_rings(struct vbd *vbd, const struct connection_file *file)
{
    struct frontend_text text;
    struct frontend_nodes nodes;
    struct negotiated now;
    struct offer offer = vbd->offer;
    char why[NEGOTIATE_WHY_MAX];
    uint32_t state;

    if (offer.max_queues < file->queue_count)
        offer.max_queues = file->queue_count;
    if (offer.max_ring_page_order < file->ring_order)
        offer.max_ring_page_order = file->ring_order;
    int error = frontend_nodes_read(vbd->broker->xs, vbd->frontend, offer.max_queues, &text, &state,
                                    &nodes);
    if (error == -EPIPE)
        return error;
    bool same = error == 0 && state == XENBUS_CONNECTED &&
                negotiate(&nodes, &offer, why, &now) == 0 && (uint32_t)now.abi == file->abi &&
                now.ring_order == file->ring_order && now.queue_count == file->queue_count &&
                memcmp(now.queues, file->queues, sizeof(now.queues)) == 0;
    return same ? 0 : -ESTALE;
}

static void begin_anew(struct vbd *vbd, const char *why)
{
    vbd_log(vbd, LOG_LEVEL_WARNING, "its rings can't be taken up: %s; they are forgotten", why);
    vbd_status_remove(vbd);
    vbd->phase = VBD_NEW;
    vbd_begin(vbd);
}

static void no_files(struct vbd *vbd, int error)
{
    char reason[STATE_TEXT_MAX];
    snprintf(reason, sizeof(reason), "it was connected when its backend ended, and %s",
             error == -ENOENT   ? "there is no state file to take it up from"
             : error == -EPROTO ? "its state files are another version's"
                                : "its state file is damaged");
    vbd_fail(vbd, -EIO, reason);
}

int vbd_take_over(struct vbd *vbd)
{
    struct connection_file file = {0};
    uint32_t frontend = XENBUS_UNKNOWN;
    uint32_t online = 1;
    char name[STATE_NAME_MAX];

    (void)xenstore_read_u32(vbd->broker->xs, vbd->path, "online", UINT32_MAX, &online);
    if (online == 0) {
        vbd->phase = VBD_CLOSING;
        (void)vbd_publish_state(vbd, XENBUS_CLOSING); /* nothing else tells the frontend */
        return 0;
    }
    (void)xenstore_read_u32(vbd->broker->xs, vbd->frontend, "state", UINT32_MAX, &frontend);
    (void)domain_uuid(vbd->domain);
    if (xenstore_lost(vbd->broker->xs))
        return -EPIPE;
    int error = read_connection(vbd, &file);
    vbd_slab_name(vbd, name);
    if (error == 0 && faccessat(vbd->broker->state_dir, name, F_OK, 0) != 0)
        error = -ENOENT;
    if (error != 0 && frontend == XENBUS_CONNECTED) {
        no_files(vbd, error);
        return 0;
    }
    const char *why = error != 0 ? "the frontend is not connected" : stranger(vbd, &file);
    if (why == NULL) {
        error = vbd_same_rings(vbd, &file);
        if (error == -EPIPE)
            return error;
        if (error != 0)
            why = "the frontend shows others";
    }
    if (why != NULL) {
        begin_anew(vbd, why);
        return 0;
    }
    take_negotiated(vbd, &file);
    vbd->phase = VBD_CONNECTED;
    vbd->rings = RINGS_LOST;
    vbd->lost_at = broker_seconds();
    vbd->may_connect = true;
    vbd->hook.asked = true;
    vbd_limits_take_up(vbd, &file);
    vbd->expected_device = file.image_device;
    vbd->expected_inode = file.image_inode;
    vbd_open_start(vbd);
    return 0;
}
