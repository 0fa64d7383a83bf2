/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads that serve queues, without queues: what reaches them from others, and their number. */
#include "../blkif/fake_xen.h"
#include "testing.h"
#include "worker.h"

#include <dirent.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DOMID   7U
#define THREADS 3U

static struct worker worker;
static _Atomic unsigned runs;
static sem_t ran;

static int create(uint64_t buffer_bytes, unsigned threads, struct worker *out)
{
    const struct worker_params params = {
        .domid = DOMID, .buffer_bytes = buffer_bytes, .threads = threads};

    return worker_create(&params, out);
}

static int set_up(void **state)
{
    (void)state;
    fake_xen_reset();
    assert_int_equal(sem_init(&ran, 0, 0), 0);
    runs = 0;
    return create(64U << 20, THREADS, &worker);
}

static int tear_down(void **state)
{
    (void)state;
    worker_destroy(&worker);
    for (unsigned i = 0; i < worker.thread_count; i++) {
        engine_set_destroy(&worker.threads[i].engines);
        buffer_pool_destroy(worker.threads[i].turn.buffers);
    }
    (void)sem_destroy(&ran);
    return 0;
}

/* The threads of this process that are named like ours. */
static unsigned named_threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    const struct dirent *task;
    unsigned count = 0;

    while ((task = readdir(folder))) {
        char path[300], name[32] = "";

        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "re");

        if (!file)
            continue;
        if (fgets(name, sizeof(name), file) && strncmp(name, "queues-", 7) == 0)
            count++;
        (void)fclose(file);
    }
    (void)closedir(folder);
    return count;
}

static void as_many_as_asked_for_and_affordable(void **state)
{
    static struct worker other;
    (void)state;

    assert_int_equal(worker.thread_count, THREADS);
    assert_int_equal(named_threads(), THREADS - 1); /* the main one serves, too */
    /* The largest request needs a mebibyte, so that there are no more threads than that. */
    assert_int_equal(create(3U << 20, 16, &other), 0);
    assert_int_equal(other.thread_count, 1);
    assert_int_equal(other.threads[0].mailbox.event.fd, -1);
    assert_null(other.threads[0].turn.wake);
    engine_set_destroy(&other.threads[0].engines);
    buffer_pool_destroy(other.threads[0].turn.buffers);
    worker_destroy(&other);
    assert_int_equal(named_threads(), THREADS - 1);
}

static void note_thread(void *context)
{
    const struct timespec moment = {.tv_nsec = 5000000};

    (void)nanosleep(&moment, NULL); /* one that does not wait would see nothing */
    *(pthread_t *)context = pthread_self();
}

static void a_call_is_carried_out_there_and_waited_for(void **state)
{
    pthread_t seen[THREADS];
    (void)state;

    for (unsigned round = 0; round < 20; round++) {
        memset(seen, 0, sizeof(seen));
        for (unsigned i = 0; i < THREADS; i++)
            io_thread_call(&worker.threads[i], note_thread, &seen[i]);
        assert_true(pthread_equal(seen[0], pthread_self()));
        assert_true(pthread_equal(seen[1], worker.threads[1].id));
        assert_true(pthread_equal(seen[2], worker.threads[2].id));
    }
}

static void count_run(struct io_post *post)
{
    (void)post;
    runs++;
    (void)sem_post(&ran);
}

static sem_t gate;

static void wait_at_gate(struct io_post *post)
{
    (void)post;
    (void)sem_wait(&gate);
}

static void do_nothing(void *context)
{
    (void)context;
}

static void a_post_runs_once_and_not_when_it_was_taken_back(void **state)
{
    struct io_thread *thread = &worker.threads[1];
    struct io_post busy = {.run = wait_at_gate}, post = {.run = count_run}, other = post;
    (void)state;

    assert_int_equal(sem_init(&gate, 0, 0), 0);
    io_thread_post(thread, &busy);
    for (unsigned i = 0; i < 5; i++) {
        io_thread_post(thread, &post);
        io_thread_post(thread, &other);
    }
    io_thread_take_back(thread, &other);
    io_thread_take_back(thread, &other); /* again: nothing */
    (void)sem_post(&gate);
    (void)sem_wait(&ran);
    io_thread_call(thread, do_nothing, NULL);
    assert_int_equal(runs, 1);
    /* And it can be posted anew. */
    io_thread_post(thread, &post);
    (void)sem_wait(&ran);
    assert_int_equal(runs, 2);
    (void)sem_destroy(&gate);
}

static void post_from_there(void *context)
{
    io_thread_post(worker_main_thread(&worker), context);
}

static void stop_main(struct io_post *post)
{
    count_run(post);
    if (runs == THREADS - 1)
        worker_main_thread(&worker)->loop.stopped = true;
}

static void the_main_thread_gets_posts_in_its_loop(void **state)
{
    struct io_post posts[THREADS] = {0};
    (void)state;

    for (unsigned i = 1; i < THREADS; i++) {
        posts[i].run = stop_main;
        io_thread_call(&worker.threads[i], post_from_there, &posts[i]);
    }
    assert_int_equal(runs, 0); /* nobody else runs them */
    assert_int_equal(loop_run(&worker_main_thread(&worker)->loop), 0);
    assert_int_equal(runs, THREADS - 1);
}

static void a_worker_ends_with_its_threads(void **state)
{
    static struct worker other;
    (void)state;

    assert_int_equal(create(64U << 20, 4, &other), 0);
    assert_int_equal(named_threads(), THREADS - 1 + 3);
    worker_destroy(&other);
    assert_int_equal(named_threads(), THREADS - 1);
    for (unsigned i = 0; i < other.thread_count; i++) {
        engine_set_destroy(&other.threads[i].engines);
        buffer_pool_destroy(other.threads[i].turn.buffers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_many_as_asked_for_and_affordable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_call_is_carried_out_there_and_waited_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_post_runs_once_and_not_when_it_was_taken_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_main_thread_gets_posts_in_its_loop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_worker_ends_with_its_threads, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
