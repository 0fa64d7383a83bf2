/* SPDX-License-Identifier: BSD-2-Clause */
/* Images that dead workers of a former broker may still write to: see orphans.h. */
#include "orphans.h"

#include "domains.h"
#include "state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_SECONDS 0.02

struct orphan {
    TAILQ_ENTRY(orphan) entry;
    struct broker *broker;
    struct image *image;
    uint32_t domid;
    uint32_t devid;
    ev_timer look;
};

static void forget(struct orphan *orphan)
{
    struct broker *broker = orphan->broker;
    ev_timer_stop(broker->loop, &orphan->look);
    TAILQ_REMOVE(&broker->orphans, orphan, entry);
    image_release(broker->images, orphan->image);
    free(orphan);
}

static void on_look(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct orphan *orphan = timer->data;
    struct broker *broker = orphan->broker;
    (void)events;
    if (!image_fence_is_free(orphan->image, orphan->domid, orphan->devid)) {
        ev_timer_set(timer, LOOK_SECONDS, 0.); /* libev leaves nothing of what has fired */
        ev_timer_start(loop, timer);
        return;
    }
    log_info("domain %u, device %u: the last I/O of its former worker is over", orphan->domid,
             orphan->devid);
    forget(orphan);
    domains_collect_files(broker);
}

/* The image by the path that the file's target means; it must be the very same one. */
static int open_image(struct broker *broker, const struct connection_file *file, struct image **out)
{
    struct target target;
    struct disk_config disk = {.options = broker->config.disk};
    char why[CONFIG_WHY_MAX];
    struct image_user user = {
        .domid = file->domid, .devid = file->devid, .target_domid = file->domid};

    int error = target_parse(file->target, why, sizeof(why), &target);
    if (error == 0 && target.kind == TARGET_DISK)
        error = config_load_disk(&broker->config, target.name, why, &disk);
    else
        disk.target = target;
    if (error != 0 || disk.target.kind != TARGET_PATH)
        return error != 0 ? error : -ENOENT;
    snprintf(user.uuid, sizeof(user.uuid), "%s", file->domain_uuid);
    struct image *image;
    error = image_acquire(broker->images, disk.target.path, IMAGE_SHARED, &user, why, &image);
    if (error != 0)
        return error;
    uint64_t device;
    uint64_t inode;
    image_identity(image, &device, &inode);
    if (device == file->image_device && inode == file->image_inode) {
        *out = image;
        return 0;
    }
    image_release(broker->images, image);
    return -ESTALE;
}

static void lock_image(struct broker *broker, const struct connection_file *file)
{
    struct image *image;

    if (file->image_inode == 0 && file->image_device == 0)
        return; /* none was open */
    if (file->read_only != 0 || strcmp(file->boot_id, broker->boot_id) != 0)
        return;
    int error = open_image(broker, file, &image);
    if (error != 0) {
        log_warning(
            "domain %u, device %u: %s, which its former worker may still write to, can't be "
            "locked: %s",
            file->domid, file->devid, file->target, strerror(-error));
        return;
    }
    struct orphan *orphan =
        image_fence_is_free(image, file->domid, file->devid) ? NULL : calloc(1, sizeof(*orphan));
    if (orphan == NULL) {
        image_release(broker->images, image);
        return;
    }
    *orphan = (struct orphan){
        .broker = broker, .image = image, .domid = file->domid, .devid = file->devid};
    ev_timer_init(&orphan->look, on_look, LOOK_SECONDS, 0.);
    orphan->look.data = orphan;
    ev_timer_start(broker->loop, &orphan->look);
    TAILQ_INSERT_TAIL(&broker->orphans, orphan, entry);
}

static void lock_one(struct broker *broker, const struct state_file *file)
{
    struct connection_file connection;
    if (!file->connection)
        return;
    int fd = openat(broker->state_dir, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (connection_read(fd, &connection) == 0)
        lock_image(broker, &connection);
    close(fd);
}

void orphans_lock(struct broker *broker)
{
    state_dir_for_each(broker, lock_one);
}

bool orphans_has(const struct broker *broker, uint32_t domid, uint32_t devid)
{
    const struct orphan *orphan;
    TAILQ_FOREACH(orphan, &broker->orphans, entry)
    {
        if (orphan->domid == domid && orphan->devid == devid)
            return true;
    }
    return false;
}

void orphans_forget(struct broker *broker)
{
    struct orphan *next;
    for (struct orphan *orphan = TAILQ_FIRST(&broker->orphans); orphan != NULL; orphan = next) {
        next = TAILQ_NEXT(orphan, entry);
        forget(orphan);
    }
}
