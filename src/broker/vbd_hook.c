/* SPDX-License-Identifier: BSD-2-Clause */
/* What the xl hook asks for: `add` waits until the disk is open and says why not, `remove` until it
 * is let go of. */
#include "vbd.h"

#include "domains.h"
#include "kernel_blkback.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DETACH_SECONDS       30.0
#define KERNEL_RETRY_SECONDS 0.05
#define KERNEL_TRIES         40U

static void answer_attach(struct vbd *vbd, int error, const char *text)
{
    struct control_call_token *token = vbd->hook.attach;
    if (token != NULL) {
        vbd->hook.attach = NULL;
        ev_timer_stop(vbd->broker->loop, &vbd->hook.attach_timeout);
        ev_timer_stop(vbd->broker->loop, &vbd->hook.kernel_retry);
        control_reply(token, error, text);
    }
}

static void answer_detach(struct vbd *vbd, int error, const char *text)
{
    struct control_call_token *token = vbd->hook.detach;
    if (token != NULL) {
        vbd->hook.detach = NULL;
        ev_timer_stop(vbd->broker->loop, &vbd->hook.detach_timeout);
        control_reply(token, error, text);
    }
}

/* What goes into `physical-device-path`, which QEMU opens as a raw image: only what is one. */
static const char *physical_path(const struct vbd *vbd)
{
    return vbd->disk.target.kind == TARGET_PATH ? vbd->disk.target.path : "";
}

void vbd_hook_update(struct vbd *vbd)
{
    bool nothing_held = vbd->store == STORE_NONE || vbd->store == STORE_FAILED;
    if (vbd->hook.detach != NULL && nothing_held &&
        (vbd->phase == VBD_CLOSED || vbd->rings == RINGS_NONE))
        answer_detach(vbd, 0, NULL);
    if (vbd->hook.attach == NULL || ev_is_active(&vbd->hook.kernel_retry))
        return;
    if (vbd->store == STORE_FAILED) {
        answer_attach(vbd, -EIO, vbd->reason);
    } else if (vbd->store == STORE_OPEN && vbd->phase != VBD_NEW) {
        vbd->hook.asked = true;
        answer_attach(vbd, 0, physical_path(vbd));
        vbd_mark_dirty(vbd);
    }
}

void vbd_hook_finish(struct vbd *vbd)
{
    answer_detach(vbd, 0, NULL);
    answer_attach(vbd, -ENODEV, "the disk was removed");
}

static void on_attach_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct vbd *vbd = timer->data;
    char reason[STATE_TEXT_MAX];
    (void)loop;
    (void)events;
    snprintf(reason, sizeof(reason), "%s",
             vbd->reason[0] != '\0' ? vbd->reason : "its store is not open yet");
    if (vbd->store == STORE_IMAGE_BUSY)
        vbd_open_give_up(vbd);
    answer_attach(vbd, -EBUSY, reason);
}

static void on_detach_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    answer_detach(timer->data, -ETIMEDOUT, "its I/O has not finished; the image is still locked");
}

static uint32_t count_vcpus(struct vbd *vbd)
{
    char path[48];
    char **names = NULL;
    unsigned count = 0;

    snprintf(path, sizeof(path), "/local/domain/%u/cpu", vbd->address.domid);
    if (xenstore_list(vbd->broker->xs, path, &names, &count) != 0)
        return 0;
    free(names);
    return count;
}

/*
 * The kernel's backend, where it is loaded, has claimed the disk and published limits of its own.
 * They are replaced, which is safe while the guest has not read them, before it first runs; or when
 * what it may have chosen by them is within what we offer.
 */
static int check_hot_attach(struct vbd *vbd, char reason[STATE_TEXT_MAX])
{
    struct domain_info info;
    int error = domain_info_get(vbd->broker->domain_info, vbd->address.domid, &info);
    if (error == 0 && info.paused && info.never_ran)
        return 0;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct kernel_blkback_offer chosen =
        kernel_blkback_offer(cpus > 0 ? (uint32_t)cpus : 1, count_vcpus(vbd));
    vbd_make_offer(vbd);
    if (chosen.ring_page_order <= vbd->offer.max_ring_page_order &&
        chosen.queues <= vbd->offer.max_queues)
        return 0;
    snprintf(reason, STATE_TEXT_MAX,
             "the kernel's xen-blkback is loaded and has offered %u rings of %u pages to a domain "
             "that runs: unload it, attach the disk before the domain starts, or raise max-queues "
             "(%u) and max-ring-page-order (%u)",
             chosen.queues, 1U << (chosen.ring_page_order & 31), vbd->offer.max_queues,
             vbd->offer.max_ring_page_order);
    return -EBUSY;
}

/* Returns 0 when the kernel is out of the way, -EAGAIN when it is to be asked again, else the
 * attach is answered. */
