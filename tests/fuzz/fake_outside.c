/* SPDX-License-Identifier: BSD-2-Clause */
/* What surrounds the broker's vbds: see fake_outside.h. */
#include "fake_outside.h"

#include "blkback/domain_info.h"
#include "blkback/evtchn.h"
#include "blkback/worker_protocol.h"
#include "broker.h"
#include "control_server.h"
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct evtchn {
    int fd;
};

unsigned fake_bind_errors;
bool fake_domains_gone;
static int fence = -1;

/* ---- in the place of parts of the broker and of Xen ---- */

void broker_trim_later(struct broker *broker)
{
    (void)broker;
}

void broker_look_later(struct broker *broker)
{
    (void)broker;
}

void broker_check_stopped(struct broker *unused)
{
    (void)unused;
}

void control_reply(struct control_call_token *token, int error, const char *text)
{
    CHECK(error <= 0 && (text == NULL || fuzz_terminated(text, 2 * STATE_TEXT_MAX)));
    CHECK(token->answers == 0);
    token->answers++;
    token->error = error;
    (void)snprintf(token->text, sizeof(token->text), "%s", text ? text : "");
}

int domain_info_get(struct domain_info_source *source, uint32_t domid, struct domain_info *out)
{
    (void)source;
    (void)domid;
    (void)out;
    return fake_domains_gone ? -ESRCH : -EPERM; /* as in a driver domain, until the end */
}

int evtchn_bind(uint32_t domid, uint32_t remote_port, struct evtchn **out, uint32_t *local_port,
                bool *restricted)
{
    (void)domid;
    if (fake_bind_errors) {
        fake_bind_errors--;
        return -EINVAL;
    }
    *out = malloc(sizeof(**out));
    CHECK(*out != NULL);
    (*out)->fd = eventfd(0, EFD_CLOEXEC);
    *local_port = remote_port + 1;
    *restricted = true;
    return 0;
}

int evtchn_fd(const struct evtchn *evtchn)
{
    return evtchn->fd;
}

void evtchn_close(struct evtchn *evtchn)
{
    if (evtchn)
        (void)close(evtchn->fd);
    free(evtchn);
}

/* ---- the host ---- */

const char *fake_target(uint8_t choice)
{
    static char image[600];
    static const char *const targets[] = {image,  "null:1M",  "disk:x",   "",
                                          "aio:", "/nowhere", "nonsense", "null:0"};

    (void)snprintf(image, sizeof(image), "%s/image", fuzz_folder());
    return targets[choice & 7U];
}

void fake_image(off_t size)
{
    const int fd = open(fake_target(0), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && ftruncate(fd, size) == 0);
    (void)close(fd);
}

/* I/O of a worker that is dead holds the image, or does not any more. */
void fake_toggle_fence(uint32_t domid, uint32_t devid)
{
    if (fence >= 0) {
        (void)close(fence);
        fence = -1;
        return;
    }
    fence = open(fake_target(0), O_RDWR | O_CLOEXEC);
    CHECK(fence >= 0);
    (void)image_lock(fence, image_fence_offset(domid, devid), true);
}

void fake_free_fence(void)
{
    if (fence >= 0)
        (void)close(fence);
    fence = -1;
}
