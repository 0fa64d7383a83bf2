/* SPDX-License-Identifier: BSD-2-Clause */
/* The budget of mapped pages among workers: never more than it in all, most of it used, and few
 * messages however many workers there are. */
#include "domain_internal.h"
#include "testing.h"

#include <stdlib.h>

#define WORKERS 200U
#define BUDGET  100000U

static unsigned messages;

/* In the place of domain.c's. */
int domain_send(struct domain *domain, const struct worker_message *message, const int *fds,
                unsigned fd_count)
{
    (void)domain;
    (void)fds;
    assert_int_equal(message->type, WORKER_GRANT_BUDGET);
    assert_int_equal(fd_count, 0);
    messages++;
    return 0;
}

static struct broker broker;
static struct domain domains[WORKERS];

static int start(void **state)
{
    (void)state;
    broker = (struct broker){.config.grant_budget = BUDGET};
    TAILQ_INIT(&broker.domains);
    for (unsigned i = 0; i < WORKERS; i++) {
        domains[i] = (struct domain){.broker = &broker, .domid = i};
        TAILQ_INSERT_TAIL(&broker.domains, &domains[i], entry);
    }
    messages = 0;
    return 0;
}

static void leave(struct domain *domain)
{
    domain->keeps_grants = false;
    domain_share_grants(&broker, false);
}

/* What they have in all is within the budget, and above a half of it. */
static void check(unsigned first, unsigned count)
{
    uint64_t all = 0;

    for (unsigned i = first; i < first + count; i++) {
        assert_in_range(domains[i].grant_share, BUDGET / count / 2, BUDGET / count);
        all += domains[i].grant_share;
    }
    assert_in_range(all, BUDGET / 2, BUDGET);
}

static void as_they_come_and_go(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++) {
        domain_keep_grants(&domains[i]);
        domain_keep_grants(&domains[i]); /* another disk of it */
        check(0, i + 1);
    }
    assert_in_range(messages, WORKERS, WORKERS * 8);
    messages = 0;
    for (unsigned i = 0; i < WORKERS - 1; i++) {
        leave(&domains[i]);
        check(i + 1, WORKERS - i - 1);
    }
    assert_in_range(messages, 1, WORKERS * 4);
    assert_int_equal(domains[WORKERS - 1].grant_share, BUDGET);
}

/* One that comes and goes does not have all the others told each time. */
static void one_that_comes_and_goes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        domain_keep_grants(&domains[i]);
    messages = 0;
    for (unsigned i = 0; i < 1000; i++) {
        leave(&domains[i % WORKERS]);
        domain_keep_grants(&domains[i % WORKERS]);
    }
    assert_in_range(messages, 1000, 1000 + WORKERS);
}

static void another_budget_is_told_at_once(void **state)
{
    (void)state;
    domain_keep_grants(&domains[0]);
    domain_keep_grants(&domains[1]);
    broker.config.grant_budget = BUDGET + 10;
    domain_share_grants(&broker, true);
    assert_int_equal(domains[0].grant_share, BUDGET / 2 + 5);
    assert_int_equal(domains[1].grant_share, BUDGET / 2 + 5);
    broker.config.grant_budget = 0;
    domain_share_grants(&broker, true);
    assert_int_equal(domains[0].grant_share, 0);
}

static void those_that_keep_none_are_not_told(void **state)
{
    (void)state;
    domain_share_grants(&broker, true);
    domain_keep_grants(&domains[7]);
    assert_int_equal(messages, 1);
    assert_int_equal(domains[7].grant_share, BUDGET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(as_they_come_and_go, start),
        cmocka_unit_test_setup(one_that_comes_and_goes, start),
        cmocka_unit_test_setup(another_budget_is_told_at_once, start),
        cmocka_unit_test_setup(those_that_keep_none_are_not_told, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
