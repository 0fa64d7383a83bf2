/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The broker's session with xenstored, which may restart under it. While there is none, disks go
 * on being served and nothing is decided that XenStore would have to be asked for; afterwards all
 * watches are set again and everything is looked at anew.
 */
#ifndef BLKBACK_BROKER_SESSION_H
#define BLKBACK_BROKER_SESSION_H

#include "broker.h"

struct control_call_token;

/* Takes the first session's events, for the loop. */
void session_start(struct broker *broker);

void session_stop(struct broker *broker);

/* If a call has found the session lost: says so, and tries each second to have another. */
void session_check(struct broker *broker);

/* The same, asking xenstored first, where the end of a session is no event; and looks after disks
 * whose domain's end nobody tells us of. Returns whether there is something to be looked at again.
 */
bool session_look(struct broker *broker);

/* Replies to a request that can't be carried out without a session. Returns whether there is
 * none. */
bool session_refuses(struct broker *broker, struct control_call_token *token);

#endif
