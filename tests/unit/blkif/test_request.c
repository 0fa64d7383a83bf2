/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests: their lists, and the I/O that carries each operation out. */
#include "request.h"
#include "testing.h"

#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

static void lists_keep_their_order(void **state)
{
    struct request requests[4] = {0};
    struct request_list list = {0};
    (void)state;

    assert_null(request_list_pop(&list));
    request_list_push(&list, &requests[1]);
    request_list_push(&list, &requests[2]);
    request_list_push_front(&list, &requests[0]);
    for (unsigned i = 0; i < 3; i++)
        assert_ptr_equal(request_list_pop(&list), &requests[i]);
    assert_null(request_list_pop(&list));
    request_list_push_front(&list, &requests[3]);
    request_list_push(&list, &requests[0]);
    assert_ptr_equal(request_list_pop(&list), &requests[3]);
    assert_ptr_equal(request_list_pop(&list), &requests[0]);
    assert_null(list.last);
}

static void check_plan(uint8_t operation, uint32_t bytes, const char *expected)
{
    static const char letters[] = {
        [IO_READ] = 'r', [IO_WRITE] = 'w', [IO_FLUSH] = 'f', [IO_DISCARD] = 'd'};
    const struct slab_entry entry = {.operation = operation, .bytes = bytes};
    const struct request_plan *plan = request_plan(&entry);

    assert_int_equal(plan->count, strlen(expected));
    for (unsigned i = 0; i < plan->count; i++)
        assert_int_equal(letters[plan->step[i]], expected[i]);
}

static void each_operation_has_its_steps(void **state)
{
    (void)state;
    check_plan(BLKIF_OP_READ, 512, "r");
    check_plan(BLKIF_OP_WRITE, 512, "w");
    check_plan(BLKIF_OP_DISCARD, 0, "d");
    check_plan(BLKIF_OP_FLUSH_DISKCACHE, 0, "f");
    check_plan(BLKIF_OP_FLUSH_DISKCACHE, 512, "fw");
    check_plan(BLKIF_OP_WRITE_BARRIER, 0, "f");
    check_plan(BLKIF_OP_WRITE_BARRIER, 512, "fwf");
}

static void a_step_is_made_anew_each_time(void **state)
{
    uint8_t buffer[4096];
    struct slab_entry entry = {
        .operation = BLKIF_OP_WRITE_BARRIER, .bytes = 4096, .sector = UINT64_C(1) << 40};
    uint8_t *place = buffer;
    struct iovec iov;
    struct request request = {.entry = &entry, .buffers = &place, .buffer_count = 1, .iov = &iov};
    (void)state;

    request_prepare_io(&request);
    assert_int_equal(request.io.operation, IO_FLUSH);
    assert_int_equal(request.io.iov_count, 0);
    request.step = 1;
    for (unsigned i = 0; i < 2; i++) {
        request_prepare_io(&request);
        assert_int_equal(request.io.operation, IO_WRITE);
        assert_true(request.io.offset == UINT64_C(1) << 49);
        assert_int_equal(request.io.length, 4096);
        assert_ptr_equal(request.io.iov[0].iov_base, buffer);
        assert_int_equal(request.io.iov[0].iov_len, 4096);
        request.io.iov[0].iov_len = 7; /* as an engine does after a short transfer */
        request.io.result = -1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_keep_their_order),
        cmocka_unit_test(each_operation_has_its_steps),
        cmocka_unit_test(a_step_is_made_anew_each_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
