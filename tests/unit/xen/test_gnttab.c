/* SPDX-License-Identifier: BSD-2-Clause */
/* Grant copies: what is asked of the library, and whose word counts. */
#include "blkback/gnttab.h"
#include "testing.h"

#include <errno.h>
#include <string.h>
#include <xen/grant_table.h>
#include <xengnttab.h>

/* ---- takes the place of libxengnttab ---- */

static int library; /* the handle is only an address */
static int copy_error;
static unsigned copied;
static int16_t statuses[4];
static xengnttab_grant_copy_segment_t seen[4];
static uint32_t mapped_refs[32];
static unsigned unmapped;

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned flags)
{
    (void)logger;
    (void)flags;
    return (xengnttab_handle *)(void *)&library;
}

int xengnttab_close(xengnttab_handle *handle)
{
    (void)handle;
    return 0;
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *handle, uint32_t count, uint32_t domid,
                                      uint32_t *refs, int prot)
{
    (void)handle;
    (void)prot;
    assert_int_equal(domid, 9);
    memcpy(mapped_refs, refs, count * sizeof(*refs));
    if (refs[0] == 0) {
        errno = ENXIO;
        return NULL;
    }
    return &library;
}

int xengnttab_unmap(xengnttab_handle *handle, void *address, uint32_t count)
{
    (void)handle;
    assert_ptr_equal(address, &library);
    unmapped += count;
    return 0;
}

int xengnttab_grant_copy(xengnttab_handle *handle, uint32_t count,
                         xengnttab_grant_copy_segment_t *segments)
{
    (void)handle;
    copied += count;
    for (uint32_t i = 0; i < count && i < 4; i++) {
        /* An error before the call, whatever becomes of it. */
        assert_int_not_equal(segments[i].status, GNTST_okay);
        seen[i] = segments[i];
        segments[i].status = statuses[i];
    }
    if (copy_error) {
        errno = copy_error;
        return -1;
    }
    return 0;
}

/* ---- the tests ---- */

static struct gnttab *gnttab;

static int set_up(void **state)
{
    (void)state;
    copy_error = 0;
    copied = unmapped = 0;
    memset(statuses, 0, sizeof(statuses));
    return gnttab_open(&gnttab);
}

static int tear_down(void **state)
{
    (void)state;
    gnttab_close(gnttab);
    gnttab_close(NULL);
    return 0;
}

static void each_direction_names_its_granted_side(void **state)
{
    uint8_t data[1024];
    struct gnttab_piece pieces[] = {
        {.local = data, .gref = 5, .offset = 512, .length = 1024, .to_guest = 1},
        {.local = data, .gref = 6, .offset = 0, .length = 512, .to_guest = 0}};
    (void)state;

    assert_int_equal(gnttab_copy_batch(gnttab, 9, pieces, 2), 0);
    assert_int_equal(seen[0].flags, GNTCOPY_dest_gref);
    assert_ptr_equal(seen[0].source.virt, data);
    assert_int_equal(seen[0].dest.foreign.ref, 5);
    assert_int_equal(seen[0].dest.foreign.offset, 512);
    assert_int_equal(seen[0].dest.foreign.domid, 9);
    assert_int_equal(seen[0].len, 1024);
    assert_int_equal(seen[1].flags, GNTCOPY_source_gref);
    assert_ptr_equal(seen[1].dest.virt, data);
    assert_int_equal(seen[1].source.foreign.ref, 6);
    assert_int_equal(seen[1].source.foreign.domid, 9);
    assert_int_equal(pieces[0].status, 0);
    assert_int_equal(pieces[1].status, 0);
}

static void each_piece_has_its_own_status(void **state)
{
    uint8_t data[512];
    struct gnttab_piece pieces[3] = {{.local = data, .length = 512},
                                     {.local = data, .length = 512},
                                     {.local = data, .length = 512}};
    (void)state;

    statuses[1] = GNTST_bad_gntref;
    assert_int_equal(gnttab_copy_batch(gnttab, 9, pieces, 3), 0);
    assert_int_equal(pieces[0].status, GNTST_okay);
    assert_int_equal(pieces[1].status, GNTST_bad_gntref);
    assert_int_equal(pieces[2].status, GNTST_okay);
}

/* gntdev says "okay" of what it queued and never did. */
static void nothing_counts_when_the_call_fails(void **state)
{
    uint8_t data[512];
    struct gnttab_piece pieces[2] = {{.local = data, .length = 512},
                                     {.local = data, .length = 512}};
    (void)state;

    copy_error = EFAULT;
    assert_int_equal(gnttab_copy_batch(gnttab, 9, pieces, 2), -EFAULT);
    assert_int_not_equal(pieces[0].status, 0);
    assert_int_not_equal(pieces[1].status, 0);
}

static void a_batch_has_a_limit(void **state)
{
    static struct gnttab_piece pieces[GNTTAB_COPY_MAX + 1];
    (void)state;

    assert_int_equal(gnttab_copy_batch(gnttab, 9, pieces, GNTTAB_COPY_MAX + 1), -EINVAL);
    assert_int_equal(copied, 0);
    assert_int_equal(gnttab_copy_batch(gnttab, 9, pieces, GNTTAB_COPY_MAX), 0);
    assert_int_equal(copied, GNTTAB_COPY_MAX);
}

static void rings_are_mapped_whole_or_not(void **state)
{
    uint32_t refs[33] = {8, 7, 6};
    void *address = NULL;
    (void)state;

    assert_int_equal(gnttab_map(gnttab, 9, refs, 3, &address), 0);
    assert_memory_equal(mapped_refs, refs, 3 * sizeof(*refs));
    gnttab_unmap(gnttab, address, 3);
    assert_int_equal(unmapped, 3);
    gnttab_unmap(gnttab, NULL, 3);
    assert_int_equal(unmapped, 3);
    address = NULL;
    refs[0] = 0;
    assert_int_equal(gnttab_map(gnttab, 9, refs, 3, &address), -ENXIO);
    assert_int_equal(gnttab_map(gnttab, 9, refs, 0, &address), -EINVAL);
    assert_int_equal(gnttab_map(gnttab, 9, refs, 33, &address), -EINVAL);
    assert_null(address);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_direction_names_its_granted_side, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_piece_has_its_own_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_counts_when_the_call_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_has_a_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rings_are_mapped_whole_or_not, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
