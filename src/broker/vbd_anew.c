/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A look at a disk after xenstored was away. Nothing was seen meanwhile: the directory may be
 * another disk's by now, the guest another guest; or XenStore may have come back without its
 * contents, while the guests that it knew go on running and using their rings.
 */
#include "vbd.h"

#include "domain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the nodes are there ---- */

/* A drive's medium may have been changed; what it is, vbd_medium_look() acts on. */
static bool toolstack_same(const struct vbd_toolstack *a, const struct vbd_toolstack *b)
{
    return a->read_only == b->read_only && a->shared == b->shared && a->cdrom == b->cdrom &&
           (a->cdrom || strcmp(a->target, b->target) == 0);
}

static enum vbd_look look_at_directory(struct vbd *vbd)
{
    const struct vbd_toolstack before = vbd->toolstack;
    char frontend[VBD_FRONTEND_MAX];

    int error =
        xenstore_read_at(vbd->broker->xs, vbd->path, "frontend", frontend, sizeof(frontend));
    if (error == 0)
        error = vbd_read_toolstack(vbd);
    const struct vbd_toolstack now = vbd->toolstack;
    vbd->toolstack = before;
    if (error == -EPIPE)
        return VBD_LOOK_LATER;
    bool same = error == 0 && strcmp(frontend, vbd->frontend) == 0 && toolstack_same(&before, &now);
    return same ? VBD_LOOK_SAME : VBD_LOOK_OTHER;
}

/* Rings that are served and a frontend that takes them for connected: are they the same ones? */
static enum vbd_look look_at_rings(struct vbd *vbd, uint32_t backend_state, uint32_t frontend_state)
{
    if (vbd->phase != VBD_CONNECTED)
        return VBD_LOOK_SAME;
    if (!vbd->unpublished && backend_state != XENBUS_CONNECTED && backend_state != XENBUS_CLOSING)
        return VBD_LOOK_OTHER; /* somebody else has written it */
    if (vbd->rings != RINGS_CONNECTED || frontend_state != XENBUS_CONNECTED)
        return VBD_LOOK_SAME; /* the state machine has an answer for the rest */
    int error = vbd_same_rings(vbd, &vbd->saved);
    if (error == -EPIPE)
        return VBD_LOOK_LATER;
    if (error == 0)
        return VBD_LOOK_SAME;
    if (vbd->forgotten)
        return VBD_LOOK_OTHER;
    vbd_log(vbd, LOG_LEVEL_INFO, "the frontend has come back with a new ring");
    vbd_disconnect(vbd);
    return VBD_LOOK_SAME;
}

enum vbd_look vbd_look_anew(struct vbd *vbd, uint32_t backend_state, uint32_t frontend_state)
{
    /* One without a domain of its own number any more is another guest's. */
    if (domain_ended(vbd->domain) && !vbd->domain_dead)
        return VBD_LOOK_OTHER;
    if (vbd->forgotten && (backend_state != XENBUS_CONNECTED || frontend_state != XENBUS_CONNECTED))
        return VBD_LOOK_OTHER;
    enum vbd_look look = look_at_directory(vbd);
    if (look == VBD_LOOK_SAME)
        look = look_at_rings(vbd, backend_state, frontend_state);
    if (look != VBD_LOOK_SAME)
        return look;
    if (vbd->forgotten) {
        vbd->forgotten = false;
        vbd_log(vbd, LOG_LEVEL_INFO, "its nodes are in XenStore again");
    }
    if (vbd->phase == VBD_INIT_WAIT && vbd->rings == RINGS_CONNECTED) {
        vbd->unpublished = false;
        vbd_show_connected(vbd);
    } else {
        (void)vbd_publish_again(vbd);
    }
    if (vbd->unpublished)
        return VBD_LOOK_LATER;
    vbd->look_anew = false;
    return VBD_LOOK_SAME;
}

/* ---- they aren't ---- */

/*
 * A toolstack that detaches a disk leaves the domain's home. Where we may not look, or where the
 * home is made by the host's own start (domain 0's), the disk is rather kept than taken from a
 * guest that uses it: `blkbackctl detach` ends it. Returns 0 when it was removed, -ENOENT when
 * XenStore has lost it, -EPIPE when that can't be told now.
 */
static int removed_by_toolstack(struct vbd *vbd)
{
    char home[40];
    char **names = NULL;
    unsigned count = 0;

    snprintf(home, sizeof(home), "/local/domain/%u", vbd->address.domid);
    int error = xenstore_list(vbd->broker->xs, home, &names, &count);
    if (error == 0)
        free(names);
    if (error == -EPIPE)
        return error;
    return error == 0 && vbd->address.domid != vbd->broker->own_domid ? 0 : -ENOENT;
}

enum vbd_look vbd_look_for_nodes(struct vbd *vbd)
{
    bool served = vbd->phase == VBD_CONNECTED && vbd->rings != RINGS_NONE && !vbd->hook.leave;
    if (!served || !(vbd->look_anew || vbd->forgotten) || domain_ended(vbd->domain))
        return VBD_LOOK_OTHER;
    if (vbd->forgotten) {
        vbd->look_anew = false;
        return VBD_LOOK_SAME;
    }
    int error = removed_by_toolstack(vbd);
    if (error == -EPIPE)
        return VBD_LOOK_LATER;
    if (error == 0)
        return VBD_LOOK_OTHER;
    vbd->forgotten = true;
    broker_look_later(vbd->broker);
    vbd->look_anew = false;
    vbd_log(vbd, LOG_LEVEL_WARNING,
            "XenStore has lost its nodes: it is served until its domain ends");
    return VBD_LOOK_SAME;
}

bool vbd_ended_unseen(const struct vbd *vbd)
{
    return (vbd->forgotten || vbd->broker->session_lost) && domain_ended(vbd->domain);
}
