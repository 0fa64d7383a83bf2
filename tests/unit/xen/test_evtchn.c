/* SPDX-License-Identifier: BSD-2-Clause */
/* Event channels: restricted before they are bound, nothing left open on failure. */
#include "blkback/evtchn.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenevtchn.h>

/* ---- takes the place of libxenevtchn ---- */

struct xenevtchn_handle {
    int fd; /* of an adopted one, else -1 */
};

static unsigned handles;
static char trace[32];
static int restrict_error, bind_error, pending, pending_error;

static void note(char letter)
{
    trace[strlen(trace)] = letter;
}

static int refuse(int error)
{
    errno = error;
    return -1;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    xenevtchn_handle *handle = malloc(sizeof(*handle));
    (void)logger;
    (void)flags;

    handle->fd = -1;
    handles++;
    note('o');
    return handle;
}

xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned int flags)
{
    xenevtchn_handle *handle = xenevtchn_open(logger, flags);

    handle->fd = fd;
    return handle;
}

int xenevtchn_close(xenevtchn_handle *handle)
{
    if (handle->fd >= 0)
        (void)close(handle->fd);
    free(handle);
    handles--;
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *handle)
{
    return handle->fd;
}

int xenevtchn_restrict(xenevtchn_handle *handle, domid_t domid)
{
    (void)handle;
    note('r');
    assert_int_not_equal(domid, 0);
    return restrict_error ? refuse(restrict_error) : 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *handle, uint32_t domid,
                                                     evtchn_port_t port)
{
    (void)handle;
    (void)domid;
    note('b');
    return bind_error ? refuse(bind_error) : (xenevtchn_port_or_error_t)port + 100;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *handle)
{
    (void)handle;
    return pending_error ? refuse(pending_error) : pending;
}

int xenevtchn_unmask(xenevtchn_handle *handle, evtchn_port_t port)
{
    (void)handle;
    return port == 33 ? 0 : refuse(EINVAL);
}

int xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port)
{
    (void)handle;
    return port == 33 ? 0 : refuse(EINVAL);
}

/* ---- the tests ---- */

static int set_up(void **state)
{
    (void)state;
    memset(trace, 0, sizeof(trace));
    restrict_error = bind_error = pending = pending_error = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return handles ? -1 : 0;
}

static void a_handle_is_restricted_before_it_is_bound(void **state)
{
    struct evtchn *evtchn = NULL;
    uint32_t port = 0;
    bool restricted = false;
    (void)state;

    assert_int_equal(evtchn_bind(7, 5, &evtchn, &port, &restricted), 0);
    assert_string_equal(trace, "orb");
    assert_int_equal(port, 105);
    assert_true(restricted);
    evtchn_close(evtchn);
    evtchn_close(NULL);
}

static void domain_0_and_old_kernels_know_no_restriction(void **state)
{
    struct evtchn *evtchn = NULL;
    uint32_t port = 0;
    bool restricted = true;
    (void)state;

    assert_int_equal(evtchn_bind(0, 5, &evtchn, &port, &restricted), 0);
    assert_string_equal(trace, "ob");
    assert_false(restricted);
    evtchn_close(evtchn);
    restricted = true;
    restrict_error = ENOTTY;
    assert_int_equal(evtchn_bind(7, 5, &evtchn, &port, &restricted), 0);
    assert_false(restricted);
    evtchn_close(evtchn);
}

static void a_failure_leaves_nothing_open_and_nothing_written(void **state)
{
    struct evtchn *evtchn = NULL;
    uint32_t port = 77;
    bool restricted = false;
    (void)state;

    restrict_error = EPERM;
    assert_int_equal(evtchn_bind(7, 5, &evtchn, &port, &restricted), -EPERM);
    assert_int_equal(handles, 0);
    restrict_error = 0;
    bind_error = EINVAL;
    assert_int_equal(evtchn_bind(7, 5, &evtchn, &port, &restricted), -EINVAL);
    assert_int_equal(handles, 0);
    assert_null(evtchn);
    assert_int_equal(port, 77);
    assert_false(restricted);
    assert_int_equal(evtchn_adopt(-1, 33, &evtchn), -EBADF);
    assert_null(evtchn);
}

static void an_adopted_one_never_blocks_and_knows_its_port(void **state)
{
    struct evtchn *evtchn = NULL;
    int ends[2];
    (void)state;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(evtchn_adopt(ends[0], 33, &evtchn), 0);
    assert_int_equal(evtchn_fd(evtchn), ends[0]);
    assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    pending = 33;
    assert_int_equal(evtchn_take(evtchn), 0);
    pending = 34;
    assert_int_equal(evtchn_take(evtchn), -EAGAIN);
    pending_error = EAGAIN;
    assert_int_equal(evtchn_take(evtchn), -EAGAIN);
    assert_int_equal(evtchn_unmask(evtchn), 0);
    assert_int_equal(evtchn_notify(evtchn), 0);
    evtchn_close(evtchn);
    assert_int_equal(fcntl(ends[0], F_GETFD), -1);
    (void)close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_handle_is_restricted_before_it_is_bound, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(domain_0_and_old_kernels_know_no_restriction, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_failure_leaves_nothing_open_and_nothing_written, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_adopted_one_never_blocks_and_knows_its_port, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
