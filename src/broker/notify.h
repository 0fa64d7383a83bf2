/* SPDX-License-Identifier: BSD-2-Clause */
/* Telling the service manager how far we are, as sd_notify(3) does. */
#ifndef BLKBACK_BROKER_NOTIFY_H
#define BLKBACK_BROKER_NOTIFY_H

/* Takes NOTIFY_SOCKET out of the environment, so that workers don't have it. */
void notify_init(void);

/* Sends "READY=1" or the like. Returns 0, also when nobody wants to know, or -errno. */
int notify_send(const char *message);

#endif
