/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Plays attacks on the disk backend of the guest it runs in, one line for each:
 *
 *     attacker [-t SECONDS] [-d DEVICE] [-o DOMAIN] [-r REFERENCE] ATTACK...
 *
 * -t: repeats each for so long; -d: the disk's number; -o, -r: another guest, and a reference that
 * is in use there. It ends with 0 when all went as they must.
 */
#include "attacker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XVDA 51712u

static const struct attack *const all[] = {ring_attacks, timing_attacks, grant_attacks,
                                           node_attacks};

static const struct attack *find_attack(const char *name)
{
    for (uint32_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        for (const struct attack *attack = all[i]; attack->name; attack++)
            if (strcmp(attack->name, name) == 0)
                return attack;
    return NULL;
}

static void list_attacks(void)
{
    for (uint32_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        for (const struct attack *attack = all[i]; attack->name; attack++)
            printf("%-28s %s\n", attack->name, attack->about);
}

/* What must be so when an attack is over. */
static int aftermath(struct attacker *a, enum outcome outcome)
{
    int err = 0;

    if (outcome == STOPS) {
        err = expect_refusal(a);
        if (!err)
            err = expect_silence(a);
    } else if (outcome != ENDS && backend_state(a) != CONNECTED) {
        err = reject(a, "the backend went to state %d", backend_state(a));
    }
    if (!err && outcome == SERVES)
        err = healthy_io(a);
    return err;
}

static int one_round(struct attacker *a, const struct attack *attack)
{
    int err;

    if (attack->outcome == ON_NODES)
        return attack->run(a);
    err = connect_disk(a);
    if (!err)
        err = healthy_io(a);
    if (!err)
        err = attack->run(a);
    if (!err && attack->outcome != GONE)
        err = aftermath(a, attack->outcome);
    return err || attack->outcome == GONE ? err : leave_disk(a);
}

static int play(struct attacker *a, const char *name, uint32_t seconds)
{
    const struct attack *attack = find_attack(name);
    uint64_t begun = now_ms();
    uint32_t rounds = 0;
    int err = attack ? 0 : reject(a, "there is no such attack");

    a->deadline_ms = begun + (uint64_t)seconds * 1000u;
    a->count = 0;
    while (!err && (!rounds || (!time_over(a) && attack->outcome != GONE))) {
        err = one_round(a, attack);
        rounds++;
    }
    if (err)
        printf("FAILED %s: %s\n", name, a->reason);
    else
        printf("ok %s: %u rounds, %llu counted, %llu ms\n", name, rounds,
               (unsigned long long)a->count, (unsigned long long)(now_ms() - begun));
    return err;
}

static int grant_page(struct attacker *a, uint32_t *ref, uint8_t **page)
{
    int64_t got = bed_grant(a->domid, a->backend_domid, 1, false);

    if (got < 0)
        return reject(a, "nothing can be granted: %s", strerror((int)-got));
    *ref = (uint32_t)got;
    *page = bed_page(a->domid, *ref);
    return 0;
}

int main(int argc, char **argv)
{
    struct attacker a = {.next_id = 1, .untidy = true, .random = 88172645463325252u};
    uint32_t seconds = 0, device = XVDA;
    int option, failed = 0;

    while ((option = getopt(argc, argv, "t:d:o:r:l")) != -1) {
        uint32_t number = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;

        if (option == 't')
            seconds = number;
        else if (option == 'd')
            device = number;
        else if (option == 'o')
            a.other = number;
        else if (option == 'r')
            a.other_ref = number;
        else
            list_attacks();
    }
    if (handshake_open(&a, device) || grant_page(&a, &a.page_ref, &a.page) ||
        grant_page(&a, &a.list_ref, &a.list)) {
        printf("FAILED: %s\n", a.reason);
        return 1;
    }
    for (int i = optind; i < argc; i++)
        failed |= play(&a, argv[i], seconds);
    return failed ? 1 : 0;
}
