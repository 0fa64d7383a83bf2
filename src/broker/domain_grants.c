/* SPDX-License-Identifier: BSD-2-Clause */
/* The granted pages that may stay mapped, a budget of the whole host, shared out among the workers
 * that keep any. */
#include "domain_internal.h"

/*
 * Told anew to each at each change, n workers would be told n * n times until they all are there.
 * So there are shares for as many as a step of these is, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20…: a
 * quarter of the budget lies idle at most.
 */
static uint32_t round_up(uint32_t count)
{
    uint32_t step = 1;

    while (count > 4 * step)
        step *= 2;
    return (count + step - 1) / step * step;
}

/* Less has to be said, or all together would keep more than the budget. More only when that pays.
 */
static bool worth_telling(const struct domain *domain, uint32_t share)
{
    return share < domain->grant_share || share >= domain->grant_share + domain->grant_share / 2;
}

static void tell(struct domain *domain, uint32_t share)
{
    const struct worker_message message = worker_message(WORKER_GRANT_BUDGET, share);

    if (share != domain->grant_share && domain_send(domain, &message, NULL, 0) == 0)
        domain->grant_share = share;
}

void domain_share_grants(struct broker *broker, bool all)
{
    struct domain *domain;
    uint32_t count = 0;

    TAILQ_FOREACH(domain, &broker->domains, entry)
    {
        count += domain->keeps_grants;
    }
    if (count == 0)
        return;
    const uint32_t share = broker->config.grant_budget / round_up(count);

    TAILQ_FOREACH(domain, &broker->domains, entry)
    {
        if (domain->keeps_grants && (all || worth_telling(domain, share)))
            tell(domain, share);
    }
}

void domain_keep_grants(struct domain *domain)
{
    if (domain->keeps_grants)
        return;
    domain->keeps_grants = true;
    domain->grant_share = 0; /* a worker keeps nothing before it is told */
    domain_share_grants(domain->broker, false);
}
