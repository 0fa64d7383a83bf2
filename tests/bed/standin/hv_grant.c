/* SPDX-License-Identifier: BSD-2-Clause */
/* Grants of the bed: who has what mapped, and giving back what a dead process had. */
#include "hv.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int lock_byte(int fd, int command, uint32_t handle, short *type)
{
    struct flock lock = {
        .l_type = *type, .l_whence = SEEK_SET, .l_start = HV_LOCK_BASE + handle, .l_len = 1};

    if (fcntl(fd, command, &lock))
        return -errno;
    *type = lock.l_type;
    return 0;
}

/* Under the lock. */
static void drop_tracks(struct hv *hv, uint32_t handle)
{
    for (uint32_t i = 0; i < HV_TRACKS; i++)
        if (hv->s->track[i].handle == handle + 1)
            hv_gnt_put(hv, i);
}

static void reap_locked(struct hv *hv)
{
    int fd = hv_open_file();

    if (fd < 0)
        return;
    for (uint32_t i = 0; i < HV_GNT_HANDLES; i++) {
        short type = F_WRLCK;

        if (!hv->s->gnt_handle[i] || lock_byte(fd, F_OFD_GETLK, i, &type) || type != F_UNLCK)
            continue;
        drop_tracks(hv, i);
        hv->s->gnt_handle[i] = 0;
    }
    close(fd);
}

void hv_gnt_reap(struct hv *hv)
{
    hv_lock(hv);
    reap_locked(hv);
    hv_unlock(hv);
}

/* The lock on the handle's byte lives as long as the open file description: mappings hold it, too.
 */
int hv_gnt_open(struct hv *hv, int *fd, uint32_t *handle)
{
    int file = hv_open_file(), err = -ENFILE;

    if (file < 0)
        return file;
    hv_lock(hv);
    reap_locked(hv);
    for (uint32_t i = 0; i < HV_GNT_HANDLES; i++) {
        short type = F_WRLCK;

        if (hv->s->gnt_handle[i])
            continue;
        err = lock_byte(file, F_OFD_SETLK, i, &type);
        if (!err) {
            hv->s->gnt_handle[i] = 1;
            *handle = i;
            *fd = file;
        }
        break;
    }
    hv_unlock(hv);
    if (err)
        close(file);
    return err;
}

static int new_track(struct hv *hv, uint32_t *track)
{
    for (uint32_t n = 0; n < HV_TRACKS; n++) {
        uint32_t i = (hv->s->track_hint + n) % HV_TRACKS;

        if (hv->s->track[i].handle == 0) {
            hv->s->track_hint = i + 1;
            *track = i;
            return 0;
        }
    }
    return -ENOSPC;
}

int hv_gnt_get(struct hv *hv, uint32_t handle, uint32_t domid, uint32_t ref, bool writable,
               uint32_t *track)
{
    struct hv_grant *g;
    uint32_t flags;
    int err;

    if (!hv_domain_alive(hv, domid) || ref >= HV_GREFS)
        return -EINVAL;
    g = &hv->s->domain[domid].grant[ref];
    flags = g->flags;
    if (!(flags & HV_GRANT_VALID) || g->domid != hv->domid ||
        (writable && flags & HV_GRANT_READONLY))
        return -EINVAL;
    err = new_track(hv, track);
    if (err)
        return err;
    hv->s->track[*track] =
        (struct hv_track){.handle = handle + 1, .domid = (uint16_t)domid, .ref = ref};
    atomic_fetch_add(&g->maps, 1);
    return 0;
}

void hv_gnt_put(struct hv *hv, uint32_t track)
{
    struct hv_track *t = &hv->s->track[track];

    atomic_fetch_sub(&hv->s->domain[t->domid].grant[t->ref].maps, 1);
    t->handle = 0;
    hv->s->track_hint = track;
}
