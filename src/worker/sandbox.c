/* SPDX-License-Identifier: BSD-2-Clause */
/* The order of the sandbox's parts, and what is said of them: see sandbox.h. */
#include "sandbox.h"

#include "blkback/log.h"
#include "blkback/worker_protocol.h"
#include "namespaces.h"
#include "privileges.h"
#include "syscall_filter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blkback/parse.h"

void sandbox_lacks(struct sandbox *sandbox, const char *what, int error)
{
    const size_t used = strlen(sandbox->lacks);

    (void)snprintf(sandbox->lacks + used, sizeof(sandbox->lacks) - used, "%sno %s%s%s%s",
                   used ? "; " : "", what, error ? " (" : "", error ? strerror(-error) : "",
                   error ? ")" : "");
}

/* What came over execve() is what has no close-on-exec; nothing that was opened since lacks it. */
static void close_inherited(void)
{
    DIR *folder = opendir("/proc/self/fd");

    if (!folder) {
        (void)close_range(WORKER_SOCKET_FD + 1, ~0U, 0);
        return;
    }
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        uint32_t fd = 0;

        if (parse_u32(entry->d_name, INT32_MAX, &fd) == 0 && fd > WORKER_SOCKET_FD &&
            !(fcntl((int)fd, F_GETFD) & FD_CLOEXEC))
            (void)close((int)fd);
    }
    (void)closedir(folder);
}

void sandbox_enter(struct sandbox *sandbox)
{
    close_inherited();
    if (!sandbox->on)
        return;
    namespaces_leave(sandbox);
    privileges_bound();
}

int sandbox_seal(struct sandbox *sandbox, bool uring_restricted)
{
    int error;

    if (sandbox->on)
        namespaces_empty_root(sandbox);
    error = privileges_drop(sandbox);
    if (error || !sandbox->on)
        return error;
    if (!uring_restricted)
        sandbox_lacks(sandbox, "restricted io_uring", 0);
    error = syscall_filter_install(sandbox->profile);
    if (error)
        sandbox_lacks(sandbox, "seccomp", error);
    else if (SANDBOX_SANITIZED)
        sandbox_lacks(sandbox, "short list of system calls in a sanitized build", 0);
    return 0;
}

void sandbox_describe(const struct sandbox *sandbox, char text[STATE_SANDBOX_MAX])
{
    if (!sandbox->on)
        (void)snprintf(text, STATE_SANDBOX_MAX, "off");
    else if (!sandbox->lacks[0])
        (void)snprintf(text, STATE_SANDBOX_MAX, "full");
    else
        (void)snprintf(text, STATE_SANDBOX_MAX, "partial: %.*s", (int)STATE_SANDBOX_MAX - 10,
                       sandbox->lacks);
}
