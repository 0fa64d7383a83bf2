/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What reaches a thread from others: calls that the main thread waits for, posts that nobody waits
 * for, and that a write is over which a queue of the thread waits for. See io_thread.h.
 */
#include "io_mailbox.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void ring_bell(struct io_thread *thread)
{
    (void)eventfd_write(thread->mailbox.event.fd, 1);
}

static void wake(struct turn *turn)
{
    ring_bell((struct io_thread *)((char *)turn - offsetof(struct io_thread, turn)));
}

static void answer_call(struct io_mailbox *mailbox)
{
    (void)pthread_mutex_lock(&mailbox->lock);
    void (*const function)(void *context) = mailbox->function;
    void *const context = mailbox->context;

    (void)pthread_mutex_unlock(&mailbox->lock);
    if (!function)
        return;
    function(context);
    (void)pthread_mutex_lock(&mailbox->lock);
    mailbox->function = NULL;
    (void)pthread_cond_signal(&mailbox->answered);
    (void)pthread_mutex_unlock(&mailbox->lock);
}

static struct io_post *next_post(struct io_mailbox *mailbox)
{
    (void)pthread_mutex_lock(&mailbox->lock);
    struct io_post *post = mailbox->posts;

    if (post) {
        mailbox->posts = post->next;
        post->posted = false;
    }
    (void)pthread_mutex_unlock(&mailbox->lock);
    return post;
}

static void mail(struct loop_source *source)
{
    struct io_thread *thread =
        (struct io_thread *)((char *)source - offsetof(struct io_thread, mailbox.event));
    struct io_post *post;
    eventfd_t rung;

    (void)eventfd_read(source->fd, &rung);
    thread->turn.freed = true; /* it may be that a write is over */
    answer_call(&thread->mailbox);
    /* One by one: what is run may take others back. */
    while ((post = next_post(&thread->mailbox)))
        post->run(post);
}

int io_mailbox_create(struct io_thread *thread)
{
    struct io_mailbox *mailbox = &thread->mailbox;
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return -errno;
    (void)pthread_mutex_init(&mailbox->lock, NULL);
    (void)pthread_cond_init(&mailbox->answered, NULL);
    mailbox->event = (struct loop_source){.fd = fd, .ready = mail};
    thread->turn.wake = wake;
    return loop_add(&thread->loop, &mailbox->event);
}

void io_mailbox_destroy(struct io_thread *thread)
{
    struct io_mailbox *mailbox = &thread->mailbox;

    if (mailbox->event.fd < 0)
        return;
    (void)close(mailbox->event.fd);
    mailbox->event.fd = -1;
    (void)pthread_cond_destroy(&mailbox->answered);
    (void)pthread_mutex_destroy(&mailbox->lock);
}

void io_mailbox_end(struct io_thread *thread)
{
    struct io_mailbox *mailbox = &thread->mailbox;

    (void)pthread_mutex_lock(&mailbox->lock);
    mailbox->ended = true;
    (void)pthread_cond_signal(&mailbox->answered);
    (void)pthread_mutex_unlock(&mailbox->lock);
}

bool io_mailbox_wait_for_end(struct io_thread *thread, unsigned seconds)
{
    struct io_mailbox *mailbox = &thread->mailbox;
    struct timespec until;
    int error = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)seconds;
    (void)pthread_mutex_lock(&mailbox->lock);
    while (!mailbox->ended && error == 0)
        error = pthread_cond_clockwait(&mailbox->answered, &mailbox->lock, CLOCK_MONOTONIC, &until);
    const bool ended = mailbox->ended;

    (void)pthread_mutex_unlock(&mailbox->lock);
    return ended;
}

void io_thread_call(struct io_thread *thread, void (*function)(void *context), void *context)
{
    struct io_mailbox *mailbox = &thread->mailbox;

    if (!thread->started) {
        function(context);
        return;
    }
    (void)pthread_mutex_lock(&mailbox->lock);
    mailbox->function = function;
    mailbox->context = context;
    ring_bell(thread);
    while (mailbox->function)
        (void)pthread_cond_wait(&mailbox->answered, &mailbox->lock);
    (void)pthread_mutex_unlock(&mailbox->lock);
}

void io_thread_post(struct io_thread *thread, struct io_post *post)
{
    struct io_mailbox *mailbox = &thread->mailbox;

    (void)pthread_mutex_lock(&mailbox->lock);
    if (!post->posted) {
        struct io_post **at = &mailbox->posts;

        while (*at)
            at = &(*at)->next;
        post->next = NULL;
        post->posted = true;
        *at = post;
        ring_bell(thread);
    }
    (void)pthread_mutex_unlock(&mailbox->lock);
}

void io_thread_take_back(struct io_thread *thread, struct io_post *post)
{
    struct io_mailbox *mailbox = &thread->mailbox;

    if (mailbox->event.fd < 0)
        return;
    (void)pthread_mutex_lock(&mailbox->lock);
    for (struct io_post **at = &mailbox->posts; *at; at = &(*at)->next)
        if (*at == post) {
            *at = post->next;
            break;
        }
    post->posted = false;
    (void)pthread_mutex_unlock(&mailbox->lock);
}
