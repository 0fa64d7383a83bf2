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

/* Deaths of workers in vain before a disk is given up: soon when somebody waits for it to be
 * attached, after half a minute when a guest is using it. */
#define DEATHS_OPENING   3U
#define DEATHS_CONNECTED 13U

static int read_text(const struct vbd *vbd, const char *node, char *value, unsigned size)
{
    return xenstore_read_at(vbd->broker->xs, vbd->path, node, value, size);
}

/* xl's cd-insert writes "aio:/path" where others write "/path", and "aio:" may be an empty drive.
 */
static void drop_format(char target[STATE_TEXT_MAX])
{
    static const char format[] = "aio:";
    size_t length = strlen(format);
    if (strncmp(target, format, length) == 0)
        memmove(target, target + length, strlen(target + length) + 1);
}

int vbd_read_identity(const struct vbd *vbd, struct vbd_toolstack *out)
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
    toolstack.cdrom =
        read_text(vbd, "device-type", text, sizeof(text)) == 0 && strcmp(text, "cdrom") == 0;
    if (toolstack.cdrom)
        drop_format(toolstack.target);
    if (xenstore_lost(vbd->broker->xs))
        return -EPIPE; /* nodes that could not be read are not missing */
    *out = toolstack;
    return 0;
}

int vbd_read_toolstack(struct vbd *vbd)
{
    struct vbd_toolstack toolstack;
    char text[64];

    int error = vbd_read_identity(vbd, &toolstack);
    if (error != 0)
        return error;
    if (read_text(vbd, "dev", toolstack.vdev, sizeof(toolstack.vdev)) != 0)
        snprintf(toolstack.vdev, sizeof(toolstack.vdev), "%u", vbd->address.devid);
    toolstack.discard =
        read_text(vbd, "discard-enable", text, sizeof(text)) != 0 || strcmp(text, "0") != 0;
    char script[XENSTORE_VALUE_MAX + 1];
    toolstack.has_script = read_text(vbd, "script", script, sizeof(script)) == 0 && script[0] != 0;
    if (xenstore_lost(vbd->broker->xs))
        return -EPIPE;
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
    vbd->settled = true;
    vbd_set_number(vbd, 0);
    vbd_log(vbd, LOG_LEVEL_ERROR, "can't be served: %s", reason);
    if (!vbd_wait_for_fence(vbd)) {
        vbd_release_image(vbd);
        vbd->store = STORE_FAILED;
    }
    if (vbd->rings == RINGS_LOST) {
        vbd->rings = RINGS_NONE;
        vbd->taking_up = false;
        vbd_fail(vbd, -EIO, vbd->reason);
    }
    vbd_mark_dirty(vbd);
}

static void open_failed_with(struct vbd *vbd, const char *what, int error)
{
    open_failed(vbd, "%s: %s", what, strerror(-error));
}

