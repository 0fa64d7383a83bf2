/* SPDX-License-Identifier: BSD-2-Clause */
/* The folder of the state files: see state_dir.h. */
#include "state_dir.h"

#include "blkback/parse.h"
#include "claim.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* "DOMID-DEVID", of `length` characters. */
static bool parse_disk(const char *name, size_t length, struct state_file *out)
{
    char text[32];
    if (length >= sizeof(text))
        return false;
    memcpy(text, name, length);
    text[length] = '\0';
    char *dash = strchr(text, '-');
    if (dash == NULL)
        return false;
    *dash = '\0';
    return parse_u32(text, DOMID_MAX, &out->domid) == 0 &&
           parse_u32(dash + 1, DEVID_MAX, &out->devid) == 0;
}

/* "DISK.conn" or ".slab", or ".DISK.conn.new": see connection_write(). */
static bool parse_name(const char *name, struct state_file *out)
{
    bool unfinished = name[0] == '.';
    const char *disk = name + unfinished;
    const char *dot = strchr(disk, '.');
    if (dot == NULL)
        return false;
    *out = (struct state_file){
        .name = name, .connection = strcmp(dot, ".conn") == 0, .unfinished = unfinished};
    bool known =
        unfinished ? strcmp(dot, ".conn.new") == 0 : out->connection || strcmp(dot, ".slab") == 0;
    return known && parse_disk(disk, (size_t)(dot - disk), out);
}

void state_dir_for_each(struct broker *broker,
                        void (*use)(struct broker *broker, const struct state_file *file))
{
    int fd = openat(broker->state_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    const struct dirent *entry;
    struct state_file file;
    while ((entry = readdir(dir)) != NULL)
        if (parse_name(entry->d_name, &file))
            use(broker, &file);
    closedir(dir);
}

static void remove_unfinished(struct broker *broker, const struct state_file *file)
{
    if (file->unfinished)
        (void)unlinkat(broker->state_dir, file->name, 0);
}

void state_dir_remove_unfinished(struct broker *broker)
{
    state_dir_for_each(broker, remove_unfinished);
}
