/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of libxenstore's answers, which this program gives in its place. */
#include "blkback/xenstore.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include <cmocka.h>

static struct xenstore *session;

/* What the library does next. */
static const char *answer; /* NULL: fails */
static unsigned answer_length;
static int failure;
static bool socket_missing;
static unsigned opened;
static unsigned opened_anyhow; /* also by the kernel's device */

struct xs_handle *xs_open(unsigned long flags)
{
    static int handle;
    opened++;
    if (!(flags & XS_OPEN_SOCKETONLY))
        opened_anyhow++;
    return (flags & XS_OPEN_SOCKETONLY) && socket_missing ? NULL : (struct xs_handle *)&handle;
}

void xs_close(struct xs_handle *h)
{
    (void)h;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
    (void)h;
    (void)t;
    (void)path;
    errno = failure;
    if (answer == NULL)
        return NULL;
    char *copy = malloc(answer_length + 1);
    assert_non_null(copy);
    memcpy(copy, answer, answer_length);
    copy[answer_length] = '\0';
    *len = answer_length;
    return copy;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    (void)h;
    (void)path;
    (void)token;
    return true;
}

bool xs_is_domain_introduced(struct xs_handle *h, unsigned int domid)
{
    (void)h;
    (void)domid;
    if (answer == NULL)
        errno = failure;
    return answer != NULL && strcmp(answer, "T") == 0;
}

static void answers(const char *text, unsigned length)
{
    answer = text;
    answer_length = length;
    failure = 0;
}

static void fails(int error)
{
    answer = NULL;
    failure = error;
}

static int set_up(void **state)
{
    (void)state;
    socket_missing = false;
    opened = opened_anyhow = 0;
    return xenstore_open(&session);
}

static int tear_down(void **state)
{
    (void)state;
    xenstore_close(session);
    return 0;
}

static int read_into(char value[8])
{
    return xenstore_read_at(session, "backend", "state", value, 8);
}

static void values_are_whole_or_refused(void **state)
{
    char value[8];
    (void)state;
    answers("4", 1);
    assert_int_equal(read_into(value), 0);
    assert_string_equal(value, "4");
    answers("", 0);
    assert_int_equal(read_into(value), 0);
    assert_string_equal(value, "");
    answers("12345678", 8);
    assert_int_equal(read_into(value), -E2BIG);
    answers("4\0005", 3);
    assert_int_equal(read_into(value), -EILSEQ);
}

/* A request that was under way when xenstored ended fails with EINVAL, later ones with EBADF or
 * EPIPE: none may look like an answer about the node. */
static void a_lost_session_is_no_answer(void **state)
{
    static const int errors[] = {EINVAL, EBADF, EPIPE};
    char value[8];
    uint32_t number = 7;
    bool introduced = true;
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        fails(errors[i]);
        assert_int_equal(read_into(value), -EPIPE);
        assert_int_equal(xenstore_read_u32(session, "backend", "state", 9, &number), -EPIPE);
        assert_int_equal(xenstore_domain_introduced(session, 3, &introduced), -EPIPE);
        assert_true(xenstore_lost(session));
        assert_int_equal(xenstore_reopen(session), 0);
        assert_false(xenstore_lost(session));
    }
    assert_int_equal(number, 7);
    assert_true(introduced);
    answers("x", 1); /* while this is one */
    assert_int_equal(xenstore_read_u32(session, "backend", "state", 9, &number), -EINVAL);
}

/* Half a look at a directory is no look: what comes after the first failure fails too, until there
 * is another session. */
static void a_lost_session_stays_lost(void **state)
{
    char value[8];
    (void)state;
    fails(EPIPE);
    assert_int_equal(read_into(value), -EPIPE);
    answers("4", 1);
    assert_int_equal(read_into(value), -EPIPE);
    assert_false(xenstore_alive(session));
    assert_int_equal(xenstore_watch(session, "backend", "t"), -EPIPE);
    socket_missing = true;
    assert_true(xenstore_reopen(session) < 0);
    assert_int_equal(read_into(value), -EPIPE);
    socket_missing = false;
    assert_int_equal(xenstore_reopen(session), 0);
    assert_int_equal(read_into(value), 0);
    assert_int_equal(opened, 5);        /* two connections each time, one where the first failed */
    assert_int_equal(opened_anyhow, 0); /* the device would let us wait */
}

static void without_a_socket_the_device_is_taken(void **state)
{
    (void)state;
    xenstore_close(session);
    socket_missing = true;
    assert_int_equal(xenstore_open(&session), 0);
    assert_int_equal(xenstore_reopen(session), 0);
    assert_int_equal(opened_anyhow, 4);
}

static void other_failures_keep_their_names(void **state)
{
    char value[8];
    (void)state;
    fails(ENOENT);
    assert_int_equal(read_into(value), -ENOENT);
    fails(EACCES);
    assert_int_equal(read_into(value), -EACCES);
    fails(0); /* no answer of xenstored's */
    assert_int_equal(read_into(value), -EPIPE);
    assert_true(xenstore_lost(session));
}

static void domains_are_introduced_or_not(void **state)
{
    bool introduced = false;
    (void)state;
    answers("T", 1);
    assert_int_equal(xenstore_domain_introduced(session, 3, &introduced), 0);
    assert_true(introduced);
    answers("F", 1);
    assert_int_equal(xenstore_domain_introduced(session, 3, &introduced), 0);
    assert_false(introduced);
    fails(EACCES);
    assert_int_equal(xenstore_domain_introduced(session, 3, &introduced), -EACCES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_are_whole_or_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_session_is_no_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_session_stays_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_socket_the_device_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_failures_keep_their_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(domains_are_introduced_or_not, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
