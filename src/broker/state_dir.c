/* SPDX-License-Identifier: BSD-2-Clause */
/* The folder of the state files: see state_dir.h. */
#include "state_dir.h"

#include "blkback/parse.h"
#include "claim.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* "DOMID-DEVID.conn" or ".slab". */
static bool parse_name(const char *name, struct state_file *out)
{
    char text[32];
    const char *dot = strchr(name, '.');
    if (dot == NULL || (strcmp(dot, ".conn") != 0 && strcmp(dot, ".slab") != 0) ||
        (size_t)(dot - name) >= sizeof(text))
        return false;
    memcpy(text, name, (size_t)(dot - name));
    text[dot - name] = '\0';
    char *dash = strchr(text, '-');
    if (dash == NULL)
        return false;
    *dash = '\0';
    *out = (struct state_file){.name = name, .connection = dot[1] == 'c'};
    return parse_u32(text, DOMID_MAX, &out->domid) == 0 &&
           parse_u32(dash + 1, DEVID_MAX, &out->devid) == 0;
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
