/* SPDX-License-Identifier: BSD-2-Clause */
/* The slow engine against a kernel that takes its time, fails, or looks at who is calling. */
#include "harness.h"

#include "discard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DEPTH     4U
#define CHUNK     ((uint64_t)8192)
#define GRANULE   ((uint64_t)4096)
#define CALLS_MAX 64U

/* The names are the linker's. */
/* NOLINTBEGIN(bugprone-reserved-identifier) */
int __wrap_fallocate(int fd, int mode, off_t offset, off_t length);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
/* NOLINTEND(bugprone-reserved-identifier) */

struct call {
    unsigned long request; /* 0: fallocate */
    uint64_t start, length;
    int fd, mode;
};

/* What the kernel does and has seen. The engine's thread writes it, the test reads it when the I/O
 * is over, or after a semaphore. */
static struct {
    struct call calls[CALLS_MAX];
    unsigned count;
    int error; /* of the next `errors` calls */
    unsigned errors;
    bool held;     /* each call waits for `go` */
    sem_t entered; /* posted by each call */
    sem_t go;
    pthread_t caller;
    sigset_t blocked;
    int no_new_privileges;
} kernel;

static int answer(struct call call)
{
    assert_true(kernel.count < CALLS_MAX);
    kernel.calls[kernel.count++] = call;
    kernel.caller = pthread_self();
    kernel.no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &kernel.blocked);
    (void)sem_post(&kernel.entered);
    if (kernel.held)
        (void)sem_wait(&kernel.go);
    if (kernel.errors == 0)
        return 0;
    kernel.errors--;
    errno = kernel.error;
    return -1;
}

/* NOLINTBEGIN(bugprone-reserved-identifier) */
int __wrap_fallocate(int fd, int mode, off_t offset, off_t length)
{
    return answer((struct call){
        .fd = fd, .mode = mode, .start = (uint64_t)offset, .length = (uint64_t)length});
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
    const uint64_t *range = argument;

    return answer(
        (struct call){.fd = fd, .request = request, .start = range[0], .length = range[1]});
}
/* NOLINTEND(bugprone-reserved-identifier) */

static struct engine *engine;
static const struct discard_rules file_rules = {
    .possible = true, .granularity = 4096, .chunk = CHUNK};
static const struct discard_rules device_rules = {.possible = true,
                                                  .secure = true,
                                                  .device = true,
                                                  .granularity = 4096,
                                                  .alignment = 1024,
                                                  .chunk = CHUNK};

static int set_up(void **state)
{
    (void)state;
    kernel.count = 0;
    kernel.errors = 0;
    kernel.held = false;
    assert_int_equal(sem_init(&kernel.entered, 0, 0), 0);
    assert_int_equal(sem_init(&kernel.go, 0, 0), 0);
    return engine_slow.create(DEPTH, NULL, &engine);
}

static int tear_down(void **state)
{
    (void)state;
    engine_destroy(engine);
    engine = NULL;
    (void)sem_destroy(&kernel.entered);
    (void)sem_destroy(&kernel.go);
    return 0;
}

static void prepare(struct test_io *t, const struct discard_rules *rules, uint64_t offset,
                    uint64_t length)
{
    test_io_set_discard(t, offset, length);
    assert_true(discard_prepare(rules, &t->io));
}

static void submit(struct test_io *t)
{
    assert_int_equal(engine_slow.submit(engine, 77, &t->io), IO_QUEUED);
}

static int run(struct test_io *t)
{
    submit(t);
    assert_int_equal(engine_slow.commit(engine), 0);
    engine_drain(engine);
    assert_int_equal(t->done, 1);
    return t->io.result;
}

static bool readable(void)
{
    struct pollfd event = {.fd = engine_slow.event_fd(engine), .events = POLLIN};

    return poll(&event, 1, 0) == 1;
}

