/* SPDX-License-Identifier: BSD-2-Clause */
/* Namespaces and the empty root: see namespaces.h. */
#include "namespaces.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A folder that every host with Xen has, to mount the empty one on; in our own namespace. */
#define PLACE "/proc"

void namespaces_leave(struct sandbox *sandbox)
{
    static const struct {
        int flag;
        const char *name;
    } namespaces[] = {
        {CLONE_NEWNS, "mount namespace"},
        {CLONE_NEWNET, "network namespace"},
        {CLONE_NEWIPC, "IPC namespace"},
        {CLONE_NEWUTS, "UTS namespace"},
    };

    for (unsigned i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
        if (unshare(namespaces[i].flag) == 0)
            continue;
        sandbox_lacks(sandbox, namespaces[i].name, -errno);
        if (namespaces[i].flag == CLONE_NEWNS)
            sandbox->no_mount_namespace = true;
    }
    /* A process can't leave its own: the broker starts it as the first of a new one. */
    if (getpid() != 1)
        sandbox_lacks(sandbox, "pid namespace", 0);
}

/* The old root goes: nothing of ours keeps the host from unmounting a file system. */
static int change_root(void)
{
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH);
    /* An initial ramdisk can't be left like this; as a root it can. */
    return chroot(".");
}

void namespaces_empty_root(struct sandbox *sandbox)
{
    if (SANDBOX_SANITIZED) {
        sandbox_lacks(sandbox, "empty root in a sanitized build", 0);
        return;
    }
    if (sandbox->no_mount_namespace) {
        sandbox_lacks(sandbox, "empty root", 0);
        return;
    }
    /* What the host unmounts later goes from here too, and nothing of ours comes to the host. */
    if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0 ||
        mount("blkbackd-worker", PLACE, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "size=4k,nr_inodes=2,mode=0555") < 0 ||
        chdir(PLACE) < 0 || change_root() < 0 || chdir("/") < 0)
        sandbox_lacks(sandbox, "empty root", -errno);
}
