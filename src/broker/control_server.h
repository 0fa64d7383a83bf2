/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The broker's side of the control socket: takes requests of blkbackctl and the hook, one per
 * connection, and lets the rest of the broker answer when it can. Clients that are malformed, stuck
 * or not root are cut off and harm no one else.
 */
#ifndef BLKBACK_BROKER_CONTROL_SERVER_H
#define BLKBACK_BROKER_CONTROL_SERVER_H

#include <ev.h>
#include <stdbool.h>

struct control_server;

/* A request that waits for its answer. */
struct control_call_token;

/* Each takes over its token and answers it exactly once with control_reply(), within the call or at
 * any time later. */
struct control_handlers {
    void *context;
    void (*attach)(void *context, const char *path, struct control_call_token *token);
    void (*detach)(void *context, const char *path, struct control_call_token *token);
    void (*reload)(void *context, struct control_call_token *token);
    void (*resize)(void *context, const char *path, struct control_call_token *token);
    /* `accept_loss`: although data was lost. */
    void (*resume)(void *context, const char *path, bool accept_loss,
                   struct control_call_token *token);
    /* An empty target: eject. */
    void (*insert)(void *context, const char *path, const char *target,
                   struct control_call_token *token);
    void (*limit)(void *context, const char *path, const char *text,
                  struct control_call_token *token);
};

/*
 * Listens at `path` (at most 107 bytes), mode 0600, replacing a socket that was left there; the
 * caller holds the lock that makes it the only broker there. `handlers` is copied. Returns 0 or
 * -errno.
 */
int control_server_start(struct ev_loop *loop, const char *path,
                         const struct control_handlers *handlers, struct control_server **out);

/* Closes everything and removes the socket; tokens that are still out stay valid to be answered.
 * Accepts NULL. */
void control_server_stop(struct control_server *server);

/*
 * Answers and frees the token, also when its client has gone away since. `error` is 0 or -errno,
 * `text` what goes with it (the path for physical-device-path, or the reason); NULL: none.
 */
void control_reply(struct control_call_token *token, int error, const char *text);

#endif
