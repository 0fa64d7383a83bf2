/* SPDX-License-Identifier: BSD-2-Clause */
/* Starting, turning and stopping the broker. */
#include "broker.h"

#include "control_server.h"
#include "domain.h"
#include "domains.h"
#include "orphans.h"
#include "session.h"
#include "state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STOP_SECONDS 10.0
#define LOOK_SECONDS 2.0 /* between looks at what nobody tells us of */
#define TRIM_SECONDS 1.0 /* after the last vbd that went */

static int explain(char *why, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int explain(char *why, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, CONFIG_WHY_MAX, format, arguments);
    va_end(arguments);
    return error;
}

/* ---- the turn of the loop ---- */

static void evaluate_dirty(struct broker *broker)
{
    unsigned count = 0;
    struct vbd *vbd;

    /* Those that become dirty on the way are for the next turn. */
    TAILQ_FOREACH(vbd, &broker->dirty, in_dirty)
    {
        count++;
    }
    while (count-- > 0 && (vbd = TAILQ_FIRST(&broker->dirty)) != NULL) {
        TAILQ_REMOVE(&broker->dirty, vbd, in_dirty);
        vbd->dirty = false;
        if (!broker->stopping)
            vbd_evaluate(vbd);
    }
}

/* Everything that events concerned in this turn is looked at once, after all of them. */
static void on_turn_end(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    struct broker *broker = watcher->data;
    (void)events;

    if (broker->released) {
        broker->released = false;
        domain_check_alive(broker);
    }
    evaluate_dirty(broker);
    session_check(broker);
    if (TAILQ_EMPTY(&broker->dirty))
        ev_idle_stop(loop, &broker->again);
    else
        ev_idle_start(loop, &broker->again); /* another turn without sleeping */
}

static void on_again(struct ev_loop *loop, ev_idle *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
}

/* ---- requests over the control socket ---- */

static void on_attach(void *context, const char *path, struct control_call_token *token)
{
    if (!session_refuses(context, token))
        vbd_hook_attach(context, path, token);
}

static void on_detach(void *context, const char *path, struct control_call_token *token)
{
    if (!session_refuses(context, token))
        vbd_hook_detach(context, path, token);
}

static void on_resize(void *context, const char *path, struct control_call_token *token)
{
    if (!session_refuses(context, token))
        vbd_resize(context, path, token);
}

static void on_resume(void *context, const char *path, bool accept_loss,
                      struct control_call_token *token)
{
    vbd_resume(context, path, accept_loss, token);
}

static void on_insert(void *context, const char *path, const char *target,
                      struct control_call_token *token)
{
    if (!session_refuses(context, token))
        vbd_medium_insert(context, path, target, token);
}

static void on_limit(void *context, const char *path, const char *text,
                     struct control_call_token *token)
{
    vbd_limits_change(context, path, text, token);
}

static void on_reload(void *context, struct control_call_token *token)
{
    char why[CONFIG_WHY_MAX] = "";
    int error = broker_reload(context, why);
    if (error != 0)
        log_error("the configuration was not reloaded: %s", why);
    control_reply(token, error, why);
}

/* ---- start ---- */

static void read_boot_id(struct broker *broker)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, broker->boot_id, sizeof(broker->boot_id) - 1);
    close(fd);
    broker->boot_id[length > 0 ? length : 0] = '\0';
    broker->boot_id[strcspn(broker->boot_id, "\n")] = '\0';
}

static int open_state_dir(struct broker *broker, char *why)
{
    const char *path = broker->config.state_dir;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return explain(why, -errno, "can't make %s: %s", path, strerror(errno));
    broker->state_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (broker->state_dir < 0)
        return explain(why, -errno, "can't open %s: %s", path, strerror(errno));
    state_dir_remove_unfinished(broker);
    return 0;
}

static int open_xenstore(struct broker *broker, char *why)
{
    int error = xenstore_open(&broker->xs);
    if (error != 0) {
        return explain(why, error,
                       "can't connect to xenstored: %s (is it running, and is this a Xen "
                       "host?)",
                       strerror(-error));
    }
    char value[16];
    error = xenstore_read(broker->xs, "domid", value, sizeof(value));
    if (error == 0)
        error = address_parse_number(value, DOMID_MAX, &broker->own_domid);
    if (error == -ENOENT) { /* domain 0 before its toolstack has initialised it */
        broker->own_domid = 0;
        error = 0;
    }
    if (error != 0)
        return explain(why, error, "can't read our own domid from XenStore: %s", strerror(-error));
    return 0;
}

static int open_control(struct broker *broker, char *why)
{
    const struct control_handlers handlers = {
        .context = broker,
        .attach = on_attach,
        .detach = on_detach,
        .reload = on_reload,
        .resize = on_resize,
        .resume = on_resume,
        .insert = on_insert,
        .limit = on_limit,
    };
    int error = control_server_start(broker->loop, broker->config.control_socket, &handlers,
                                     &broker->control);
    if (error != 0) {
        return explain(why, error, "can't listen at %s: %s", broker->config.control_socket,
                       strerror(-error));
    }
    return 0;
}

static void open_worker(struct broker *broker)
{
    int error = worker_binary_open(broker->config.worker, &broker->worker);
    if (error != 0)
        log_error("no worker can be started: %s: %s", broker->config.worker, strerror(-error));
}

static void on_look(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct broker *broker = timer->data;
    (void)events;
    ev_timer_stop(loop, timer);
    bool again = session_look(broker);

    again |= vbd_look_at_sizes(broker);
    if (!broker->told_of_release)
        domain_check_alive(broker);
    if (again || !broker->told_of_release)
        broker_look_later(broker);
}

