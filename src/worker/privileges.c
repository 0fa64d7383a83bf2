/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving up privileges: see privileges.h. */
#include "privileges.h"

#include "blkback/log.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int failed(const char *what)
{
    const int error = -errno;

    log_error("can't %s: %s", what, strerror(-error));
    return error;
}

void privileges_bound(void)
{
    /* Not allowed to whoever has no CAP_SETPCAP, who needs it less: no_new_privs comes, too. */
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0;
         capability++)
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static int change_user(uid_t uid, gid_t gid)
{
    /* From root, setresuid() to another uid clears every capability set. The C library has every
     * thread do it. */
    if (setgroups(0, NULL) < 0)
        return failed("give up supplementary groups");
    if (setresgid(gid, gid, gid) < 0)
        return failed("change the group");
    if (setresuid(uid, uid, uid) < 0)
        return failed("change the user");
    return 0;
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    return syscall(SYS_capset, &header, none) < 0 ? failed("drop capabilities") : 0;
}

static int keep_from_others(const struct sandbox *sandbox)
{
    const struct rlimit none = {0, 0};

    /* A debugger is what the sandbox is turned off for. */
    if (prctl(PR_SET_DUMPABLE, sandbox->on ? 0 : 1, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_CORE, &none) < 0)
        return failed("forbid core dumps");
    return 0;
}

int privileges_drop(struct sandbox *sandbox)
{
    const pid_t parent = getppid();
    int error = 0;

    if (sandbox->uid != 0)
        error = change_user(sandbox->uid, sandbox->gid);
    else if (sandbox->on)
        sandbox_lacks(sandbox, "user of its own", 0);
    if (!error && sandbox->on)
        error = drop_capabilities();
    if (error)
        return error;
    /* This thread's own: the others do it when they start. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return failed("forbid new privileges");
    error = keep_from_others(sandbox);
    if (error)
        return error;
    /* After the change of user, which clears it; then a look whether the broker died before. From
     * within a pid namespace it can't be seen: there its socket tells. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return failed("ask to end with the broker");
    if (getppid() != parent) {
        log_error("the broker is gone");
        return -ESRCH;
    }
    return 0;
}