int vbd_resolve(const struct vbd *vbd, const char *text, char *why, struct disk_config *out)
{
    const struct config *config = &vbd->broker->config;
    struct target target = {.kind = TARGET_EMPTY};
    struct disk_config disk = {.options = config->disk};

    bool empty = vbd->toolstack.cdrom && text[0] == '\0';
    int error = empty ? 0 : target_parse(text, why, CONFIG_WHY_MAX, &target);
    if (error != 0)
        return error;
    if (target.kind == TARGET_DISK) {
        error = config_load_disk(config, target.name, why, &disk);
        if (error != 0)
            return error;
    } else {
        disk.target = target;
    }
    if (disk.target.kind == TARGET_EMPTY && !vbd->toolstack.cdrom) {
        snprintf(why, CONFIG_WHY_MAX, "only a CD-ROM drive can be empty");
        return -EINVAL;
    }
    disk.read_only |= vbd->toolstack.read_only;
    disk.shared |= vbd->toolstack.shared;
    *out = disk;
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

static int open_slab(struct vbd *vbd)
{
    char name[STATE_NAME_MAX];
    bool keep = vbd->rings == RINGS_LOST; /* its journal is to be gone on with */
    vbd_slab_name(vbd, name);
    int fd = openat(vbd->broker->state_dir, name,
                    O_RDWR | O_CLOEXEC | O_NOFOLLOW | (keep ? 0 : O_CREAT | O_TRUNC), 0600);
    if (fd < 0)
        return -errno;
    if (!keep && ftruncate(fd, (off_t)sizeof(struct slab_header)) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    vbd->slab = fd;
    return 0;
}

static enum worker_store_kind store_kind(const struct disk_config *disk)
{
    switch (disk->target.kind) {
    case TARGET_NULL:
        return WORKER_STORE_NULL;
    case TARGET_EMPTY:
        return WORKER_STORE_EMPTY;
    case TARGET_PATH:
    case TARGET_DISK:
        break;
    }
    return WORKER_STORE_FILE;
}

static void fill_open_store(const struct vbd *vbd, const struct disk_config *disk,
                            const struct image *image, struct worker_open_store *open)
{
    *open = (struct worker_open_store){
        .domid = vbd->address.domid,
        .devid = vbd->address.devid,
        .kind = store_kind(disk),
        .engine = (uint32_t)disk->options.engine,
        .read_only = disk->read_only,
        .direct = disk->options.direct,
        .sector_size = disk->options.sector_size,
        .fence = image != NULL && !disk->read_only,
        .size = disk->target.size,
        .discard = vbd_discard_wanted(vbd, disk),
        .adopt = vbd->rings == RINGS_LOST,
        .pause_no_space = disk->options.on_no_space == FAULT_PAUSE,
        .pause_error = disk->options.on_error == FAULT_PAUSE,
        .log_lines_per_minute = disk->options.log_lines_per_minute,
    };
    struct discard_limits limits;
    if (image != NULL && image_discard_limits(image, &limits) == 0) {
        open->discard_granularity = limits.granularity;
        open->discard_alignment = limits.alignment;
        open->discard_max_bytes = limits.max_bytes;
    }
    snprintf(open->vdev, sizeof(open->vdev), "%s", vbd->toolstack.vdev);
}

int vbd_send_open(struct vbd *vbd, enum worker_message_type type, const struct disk_config *disk,
                  const struct image *image, int slab)
{
    struct worker_message message = worker_message(type, vbd->number);
    fill_open_store(vbd, disk, image, &message.u.open_store);
    int fds[WORKER_MESSAGE_MAX_FDS];
    unsigned count = 0;
    int lent = -1;

    vbd->size.seen = 0;
    size_watch_forget(vbd);
    if (image != NULL) {
        broker_look_later(vbd->broker);
        /* First the size, so that what is added while the worker opens is noticed. */
        (void)image_size(image, &vbd->size.seen);
        lent = image_open_for_worker(image);
        if (lent < 0)
            return lent;
        fds[count++] = lent;
    }
    if (slab >= 0)
        fds[count++] = slab;
    int error = domain_send(vbd->domain, &message, fds, count);
    if (lent >= 0)
        close(lent);
    return error;
}

/* The worker is ready. */
static void send_open(struct vbd *vbd)
{
    vbd_set_number(vbd, domain_next_number(vbd->domain));
    int error = vbd_send_open(vbd, WORKER_OPEN_STORE, &vbd->disk, vbd->image, vbd->slab);
    if (error == -ECONNRESET)
        return; /* it has just died: vbd_worker_lost() goes on from here */
    if (error != 0) {
        open_failed_with(vbd, "can't be handed to the worker", error);
        return;
    }
    close(vbd->slab);
    vbd->slab = -1;
    vbd->store = STORE_OPENING;
    vbd_limits_send(vbd);
}

void vbd_worker_ready(struct vbd *vbd)
{
    if (vbd->store == STORE_WAITS)
        send_open(vbd);
}

static void image_is_open(struct vbd *vbd)
{
    int error = open_slab(vbd);
    if (error != 0) {
        open_failed_with(vbd, "can't make its state file", error);
        return;
    }
    unsigned patience = vbd->rings == RINGS_LOST ? DEATHS_CONNECTED : DEATHS_OPENING;
    if (domain_deaths_in_vain(vbd->domain) >= patience) {
        open_failed(vbd, "its workers end again and again; the last worker ended: %s",
                    domain_last_death(vbd->domain));
        return;
    }
    vbd->store = STORE_WAITS;
    error = domain_need_worker(vbd->domain);
    if (error == 0)
        send_open(vbd);
    else if (error != -EINPROGRESS)
        open_failed_with(vbd, vbd->broker->config.worker, error);
}

void vbd_retry_in(struct vbd *vbd, double seconds,
                  void (*again)(struct ev_loop *loop, ev_timer *timer, int events))
{
    /* One that is still running must not be initialised: libev's heap would have it twice. */
    ev_timer_stop(vbd->broker->loop, &vbd->retry);
    ev_timer_init(&vbd->retry, again, seconds, 0.);
    vbd->retry.data = vbd;
    ev_timer_start(vbd->broker->loop, &vbd->retry);
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events);

static void wait_for_image(struct vbd *vbd, const char *why)
{
    double now = broker_seconds();

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
    vbd_retry_in(vbd, BUSY_RETRY_SECONDS, on_retry);
}

enum image_mode vbd_image_mode(const struct disk_config *disk)
{
    if (disk->read_only)
        return IMAGE_READ_ONLY;
    return disk->shared ? IMAGE_SHARED : IMAGE_EXCLUSIVE;
}

/* A path may name another file than the one whose blocks a connected guest has in its memory. */
static bool is_another_image(const struct vbd *vbd)
{
    uint64_t device;
    uint64_t inode;
    if (vbd->expected_device == 0)
        return false;
    image_identity(vbd->image, &device, &inode);
    return device != vbd->expected_device || inode != vbd->expected_inode;
}

static void acquire_image(struct vbd *vbd)
{
    char why[IMAGE_WHY_MAX] = "";
    if (vbd->disk.target.kind != TARGET_PATH) {
        image_is_open(vbd);
        return;
    }
    int error = image_acquire(vbd->broker->images, vbd->disk.target.path,
                              vbd_image_mode(&vbd->disk), &vbd->user, why, &vbd->image);
    if (error == -EBUSY) {
        wait_for_image(vbd, why);
    } else if (error != 0) {
        open_failed(vbd, "%s", why);
    } else if (is_another_image(vbd)) {
        open_failed(vbd, "%s is not the image that the guest uses", vbd->disk.target.path);
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

void vbd_open_again(struct vbd *vbd)
{
    vbd->taking_up = vbd->rings == RINGS_LOST;
    if (vbd->slab >= 0) {
        close(vbd->slab);
        vbd->slab = -1;
    }
    image_is_open(vbd);
}

void vbd_open_give_up(struct vbd *vbd)
{
    ev_timer_stop(vbd->broker->loop, &vbd->retry);
    open_failed(vbd, "%s", vbd->reason);
}

void vbd_open_start(struct vbd *vbd)
{
    char why[CONFIG_WHY_MAX] = "";

    bool fresh = vbd->toolstack.fresh;

    vbd->reason[0] = '\0';
    domain_forgive(vbd->domain);
    ev_timer_stop(vbd->broker->loop, &vbd->retry);
    int error = fresh ? 0 : vbd_read_toolstack(vbd);
    vbd->toolstack.fresh = false;
    if (error != 0 && error != -EPIPE) { /* without xenstored, what was read before holds */
        open_failed_with(vbd, "can't read params", error);
        return;
    }
    memcpy(vbd->medium.params, vbd->toolstack.target, sizeof(vbd->medium.params));
    if (vbd_resolve(vbd, vbd->toolstack.target, why, &vbd->disk) != 0) {
        open_failed(vbd, "%s", why);
        return;
    }
    log_limit_pace(&vbd->limit, vbd->disk.options.log_lines_per_minute);
    vbd_limits_configure(vbd);
    identify_user(vbd);
    acquire_image(vbd);
}

void vbd_release_image(struct vbd *vbd)
{
    vbd_medium_forget(vbd);
    vbd_size_forget(vbd);
    vbd_pause_forget(vbd);
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
    vbd->unfenced = false;
    vbd->expected_device = 0;
    if (vbd->rings == RINGS_NONE)
        vbd->reason[0] = '\0';
    vbd->settled = true;
    vbd_log(vbd, LOG_LEVEL_INFO,
            "store open: %s, %" PRIu64 " bytes, sectors of %u, %s, engine %s%s",
            vbd->toolstack.target, vbd->caps.size, vbd->caps.sector_size,
            vbd->offer.read_only ? "read-only" : "writable", vbd->caps.engine,
            vbd->caps.direct != 0 ? ", direct" : "");
    if (vbd->rings == RINGS_LOST)
        vbd_reconnect(vbd);
    vbd_mark_dirty(vbd);
}

bool vbd_on_store_answer(struct vbd *vbd, const struct worker_message *message)
{
    char reason[STATE_TEXT_MAX];
    if (vbd->store != STORE_OPENING)
        return message->type == WORKER_STORE_FAILED && vbd_on_medium_answer(vbd, message);
    if (message->type == WORKER_STORE_FAILED) {
        vbd_worker_reason(vbd, message, reason);
        open_failed(vbd, "%s", reason);
    } else if (vbd_caps_possible(&vbd->disk, &message->u.store_opened)) {
        store_opened(vbd, &message->u.store_opened);
    } else {
        return false;
    }
    if (vbd->closing)
        vbd_close_continue(vbd);
    return true;
}
