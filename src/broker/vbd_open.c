/* SPDX-License-Identifier: BSD-2-Clause */
/* From the toolstack's nodes to an open store: target, image and its lock, slab file, worker. */
#include "vbd.h"

#include "domain.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUSY_RETRY_SECONDS 0.25

static int read_text(const struct vbd *vbd, const char *node, char *value, unsigned size)
{
    return xenstore_read_at(vbd->broker->xs, vbd->path, node, value, size);
}

int vbd_read_toolstack(struct vbd *vbd)
{
    struct vbd_toolstack toolstack = {.read_only = true};
    char text[64];

    int error = read_text(vbd, "params", toolstack.target, sizeof(toolstack.target));
    if (error != 0)
        return error;
    /* Only what says so is writable. */
    if (read_text(vbd, "mode", text, sizeof(text)) == 0) {
        toolstack.read_only = text[0] != 'w';
        toolstack.shared = strcmp(text, "w!") == 0;
    }
    if (read_text(vbd, "dev", toolstack.vdev, sizeof(toolstack.vdev)) != 0)
        snprintf(toolstack.vdev, sizeof(toolstack.vdev), "%u", vbd->address.devid);
    toolstack.cdrom =
        read_text(vbd, "device-type", text, sizeof(text)) == 0 && strcmp(text, "cdrom") == 0;
    toolstack.discard =
        read_text(vbd, "discard-enable", text, sizeof(text)) != 0 || strcmp(text, "0") != 0;
    char script[XENSTORE_VALUE_MAX + 1];
    toolstack.has_script = read_text(vbd, "script", script, sizeof(script)) == 0 && script[0] != 0;
    vbd->toolstack = toolstack;
    return 0;
}

static void open_failed(struct vbd *vbd, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void open_failed(struct vbd *vbd, const char *format, ...)
{
    char reason[sizeof(vbd->reason)]; /* the arguments may be of the old one */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    memcpy(vbd->reason, reason, sizeof(reason));
    vbd_release_image(vbd);
    vbd->store = STORE_FAILED;
    vbd->settled = true;
    vbd->number = 0;
    vbd_log(vbd, LOG_LEVEL_ERROR, "can't be served: %s", reason);
    vbd_mark_dirty(vbd);
}

static void open_failed_with(struct vbd *vbd, const char *what, int error)
{
    open_failed(vbd, "%s: %s", what, strerror(-error));
}

/* What is to be opened, and how: from the target, or from the file of disks.d that it names. */
static int resolve_target(struct vbd *vbd, char *why)
{
    const struct config *config = &vbd->broker->config;
    struct target target;
    struct disk_config disk = {.options = config->disk};

    int error = target_parse(vbd->toolstack.target, why, CONFIG_WHY_MAX, &target);
    if (error != 0)
        return error;
    if (target.kind == TARGET_DISK) {
        error = config_load_disk(config, target.name, why, &disk);
        if (error != 0)
            return error;
    } else {
        disk.target = target;
    }
    disk.read_only |= vbd->toolstack.read_only;
    disk.shared |= vbd->toolstack.shared;
    vbd->disk = disk;
    return 0;
}

/* The guest that a stub domain serves, else the domain itself. */
static uint32_t served_domid(const struct vbd *vbd)
{
    char home[40];
    uint32_t target = vbd->address.domid;
    snprintf(home, sizeof(home), "/local/domain/%u", vbd->address.domid);
    (void)xenstore_read_u32(vbd->broker->xs, home, "target", DOMID_MAX, &target);
    return target;
}

static void identify_user(struct vbd *vbd)
{
    vbd->user.domid = vbd->address.domid;
    vbd->user.devid = vbd->address.devid;
    vbd->user.target_domid = served_domid(vbd);
    snprintf(vbd->user.uuid, sizeof(vbd->user.uuid), "%s", domain_uuid(vbd->domain));
}

static int create_slab(struct vbd *vbd)
{
    char name[40];
    vbd_slab_name(vbd, name);
    int fd = openat(vbd->broker->state_dir, name,
                    O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)sizeof(struct slab_header)) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    vbd->slab = fd;
    return 0;
}

static void fill_open_store(const struct vbd *vbd, struct worker_open_store *open)
{
    const struct disk_options *options = &vbd->disk.options;
    bool file = vbd->image != NULL;
    *open = (struct worker_open_store){
        .domid = vbd->address.domid,
        .devid = vbd->address.devid,
        .kind = file ? WORKER_STORE_FILE : WORKER_STORE_NULL,
        .engine = (uint32_t)options->engine,
        .read_only = vbd->disk.read_only,
        .direct = options->direct,
        .sector_size = options->sector_size,
        .fence = file && !vbd->disk.read_only,
        .size = vbd->disk.target.size,
        .discard = vbd_discard_wanted(vbd),
    };
    struct discard_limits limits;
    if (file && image_discard_limits(vbd->image, &limits) == 0) {
        open->discard_granularity = limits.granularity;
        open->discard_alignment = limits.alignment;
        open->discard_max_bytes = limits.max_bytes;
    }
    snprintf(open->vdev, sizeof(open->vdev), "%s", vbd->toolstack.vdev);
}

/* The worker is ready. Descriptors are only lent to the message: a copy kept of the image's would
 * keep the fence locked. */