static void expect_call(unsigned index, unsigned long request, uint64_t start, uint64_t length)
{
    assert_true(index < kernel.count);
    assert_int_equal(kernel.calls[index].fd, 77);
    assert_int_equal(kernel.calls[index].request, request);
    assert_int_equal(kernel.calls[index].start, start);
    assert_int_equal(kernel.calls[index].length, length);
    if (request == 0)
        assert_int_equal(kernel.calls[index].mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void files_get_holes(void **state)
{
    struct test_io t;
    (void)state;

    prepare(&t, &file_rules, 4096 - 512, 2 * CHUNK + 4096 + 1024);
    assert_int_equal(run(&t), 0);
    assert_int_equal(kernel.count, 3);
    expect_call(0, 0, 4096, CHUNK);
    expect_call(1, 0, 4096 + CHUNK, CHUNK);
    expect_call(2, 0, 4096 + 2 * CHUNK, 4096);
}

static void devices_are_told(void **state)
{
    struct test_io t;
    (void)state;

    prepare(&t, &device_rules, 0, 1024 + 3 * GRANULE);
    assert_int_equal(run(&t), 0);
    assert_int_equal(kernel.count, 2);
    expect_call(0, BLKDISCARD, 1024, CHUNK);
    expect_call(1, BLKDISCARD, 1024 + CHUNK, 4096);
}

/* Nothing of it may be left out, and the pieces still end where granules do. */
static void secure_is_not_rounded(void **state)
{
    struct test_io t;
    (void)state;

    test_io_set_discard(&t, 512, 3 * GRANULE);
    t.io.secure = true;
    assert_true(discard_prepare(&device_rules, &t.io));
    assert_int_equal(run(&t), 0);
    assert_int_equal(kernel.count, 2);
    expect_call(0, BLKSECDISCARD, 512, 1024 + 4096 - 512);
    expect_call(1, BLKSECDISCARD, 1024 + 4096, 2 * GRANULE - 512);
}

static void slow_calls_hold_up_nobody(void **state)
{
    struct test_io ios[2];
    (void)state;

    kernel.held = true;
    for (unsigned i = 0; i < 2; i++) {
        prepare(&ios[i], &file_rules, i * GRANULE, GRANULE);
        submit(&ios[i]);
        assert_int_equal(engine_slow.commit(engine), 0);
    }
    /* The call is going on, and we are here. */
    assert_int_equal(sem_wait(&kernel.entered), 0);
    assert_false(readable());
    assert_int_equal(engine_slow.reap(engine), 0);
    assert_int_equal(engine->in_flight, 2);

    assert_int_equal(sem_post(&kernel.go), 0);
    engine_wait(engine);
    assert_int_equal(engine_slow.reap(engine), 1);
    assert_int_equal(ios[0].done, 1);
    assert_int_equal(ios[1].done, 0);
    assert_false(readable());
    assert_int_equal(sem_post(&kernel.go), 0);
    engine_drain(engine);
    assert_int_equal(ios[1].done, 1);
    assert_false(readable());
    assert_int_equal(engine_slow.reap(engine), 0);
}

static void nothing_before_commit(void **state)
{
    struct test_io t;
    struct timespec moment = {.tv_nsec = 5000000};
    (void)state;

    prepare(&t, &file_rules, 0, 4096);
    submit(&t);
    (void)nanosleep(&moment, NULL);
    assert_int_equal(sem_trywait(&kernel.entered), -1);
    assert_int_equal(engine_slow.commit(engine), 0);
    engine_drain(engine);
    assert_int_equal(kernel.count, 1);
}

static void long_ones_take_turns(void **state)
{
    struct test_io ios[2];
    (void)state;

    for (unsigned i = 0; i < 2; i++) {
        prepare(&ios[i], &file_rules, CHUNK * i * 100, 3 * CHUNK);
        submit(&ios[i]);
    }
    assert_int_equal(engine_slow.commit(engine), 0);
    engine_drain(engine);
    assert_int_equal(kernel.count, 6);
    for (unsigned i = 0; i < 6; i++)
        expect_call(i, 0, CHUNK * (i % 2) * 100 + CHUNK * (i / 2), CHUNK);
}

static void depth_is_a_limit(void **state)
{
    struct test_io ios[DEPTH + 1];
    (void)state;

    for (unsigned i = 0; i <= DEPTH; i++)
        prepare(&ios[i], &file_rules, i * CHUNK, CHUNK);
    for (unsigned i = 0; i < DEPTH; i++)
        submit(&ios[i]);
    assert_int_equal(engine_slow.submit(engine, 77, &ios[DEPTH].io), IO_BUSY);
    assert_int_equal(engine_slow.commit(engine), 0);
    engine_drain(engine);
    submit(&ios[DEPTH]);
    assert_int_equal(engine_slow.commit(engine), 0);
    engine_drain(engine);
    for (unsigned i = 0; i <= DEPTH; i++)
        assert_int_equal(ios[i].done, 1);
}

static void errors(void **state)
{
    static const struct {
        int errno_, result;
    } known[] = {{EIO, -EIO},        {ENOSPC, -ENOSPC}, {EINVAL, -EINVAL}, {EOPNOTSUPP, -ENOTSUP},
                 {ENOTTY, -ENOTSUP}, {ENOSYS, -ENOTSUP}};
    struct test_io t;
    (void)state;

    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        kernel.error = known[i].errno_;
        kernel.errors = 1;
        prepare(&t, &device_rules, 1024, 4096);
        assert_int_equal(run(&t), known[i].result);
    }
    /* The rest of a range is left alone when a piece of it fails. */
    kernel.count = 0;
    kernel.error = EIO;
    kernel.errors = 1;
    prepare(&t, &file_rules, 0, 3 * CHUNK);
    assert_int_equal(run(&t), -EIO);
    assert_int_equal(kernel.count, 1);

    kernel.count = 0;
    kernel.error = EINTR;
    kernel.errors = 2;
    prepare(&t, &file_rules, 0, CHUNK);
    assert_int_equal(run(&t), 0);
    assert_int_equal(kernel.count, 3);
    expect_call(2, 0, 0, CHUNK);
}

static void other_operations_are_refused(void **state)
{
    struct test_io t;
    (void)state;

    test_io_set(&t, IO_FLUSH, 0, NULL, 0);
    assert_int_equal(engine_slow.submit(engine, 77, &t.io), IO_DONE);
    assert_int_equal(t.io.result, -ENOTSUP);
    assert_int_equal(t.done, 0);
    assert_int_equal(engine->in_flight, 0);
}

static void its_thread(void **state)
{
    struct test_io t;
    (void)state;

    prepare(&t, &file_rules, 0, 4096);
    assert_int_equal(run(&t), 0);
    assert_false(pthread_equal(kernel.caller, pthread_self()));
    assert_int_equal(kernel.no_new_privileges, 1);
    assert_int_equal(sigismember(&kernel.blocked, SIGTERM), 1);
    assert_int_equal(sigismember(&kernel.blocked, SIGALRM), 1);
    assert_true(fcntl(engine_slow.event_fd(engine), F_GETFD) & FD_CLOEXEC);
    /* The loop's own signals are as they were. */
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &kernel.blocked), 0);
    assert_int_equal(sigismember(&kernel.blocked, SIGTERM), 0);
}

