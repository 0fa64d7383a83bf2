/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing to XenStore. Every change of the backend directory is a transaction that looks first
 * whether the toolstack has removed the directory (a write would make it anew) or asked for it to
 * be closed.
 */
#include "vbd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct publication {
    struct vbd *vbd;
    enum xenbus_state state;
    bool nodes;
};

static int check_directory(struct xenstore *xs, const struct publication *publication)
{
    const char *path = publication->vbd->path;
    char frontend[VBD_FRONTEND_MAX];
    uint32_t now = 0;

    int error = xenstore_read_at(xs, path, "frontend", frontend, sizeof(frontend));
    if (error != 0)
        return error;
    bool closing =
        xenstore_read_u32(xs, path, "state", UINT32_MAX, &now) == 0 && now == XENBUS_CLOSING;
    return closing && publication->state < XENBUS_CLOSING ? -ECANCELED : 0;
}

static int write_nodes(struct xenstore *xs, const struct vbd *vbd)
{
    int error = 0;
    for (unsigned i = 0; error == 0 && foreign_nodes[i] != NULL; i++)
        error = xenstore_remove_at(xs, vbd->path, foreign_nodes[i]);
    for (unsigned i = 0; error == 0 && i < published_nodes(); i++) {
        char value[NEGOTIATE_VALUE_MAX];
        if (published_value(i, &vbd->offer, value) == 0)
            error = xenstore_write_at(xs, vbd->path, published_name(i), value);
    }
    return error;
}

static int publish_in_transaction(struct xenstore *xs, void *context)
{
    const struct publication *publication = context;
    int error = check_directory(xs, publication);
    if (error == 0 && publication->nodes)
        error = write_nodes(xs, publication->vbd);
    if (error == 0)
        error = xenstore_printf_at(xs, publication->vbd->path, "state", "%d", publication->state);
    return error;
}

static int publish(struct vbd *vbd, enum xenbus_state state, bool nodes)
{
    struct publication publication = {.vbd = vbd, .state = state, .nodes = nodes};
    if (vbd->gone)
        return -ENOENT; /* the path may be another vbd's by now */
    if (vbd->broker->stopping && state < XENBUS_CLOSING)
        return -ECANCELED; /* what connected frontends see is left to the successor */
    int error = xenstore_transaction(vbd->broker->xs, publish_in_transaction, &publication);
    if (error != 0 && error != -ENOENT && error != -ECANCELED) {
        vbd_log(vbd, LOG_LEVEL_ERROR, "can't write state %s to XenStore: %s",
                xenbus_state_name(state), strerror(-error));
    }
    return error;
}

int vbd_publish_init_wait(struct vbd *vbd)
{
    return publish(vbd, XENBUS_INIT_WAIT, true);
}

int vbd_publish_connected(struct vbd *vbd)
{
    return publish(vbd, XENBUS_CONNECTED, true);
}

int vbd_publish_state(struct vbd *vbd, enum xenbus_state state)
{
    return publish(vbd, state, false);
}

/* Where XenBus drivers report errors: below `error` of each side's domain, by the device's own
 * path. */
static void error_dirs(const struct vbd *vbd, char backend[VBD_PATH_MAX + 8],
                       char frontend[VBD_PATH_MAX + 8])
{
    snprintf(backend, VBD_PATH_MAX + 8, "error/%s", vbd->path);
    snprintf(frontend, VBD_PATH_MAX + 8, "/local/domain/%u/error/device/vbd/%u", vbd->address.domid,
             vbd->address.devid);
}

void vbd_publish_error(struct vbd *vbd, int error, const char *reason)
{
    char backend[VBD_PATH_MAX + 8];
    char frontend[VBD_PATH_MAX + 8];
    if (vbd->gone)
        return;
    error_dirs(vbd, backend, frontend);
    vbd->error_shown = true;
    /* In a driver domain the frontend's domain is out of reach; the message is not worth more than
     * an attempt. */
    (void)xenstore_printf_at(vbd->broker->xs, backend, "error", "%d %s", error, reason);
    (void)xenstore_printf_at(vbd->broker->xs, frontend, "error", "%d %s", error, reason);
}

void vbd_remove_error(struct vbd *vbd)
{
    char backend[VBD_PATH_MAX + 8];
    char frontend[VBD_PATH_MAX + 8];
    if (!vbd->error_shown)
        return;
    error_dirs(vbd, backend, frontend);
    vbd->error_shown = false;
    char **names = NULL;
    unsigned count = 0;
    (void)xenstore_remove_at(vbd->broker->xs, "error", vbd->path);
    (void)snprintf(backend, sizeof(backend), "error/backend/%s/%u",
                   vbd_class_name(vbd->address.class), vbd->address.domid);
    if (xenstore_list(vbd->broker->xs, backend, &names, &count) == 0) {
        if (count == 0)
            (void)xenstore_remove_at(vbd->broker->xs, "error", backend + strlen("error/"));
        free(names);
    }
}
