/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk whose store fails, in its worker: what the broker is told, when it is tried again, and
 * what it takes to go on after a loss. */
#include "vbd_internal.h"
#include "worker_rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xen/io/blkif.h>

#define VBD 3U

/* Connected, and out of space with one write. */
static int pause_next(void)
{
    const int event = rig_connect(VBD);

    rig_request(event, BLKIF_OP_WRITE, 0);
    fake_store_finish(rig_store, 0, -ENOSPC);
    const struct worker_message alert = rig_expect(WORKER_STORE_ALERT, VBD);

    assert_int_equal(alert.error, -ENOSPC);
    assert_non_null(strstr(alert.u.text, "write failed: No space left"));
    assert_int_equal(rig_shared()->rsp_prod, 0);
    return event;
}

static int pause_disk(void)
{
    rig_open(VBD);
    vbd_find(&rig_worker, VBD)->parameters.pause_no_space = 1;
    vbd_pause_policy(vbd_find(&rig_worker, VBD));
    return pause_next();
}

static void end(int event)
{
    rig_close(VBD);
    (void)close(event);
}

static void resume(bool accept_loss)
{
    struct worker_message message = worker_message(WORKER_RESUME, VBD);

    message.error = accept_loss ? -EUCLEAN : 0;
    rig_send(&message, NULL, 0);
}

static void space_is_looked_for_less_and_less_often(void **state)
{
    (void)state;
    const int event = pause_disk();

    rig_expect_silence(500);
    assert_int_equal(rig_store->held_count, 0);
    rig_run(600);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish(rig_store, 0, -ENOSPC);
    rig_run(2);
    rig_expect_silence(1500); /* it was told, and the next time is later */
    assert_int_equal(rig_store->held_count, 0);
    rig_run(700);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    rig_request(event, BLKIF_OP_WRITE, 0);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    end(event);
}

static void resuming_tries_at_once_and_says_what_came_of_it(void **state)
{
    (void)state;
    const int event = pause_disk();

    resume(false);
    rig_run(2);
    fake_store_finish(rig_store, 0, -ENOSPC);
    assert_int_equal(rig_expect(WORKER_STORE_ALERT, VBD).error, -ENOSPC);
    resume(false);
    rig_run(2);
    fake_store_finish_all(rig_store);
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    resume(false); /* nothing waits */
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    rig_expect_silence(1100);
    end(event);
}

static void an_error_waits_for_somebody(void **state)
{
    (void)state;
    rig_open(VBD);
    rig_store->base.faults.pause_error = true;
    const int event = rig_connect(VBD);

    rig_request(event, BLKIF_OP_READ, 0);
    fake_store_finish(rig_store, 0, -ENODEV);
    assert_int_equal(rig_expect(WORKER_STORE_ALERT, VBD).error, -ENODEV);
    rig_expect_silence(1500);
    assert_int_equal(rig_store->held_count, 0);
    resume(false);
    rig_run(2);
    fake_store_finish_all(rig_store);
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    end(event);
}

/* Only who says so goes on after a loss; and then a flush is done that goes well. */
static void a_loss_has_to_be_accepted(void **state)
{
    (void)state;
    rig_open(VBD);
    rig_store->base.caps.direct = false;
    const int event = rig_connect(VBD);

    rig_request(event, BLKIF_OP_FLUSH_DISKCACHE, 0);
    fake_store_finish(rig_store, 0, -EIO);
    const struct worker_message alert = rig_expect(WORKER_STORE_ALERT, VBD);

    assert_non_null(strstr(alert.u.text, "--accept-data-loss"));
    resume(false);
    assert_int_equal(rig_expect(WORKER_STORE_ALERT, VBD).error, -EIO);
    assert_int_equal(rig_store->held_count, 0);
    resume(true);
    rig_run(2);
    assert_int_equal(rig_store->held_count, 1);
    assert_int_equal(rig_shared()->rsp_prod, 0);
    fake_store_finish_all(rig_store);
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    rig_request(event, BLKIF_OP_FLUSH_DISKCACHE, 0);
    fake_store_finish_all(rig_store);
    rig_run(2);
    assert_int_equal(rig_shared()->rsp_prod, 2);
    end(event);
}

static void a_paused_disk_is_let_go_of(void **state)
{
    (void)state;
    const int event = pause_disk();

    rig_send_plain(WORKER_DISCONNECT, VBD);
    (void)rig_expect(WORKER_DISCONNECTED, VBD);
    (void)rig_expect(WORKER_DRAINED, VBD);
    rig_expect_silence(1100);
    assert_int_equal(rig_store->trace_length, 2);
    (void)close(event);
    /* The next kernel is served. */
    const int next = rig_connect(VBD);
    rig_request(next, BLKIF_OP_WRITE, 0);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish_all(rig_store);
    end(next);
}

/* It waits for its answers, and for nobody who makes room. */
static void a_frontend_that_leaves_is_answered(void **state)
{
    (void)state;
    const int event = pause_disk();

    rig_request(event, BLKIF_OP_WRITE, 64);
    assert_int_equal(rig_store->held_count, 0);
    rig_send_plain(WORKER_FINISH, VBD);
    rig_run(2);
    assert_int_equal(rig_store->held_count, 1);
    fake_store_finish(rig_store, 0, -ENOSPC);
    (void)rig_expect(WORKER_STORE_CONTINUES, VBD);
    rig_run(2);
    assert_int_equal(rig_shared()->rsp_prod, 1);
    fake_store_finish(rig_store, 0, -ENOSPC);
    (void)rig_expect(WORKER_DISCONNECTED, VBD);
    (void)rig_expect(WORKER_DRAINED, VBD);
    assert_int_equal(rig_store->trace_length, 6);
    (void)close(event);
    end(pause_next());
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(space_is_looked_for_less_and_less_often),
        WITH_RIG(resuming_tries_at_once_and_says_what_came_of_it),
        WITH_RIG(an_error_waits_for_somebody),
        WITH_RIG(a_loss_has_to_be_accepted),
        WITH_RIG(a_paused_disk_is_let_go_of),
        WITH_RIG(a_frontend_that_leaves_is_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