static void send_open(struct vbd *vbd)
{
    vbd->number = domain_next_number(vbd->domain);
    struct worker_message message = worker_message(WORKER_OPEN_STORE, vbd->number);
    fill_open_store(vbd, &message.u.open_store);
    int fds[WORKER_MESSAGE_MAX_FDS];
    unsigned count = 0;
    int image = -1;

    if (vbd->image != NULL) {
        image = image_open_for_worker(vbd->image);
        if (image < 0) {
            open_failed_with(vbd, vbd->disk.target.path, image);
            return;
        }
        fds[count++] = image;
    }
    fds[count++] = vbd->slab;
    int error = domain_send(vbd->domain, &message, fds, count);
    if (image >= 0)
        close(image);
    if (error != 0) {
        open_failed_with(vbd, "can't reach the worker", error);
        return;
    }
    close(vbd->slab);
    vbd->slab = -1;
    vbd->store = STORE_OPENING;
}

void vbd_worker_ready(struct vbd *vbd)
{
    if (vbd->store == STORE_WAITS)
        send_open(vbd);
}

static void image_is_open(struct vbd *vbd)
{
    int error = create_slab(vbd);
    if (error != 0) {
        open_failed_with(vbd, "can't make its state file", error);
        return;
    }
    vbd->store = STORE_WAITS;
    error = domain_need_worker(vbd->domain);
    if (error == 0)
        send_open(vbd);
    else if (error != -EINPROGRESS)
        open_failed_with(vbd, vbd->broker->config.worker, error);
}

static void wait_for_image(struct vbd *vbd, const char *why)
{
    struct ev_loop *loop = vbd->broker->loop;
    double now = ev_now(loop);

    if (vbd->store != STORE_IMAGE_BUSY) {
        vbd->store = STORE_IMAGE_BUSY;
        vbd->busy_since = now;
        vbd_log(vbd, LOG_LEVEL_INFO, "waits for its image: %s", why);
    }
    snprintf(vbd->reason, sizeof(vbd->reason), "%s", why);
    vbd->settled = true;
    vbd_mark_dirty(vbd);
    if (vbd->hook.attach == NULL && now - vbd->busy_since >= vbd->broker->config.attach_timeout) {
        vbd_open_give_up(vbd);
        return;
    }
    ev_timer_set(&vbd->retry, BUSY_RETRY_SECONDS, 0.);
    ev_timer_start(loop, &vbd->retry);
}

static enum image_mode image_mode(const struct vbd *vbd)
{
    if (vbd->disk.read_only)
        return IMAGE_READ_ONLY;
    return vbd->disk.shared ? IMAGE_SHARED : IMAGE_EXCLUSIVE;
}

static void acquire_image(struct vbd *vbd)
{
    char why[IMAGE_WHY_MAX] = "";
    if (vbd->disk.target.kind == TARGET_NULL) {
        image_is_open(vbd);
        return;
    }
    int error = image_acquire(vbd->broker->images, vbd->disk.target.path, image_mode(vbd),
                              &vbd->user, why, &vbd->image);
    if (error == -EBUSY) {
        wait_for_image(vbd, why);
    } else if (error != 0) {
        open_failed(vbd, "%s", why);
    } else {
        vbd->reason[0] = '\0';
        image_is_open(vbd);
    }
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    acquire_image(timer->data);
}

void vbd_open_give_up(struct vbd *vbd)
{
    ev_timer_stop(vbd->broker->loop, &vbd->retry);
    open_failed(vbd, "%s", vbd->reason);
}

void vbd_open_start(struct vbd *vbd)
{
    char why[CONFIG_WHY_MAX] = "";

    vbd->reason[0] = '\0';
    ev_timer_init(&vbd->retry, on_retry, BUSY_RETRY_SECONDS, 0.);
    vbd->retry.data = vbd;
    int error = vbd_read_toolstack(vbd);
    if (error != 0) {
        open_failed_with(vbd, "can't read params", error);
        return;
    }
    if (resolve_target(vbd, why) != 0) {
        open_failed(vbd, "%s", why);
        return;
    }
    identify_user(vbd);
    acquire_image(vbd);
}

void vbd_release_image(struct vbd *vbd)
{
    image_release(vbd->broker->images, vbd->image);
    vbd->image = NULL;
    if (vbd->slab >= 0) {
        close(vbd->slab);
        vbd->slab = -1;
    }
}

static void store_opened(struct vbd *vbd, const struct worker_store_opened *caps)
{
    vbd_take_caps(vbd, caps);
    vbd->store = STORE_OPEN;
    vbd->settled = true;
    vbd_log(vbd, LOG_LEVEL_INFO,
            "store open: %s, %" PRIu64 " bytes, sectors of %u, %s, engine %s%s",
            vbd->toolstack.target, vbd->caps.size, vbd->caps.sector_size,
            vbd->offer.read_only ? "read-only" : "writable", vbd->caps.engine,
            vbd->caps.direct != 0 ? ", direct" : "");
    vbd_mark_dirty(vbd);
}

bool vbd_on_store_answer(struct vbd *vbd, const struct worker_message *message)
{
    char reason[STATE_TEXT_MAX];
    if (vbd->store != STORE_OPENING)
        return false;
    if (message->type == WORKER_STORE_FAILED)
        open_failed(vbd, "%s", log_escape(message->u.text, reason, sizeof(reason)));
    else if (vbd_caps_possible(&vbd->disk, &message->u.store_opened))
        store_opened(vbd, &message->u.store_opened);
    else
        return false;
    if (vbd->closing)
        vbd_close_continue(vbd);
    return true;
}
