/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The look at the state files before a daemon makes way for another version. The old one goes on
 * serving meanwhile, so a file may change under us or go away.
 */
#include "check_upgrade.h"

#include "blkback/state_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAME_MAX_LENGTH  64U
#define TRIES            4U /* a header is not changed at once: a second look may find it whole */
#define TRY_MILLISECONDS 50

struct look {
    int dir;
    const char *path;
    FILE *lines;
    struct check_upgrade found;
};

static void complain(struct look *look, const char *name, int fd, int error)
{
    uint16_t major = 0;
    uint16_t minor = 0;

    look->found.wrong++;
    fprintf(look->lines, "%s/%s: ", look->path, name);
    if (error == -EPROTO && state_file_version(fd, &major, &minor) == 0)
        fprintf(look->lines,
                "its layout is version %u.%u, and this is blkbackd %s, which takes up %u.x\n",
                major, minor, BLKBACKD_VERSION, STATE_VERSION_MAJOR);
    else if (error == -EBADMSG)
        fprintf(look->lines, "damaged\n");
    else
        fprintf(look->lines, "%s\n", strerror(-error));
}

static int read_slab(int fd)
{
    static struct slab_header header;
    const struct timespec pause = {.tv_nsec = TRY_MILLISECONDS * 1000000L};
    int error = slab_read_header(fd, &header);

    for (unsigned i = 1; error == -EBADMSG && i < TRIES; i++) {
        (void)nanosleep(&pause, NULL);
        error = slab_read_header(fd, &header);
    }
    return error;
}

static void look_at_slab(struct look *look, const char *connection_name)
{
    char name[NAME_MAX_LENGTH];
    int stem = (int)(strlen(connection_name) - strlen(".conn"));

    snprintf(name, sizeof(name), "%.*s.slab", stem, connection_name);
    int fd = openat(look->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int error = fd < 0 ? -errno : read_slab(fd);
    if (error == -ENOENT && faccessat(look->dir, connection_name, F_OK, 0) != 0)
        error = 0; /* detached since */
    if (error != 0)
        complain(look, name, fd, error);
    if (fd >= 0)
        close(fd);
}

static void look_at_connection(struct look *look, const char *name)
{
    struct connection_file file = {.magic = 0};
    int fd = openat(look->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 && errno == ENOENT)
        return; /* detached since the folder was read */
    int error = fd < 0 ? -errno : connection_read(fd, &file);
    if (error != 0) {
        look->found.disks++;
        complain(look, name, fd, error);
    } else if (file.queue_count > 0) {
        look->found.disks++;
        if (file.forgotten) {
            look->found.wrong++;
            fprintf(look->lines,
                    "%s/%s: XenStore has lost the disk's nodes: only the daemon that serves it can "
                    "go on with it\n",
                    look->path, name);
        } else {
            look_at_slab(look, name);
        }
    }
    if (fd >= 0)
        close(fd);
}

static bool is_connection_file(const char *name)
{
    size_t length = strlen(name);
    return name[0] != '.' && length > strlen(".conn") && length < NAME_MAX_LENGTH &&
           strcmp(name + length - strlen(".conn"), ".conn") == 0;
}

int check_upgrade(const char *state_dir, FILE *lines, struct check_upgrade *out)
{
    DIR *folder = opendir(state_dir);
    if (folder == NULL) {
        if (errno != ENOENT)
            return -errno;
        *out = (struct check_upgrade){.disks = 0};
        return 0;
    }
    struct look look = {.dir = dirfd(folder), .path = state_dir, .lines = lines};
    const struct dirent *entry;
    errno = 0;
    while ((entry = readdir(folder)) != NULL) {
        if (is_connection_file(entry->d_name))
            look_at_connection(&look, entry->d_name);
        errno = 0;
    }
    int error = -errno;
    closedir(folder);
    if (error == 0)
        *out = look.found;
    return error;
}
