/* SPDX-License-Identifier: BSD-2-Clause */
/* Which vbds are ours, and the backend paths that name them. */
#include "claim.h"

#include "blkback/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *vbd_class_name(enum vbd_class class)
{
    return class == VBD_CLASS_VBD3 ? "vbd3" : "vbd";
}

int address_parse_number(const char *text, uint32_t max, uint32_t *out)
{
    if (text[0] == '0' && text[1] != '\0')
        return -EINVAL;
    return parse_u32(text, max, out) == 0 ? 0 : -EINVAL;
}

/* Takes the next component of a path. Returns false when there is none, or it is too long to be one
 * of ours. */
static bool next_component(const char **path, char *out, size_t size)
{
    size_t length = strcspn(*path, "/");
    if (length == 0 || length >= size)
        return false;
    memcpy(out, *path, length);
    out[length] = '\0';
    *path += length;
    if (**path == '/')
        (*path)++;
    return true;
}

static int parse_class(const char *name, enum vbd_class *out)
{
    for (unsigned i = 0; i < VBD_CLASSES; i++) {
        if (strcmp(name, vbd_class_name((enum vbd_class)i)) == 0) {
            *out = (enum vbd_class)i;
            return 0;
        }
    }
    return -EINVAL;
}

int address_parse(const char *path, uint32_t own_domid, struct vbd_address *out,
                  enum address_depth *depth)
{
    char home[40];
    int length = snprintf(home, sizeof(home), "/local/domain/%u/", own_domid);
    if (length > 0 && strncmp(path, home, (size_t)length) == 0)
        path += length;

    char component[16];
    struct vbd_address address = {.domid = 0};
    if (!next_component(&path, component, sizeof(component)) || strcmp(component, "backend") != 0 ||
        !next_component(&path, component, sizeof(component)) ||
        parse_class(component, &address.class) != 0)
        return -EINVAL;
    enum address_depth found = ADDRESS_CLASS;
    if (*path != '\0') {
        if (!next_component(&path, component, sizeof(component)) ||
            address_parse_number(component, DOMID_MAX, &address.domid) != 0)
            return -EINVAL;
        found = ADDRESS_DOMAIN;
    }
    if (*path != '\0') {
        if (!next_component(&path, component, sizeof(component)) ||
            address_parse_number(component, DEVID_MAX, &address.devid) != 0)
            return -EINVAL;
        found = ADDRESS_DEVICE;
    }
    *out = address;
    *depth = found;
    return 0;
}

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

bool claim_vbd(enum config_claim claim, const char *hook, const char *script)
{
    if (script == NULL || script[0] == '\0')
        return claim == CLAIM_ALL;
    return strcmp(last_component(script), last_component(hook)) == 0;
}
