/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing to XenStore. Every change of the backend directory is a transaction that looks first
 * whether the toolstack has removed the directory (a write would make it anew), made another in its
 * place, or asked for it to be closed. What can't be written because xenstored is away is written
 * when it is back, as it is by then.
 */
#include "vbd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_PATH_MAX (VBD_PATH_MAX + 16)

enum published { NO_NODES, NODES_OF_MEDIUM, ALL_NODES };

struct publication {
    struct vbd *vbd;
    enum xenbus_state state; /* XENBUS_UNKNOWN: stays */
    enum published nodes;
    bool params;
};

static int check_directory(struct xenstore *xs, const struct vbd *vbd, enum xenbus_state state)
{
    char frontend[VBD_FRONTEND_MAX];
    uint32_t now = XENBUS_UNKNOWN;

    int error = xenstore_read_at(xs, vbd->path, "frontend", frontend, sizeof(frontend));
    if (error != 0)
        return error;
    if (xenstore_read_u32(xs, vbd->path, "state", UINT32_MAX, &now) == -EPIPE)
        return -EPIPE;
    if (now == XENBUS_INITIALISING && vbd->shown) /* which we never show: it is another disk's */
        return -ENOENT;
    return now == XENBUS_CLOSING && state < XENBUS_CLOSING ? -ECANCELED : 0;
}

static int write_nodes(struct xenstore *xs, const struct vbd *vbd, enum published nodes)
{
    int error = 0;
    for (unsigned i = 0; error == 0 && i < published_nodes(); i++) {
        if (nodes != ALL_NODES && !published_of_medium(i))
            continue;
        char value[NEGOTIATE_VALUE_MAX];
        int known = published_value(i, &vbd->offer, value);
        if (known == 0)
            error = xenstore_write_at(xs, vbd->path, published_name(i), value);
        else if (known == -ENOENT) /* the kernel's backend may have left one */
            error = xenstore_remove_at(xs, vbd->path, published_name(i));
    }
    return error;
}

static int publish_in_transaction(struct xenstore *xs, void *context)
{
    const struct publication *publication = context;
    int error = check_directory(xs, publication->vbd, publication->state);
    if (error == 0 && publication->nodes != NO_NODES)
        error = write_nodes(xs, publication->vbd, publication->nodes);
    if (error == 0 && publication->params)
        error = xenstore_write_at(xs, publication->vbd->path, "params",
                                  publication->vbd->toolstack.target);
    if (error == 0 && publication->state != XENBUS_UNKNOWN)
        error = xenstore_printf_at(xs, publication->vbd->path, "state", "%d", publication->state);
    return error;
}

static int publish(const struct publication *publication)
{
    struct vbd *vbd = publication->vbd;
    struct publication copy = *publication; /* the session's context is not const */
    if (vbd->gone)
        return -ENOENT; /* the path may be another vbd's by now */
    if (vbd->broker->stopping && publication->state < XENBUS_CLOSING)
        return -ECANCELED; /* what connected frontends see is left to the successor */
    int error = xenstore_transaction(vbd->broker->xs, publish_in_transaction, &copy);
    if (error == 0 && publication->state != XENBUS_UNKNOWN)
        vbd->shown = true;
    if (publication->nodes == ALL_NODES) {
        vbd->published_known = error == 0;
        vbd->published = vbd->offer;
    }
    if (error == -EPIPE) {
        vbd->unpublished = true;
        vbd->unpublished_params |= publication->params;
    } else if (error != 0 && error != -ENOENT && error != -ECANCELED) {
        vbd_log(vbd, LOG_LEVEL_ERROR, "can't write state %s to XenStore: %s",
                xenbus_state_name(publication->state), strerror(-error));
    }
    return error;
}

int vbd_publish_init_wait(struct vbd *vbd)
{
    return publish(&(struct publication){vbd, XENBUS_INIT_WAIT, ALL_NODES, false});
}

/* What was written with state 2 and still holds is not written again: attaching takes a fifth fewer
 * requests to xenstored. */
static bool all_published(const struct vbd *vbd)
{
    return vbd->published_known && !vbd->look_anew && published_alike(&vbd->published, &vbd->offer);
}

int vbd_publish_connected(struct vbd *vbd)
{
    return publish(&(struct publication){vbd, XENBUS_CONNECTED,
                                         all_published(vbd) ? NO_NODES : ALL_NODES, false});
}

