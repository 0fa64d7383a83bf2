/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving up privileges: see privileges.h. */
#include "privileges.h"

#include "blkback/log.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int failed(const char *what)
{
    const int error = -errno;

    log_error("can't %s: %s", what, strerror(-error));
    return error;
}

static int change_user(uid_t uid, gid_t gid)
{
    if (uid == 0)
        return 0;
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

int privileges_drop(uid_t uid, gid_t gid)
{
    const struct rlimit none = {0, 0};
    const pid_t parent = getppid();
    const int error = change_user(uid, gid);

    if (error)
        return error;
    /* This thread's own: the others do it when they start. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return failed("forbid new privileges");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return failed("forbid core dumps");
    /* After the change of user, which clears it; then a look whether the broker died before. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return failed("ask to end with the broker");
    if (getppid() != parent) {
        log_error("the broker is gone");
        return -ESRCH;
    }
    return 0;
}
