/* SPDX-License-Identifier: BSD-2-Clause */
/* Which disks are ours, and which paths name one. */
#include "claim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void only_our_script_is_claimed(void **state)
{
    static const char hook[] = "block-blkbackd";
    (void)state;
    assert_true(claim_vbd(CLAIM_SCRIPT, hook, "/etc/xen/scripts/block-blkbackd"));
    assert_true(claim_vbd(CLAIM_SCRIPT, hook, "block-blkbackd"));
    assert_true(
        claim_vbd(CLAIM_SCRIPT, "/opt/x/block-blkbackd", "/etc/xen/scripts/block-blkbackd"));
    assert_false(claim_vbd(CLAIM_SCRIPT, hook, "/etc/xen/scripts/block"));
    assert_false(claim_vbd(CLAIM_SCRIPT, hook, "/etc/xen/scripts/block-blkbackd2"));
    assert_false(claim_vbd(CLAIM_SCRIPT, hook, "/etc/xen/scripts/my-block-blkbackd"));
    assert_false(claim_vbd(CLAIM_SCRIPT, hook, "/block-blkbackd/"));
    assert_false(claim_vbd(CLAIM_SCRIPT, hook, ""));
    assert_false(claim_vbd(CLAIM_SCRIPT, hook, NULL));
}

static void all_leaves_other_scripts_alone(void **state)
{
    static const char hook[] = "block-blkbackd";
    (void)state;
    assert_true(claim_vbd(CLAIM_ALL, hook, NULL));
    assert_true(claim_vbd(CLAIM_ALL, hook, ""));
    assert_true(claim_vbd(CLAIM_ALL, hook, "/etc/xen/scripts/block-blkbackd"));
    assert_false(claim_vbd(CLAIM_ALL, hook, "/etc/xen/scripts/block-drbd"));
}

static void expect(const char *path, enum address_depth depth, enum vbd_class class, uint32_t domid,
                   uint32_t devid)
{
    struct vbd_address address;
    enum address_depth found;
    if (address_parse(path, 5, &address, &found) != 0)
        fail_msg("%s is refused", path);
    assert_int_equal(found, depth);
    assert_int_equal(address.class, class);
    assert_int_equal(address.domid, domid);
    assert_int_equal(address.devid, devid);
}

static void paths_are_taken_apart(void **state)
{
    (void)state;
    expect("backend/vbd", ADDRESS_CLASS, VBD_CLASS_VBD, 0, 0);
    expect("backend/vbd3/7", ADDRESS_DOMAIN, VBD_CLASS_VBD3, 7, 0);
    expect("backend/vbd/0/51712", ADDRESS_DEVICE, VBD_CLASS_VBD, 0, 51712);
    expect("backend/vbd/12/51712/state", ADDRESS_DEVICE, VBD_CLASS_VBD, 12, 51712);
    expect("/local/domain/5/backend/vbd/12/768/a/b", ADDRESS_DEVICE, VBD_CLASS_VBD, 12, 768);
    expect("backend/vbd/32751/536870911", ADDRESS_DEVICE, VBD_CLASS_VBD, 32751, 536870911);
}

static void other_paths_are_refused(void **state)
{
    static const char *const paths[] = {
        "",
        "/",
        "backend",
        "backend/",
        "backend/vif/1/0",
        "backend/vbd33/1/0",
        "backend//1/0",
        "backend/vbd/1//2",
        "backend/vbd/-1/2",
        "backend/vbd/+1/2",
        "backend/vbd/01/2",
        "backend/vbd/1x/2",
        "backend/vbd/ 1/2",
        "backend/vbd/1/0x300",
        "backend/vbd/../2",
        "backend/vbd/32752/2",
        "backend/vbd/4294967297/2",
        "backend/vbd/1/536870912",
        "backend/vbd/1/99999999999999999999999",
        "/local/domain/6/backend/vbd/1/2",
        "/local/domain/55/backend/vbd/1/2",
        "device/vbd/1/2",
    };
    struct vbd_address address;
    enum address_depth depth;
    (void)state;
    for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (address_parse(paths[i], 5, &address, &depth) != -EINVAL)
            fail_msg("\"%s\" is taken", paths[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_our_script_is_claimed),
        cmocka_unit_test(all_leaves_other_scripts_alone),
        cmocka_unit_test(paths_are_taken_apart),
        cmocka_unit_test(other_paths_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
