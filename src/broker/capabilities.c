/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving up capabilities: see capabilities.h. The list is the unit's, conf/blkbackd.service. */
#include "capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const uint32_t kept[] = {
    CAP_SYS_ADMIN,                 /* namespaces and the empty root of workers */
    CAP_SYS_CHROOT,                /* the empty root where the root is an initial ramdisk */
    CAP_DAC_OVERRIDE,              /* images, whoever owns them */
    CAP_SETUID,                    /* workers have their own uid */
    CAP_SETGID,       CAP_SETPCAP, /* the bounding set, here and in workers */
    CAP_KILL,                      /* workers that hang */
    CAP_IPC_LOCK,                  /* rings of io_uring are locked memory */
    CAP_SYS_RESOURCE,              /* the number of descriptors */
};

static bool is_kept(uint32_t capability)
{
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        if (kept[i] == capability)
            return true;
    return false;
}

int capabilities_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    uint32_t keep[_LINUX_CAPABILITY_U32S_3] = {0};

    for (uint32_t capability = 0; prctl(PR_CAPBSET_READ, (unsigned long)capability, 0, 0, 0) >= 0;
         capability++)
        if (!is_kept(capability))
            (void)prctl(PR_CAPBSET_DROP, (unsigned long)capability, 0, 0, 0);
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        keep[CAP_TO_INDEX(kept[i])] |= CAP_TO_MASK(kept[i]);
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        data[i].permitted &= keep[i];
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}
