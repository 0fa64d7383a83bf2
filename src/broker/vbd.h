/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vbd as the broker sees it. Its life is spread over files by what happens: vbd.c (from discovery
 * to its end), vbd_evaluate.c (the state machine), vbd_open.c (toolstack's nodes, image, slab,
 * store), vbd_caps.c (what it can do), vbd_medium.c (media that change), vbd_size.c (images that
 * grow), vbd_limits.c (what it may do per second), vbd_pause.c (storage that fails), vbd_pace.c
 * (frontends that connect without end), vbd_connect.c (negotiation and rings), vbd_close.c
 * (everything back), vbd_publish.c (XenStore), vbd_hook.c (the xl hook's requests), vbd_status.c
 * (connection file), vbd_recover.c (after the death of a worker or a broker).
 */
#ifndef BLKBACK_BROKER_VBD_H
#define BLKBACK_BROKER_VBD_H

#include "broker.h"
#include "claim.h"
#include "control_server.h"
#include "negotiate.h"
#include "vbd_fsm.h"

#include <time.h>

#define VBD_PATH_MAX     64U
#define VBD_FRONTEND_MAX 128U
#define STATE_NAME_MAX   40U /* of a state file */

enum vbd_store {
    STORE_NONE,
    STORE_IMAGE_BUSY, /* somebody else's; tried again by a timer */
    STORE_WAITS,      /* for the worker to be ready */
    STORE_OPENING,
    STORE_OPEN,
    STORE_FAILED, /* `reason` says why; opened again when the hook or a frontend asks */
    STORE_CLOSING,
    STORE_FENCING, /* nobody uses the image any more, but I/O of a dead worker may still reach it */
};

enum vbd_rings {
    RINGS_NONE,
    RINGS_CONNECTING,
    RINGS_CONNECTED,
    RINGS_FINISHING,     /* until the worker has answered what they hold, and disconnected */
    RINGS_DISCONNECTING, /* until the worker has given rings and channels back */
    RINGS_DRAINING,      /* they are, but I/O is in flight */
    RINGS_LOST,          /* the worker that served them is dead; its successor is on its way */
};

/* What the toolstack wrote in the backend directory. */
struct vbd_toolstack {
    char target[STATE_TEXT_MAX];
    char vdev[32];
    bool read_only;
    bool shared; /* mode "w!" */
    bool cdrom;
    bool discard; /* `discard-enable` is not 0 */
    bool has_script;
    bool fresh; /* just read: the next that wants it need not read it again */
};

/* Requests of the hook that wait for their reply; NULL: none. */
struct vbd_hook {
    bool asked; /* an attach was answered with success: the frontend may connect */
    bool leave; /* a detach has come: to be let go of as if the toolstack had said offline */
    struct control_call_token *attach;
    struct control_call_token *detach;
    ev_timer attach_timeout;
    ev_timer detach_timeout;
    ev_timer
        kernel_retry; /* until the kernel's backend has bound the disk, so that it can be unbound */
    unsigned kernel_tries;
};

/* Of a removable drive: what it is being given. */
struct vbd_medium {
    bool changing; /* the worker was asked to */
    bool by_hand;  /* blkbackctl did, so `params` is ours to write */
    struct disk_config disk;
    struct image *image; /* NULL: none */
    char target[STATE_TEXT_MAX];
    char params[STATE_TEXT_MAX]; /* the toolstack's value that was acted on last */
    struct control_call_token *token;
};

/* Of an image that may grow. */
struct vbd_size {
    unsigned asked; /* times the worker was asked to look and has not answered yet */
    unsigned stale; /* of these answers so many are to what was asked before somebody waited */
    bool shrunk;    /* and that is the reason shown */
    uint64_t seen;  /* of the image when the worker was asked last, bytes */
    bool told;      /* the kernel tells of the next change: see size_watch.h */
    int watch;      /* by inotify, or < 0: by a uevent */
    struct timespec modified; /* the image, at the last look; 0: not looked at yet */
    struct control_call_token *token;
};

/* How often the frontend may connect: a token bucket, since a guest that starts connects some times
 * in a row, for its firmware, its boot loader and its kernel. */
struct vbd_pace {
    double tokens;
    double filled_at;  /* when `tokens` was right; 0: never */
    bool waits;        /* for the next token */
    ev_timer timer;    /* looks again when there is one */
    uint64_t connects; /* that were begun */
    uint64_t delayed;  /* of those: that had to wait */
};

/* The storage fails, and requests wait for it. */
struct vbd_pause {
    bool paused;
    char reason[STATE_TEXT_MAX];
    struct control_call_token *token; /* told to resume; NULL: nobody waits */
};

struct vbd {
    TAILQ_ENTRY(vbd) in_broker; /* vbds or ghosts */
    TAILQ_ENTRY(vbd) in_domain;
    TAILQ_ENTRY(vbd) in_dirty;
    struct table_link by_address; /* while in vbds */
    struct table_link by_number;  /* while it has one */
    struct broker *broker;
    struct domain *domain;
    struct vbd_address address;
    char path[VBD_PATH_MAX]; /* "backend/vbd/1/51712" */
    char frontend[VBD_FRONTEND_MAX];
    uint32_t number; /* with the worker; 0: the worker does not know it */

    enum vbd_phase phase;
    enum vbd_store store;
    enum vbd_rings rings;
    bool dirty;
    bool gone;    /* the backend node is */
    bool settled; /* the store is open or can't be, or that takes too long: InitWait may be entered
                   */
    bool closing; /* on the way to state 6 */
    bool frontend_there; /* as last read: somebody waits for answers */
    bool online;         /* as last read */
    bool may_connect;
    bool check_domain; /* the hypervisor is to be asked whether the domain lives */
    bool domain_dead;
    bool shown;               /* a state of ours is in the backend directory */
    bool look_anew;           /* XenStore was away since it was looked at */
    bool forgotten;           /* XenStore has lost its nodes; its guest goes on using it */
    bool unpublished;         /* something is to be written that could not be */
    bool unpublished_params;  /* and `params` */
    bool error_shown;         /* error nodes are there */
    bool overdue;             /* `answer` has fired once */
    bool taking_up;           /* its rings are, after a death: the frontend is not to notice */
    bool unfenced;            /* a worker died with the image open: its I/O may not be over */
    double lost_at;           /* when the rings were */
    uint64_t expected_device; /* of the image, as the connection file has it; 0: any */
    uint64_t expected_inode;

    struct vbd_toolstack toolstack;
    struct vbd_hook hook;
    struct vbd_medium medium;
    struct vbd_size size;
    struct vbd_pause pause;
    struct disk_limits limits;
    bool limits_by_hand; /* blkbackctl's: they hold until the disk is gone */
    struct disk_config disk;
    struct image *image;
    struct image_user user;
    int slab; /* descriptor, -1: none */
    double busy_since;
    struct worker_store_opened caps;
    struct offer offer;
    struct offer published; /* what of it the backend directory has, */
    bool published_known;   /* if this is set */
    struct negotiated negotiated;
    uint32_t queues_connected; /* a bit for each ring that the worker has */
    bool evtchn_restricted;
    char reason[STATE_TEXT_MAX];
    struct connection_file saved; /* what the connection file says */

    ev_timer retry;  /* of a busy image, a fence that is held, a channel that is bound */
    ev_timer twin;   /* looks again whether another life of the same guest still holds the image */
    ev_timer settle; /* see `settled` */
    ev_timer drain;  /* state 6 is shown at last when it fires */
    ev_timer answer; /* the worker is ended when it fires for the second time, */
    const char *asked; /* for it has not answered this */
    ev_timer storm;    /* the frontend's events wait for it when there are too many */
    double storm_since;
    unsigned storm_events;
    struct log_limit limit;
    uint64_t log_suppressed; /* lines, by `limit` */
    uint64_t states_delayed; /* looks, by `storm` */
    struct vbd_pace pace;
};

/* ---- vbd.c ---- */

/* Makes a vbd of a backend node, if it is ours. Returns 0, -ENOENT when it isn't (yet), or -errno.
 */
int vbd_discover(struct broker *broker, const struct vbd_address *address, struct vbd **out);

/* A new cycle of states, from the beginning; opens the store if it isn't. */
void vbd_begin(struct vbd *vbd);

/* Has it evaluated at the end of this turn of the loop. */
void vbd_mark_dirty(struct vbd *vbd);

/* The same for an event that the guest caused: a storm of them is looked at ten times a second, so
 * that the others get their turn. */
void vbd_frontend_changed(struct vbd *vbd);

/* Returns 0 or -errno. */
int vbd_watch_frontend(struct vbd *vbd);
void vbd_unwatch_frontend(struct vbd *vbd);

/* What its worker calls it; 0: its worker does not know it, or not any more. */
void vbd_set_number(struct vbd *vbd, uint32_t number);

/* Only when the worker knows nothing of it any more. */
void vbd_destroy(struct vbd *vbd);

void vbd_log(struct vbd *vbd, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The disk can't be served any more: says so in the log and in XenStore, and starts closing. */
void vbd_fail(struct vbd *vbd, int error, const char *reason);

void vbd_worker_ready(struct vbd *vbd);
void vbd_worker_lost(struct vbd *vbd, const char *how);

/* ---- vbd_evaluate.c ---- */

/* Reads what XenStore says now and does what follows from it, until nothing does. May free the vbd.
 */
void vbd_evaluate(struct vbd *vbd);

/* ---- messages of the worker: false when this one can't be meant now ---- */

bool vbd_on_store_answer(struct vbd *vbd, const struct worker_message *message);
bool vbd_on_medium_answer(struct vbd *vbd, const struct worker_message *message);
bool vbd_on_size(struct vbd *vbd, const struct worker_message *message);
bool vbd_on_queue_answer(struct vbd *vbd, const struct worker_message *message);
bool vbd_on_close_answer(struct vbd *vbd, const struct worker_message *message);
bool vbd_on_ring_broken(struct vbd *vbd, const struct worker_message *message);
bool vbd_on_store_alert(struct vbd *vbd, const struct worker_message *message);
bool vbd_on_store_continues(struct vbd *vbd, const struct worker_message *message);

/* ---- vbd_open.c ---- */

/* Reads `params` and so on. Returns 0, -ENOENT while they aren't there, or -errno. */
int vbd_read_toolstack(struct vbd *vbd);

/* Of these only what says which disk it is: `target`, `read_only`, `shared` and `cdrom` of `*out`;
 * the rest of it is cleared. Returns the same. */
int vbd_read_identity(const struct vbd *vbd, struct vbd_toolstack *out);

/* Begins to open image and store; ends in STORE_OPEN or STORE_FAILED. Only from STORE_NONE or
 * STORE_FAILED. */
void vbd_open_start(struct vbd *vbd);

/* Tries something again in so many seconds, in place of what was to be tried again before: a vbd
 * waits for one thing at a time. */
void vbd_retry_in(struct vbd *vbd, double seconds,
                  void (*again)(struct ev_loop *loop, ev_timer *timer, int events));

/* As vbd_open_start() with the image it has, for another worker; where rings were lost, with the
 * journal that is there. */
void vbd_open_again(struct vbd *vbd);

/* The image has been busy for long enough. */
void vbd_open_give_up(struct vbd *vbd);

/* Lets go of image and slab. The worker must not know the vbd any more, or be gone. */
void vbd_release_image(struct vbd *vbd);

/* What the target says is to be opened, and how. Returns 0, or -errno with the reason in `why`
 * (CONFIG_WHY_MAX bytes). */
int vbd_resolve(const struct vbd *vbd, const char *text, char *why, struct disk_config *out);

enum image_mode vbd_image_mode(const struct disk_config *disk);

/*
 * Sends what the worker needs to open: `image` is NULL where the disk has none, `slab` -1 where the
 * worker has it already. Descriptors are only lent to the message: a copy kept of the image's would
 * keep the fence locked. Returns 0 or -errno.
 */
int vbd_send_open(struct vbd *vbd, enum worker_message_type type, const struct disk_config *disk,
                  const struct image *image, int slab);

/* ---- vbd_medium.c: removable drives ---- */

/* For blkbackctl: a medium into the drive at that backend path, or none for an empty target. */
void vbd_medium_insert(struct broker *broker, const char *path, const char *target,
                       struct control_call_token *token);

/* Acts on what the toolstack has written into `params` since, as xl cd-insert and cd-eject do. */
void vbd_medium_look(struct vbd *vbd);

/* The store is gone, and what was to come into its place with it. */
void vbd_medium_forget(struct vbd *vbd);

/* ---- vbd_size.c: images that grow ---- */

/* For blkbackctl: looks at the size of the disk at that backend path. */
void vbd_resize(struct broker *broker, const char *path, struct control_call_token *token);

/* Looks at the images whose changes nobody tells us of, and asks the workers of those that have
 * changed. Returns whether there are some to be looked at again. */
bool vbd_look_at_sizes(struct broker *broker);

void vbd_size_forget(struct vbd *vbd);

/* ---- vbd_limits.c: what a disk may do per second ---- */

/* For blkbackctl: sets what `text` says, "KEY=VALUE KEY=VALUE", with the configuration's keys. */
void vbd_limits_change(struct broker *broker, const char *path, const char *text,
                       struct control_call_token *token);

/* Takes those of `vbd->disk`, unless others were set by hand. */
void vbd_limits_configure(struct vbd *vbd);

/* Tells the worker. It must know the vbd. */
void vbd_limits_send(struct vbd *vbd);

void vbd_limits_save(const struct vbd *vbd, struct connection_file *file);
/* Those that were set by hand hold on under another broker. */
void vbd_limits_take_up(struct vbd *vbd, const struct connection_file *file);

/* ---- vbd_pause.c: storage that fails ---- */

/* For blkbackctl: has what waits tried again; `accept_loss`: also after a failed flush has lost
 * data. */
void vbd_resume(struct broker *broker, const char *path, bool accept_loss,
                struct control_call_token *token);

/* What waited is gone with the rings, or with the worker. */
void vbd_pause_forget(struct vbd *vbd);

/* ---- vbd_caps.c ---- */

/* What is published, from the configuration and the store as far as it is known. */
void vbd_make_offer(struct vbd *vbd);

/* Whether an honest worker can have found that of this disk. */
bool vbd_caps_possible(const struct disk_config *disk, const struct worker_store_opened *caps);

/* Puts what the worker says of the store into the offer. */
void vbd_take_caps(struct vbd *vbd, const struct worker_store_opened *caps);

/* Whether configuration and toolstack let the guest discard. */
bool vbd_discard_wanted(const struct vbd *vbd, const struct disk_config *disk);

/* ---- vbd_connect.c ---- */

/* Hands the rings that were lost, as they were negotiated, to the worker that has the store open
 * now. */
void vbd_reconnect(struct vbd *vbd);

/* Negotiates and connects; ends in VBD_CONNECTED, or in vbd_fail(). */
void vbd_connect(struct vbd *vbd);

/* A connected vbd whose frontend says Initialised. Returns true if its rings are new ones and the
 * old are being disconnected. */
bool vbd_check_rings(struct vbd *vbd);

/* All its rings are served: shows that to the frontend. */
void vbd_show_connected(struct vbd *vbd);

/* ---- vbd_pace.c: how often a frontend may connect ---- */

/* Whether it may connect now, which is counted. If not, the vbd is evaluated when it may. */
bool vbd_pace_take(struct vbd *vbd);

/* Why it waits; NULL: it doesn't. */
const char *vbd_pace_reason(const struct vbd *vbd);

/* It does not want to connect any more, or is gone. */
void vbd_pace_stop(struct vbd *vbd);

/* ---- vbd_close.c ---- */

/* Disconnects, lets go of the store unless the disk stays online, and shows state 6; sooner when
 * the store takes more than 3 s, but never while a worker has the rings. */
void vbd_close_start(struct vbd *vbd);

/* Asks the worker to give rings and channels back, which depends on no storage: one that does not
 * answer is ended. */
void vbd_disconnect(struct vbd *vbd);

/* Its rings are being connected, and are not wanted any more: the same holds for that. */
void vbd_hurry_connect(struct vbd *vbd);

/* What the worker was asked is answered, or it is dead. */
void vbd_answer_came(struct vbd *vbd);

/* Has the store closed if it can be now; the answer comes as a message. Returns true if nothing of
 * it is left. */
bool vbd_let_go(struct vbd *vbd);

/* Goes on with closing after something has ended. */
void vbd_close_continue(struct vbd *vbd);

/* ---- vbd_publish.c: 0, -ENOENT when the backend node is gone or another one is in its place,
 * -ECANCELED when the toolstack wants it closed, -EPIPE when xenstored is away, or -errno ---- */

/* All that is known, and state 2. */
int vbd_publish_init_wait(struct vbd *vbd);
/* All of it, and state 4. */
int vbd_publish_connected(struct vbd *vbd);
/* What belongs to the medium; where a frontend is connected with state 4 again, upon which it
 * looks. With `params`, where it was not the toolstack that changed it. */
int vbd_publish_medium(struct vbd *vbd, bool params);
int vbd_publish_state(struct vbd *vbd, enum xenbus_state state);
/* What could not be written while xenstored was away, as it is by now. */
int vbd_publish_again(struct vbd *vbd);
void vbd_publish_error(struct vbd *vbd, int error, const char *reason);
void vbd_remove_error(struct vbd *vbd);

/* ---- vbd_hook.c: see control_server.h ---- */

/* The vbd at a backend path. Returns 0, or -EINVAL for what is no such path or -ENOENT. */
int vbd_find(struct broker *broker, const char *path, struct vbd_address *address,
             struct vbd **out);
/* Replies why there is none. */
void vbd_explain_missing(int error, const char *path, struct control_call_token *token);

void vbd_hook_attach(struct broker *broker, const char *path, struct control_call_token *token);
void vbd_hook_detach(struct broker *broker, const char *path, struct control_call_token *token);
void vbd_hook_init(struct vbd *vbd);
/* Replies to what waits, if the state allows it by now. */
void vbd_hook_update(struct vbd *vbd);
/* Replies to whatever still waits, before the vbd is freed. */
void vbd_hook_finish(struct vbd *vbd);

/* ---- vbd_recover.c ---- */

/* The worker is dead: another takes its place, with the rings that it served. Only with an open or
 * opening store. */
void vbd_recover(struct vbd *vbd, const char *how);

/* All rings are served again. */
void vbd_recovered(struct vbd *vbd);

/* A disk that XenStore shows as connected, which another broker served: goes on with it if
 * everything is as the connection file says. Returns 0, or -EPIPE when XenStore did not say. */
int vbd_take_over(struct vbd *vbd);

/* Whether the frontend still shows the rings that a connection file has. Returns 0, -ESTALE when it
 * doesn't, -EPIPE when XenStore does not say. */
int vbd_same_rings(struct vbd *vbd, const struct connection_file *file);

/*
 * Before the image is let go of: returns false when no I/O of a dead worker can reach it any more.
 * Else it waits for that in STORE_FENCING, has the image released then, and returns true.
 */
bool vbd_wait_for_fence(struct vbd *vbd);

/* How many requests its rings have had answers to, as the slab says; a measure of progress. */
uint64_t vbd_answered(const struct vbd *vbd);

/* ---- vbd_anew.c: after xenstored was away ---- */

/* How a look at the nodes ends. */
enum vbd_look { VBD_LOOK_SAME, VBD_LOOK_LATER, VBD_LOOK_OTHER };

/* Whether the nodes that are there, with that state in the backend directory, are still those of
 * this disk; what could not be written meanwhile is, if they are. */
enum vbd_look vbd_look_anew(struct vbd *vbd, uint32_t backend_state, uint32_t frontend_state);

/* The same where there are none: VBD_LOOK_OTHER says that they were removed, VBD_LOOK_SAME that
 * XenStore has lost them and the disk is to be served on. */
enum vbd_look vbd_look_for_nodes(struct vbd *vbd);

/* Its domain has ended while XenStore could not say so. */
bool vbd_ended_unseen(const struct vbd *vbd);

/* ---- vbd_status.c ---- */

/* Why the worker says that it can't serve the disk, as text that can be logged; when the state
 * files have no room left, with where they are. */
void vbd_worker_reason(const struct vbd *vbd, const struct worker_message *message,
                       char reason[STATE_TEXT_MAX]);

/* Writes the connection file if anything in it has changed. */
void vbd_status_save(struct vbd *vbd);
void vbd_status_remove(struct vbd *vbd);
void vbd_slab_name(const struct vbd *vbd, char name[STATE_NAME_MAX]);
void vbd_connection_name(const struct vbd *vbd, char name[STATE_NAME_MAX]);

#endif
