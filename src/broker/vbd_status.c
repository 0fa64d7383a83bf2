/* SPDX-License-Identifier: BSD-2-Clause */
/* The connection file: what blkbackctl shows and a successor needs, written whenever it changes. */
#include "vbd.h"

#include "domain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void vbd_connection_name(const struct vbd *vbd, char name[STATE_NAME_MAX])
{
    snprintf(name, STATE_NAME_MAX, "%u-%u.conn", vbd->address.domid, vbd->address.devid);
}

void vbd_slab_name(const struct vbd *vbd, char name[STATE_NAME_MAX])
{
    snprintf(name, STATE_NAME_MAX, "%u-%u.slab", vbd->address.domid, vbd->address.devid);
}

void vbd_worker_reason(const struct vbd *vbd, const struct worker_message *message,
                       char reason[STATE_TEXT_MAX])
{
    char text[STATE_TEXT_MAX];

    log_escape(message->u.text, text, sizeof(text));
    if (message->error == -ENOSPC) { /* a worker fills nothing else than the slab */
        snprintf(reason, STATE_TEXT_MAX, "%.120s (in %.100s, which is full)", text,
                 vbd->broker->config.state_dir);
    } else {
        memcpy(reason, text, sizeof(text));
    }
}

static void copy_text(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
}

static void fill_negotiated(const struct vbd *vbd, struct connection_file *file)
{
    file->abi = (uint32_t)vbd->negotiated.abi;
    file->ring_order = vbd->negotiated.ring_order;
    file->queue_count = vbd->negotiated.queue_count;
    file->max_requests = vbd->negotiated.max_requests;
    file->max_segments = vbd->negotiated.max_segments;
    file->max_indirect_segments = vbd->negotiated.max_indirect_segments;
    file->persistent = vbd->negotiated.persistent;
    file->evtchn_restricted = vbd->evtchn_restricted;
    memcpy(file->queues, vbd->negotiated.queues, sizeof(file->queues));
}

static void fill_store(const struct vbd *vbd, struct connection_file *file)
{
    file->sector_size = vbd->caps.sector_size;
    file->size_bytes = vbd->caps.size;
    file->direct = vbd->caps.direct;
    copy_text(file->engine, sizeof(file->engine), vbd->caps.engine);
}

static void fill(struct vbd *vbd, struct connection_file *file)
{
    memset(file, 0, sizeof(*file));
    file->domid = vbd->address.domid;
    file->devid = vbd->address.devid;
    file->backend_state = (uint32_t)vbd_phase_state(vbd->phase);
    file->online = vbd->online;
    file->worker_pid = domain_worker_pid(vbd->domain);
    copy_text(file->sandbox, sizeof(file->sandbox), domain_sandbox(vbd->domain));
    file->read_only = vbd->toolstack.read_only || vbd->disk.read_only;
    copy_text(file->boot_id, sizeof(file->boot_id), vbd->broker->boot_id);
    copy_text(file->domain_uuid, sizeof(file->domain_uuid), vbd->user.uuid);
    copy_text(file->class_name, sizeof(file->class_name), vbd_class_name(vbd->address.class));
    copy_text(file->vdev, sizeof(file->vdev), vbd->toolstack.vdev);
    copy_text(file->target, sizeof(file->target), vbd->toolstack.target);
    copy_text(file->reason, sizeof(file->reason),
              domain_worker_stuck(vbd->domain)
                  ? "its worker hangs, was ended, and is kept by the kernel"
              : vbd->pause.paused ? vbd->pause.reason
              : vbd->forgotten  ? "XenStore has lost its nodes: it is served until its domain ends"
              : vbd->pace.waits ? vbd_pace_reason(vbd)
                                : vbd->reason);
    file->log_suppressed = vbd->log_suppressed;
    file->connects = vbd->pace.connects;
    file->connects_delayed = vbd->pace.delayed;
    file->states_delayed = vbd->states_delayed;
    file->forgotten = vbd->forgotten;
    file->removable = vbd->toolstack.cdrom;
    vbd_limits_save(vbd, file);
    file->discard = vbd->store == STORE_OPEN && vbd->offer.discard;
    if (vbd->image != NULL)
        image_identity(vbd->image, &file->image_device, &file->image_inode);
    if (vbd->store == STORE_OPEN)
        fill_store(vbd, file);
    /* Also while they are lost, or not yet shown: a broker that dies now leaves them like that. */
    if (vbd->rings == RINGS_CONNECTED || vbd->rings == RINGS_LOST || vbd->taking_up)
        fill_negotiated(vbd, file);
}

void vbd_status_save(struct vbd *vbd)
{
    struct connection_file file;
    char name[STATE_NAME_MAX];

    if (vbd->gone)
        return;
    fill(vbd, &file);
    connection_seal(&file);
    if (memcmp(&file, &vbd->saved, sizeof(file)) == 0)
        return;
    vbd_connection_name(vbd, name);
    int error = connection_write(vbd->broker->state_dir, name, &file);
    if (error != 0) {
        vbd_log(vbd, LOG_LEVEL_ERROR, "can't write its connection file: %s", strerror(-error));
        return;
    }
    vbd->saved = file;
}

void vbd_status_remove(struct vbd *vbd)
{
    char name[STATE_NAME_MAX];
    vbd_connection_name(vbd, name);
    (void)unlinkat(vbd->broker->state_dir, name, 0);
    vbd_slab_name(vbd, name);
    (void)unlinkat(vbd->broker->state_dir, name, 0);
}
