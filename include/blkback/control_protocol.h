/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests of blkbackctl and the xl hook to the broker over its control socket (SOCK_SEQPACKET,
 * 0600 in a 0700 folder): one fixed-size request, one fixed-size reply, which for CONTROL_ATTACH
 * may take as long as `attach-timeout`.
 */
#ifndef BLKBACK_CONTROL_PROTOCOL_H
#define BLKBACK_CONTROL_PROTOCOL_H

#include "blkback/state_files.h"

#include <stdint.h>

#define CONTROL_MAGIC   UINT32_C(0x4342444b)
#define CONTROL_VERSION 3U

enum control_command {
    CONTROL_PING = 1, /* reply: pid in `value`, version in `text` */
    CONTROL_ATTACH,   /* the hook's add: waits until the image is open; reply: path for
                         physical-device-path in `text` (may be   empty), or the reason it can't be
                         attached */
    CONTROL_DETACH,   /* the hook's remove: waits until the disk is let go of */
    CONTROL_RELOAD,   /* reads the configuration again; reply: 0, or the file, line and reason */
    CONTROL_RESIZE,   /* looks whether the image has grown; reply: the size in bytes in `text`, or
                         the reason */
    CONTROL_INSERT,   /* puts the medium `target` into a removable drive, in the place of one that
                         is in it */
    CONTROL_EJECT,    /* takes it out */
    CONTROL_RESUME,   /* has requests that the storage failed tried again; reply: 0 when the disk is
                         not paused any more, or the reason why it still is */
    CONTROL_RESUME_AND_LOSE, /* the same although a failed flush has lost data */
    CONTROL_LIMIT, /* what the disk may do per second: `target` is "KEY=VALUE KEY=VALUE", keys and
                      values as in the configuration */
    CONTROL_COMMANDS
};

struct control_request {
    uint32_t magic;
    uint16_t version;
    uint16_t command;
    char path[STATE_TEXT_MAX];   /* backend path, "backend/vbd/3/51712" or absolute */
    char target[STATE_TEXT_MAX]; /* CONTROL_INSERT: as in xl's `target=`; CONTROL_LIMIT; else
                                    empty */
};

struct control_reply {
    uint32_t magic;
    uint16_t version;
    uint16_t pad;
    int32_t error; /* 0 or -errno */
    uint32_t value;
    char text[2 * STATE_TEXT_MAX];
};

/*
 * Connects to the broker's socket, sends one request, waits for the reply. Returns 0 when a reply
 * came (look at its `error`), -ECONNREFUSED or -ENOENT when no broker listens, -ETIMEDOUT, or
 * -errno. Text in the reply is terminated.
 */
int control_call(const char *socket_path, const struct control_request *request,
                 unsigned timeout_ms, struct control_reply *out);

#endif