static int release_from_kernel(struct vbd *vbd)
{
    uint32_t domid = vbd->address.domid;
    uint32_t devid = vbd->address.devid;
    char reason[STATE_TEXT_MAX];

    if (vbd->address.class != VBD_CLASS_VBD)
        return 0;
    if (kernel_blkback_bound(domid, devid) && check_hot_attach(vbd, reason) != 0) {
        answer_attach(vbd, -EBUSY, reason);
        return -EBUSY;
    }
    int result = kernel_blkback_release(domid, devid);
    if (result == -EAGAIN || result == 0)
        return result;
    if (result < 0) {
        snprintf(reason, sizeof(reason), "can't unbind the disk from the kernel's xen-blkback: %s",
                 strerror(-result));
        answer_attach(vbd, result, reason);
        return result;
    }
    vbd_log(vbd, LOG_LEVEL_INFO, "unbound from the kernel's xen-blkback");
    if (vbd->phase == VBD_INIT_WAIT)
        (void)vbd_publish_init_wait(vbd);
    return 0;
}

static void try_kernel(struct vbd *vbd)
{
    if (release_from_kernel(vbd) == -EAGAIN && ++vbd->hook.kernel_tries < KERNEL_TRIES) {
        ev_timer_set(&vbd->hook.kernel_retry, KERNEL_RETRY_SECONDS, 0.);
        ev_timer_start(vbd->broker->loop, &vbd->hook.kernel_retry);
        return;
    }
    vbd_mark_dirty(vbd); /* the store may be open by now */
}

static void on_kernel_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    try_kernel(timer->data);
}

void vbd_hook_init(struct vbd *vbd)
{
    ev_timer_init(&vbd->hook.attach_timeout, on_attach_timeout, 0., 0.);
    ev_timer_init(&vbd->hook.detach_timeout, on_detach_timeout, DETACH_SECONDS, 0.);
    ev_timer_init(&vbd->hook.kernel_retry, on_kernel_retry, KERNEL_RETRY_SECONDS, 0.);
    vbd->hook.attach_timeout.data = vbd;
    vbd->hook.detach_timeout.data = vbd;
    vbd->hook.kernel_retry.data = vbd;
}

int vbd_find(struct broker *broker, const char *path, struct vbd_address *address, struct vbd **out)
{
    enum address_depth depth;
    if (address_parse(path, broker->own_domid, address, &depth) != 0 || depth != ADDRESS_DEVICE)
        return -EINVAL;
    return domains_find(broker, address, out);
}

void vbd_explain_missing(int error, const char *path, struct control_call_token *token)
{
    char text[STATE_TEXT_MAX + 64];
    if (error == -EINVAL) {
        snprintf(text, sizeof(text), "%.*s is not the path of a disk", (int)STATE_TEXT_MAX - 1,
                 path);
    } else if (error == -ENOENT) {
        snprintf(text, sizeof(text), "there is no disk for blkbackd at %.*s",
                 (int)STATE_TEXT_MAX - 1, path);
    } else {
        snprintf(text, sizeof(text), "%s", strerror(-error));
    }
    control_reply(token, error, text);
}

void vbd_hook_attach(struct broker *broker, const char *path, struct control_call_token *token)
{
    struct vbd_address address;
    struct vbd *vbd;

    int error = broker->stopping ? -ESHUTDOWN : vbd_find(broker, path, &address, &vbd);
    if (error == -ENOENT) /* its watch event may be on the way */
        error = vbd_discover(broker, &address, &vbd);
    if (error != 0) {
        vbd_explain_missing(error, path, token);
        return;
    }
    answer_attach(vbd, -ECANCELED, "asked for again");
    vbd->hook.attach = token;
    vbd->hook.leave = false;
    vbd->hook.kernel_tries = 0;
    ev_timer_set(&vbd->hook.attach_timeout, broker->config.attach_timeout, 0.);
    ev_timer_start(broker->loop, &vbd->hook.attach_timeout);
    if (vbd->store == STORE_FAILED && vbd->phase <= VBD_INIT_WAIT) {
        vbd->store = STORE_NONE;
        vbd_open_start(vbd); /* what was wrong may have been mended */
    }
    try_kernel(vbd);
}

/* A ghost of the same address still holds the image. */
static struct vbd *find_ghost(struct broker *broker, const struct vbd_address *address)
{
    struct vbd *vbd;
    TAILQ_FOREACH(vbd, &broker->ghosts, in_broker)
    {
        if (vbd->address.class == address->class && vbd->address.domid == address->domid &&
            vbd->address.devid == address->devid)
            return vbd;
    }
    return NULL;
}

void vbd_hook_detach(struct broker *broker, const char *path, struct control_call_token *token)
{
    struct vbd_address address;
    struct vbd *vbd = NULL;

    int error = vbd_find(broker, path, &address, &vbd);
    if (error == -EINVAL) {
        vbd_explain_missing(error, path, token);
        return;
    }
    if (error != 0)
        vbd = find_ghost(broker, &address);
    if (vbd == NULL) {
        control_reply(token, 0, NULL);
        return;
    }
    answer_detach(vbd, -ECANCELED, "asked for again");
    vbd->hook.detach = token;
    vbd->hook.leave = true;
    vbd->hook.asked = false;
    ev_timer_set(&vbd->hook.detach_timeout, DETACH_SECONDS, 0.);
    ev_timer_start(broker->loop, &vbd->hook.detach_timeout);
    vbd_mark_dirty(vbd);
}