int vbd_publish_medium(struct vbd *vbd, bool params)
{
    bool connected = vbd->phase == VBD_CONNECTED;
    return publish(&(struct publication){vbd, connected ? XENBUS_CONNECTED : XENBUS_UNKNOWN,
                                         NODES_OF_MEDIUM, params});
}

int vbd_publish_state(struct vbd *vbd, enum xenbus_state state)
{
    return publish(&(struct publication){vbd, state, NO_NODES, false});
}

static int publish_phase(struct vbd *vbd, bool params)
{
    switch (vbd->phase) {
    case VBD_NEW:
        return 0;
    case VBD_INIT_WAIT:
        return publish(&(struct publication){vbd, XENBUS_INIT_WAIT, ALL_NODES, params});
    case VBD_CONNECTED:
        return publish(&(struct publication){vbd, XENBUS_CONNECTED, ALL_NODES, params});
    case VBD_CLOSING:
        if (vbd->reason[0] != '\0')
            vbd_publish_error(vbd, -EIO, vbd->reason);
        break;
    case VBD_CLOSED:
    case VBD_PHASES:
        break;
    }
    return vbd_publish_state(vbd, vbd_phase_state(vbd->phase));
}

int vbd_publish_again(struct vbd *vbd)
{
    if (!vbd->unpublished)
        return 0;
    int error = publish_phase(vbd, vbd->unpublished_params);
    if (error != -EPIPE) {
        vbd->unpublished = false;
        vbd->unpublished_params = false;
    }
    return error;
}

/* ---- errors, where XenBus drivers report them: below `error` in each side's domain ---- */

struct error_report {
    const struct vbd *vbd;
    int error;
    const char *reason;
};

static void frontend_home(const struct vbd *vbd, char path[ERROR_PATH_MAX])
{
    snprintf(path, ERROR_PATH_MAX, "/local/domain/%u", vbd->address.domid);
}

static void frontend_error(const struct vbd *vbd, char path[ERROR_PATH_MAX])
{
    snprintf(path, ERROR_PATH_MAX, "/local/domain/%u/error/device/vbd/%u", vbd->address.domid,
             vbd->address.devid);
}

static int report_in_transaction(struct xenstore *xs, void *context)
{
    const struct error_report *report = context;
    char path[ERROR_PATH_MAX];
    char **names = NULL;
    unsigned count = 0;

    frontend_home(report->vbd, path);
    int error = xenstore_list(xs, path, &names, &count);
    if (error != 0)
        return error; /* the domain is gone: a write would make its folder anew */
    free(names);
    frontend_error(report->vbd, path);
    return xenstore_printf_at(xs, path, "error", "%d %s", report->error, report->reason);
}

static int report_own_in_transaction(struct xenstore *xs, void *context)
{
    const struct error_report *report = context;
    char path[ERROR_PATH_MAX];

    int error = check_directory(xs, report->vbd, XENBUS_CLOSING);
    if (error != 0)
        return error; /* another disk's trouble is not ours */
    snprintf(path, sizeof(path), "error/%s", report->vbd->path);
    return xenstore_printf_at(xs, path, "error", "%d %s", report->error, report->reason);
}

void vbd_publish_error(struct vbd *vbd, int error, const char *reason)
{
    struct xenstore *xs = vbd->broker->xs;
    struct error_report report = {.vbd = vbd, .error = error, .reason = reason};

    if (vbd->gone)
        return;
    vbd->error_shown = true;
    if (xenstore_transaction(xs, report_own_in_transaction, &report) == -ENOENT)
        return;
    /* From a driver domain the frontend's is out of reach: worth an attempt, no more. */
    (void)xenstore_transaction(xs, report_in_transaction, &report);
}

void vbd_remove_error(struct vbd *vbd)
{
    struct xenstore *xs = vbd->broker->xs;
    char path[ERROR_PATH_MAX];
    char devid[16];
    char **names = NULL;
    unsigned count = 0;

    if (!vbd->error_shown)
        return;
    vbd->error_shown = false;
    snprintf(path, sizeof(path), "/local/domain/%u/error/device/vbd", vbd->address.domid);
    snprintf(devid, sizeof(devid), "%u", vbd->address.devid);
    (void)xenstore_remove_at(xs, path, devid);
    (void)xenstore_remove_at(xs, "error", vbd->path);
    snprintf(path, sizeof(path), "error/backend/%s/%u", vbd_class_name(vbd->address.class),
             vbd->address.domid);
    if (xenstore_list(xs, path, &names, &count) == 0) {
        if (count == 0)
            (void)xenstore_remove_at(xs, "error", path + strlen("error/"));
        free(names);
    }
}
