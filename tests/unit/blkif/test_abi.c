/* SPDX-License-Identifier: BSD-2-Clause */
/* The three layouts: sizes against the interface's own header, names. */
#include "blkback/abi.h"
#include "testing.h"

#include <errno.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static void a_slot_is_as_large_as_the_larger_of_request_and_response(void **state)
{
    (void)state;
    assert_int_equal(blkif_abi_slot_bytes(BLKIF_ABI_NATIVE), sizeof(union blkif_sring_entry));
    assert_int_equal(blkif_abi_slot_bytes(BLKIF_ABI_X86_64), 112);
    assert_int_equal(blkif_abi_slot_bytes(BLKIF_ABI_X86_32), 108);
}

static void slots_double_with_the_order(void **state)
{
    static const uint32_t slots[] = {32, 64, 128, 256, 512, 1024};
    (void)state;

    for (unsigned abi = 0; abi < BLKIF_ABIS; abi++)
        for (uint32_t order = 0; order < 6; order++)
            assert_int_equal(blkif_abi_ring_slots((enum blkif_abi)abi, order), slots[order]);
}

static void protocols_are_told_apart(void **state)
{
    enum blkif_abi abi = BLKIF_ABIS;
    (void)state;

    assert_int_equal(blkif_abi_parse(NULL, &abi), 0);
    assert_int_equal(abi, BLKIF_ABI_NATIVE);
    assert_int_equal(blkif_abi_parse("x86_32-abi", &abi), 0);
    assert_int_equal(abi, BLKIF_ABI_X86_32);
    assert_int_equal(blkif_abi_parse("x86_64-abi", &abi), 0);
    assert_int_not_equal(abi, BLKIF_ABI_X86_32);
    abi = BLKIF_ABIS;
    assert_int_equal(blkif_abi_parse("", &abi), -EINVAL);
    assert_int_equal(blkif_abi_parse("x86_32-abi ", &abi), -EINVAL);
    assert_int_equal(blkif_abi_parse("x86_16-abi", &abi), -EINVAL);
    assert_int_equal(abi, BLKIF_ABIS);
    assert_string_equal(blkif_abi_name(BLKIF_ABI_X86_32), "x86_32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_is_as_large_as_the_larger_of_request_and_response),
        cmocka_unit_test(slots_double_with_the_order),
        cmocka_unit_test(protocols_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
