/* SPDX-License-Identifier: BSD-2-Clause */
/* Who a domain is and whether it lives, as the hypervisor says; where it does not answer us, as
 * XenStore says. */
#include "domain_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "/vm/UUID" in the domain's `vm` node. */
static void read_uuid_node(struct domain *domain)
{
    char path[64];
    char value[64];
    snprintf(path, sizeof(path), "/local/domain/%u/vm", domain->domid);
    if (xenstore_read(domain->broker->xs, path, value, sizeof(value)) == 0 &&
        strncmp(value, "/vm/", 4) == 0)
        snprintf(domain->uuid, sizeof(domain->uuid), "%.36s", value + 4);
}

const char *domain_uuid(struct domain *domain)
{
    struct domain_info info;
    if (domain->uuid[0] != '\0')
        return domain->uuid;
    if (domain_info_get(domain->broker->domain_info, domain->domid, &info) == 0)
        memcpy(domain->uuid, info.uuid, sizeof(domain->uuid));
    else
        read_uuid_node(domain);
    return domain->uuid;
}

bool domain_is_dead(struct domain *domain)
{
    struct broker *broker = domain->broker;
    struct domain_info info;
    bool introduced = false;

    int error = domain_info_get(broker->domain_info, domain->domid, &info);
    if (error == 0 || error == -ESRCH)
        return error != 0 || info.dying;
    if (domain->domid == broker->own_domid ||
        xenstore_domain_introduced(broker->xs, domain->domid, &introduced) != 0)
        return false;
    /* One that is being built is not introduced yet. */
    bool lost = domain->was_introduced && !introduced;
    domain->was_introduced |= introduced;
    return lost;
}

bool domain_ended(const struct domain *domain)
{
    struct domain_info info;
    int error = domain_info_get(domain->broker->domain_info, domain->domid, &info);
    if (error == -ESRCH)
        return true;
    return error == 0 &&
           (info.dying || (domain->uuid[0] != '\0' && strcmp(info.uuid, domain->uuid) != 0));
}

/* Whether its vbds are to look at it: it is gone, or going, or another, or that can't be told. */
static bool may_have_ended(const struct domain *domain)
{
    struct domain_info info;

    return domain->outlived || domain->uuid[0] == '\0' ||
           domain_info_get(domain->broker->domain_info, domain->domid, &info) != 0 || info.dying ||
           strcmp(info.uuid, domain->uuid) != 0;
}

void domain_check_alive(struct broker *broker)
{
    struct domain *domain;
    struct vbd *vbd;

    TAILQ_FOREACH(domain, &broker->domains, entry)
    {
        const bool concerned = may_have_ended(domain);

        TAILQ_FOREACH(vbd, &domain->vbds, in_domain)
        {
            if (vbd->gone || !(concerned || vbd->domain_dead))
                continue;
            vbd->check_domain = true;
            vbd_mark_dirty(vbd);
        }
    }
}

void domain_look_anew(struct broker *broker)
{
    struct domain *domain;
    TAILQ_FOREACH(domain, &broker->domains, entry)
    {
        domain->was_introduced = false;
        domain->outlived |= domain_ended(domain);
    }
}
