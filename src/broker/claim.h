/* SPDX-License-Identifier: BSD-2-Clause */
/* Which vbds are ours, and the backend paths that name them. */
#ifndef BLKBACK_BROKER_CLAIM_H
#define BLKBACK_BROKER_CLAIM_H

#include "config.h"

#include <stdbool.h>
#include <stdint.h>

enum vbd_class { VBD_CLASS_VBD, VBD_CLASS_VBD3, VBD_CLASSES };

/* "vbd", "vbd3": also the folder below "backend". */
const char *vbd_class_name(enum vbd_class class);

struct vbd_address {
    enum vbd_class class;
    uint32_t domid; /* of the frontend */
    uint32_t devid;
};

/* How much of an address a path holds. */
enum address_depth { ADDRESS_CLASS, ADDRESS_DOMAIN, ADDRESS_DEVICE };

/*
 * Parses "backend/CLASS[/DOMID[/DEVID[/anything]]]", also with "/local/domain/OWN/" before it.
 * Numbers are strict: no sign, no leading zero, in range. Returns 0 or -EINVAL; what lies deeper
 * than `depth` is 0.
 */
int address_parse(const char *path, uint32_t own_domid, struct vbd_address *out,
                  enum address_depth *depth);

/* Strict domid or devid as a node's name. Returns 0 or -EINVAL. */
int address_parse_number(const char *text, uint32_t max, uint32_t *out);

#define DOMID_MAX UINT32_C(0x7fef) /* the last before the hypervisor's reserved numbers */
#define DEVID_MAX UINT32_C(0x1fffffff)

/*
 * Whether a vbd with this `script` node (NULL: none) is ours. With CLAIM_SCRIPT its last component
 * must be our hook's; with CLAIM_ALL only another script's are left alone.
 */
bool claim_vbd(enum config_claim claim, const char *hook, const char *script);

#endif
