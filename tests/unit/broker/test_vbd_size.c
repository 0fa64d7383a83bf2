/* SPDX-License-Identifier: BSD-2-Clause */
/* Who asks for a disk's new size is told the size that it has by then. */
#include "vbd_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static struct control_call_token token;

static int connect(void **state)
{
    memset(&token, 0, sizeof(token));
    const int error = set_up(state);

    fake_image(4 * MIB);
    rig_target = 0;
    connect_with(&disk, &quick);
    return error;
}

/* The worker's answer to one look at the size. */
static void say(uint64_t size, int error)
{
    struct vbd *vbd = find(&disk);
    struct worker_message message = worker_message(WORKER_SIZE, vbd->number);

    message.error = error;
    message.u.store_opened = vbd->caps;
    message.u.store_opened.size = size;
    assert_true(vbd_on_size(vbd, &message));
    turn();
}

static uint64_t ask(void)
{
    vbd_resize(&broker, "backend/vbd/7/51712", &token);
    assert_int_equal(token.answers, 0);
    return find(&disk)->caps.size;
}

static void expect_told(uint64_t size)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
    assert_int_equal(token.answers, 1);
    assert_int_equal(token.error, 0);
    assert_string_equal(token.text, text);
}

static void the_size_is_told(void **state)
{
    (void)state;
    const uint64_t size = ask();

    say(size + MIB, 0);
    expect_told(size + MIB);
}

/* The kernel had told of a change before, and the worker's answer to that was on its way. */
static void not_what_it_was_before_somebody_asked(void **state)
{
    (void)state;
    find(&disk)->size.asked = 2;
    const uint64_t size = ask();

    say(size, 0);
    say(size + MIB, 0);
    assert_int_equal(token.answers, 0);
    say(size + 2 * MIB, 0);
    expect_told(size + 2 * MIB);
}

static void nor_an_error_of_before(void **state)
{
    (void)state;
    find(&disk)->size.asked = 2;
    const uint64_t size = ask();

    say(size, -EIO);
    say(size, -ERANGE);
    assert_int_equal(token.answers, 0);
    say(size + MIB, 0);
    expect_told(size + MIB);
}

static void asked_again_meanwhile(void **state)
{
    struct control_call_token later = {.answers = 0};
    (void)state;
    const uint64_t size = ask();

    vbd_resize(&broker, "backend/vbd/7/51712", &later);
    assert_int_equal(token.answers, 1);
    assert_int_equal(token.error, -ECANCELED);
    say(size + MIB, 0);
    assert_int_equal(later.answers, 0);
    say(size + 2 * MIB, 0);
    assert_int_equal(later.answers, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_size_is_told, connect, tear_down),
        cmocka_unit_test_setup_teardown(not_what_it_was_before_somebody_asked, connect, tear_down),
        cmocka_unit_test_setup_teardown(nor_an_error_of_before, connect, tear_down),
        cmocka_unit_test_setup_teardown(asked_again_meanwhile, connect, tear_down),
    };

    return cmocka_run_group_tests(tests, prepare, finish);
}
