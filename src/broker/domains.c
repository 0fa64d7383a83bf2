/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding vbds in XenStore: watches, what their events mean, and which vbd is where. */
#include "domains.h"

#include "orphans.h"
#include "state_dir.h"
#include "vbd.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKEND_TOKEN   "backend"
#define RELEASE_TOKEN   "release"
#define EVENTS_PER_TURN 256U

static void class_path(enum vbd_class class, char path[24])
{
    snprintf(path, 24, "backend/%s", vbd_class_name(class));
}

int domains_watch(struct broker *broker)
{
    int error = xenstore_watch(broker->xs, "@releaseDomain", RELEASE_TOKEN);
    broker->told_of_release = error == 0;
    if (error == -EACCES || error == -EPERM) {
        log_info("xenstored does not tell us of domains that end: they are looked after");
        error = 0;
    }
    for (unsigned i = 0; error == 0 && i < VBD_CLASSES; i++) {
        char path[24];
        class_path((enum vbd_class)i, path);
        error = xenstore_watch(broker->xs, path, BACKEND_TOKEN);
    }
    return error;
}

void domains_unwatch(struct broker *broker)
{
    (void)xenstore_unwatch(broker->xs, "@releaseDomain", RELEASE_TOKEN);
    for (unsigned i = 0; i < VBD_CLASSES; i++) {
        char path[24];
        class_path((enum vbd_class)i, path);
        (void)xenstore_unwatch(broker->xs, path, BACKEND_TOKEN);
    }
}

/* State files are named by domain and device alone, so one number can't be used in two classes at
 * once. */
static uint64_t key_of(const struct vbd_address *address)
{
    return (uint64_t)address->domid << 32 | address->devid;
}

static bool number_taken(const struct broker *broker, const struct vbd_address *address)
{
    return table_find(&broker->addresses, key_of(address)) != NULL;
}

int domains_find(struct broker *broker, const struct vbd_address *address, struct vbd **out)
{
    struct table_link *link = table_find(&broker->addresses, key_of(address));

    for (; link != NULL; link = table_find_next(link)) {
        struct vbd *vbd = (struct vbd *)((char *)link - offsetof(struct vbd, by_address));
        if (vbd->address.class == address->class) {
            *out = vbd;
            return 0;
        }
    }
    return -ENOENT;
}

void domains_add(struct broker *broker, struct vbd *vbd)
{
    TAILQ_INSERT_TAIL(&broker->vbds, vbd, in_broker);
    table_add(&broker->addresses, key_of(&vbd->address), &vbd->by_address);
}

void domains_remove(struct broker *broker, struct vbd *vbd)
{
    TAILQ_REMOVE(&broker->vbds, vbd, in_broker);
    table_remove(&vbd->by_address);
}

static void look_at_device(struct broker *broker, const struct vbd_address *address)
{
    struct vbd *vbd;
    if (domains_find(broker, address, &vbd) == 0) {
        if (!ev_is_active(&vbd->storm)) /* else what we write ourselves would undo the delay */
            vbd_mark_dirty(vbd);
        return;
    }
    if (broker->stopping || number_taken(broker, address))
        return;
    int error = vbd_discover(broker, address, &vbd);
    if (error != 0 && error != -ENOENT) {
        static struct log_limit limit;
        log_limited(&limit, LOG_LEVEL_ERROR, "domain %u, %s %u: can't be taken: %s", address->domid,
                    vbd_class_name(address->class), address->devid, strerror(-error));
    }
}

static void look_at_children(struct broker *broker, struct vbd_address address,
                             enum address_depth depth)
{
    char path[VBD_PATH_MAX];
    char **names = NULL;
    unsigned count = 0;

    if (depth == ADDRESS_DEVICE) {
        look_at_device(broker, &address);
        return;
    }
    int length = snprintf(path, sizeof(path), "backend/%s", vbd_class_name(address.class));
    if (depth == ADDRESS_DOMAIN)
        snprintf(path + length, sizeof(path) - (size_t)length, "/%u", address.domid);
    if (xenstore_list(broker->xs, path, &names, &count) != 0)
        return;
    for (unsigned i = 0; i < count; i++) {
        bool domain = depth == ADDRESS_CLASS;
        if (address_parse_number(names[i], domain ? DOMID_MAX : DEVID_MAX,
                                 domain ? &address.domid : &address.devid) == 0)
            look_at_children(broker, address, domain ? ADDRESS_DOMAIN : ADDRESS_DEVICE);
    }
    free(names);
}

/* What another broker served has the older right to its image. */
static void take_up_served(struct broker *broker, const struct state_file *file)
{
    struct vbd_address address = {.domid = file->domid, .devid = file->devid};

    for (unsigned i = 0; file->connection && i < VBD_CLASSES; i++) {
        address.class = (enum vbd_class)i;
        look_at_device(broker, &address);
    }
}

void domains_scan(struct broker *broker)
{
    state_dir_for_each(broker, take_up_served);
    for (unsigned i = 0; i < VBD_CLASSES; i++) {
        struct vbd_address address = {.class = (enum vbd_class)i};
        look_at_children(broker, address, ADDRESS_CLASS);
    }
}

/* A folder that was removed as a whole is one event, for the folder. */
static void mark_below(struct broker *broker, const struct vbd_address *address,
                       enum address_depth depth)
{
    struct vbd *vbd;
    TAILQ_FOREACH(vbd, &broker->vbds, in_broker)
    {
        if (vbd->address.class == address->class &&
            (depth == ADDRESS_CLASS || vbd->address.domid == address->domid))
            vbd_mark_dirty(vbd);
    }
}

static void on_event(struct broker *broker, const char *path, const char *token)
{
    struct vbd_address address;
    enum address_depth depth;
    struct vbd *vbd;

    if (strcmp(token, RELEASE_TOKEN) == 0) {
        broker->released = true;
        return;
    }
    /* The token of a frontend's watch is the path of its backend. */
    bool frontend = strcmp(token, BACKEND_TOKEN) != 0;
    if (address_parse(frontend ? token : path, broker->own_domid, &address, &depth) != 0)
        return;
    if (frontend) {
        if (domains_find(broker, &address, &vbd) == 0)
            vbd_frontend_changed(vbd);
        return;
    }
    if (published_path(path) && domains_find(broker, &address, &vbd) == 0)
        return; /* our own writes are most of the events, and nobody looks at these nodes */
    if (depth != ADDRESS_DEVICE)
        mark_below(broker, &address, depth);
    look_at_children(broker, address, depth);
}

int domains_take_events(struct broker *broker)
{
    for (unsigned i = 0; i < EVENTS_PER_TURN; i++) {
        char path[XENSTORE_PATH_MAX];
        char token[VBD_PATH_MAX];
        int error = xenstore_next_event(broker->xs, path, sizeof(path), token, sizeof(token));
        if (error == -EAGAIN)
            return 0;
        if (error != 0)
            return error;
        on_event(broker, path, token);
    }
    return 0;
}

static void collect(struct broker *broker, const struct state_file *file)
{
    const struct vbd_address address = {.domid = file->domid, .devid = file->devid};

    if (!number_taken(broker, &address) && !orphans_has(broker, file->domid, file->devid))
        (void)unlinkat(broker->state_dir, file->name, 0);
}

void domains_collect_files(struct broker *broker)
{
    if (!xenstore_lost(broker->xs)) /* what can't be seen is not gone */
        state_dir_for_each(broker, collect);
}
