/* SPDX-License-Identifier: BSD-2-Clause */
/* Every cell of the XenBus state machine, and what follows from the cells together. */
#include "vbd_fsm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define STATES 9U

/* One letter per frontend state 0 to 8: - nothing, w InitWait, c connect, r check rings, s start
 * closing, x close. */
static const struct {
    enum vbd_phase phase;
    bool online;
    const char *actions;
} table[] = {
    {VBD_NEW, true, "wwwwwwwww"},        {VBD_INIT_WAIT, true, "x--ccsx--"},
    {VBD_CONNECTED, true, "xx-r-sx--"},  {VBD_CLOSING, true, "xx----x--"},
    {VBD_CLOSED, true, "-w-ww----"},     {VBD_NEW, false, "xxxxxxxxx"},
    {VBD_INIT_WAIT, false, "xxxxxxxxx"}, {VBD_CONNECTED, false, "xsssssxss"},
    {VBD_CLOSING, false, "xxx---x--"},   {VBD_CLOSED, false, "---------"},
};

static char letter(enum vbd_action action)
{
    switch (action) {
    case VBD_NOTHING:
        return '-';
    case VBD_ENTER_INIT_WAIT:
        return 'w';
    case VBD_CONNECT:
        return 'c';
    case VBD_CHECK_RINGS:
        return 'r';
    case VBD_START_CLOSING:
        return 's';
    case VBD_CLOSE:
        return 'x';
    }
    return '?';
}

static void every_cell(void **state)
{
    (void)state;
    assert_int_equal(sizeof(table) / sizeof(table[0]), 2 * VBD_PHASES);
    for (unsigned row = 0; row < sizeof(table) / sizeof(table[0]); row++) {
        for (uint32_t frontend = 0; frontend < STATES; frontend++) {
            char found = letter(vbd_fsm(table[row].phase, frontend, table[row].online));
            if (found != table[row].actions[frontend])
                fail_msg("%s, frontend %u, online %d: '%c' instead of '%c'",
                         vbd_phase_name(table[row].phase), frontend, table[row].online, found,
                         table[row].actions[frontend]);
        }
    }
}

static void numbers_that_are_no_state_ask_for_nothing(void **state)
{
    static const uint32_t numbers[] = {9, 10, 255, 256, UINT32_MAX};
    (void)state;
    for (unsigned phase = 0; phase < VBD_PHASES; phase++) {
        for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            assert_int_equal(vbd_fsm((enum vbd_phase)phase, numbers[i], true), VBD_NOTHING);
            assert_int_equal(vbd_fsm((enum vbd_phase)phase, numbers[i], false), VBD_NOTHING);
        }
    }
    assert_int_equal(vbd_fsm(VBD_PHASES, 1, true), VBD_NOTHING);
}

/* The phase after an action that succeeds. */
static enum vbd_phase after(enum vbd_phase phase, enum vbd_action action)
{
    switch (action) {
    case VBD_ENTER_INIT_WAIT:
        return VBD_INIT_WAIT;
    case VBD_CONNECT:
        return VBD_CONNECTED;
    case VBD_START_CLOSING:
        return VBD_CLOSING;
    case VBD_CLOSE:
        return VBD_CLOSED;
    case VBD_NOTHING:
    case VBD_CHECK_RINGS:
        break;
    }
    return phase;
}

/* Nothing may go round in circles while the frontend stands still: the evaluation would never end.
 */
static void a_frontend_that_stands_still_is_soon_dealt_with(void **state)
{
    (void)state;
    for (unsigned start = 0; start < VBD_PHASES; start++) {
        for (uint32_t input = 0; input < 2 * STATES; input++) {
            enum vbd_phase phase = (enum vbd_phase)start;
            enum vbd_action action = VBD_NOTHING;
            for (unsigned i = 0; i < 6; i++) {
                action = vbd_fsm(phase, input / 2, input % 2 == 1);
                phase = after(phase, action);
            }
            assert_true(action == VBD_NOTHING || action == VBD_CHECK_RINGS);
        }
    }
}

/* A frontend that is gone or closed, or never began, doesn't hold up a removal. */
static void a_disk_that_is_removed_reaches_closed_without_a_frontend(void **state)
{
    static const uint32_t frontends[] = {XENBUS_UNKNOWN, XENBUS_INITIALISING, XENBUS_CLOSED};
    (void)state;
    for (unsigned start = 0; start < VBD_PHASES; start++) {
        for (unsigned i = 0; i < 3; i++) {
            enum vbd_phase phase = (enum vbd_phase)start;
            for (unsigned n = 0; n < 4; n++)
                phase = after(phase, vbd_fsm(phase, frontends[i], false));
            assert_int_equal(phase, VBD_CLOSED);
        }
    }
}

static void phases_show_their_states(void **state)
{
    (void)state;
    assert_int_equal(vbd_phase_state(VBD_NEW), 1);
    assert_int_equal(vbd_phase_state(VBD_INIT_WAIT), 2);
    assert_int_equal(vbd_phase_state(VBD_CONNECTED), 4);
    assert_int_equal(vbd_phase_state(VBD_CLOSING), 5);
    assert_int_equal(vbd_phase_state(VBD_CLOSED), 6);
    assert_string_equal(vbd_phase_name(VBD_INIT_WAIT), "InitWait");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell),
        cmocka_unit_test(numbers_that_are_no_state_ask_for_nothing),
        cmocka_unit_test(a_frontend_that_stands_still_is_soon_dealt_with),
        cmocka_unit_test(a_disk_that_is_removed_reaches_closed_without_a_frontend),
        cmocka_unit_test(phases_show_their_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