/* At a fixed pace, whoever asks: what has to be looked at costs one wake-up. */
void broker_look_later(struct broker *broker)
{
    if (!ev_is_active(&broker->look) && !broker->stopping)
        ev_timer_again(broker->loop, &broker->look);
}

static void on_trim(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)timer;
    (void)events;
    (void)malloc_trim(0);
}

void broker_trim_later(struct broker *broker)
{
    ev_timer_stop(broker->loop, &broker->trim);
    ev_timer_set(&broker->trim, TRIM_SECONDS, 0.);
    ev_timer_start(broker->loop, &broker->trim);
}

static void start_watchers(struct broker *broker)
{
    ev_timer_init(&broker->look, on_look, LOOK_SECONDS, LOOK_SECONDS);
    broker->look.data = broker;
    size_watch_start(broker);
    ev_timer_init(&broker->trim, on_trim, TRIM_SECONDS, 0.);
    ev_prepare_init(&broker->turn_end, on_turn_end);
    ev_idle_init(&broker->again, on_again);
    broker->turn_end.data = broker;
    session_start(broker);
    ev_prepare_start(broker->loop, &broker->turn_end);
}

int broker_start(struct broker *broker, struct ev_loop *loop, const char *config_path,
                 const struct config *config, char *why)
{
    *broker = (struct broker){.loop = loop, .config_path = config_path, .config = *config};
    broker->state_dir = -1;
    open_worker(broker);
    TAILQ_INIT(&broker->vbds);
    TAILQ_INIT(&broker->ghosts);
    TAILQ_INIT(&broker->dirty);
    TAILQ_INIT(&broker->domains);
    TAILQ_INIT(&broker->orphans);
    read_boot_id(broker);

    int error = open_state_dir(broker, why);
    if (error == 0)
        error = open_xenstore(broker, why);
    if (error == 0)
        error = image_table_create(&broker->images);
    if (error == 0)
        error = open_control(broker, why);
    if (error != 0)
        return error;
    if (domain_info_open(&broker->domain_info) != 0)
        broker->domain_info = NULL; /* not privileged: XenStore is asked instead */
    start_watchers(broker);
    error = domains_watch(broker);
    if (error != 0)
        return explain(why, error, "can't watch XenStore: %s", strerror(-error));
    orphans_lock(broker);
    domains_scan(broker);
    if (xenstore_lost(broker->xs))
        return explain(why, -EPIPE, "xenstored ended while its nodes were read");
    domains_collect_files(broker);
    return 0;
}

int broker_reload(struct broker *broker, char *why)
{
    struct config config = broker->config;
    if (broker->config_path == NULL)
        return explain(why, -ENOENT, "no configuration file was given");
    int error = config_load(broker->config_path, why, &config);
    if (error != 0)
        return error;
    const struct config *old = &broker->config;
    if (strcmp(config.run_dir, old->run_dir) != 0 ||
        strcmp(config.state_dir, old->state_dir) != 0 ||
        strcmp(config.control_socket, old->control_socket) != 0) {
        return explain(why, -EINVAL,
                       "run-dir, state-dir and control-socket can't change while "
                       "blkbackd runs; nothing was changed");
    }
    /* The same path may name another version by now: that is for the next broker. */
    bool other_worker = strcmp(config.worker, old->worker) != 0;
    broker->config = config;
    if (other_worker) {
        worker_binary_close(&broker->worker);
        open_worker(broker);
    }
    log_set_level(config.log_level);
    domain_share_grants(broker, true);
    log_info("configuration reloaded; it holds for disks from now on");
    return 0;
}

/* ---- stop ---- */

static void on_stop_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)timer;
    (void)events;
    log_warning("I/O has not finished after %.0f s; leaving without it", STOP_SECONDS);
    ev_break(loop, EVBREAK_ALL);
}

double broker_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void broker_stop(struct broker *broker)
{
    if (broker->stopping)
        return;
    broker->stopping = true;
    log_info("stopping");
    session_stop(broker);
    ev_timer_init(&broker->deadline, on_stop_timeout, STOP_SECONDS, 0.);
    ev_timer_start(broker->loop, &broker->deadline);
    domain_stop_workers(broker);
    broker_check_stopped(broker);
}

void broker_check_stopped(struct broker *broker)
{
    if (broker->stopping && !domain_any_worker(broker))
        ev_break(broker->loop, EVBREAK_ALL);
}

void broker_finish(struct broker *broker)
{
    struct vbd *vbd;
    if (broker->loop == NULL)
        return;
    control_server_stop(broker->control);
    domain_end_workers(broker);
    while ((vbd = TAILQ_FIRST(&broker->ghosts)) != NULL)
        vbd_destroy(vbd);
    while ((vbd = TAILQ_FIRST(&broker->vbds)) != NULL)
        vbd_destroy(vbd);
    orphans_forget(broker);
    if (broker->xs != NULL) {
        session_stop(broker);
        ev_prepare_stop(broker->loop, &broker->turn_end);
        ev_idle_stop(broker->loop, &broker->again);
        ev_timer_stop(broker->loop, &broker->deadline);
        ev_timer_stop(broker->loop, &broker->look);
        size_watch_stop(broker);
        ev_timer_stop(broker->loop, &broker->trim);
    }
    worker_binary_close(&broker->worker);
    image_table_destroy(broker->images);
    domain_info_close(broker->domain_info);
    xenstore_close(broker->xs);
    if (broker->state_dir >= 0)
        close(broker->state_dir);
}