static void *let_go(void *context)
{
    struct timespec moment = {.tv_nsec = 20000000};
    (void)context;

    (void)nanosleep(&moment, NULL);
    (void)sem_post(&kernel.go);
    return NULL;
}

static void destroyed_with_io_in_flight(void **state)
{
    struct test_io ios[DEPTH];
    pthread_t helper;
    (void)state;

    kernel.held = true;
    for (unsigned i = 0; i < DEPTH; i++) {
        prepare(&ios[i], &file_rules, CHUNK * i * 10, 3 * CHUNK);
        submit(&ios[i]);
        if (i < DEPTH - 1)
            assert_int_equal(engine_slow.commit(engine), 0);
    }
    assert_int_equal(sem_wait(&kernel.entered), 0);
    assert_int_equal(pthread_create(&helper, NULL, let_go, NULL), 0);
    engine_destroy(engine);
    engine = NULL;
    assert_int_equal(pthread_join(helper, NULL), 0);
    assert_int_equal(kernel.count, 1); /* the one that was going on, and no other after it */
    for (unsigned i = 0; i < DEPTH; i++)
        assert_int_equal(ios[i].done, 0);
}

static void creation(void **state)
{
    struct engine *other = NULL;
    (void)state;

    assert_int_equal(engine_slow.create(0, NULL, &other), -EINVAL);
    assert_null(other);
    engine_destroy(NULL);
}

/* Many small ones from both ends: for the sanitizers, and for lost wake-ups. */
static void many(void **state)
{
    struct test_io ios[DEPTH];
    unsigned left = 5000;
    unsigned done = 0;
    (void)state;

    for (unsigned i = 0; i < DEPTH; i++)
        ios[i].done = 1;
    while (done < 5000) {
        for (unsigned i = 0; i < DEPTH && left > 0; i++) {
            if (!ios[i].done)
                continue;
            prepare(&ios[i], &file_rules, i * CHUNK, (left % 3 + 1) * CHUNK);
            submit(&ios[i]);
            left--;
        }
        kernel.count = 0; /* nobody else looks while the thread has nothing */
        assert_int_equal(engine_slow.commit(engine), 0);
        while (engine->in_flight > 0) {
            engine_wait(engine);
            done += engine_slow.reap(engine);
        }
    }
    assert_int_equal(done, 5000);
    assert_false(readable());
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_get_holes),
        TEST(devices_are_told),
        TEST(secure_is_not_rounded),
        TEST(slow_calls_hold_up_nobody),
        TEST(nothing_before_commit),
        TEST(long_ones_take_turns),
        TEST(depth_is_a_limit),
        TEST(errors),
        TEST(other_operations_are_refused),
        TEST(its_thread),
        TEST(destroyed_with_io_in_flight),
        TEST(creation),
        TEST(many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
