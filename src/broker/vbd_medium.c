/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Removable drives: a medium is put in or taken out while the guest runs. The new image is opened
 * and locked first; the old one is let go of when the worker has put the new one in its place.
 */
#include "vbd.h"

#include "domain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void answer(struct vbd *vbd, int error, const char *text)
{
    struct control_call_token *token = vbd->medium.token;
    vbd->medium.token = NULL;
    if (token != NULL)
        control_reply(token, error, text);
}

static void end_change(struct vbd *vbd)
{
    image_release(vbd->broker->images, vbd->medium.image);
    vbd->medium.image = NULL;
    vbd->medium.changing = false;
}

void vbd_medium_forget(struct vbd *vbd)
{
    end_change(vbd);
    answer(vbd, -ENODEV, "the drive is being closed");
}

static const char *medium_name(const char *target)
{
    return target[0] != '\0' ? target : "nothing";
}

/* Why the medium is not in the drive, which goes on with the one it has. */
static int refuse(struct vbd *vbd, int error, const char *why)
{
    vbd_log(vbd, LOG_LEVEL_ERROR, "%s can't be put into the drive: %s",
            medium_name(vbd->medium.target), why);
    end_change(vbd);
    answer(vbd, error, why);
    return error;
}

static bool same_image(const struct image *a, const struct image *b)
{
    uint64_t devices[2];
    uint64_t inodes[2];
    if (a == NULL || b == NULL)
        return false;
    image_identity(a, &devices[0], &inodes[0]);
    image_identity(b, &devices[1], &inodes[1]);
    return devices[0] == devices[1] && inodes[0] == inodes[1];
}

/* Opens and locks the image of the new medium, if it has one. */
static int acquire(struct vbd *vbd)
{
    struct vbd_medium *medium = &vbd->medium;
    char why[IMAGE_WHY_MAX] = "";

    if (medium->disk.target.kind != TARGET_PATH)
        return 0;
    int error = image_acquire(vbd->broker->images, medium->disk.target.path,
                              vbd_image_mode(&medium->disk), &vbd->user, why, &medium->image);
    if (error != 0)
        return refuse(vbd, error, why);
    /* A writable one is fenced off against itself until it is closed. */
    if (same_image(medium->image, vbd->image) && !medium->disk.read_only)
        return refuse(vbd, -EBUSY, "it is in the drive already");
    return 0;
}

/* medium.target holds what is wanted. */
static void start_change(struct vbd *vbd)
{
    struct vbd_medium *medium = &vbd->medium;
    char why[CONFIG_WHY_MAX] = "";

    int error = vbd_resolve(vbd, medium->target, why, &medium->disk);
    if (error != 0) {
        (void)refuse(vbd, error, why);
        return;
    }
    if (medium->disk.target.kind == TARGET_EMPTY)
        medium->target[0] = '\0';
    if (acquire(vbd) != 0)
        return;
    medium->changing = true;
    error = vbd_send_open(vbd, WORKER_CHANGE_STORE, &medium->disk, medium->image, -1);
    if (error != 0)
        (void)refuse(vbd, error, "it can't be handed to the worker");
}

static int check_drive(const struct vbd *vbd, const char **why)
{
    if (!vbd->toolstack.cdrom) {
        *why = "the disk is not removable: only a CD-ROM drive (devtype=cdrom) is";
        return -EINVAL;
    }
    if (vbd->store != STORE_OPEN || vbd->closing || vbd->gone) {
        *why = "the drive is not open";
        return -EAGAIN;
    }
    if (vbd->medium.changing) {
        *why = "its medium is being changed already";
        return -EBUSY;
    }
    return 0;
}

void vbd_medium_insert(struct broker *broker, const char *path, const char *target,
                       struct control_call_token *token)
{
    struct vbd_address address;
    struct vbd *vbd;
    const char *why = NULL;

    int error = vbd_find(broker, path, &address, &vbd);
    if (error != 0) {
        vbd_explain_missing(error, path, token);
        return;
    }
    error = check_drive(vbd, &why);
    if (error != 0) {
        control_reply(token, error, why);
        return;
    }
    vbd->medium.token = token;
    vbd->medium.by_hand = true;
    snprintf(vbd->medium.target, sizeof(vbd->medium.target), "%s", target);
    start_change(vbd);
}

void vbd_medium_look(struct vbd *vbd)
{
    const char *why = NULL;
    struct vbd_toolstack before = vbd->toolstack;

    if (check_drive(vbd, &why) != 0)
        return;
    int error = vbd_read_toolstack(vbd);
    struct vbd_toolstack now = vbd->toolstack;
    vbd->toolstack = before;
    if (error != 0 || strcmp(now.target, vbd->medium.params) == 0)
        return;
    memcpy(vbd->medium.params, now.target, sizeof(now.target));
    if (strcmp(now.target, vbd->toolstack.target) == 0)
        return; /* what we wrote ourselves */
    vbd->medium.by_hand = false;
    memcpy(vbd->medium.target, now.target, sizeof(now.target));
    start_change(vbd);
}

static void take_medium(struct vbd *vbd, const struct worker_store_opened *caps)
{
    struct vbd_medium *medium = &vbd->medium;

    image_release(vbd->broker->images, vbd->image);
    vbd->image = medium->image;
    medium->image = NULL;
    medium->changing = false;
    vbd->disk = medium->disk;
    vbd_limits_configure(vbd);
    vbd_limits_send(vbd);
    memcpy(vbd->toolstack.target, medium->target, sizeof(medium->target));
    vbd_take_caps(vbd, caps);
    vbd_log(vbd, LOG_LEVEL_INFO, "%s is in the drive", medium_name(medium->target));
    (void)vbd_publish_medium(vbd, medium->by_hand);
    answer(vbd, 0, NULL);
    vbd_mark_dirty(vbd);
}

bool vbd_on_medium_answer(struct vbd *vbd, const struct worker_message *message)
{
    char reason[STATE_TEXT_MAX];

    if (vbd->store == STORE_CLOSING)
        return true; /* it was on its way when we asked to close */
    if (!vbd->medium.changing)
        return false;
    if (message->type == WORKER_STORE_FAILED) {
        (void)refuse(vbd, message->error < 0 ? message->error : -EIO,
                     log_escape(message->u.text, reason, sizeof(reason)));
        vbd_mark_dirty(vbd);
        return true;
    }
    if (!vbd_caps_possible(&vbd->medium.disk, &message->u.store_opened))
        return false;
    take_medium(vbd, &message->u.store_opened);
    return true;
}
