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
    .max_indirect_segments = 256,
    .max_queues = 4,
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

static void paths_of_its_nodes_are_told_from_others(void **state)
{
    (void)state;
    assert_true(published_path("backend/vbd/1/51712/max-ring-page-order"));
    assert_true(published_path("backend/vbd/1/51712/info"));
    assert_false(published_path("backend/vbd/1/51712/state"));
    assert_false(published_path("backend/vbd/1/51712/online"));
    assert_false(published_path("backend/vbd/1/51712"));
    assert_false(published_path("backend/vbd/1/51712/info2"));
    assert_false(published_path("backend/vbd/1/info/state"));
    assert_false(published_path("info"));
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
    assert_string_equal(value_of(&no_store, "feature-max-indirect-segments"), "256");
    assert_string_equal(value_of(&no_store, "multi-queue-max-queues"), "4");
    assert_null(value_of(&no_store, "feature-discard"));
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

static int presence_of(const struct offer *offer, const char *name)
{
    char value[NEGOTIATE_VALUE_MAX];
    for (unsigned i = 0; i < published_nodes(); i++)
        if (strcmp(published_name(i), name) == 0)
            return published_value(i, offer, value);
    return -EINVAL;
}

/* What the kernel's backend left of discards is removed where we offer none. */
static void discards(void **state)
{
    struct offer offer = with_store();
    static const char *const details[] = {"discard-granularity", "discard-alignment",
                                          "discard-secure"};
    (void)state;
    assert_string_equal(value_of(&offer, "feature-discard"), "0");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(presence_of(&no_store, details[i]), -ENODATA);
        assert_int_equal(presence_of(&offer, details[i]), -ENOENT);
    }
    offer.discard = true;
    offer.discard_granularity = 65536;
    offer.discard_alignment = 512;
    assert_string_equal(value_of(&offer, "feature-discard"), "1");
    assert_string_equal(value_of(&offer, "discard-granularity"), "65536");
    assert_string_equal(value_of(&offer, "discard-alignment"), "512");
    assert_string_equal(value_of(&offer, "discard-secure"), "0");
    offer.discard_secure = true;
    assert_string_equal(value_of(&offer, "discard-secure"), "1");
}

static void persistent_grants(void **state)
{
    struct offer offer = with_store();
    (void)state;
    offer.persistent = true;
    assert_string_equal(value_of(&offer, "feature-persistent"), "1");
}

/* What is written again when a disk grows or a CD is changed: nothing that was negotiated. */
static void what_belongs_to_the_medium(void **state)
{
    unsigned found = 0;
    (void)state;
    for (unsigned i = 0; i < published_nodes(); i++) {
        const char *name = published_name(i);
        bool expected = strcmp(name, "sectors") == 0 || strcmp(name, "sector-size") == 0 ||
                        strcmp(name, "physical-sector-size") == 0 || strcmp(name, "info") == 0;
        assert_int_equal(published_of_medium(i), expected);
        found += expected;
        assert_string_not_equal(name, "state");
    }
    assert_int_equal(found, 4);
}

/* What is not different need not be written again. */
static void offers_are_alike_when_all_their_nodes_are(void **state)
{
    struct offer one = with_store();
    struct offer other = one;

    (void)state;
    assert_true(published_alike(&one, &other));
    assert_false(published_alike(&one, &no_store));
    other.size += 4096;
    assert_false(published_alike(&one, &other));
    other = one;
    other.discard_granularity = 4096; /* says nothing without discard */
    assert_true(published_alike(&one, &other));
    one.discard = other.discard = true;
    assert_false(published_alike(&one, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_of_its_nodes_are_told_from_others),
        cmocka_unit_test(limits_do_not_wait_for_the_store),
        cmocka_unit_test(geometry_counts_in_512_bytes),
        cmocka_unit_test(info_tells_read_only_and_cdrom),
        cmocka_unit_test(a_store_that_cannot_flush_offers_none),
        cmocka_unit_test(discards),
        cmocka_unit_test(persistent_grants),
        cmocka_unit_test(what_belongs_to_the_medium),
        cmocka_unit_test(offers_are_alike_when_all_their_nodes_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
