/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of published nodes: names, values, and which wait for the store. */
#include "negotiate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct offer no_store = {
    .max_ring_page_order = 4,
    .max_requests = 512,
    .max_segments = 11,
    .max_request_size = 45056,
    .flush = true,
};

static struct offer with_store(void)
{
    struct offer offer = no_store;
    offer.store_known = true;
    offer.size = (UINT64_C(3) << 40) + 4096;
    offer.sector_size = 512;
    offer.physical_sector_size = 4096;
    return offer;
}

/* NULL: not in the table, or not known yet. */
static const char *value_of(const struct offer *offer, const char *name)
{
    static char value[NEGOTIATE_VALUE_MAX];
    for (unsigned i = 0; i < published_nodes(); i++)
        if (strcmp(published_name(i), name) == 0)
            return published_value(i, offer, value) == 0 ? value : NULL;
    return NULL;
}

static void limits_do_not_wait_for_the_store(void **state)
{
    (void)state;
    assert_string_equal(value_of(&no_store, "max-ring-page-order"), "4");
    assert_string_equal(value_of(&no_store, "max-ring-pages"), "16");
    assert_string_equal(value_of(&no_store, "max-requests"), "512");
    assert_string_equal(value_of(&no_store, "max-request-segments"), "11");
    assert_string_equal(value_of(&no_store, "max-request-size"), "45056");
    assert_string_equal(value_of(&no_store, "feature-flush-cache"), "1");
    assert_string_equal(value_of(&no_store, "feature-barrier"), "1");
    assert_string_equal(value_of(&no_store, "feature-persistent"), "0");
    assert_null(value_of(&no_store, "sectors"));
    assert_null(value_of(&no_store, "sector-size"));
    assert_null(value_of(&no_store, "physical-sector-size"));
    assert_null(value_of(&no_store, "info"));
}

static void geometry_counts_in_512_bytes(void **state)
{
    struct offer offer = with_store();
    (void)state;
    assert_string_equal(value_of(&offer, "sectors"), "6442450952");
    assert_string_equal(value_of(&offer, "sector-size"), "512");
    assert_string_equal(value_of(&offer, "physical-sector-size"), "4096");
    offer.sector_size = 4096;
    assert_string_equal(value_of(&offer, "sectors"), "6442450952");
}

static void info_tells_read_only_and_cdrom(void **state)
{
    struct offer offer = with_store();
    (void)state;
    assert_string_equal(value_of(&offer, "info"), "0");
    offer.read_only = true;
    assert_string_equal(value_of(&offer, "info"), "4");
    offer.cdrom = true;
    assert_string_equal(value_of(&offer, "info"), "7");
    offer.read_only = false;
    assert_string_equal(value_of(&offer, "info"), "3");
}

static void a_store_that_cannot_flush_offers_none(void **state)
{
    struct offer offer = with_store();
    (void)state;
    offer.flush = false;
    assert_string_equal(value_of(&offer, "feature-flush-cache"), "0");
    assert_string_equal(value_of(&offer, "feature-barrier"), "0");
}

/* What another backend left is removed, never what we publish. */
static void foreign_nodes_are_not_ours(void **state)
{
    struct offer offer = with_store();
    (void)state;
    assert_non_null(foreign_nodes[0]);
    for (unsigned i = 0; foreign_nodes[i] != NULL; i++)
        assert_null(value_of(&offer, foreign_nodes[i]));
    for (unsigned i = 0; i < published_nodes(); i++)
        assert_string_not_equal(published_name(i), "state");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_do_not_wait_for_the_store),
        cmocka_unit_test(geometry_counts_in_512_bytes),
        cmocka_unit_test(info_tells_read_only_and_cdrom),
        cmocka_unit_test(a_store_that_cannot_flush_offers_none),
        cmocka_unit_test(foreign_nodes_are_not_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
