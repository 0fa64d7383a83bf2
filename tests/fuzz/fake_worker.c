/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker that is no process: see fake_worker.h. */
#include "fake_worker.h"

#include "blkback/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGES_MAX 256U
#define DISKS_MAX    64U
#define DISK_BYTES   (UINT64_C(1) << 20)

struct messages {
    struct worker_message list[MESSAGES_MAX];
    unsigned first, end; /* free-running */
};

/* As src/worker has it. */
struct disk {
    uint32_t number; /* 0: none */
    bool open, finishing, disconnecting, closing;
    bool finished;  /* FINISH was answered; a DISCONNECT that crosses that is not */
    bool in_flight; /* some I/O is */
    uint32_t connected;
    bool read_only;
    uint64_t size;
};

struct worker_process {
    struct worker_process_owner owner;
    bool ready, clogged, honest;
    bool greeted; /* the broker knows that it is ready */
    bool stopped; /* the broker has hung up */
    bool killed;
    struct disk disks[DISKS_MAX];
    struct messages in;
    struct messages out;
};

static struct worker_process *workers[FAKE_WORKERS];
int fake_worker_start_error;

static struct worker_process *at(unsigned index)
{
    return workers[index % FAKE_WORKERS];
}

void fake_worker_reset(void)
{
    CHECK(fake_workers_alive() == 0);
    fake_worker_start_error = 0;
}

unsigned fake_workers_alive(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < FAKE_WORKERS; i++)
        count += workers[i] != NULL;
    return count;
}

/* ---- worker_process.h ---- */

int worker_process_start(struct ev_loop *loop, const struct worker_process_options *options,
                         const struct worker_process_owner *owner, struct worker_process **out)
{
    (void)loop;
    CHECK(options->buffer_size > 0 && options->queue_threads > 0);
    if (fake_worker_start_error)
        return fake_worker_start_error;
    for (unsigned i = 0; i < FAKE_WORKERS; i++) {
        if (workers[i])
            continue;
        workers[i] = calloc(1, sizeof(*workers[i]));
        CHECK(workers[i] != NULL);
        workers[i]->owner = *owner;
        workers[i]->honest = true;
        *out = workers[i];
        return 0;
    }
    return -EAGAIN;
}

/* What comes with a message, as worker_protocol.h says. */
static void check_sent(const struct worker_message *message, const int *fds, unsigned fd_count)
{
    CHECK(message->magic == WORKER_PROTOCOL_MAGIC && message->version == WORKER_PROTOCOL_VERSION);
    CHECK(fd_count <= WORKER_MESSAGE_MAX_FDS);
    for (unsigned i = 0; i < fd_count; i++)
        CHECK(fcntl(fds[i], F_GETFD) >= 0);
    switch (message->type) {
    case WORKER_OPEN_STORE:
    case WORKER_CHANGE_STORE:
        CHECK(fd_count == (message->u.open_store.kind == WORKER_STORE_FILE ? 1U : 0U) +
                              (message->type == WORKER_OPEN_STORE ? 1U : 0U));
        CHECK(fuzz_terminated(message->u.open_store.vdev, sizeof(message->u.open_store.vdev)));
        break;
    case WORKER_CONNECT_QUEUE:
        CHECK(fd_count == 1);
        CHECK(message->u.connect_queue.queue < message->u.connect_queue.queue_count);
        CHECK(message->u.connect_queue.queue_count <= STATE_MAX_QUEUES);
        CHECK(message->u.connect_queue.ring_order <= 5);
        break;
    default:
        CHECK(fd_count == 0);
        CHECK(message->type == WORKER_RESUME || message->type == WORKER_DISCONNECT ||
              message->type == WORKER_CLOSE_STORE || message->type == WORKER_REFRESH_SIZE ||
              message->type == WORKER_GRANT_BUDGET || message->type == WORKER_FINISH ||
              message->type == WORKER_LIMITS);
    }
    CHECK(message->vbd != 0 || message->type == WORKER_GRANT_BUDGET);
}

int worker_process_send(struct worker_process *worker, const struct worker_message *message,
                        const int *fds, unsigned fd_count)
{
    check_sent(message, fds, fd_count);
    if (worker->stopped || worker->killed)
        return -ECONNRESET;
    worker->clogged |= worker->in.end - worker->in.first == MESSAGES_MAX;
    if (worker->clogged)
        return -EAGAIN;
    worker->in.list[worker->in.end++ % MESSAGES_MAX] = *message;
    return 0;
}

void worker_process_stop(struct worker_process *worker)
{
    worker->stopped = true;
}

void worker_process_kill(struct worker_process *worker)
{
    /* An honest worker that reads and answers what it is sent, and got ready in time, is never
     * ended. */
    const bool owes = worker->in.first != worker->in.end || worker->out.first != worker->out.end;

    CHECK(!worker->honest || worker->clogged || !worker->greeted || worker->stopped ||
          worker->killed || owes);
    worker->killed = true;
}

void worker_process_abandon(struct worker_process *worker)
{
    for (unsigned i = 0; worker && i < FAKE_WORKERS; i++)
        if (workers[i] == worker)
            workers[i] = NULL;
    free(worker);
}

uint32_t worker_process_pid(const struct worker_process *worker)
{
    return worker ? 4242 : 0;
}

/* ---- what it does ---- */

static void say(struct worker_process *worker, const struct worker_message *message)
{
    if (worker->out.end - worker->out.first < MESSAGES_MAX)
        worker->out.list[worker->out.end++ % MESSAGES_MAX] = *message;
}

static void say_plain(struct worker_process *worker, enum worker_message_type type, uint32_t vbd)
{
    const struct worker_message message = worker_message(type, vbd);

    say(worker, &message);
}

static void say_failed(struct worker_process *worker, enum worker_message_type type, uint32_t vbd,
                       int error)
{
    struct worker_message message = worker_message(type, vbd);

    message.error = error;
    (void)snprintf(message.u.text, sizeof(message.u.text), "error %d\x1b", error);
    say(worker, &message);
}

static void say_caps(struct worker_process *worker, enum worker_message_type type,
                     const struct disk *disk, int error)
{
    struct worker_message message = worker_message(type, disk->number);

    message.error = error;
    message.u.store_opened = (struct worker_store_opened){.size = disk->size,
                                                          .sector_size = 512,
                                                          .physical_sector_size = 4096,
                                                          .read_only = disk->read_only,
                                                          .flush = 1,
                                                          .direct = 1,
                                                          .discard = !disk->read_only,
                                                          .discard_granularity = 4096,
                                                          .engine = "uring"};
    say(worker, &message);
}

static struct disk *find(struct worker_process *worker, uint32_t number)
{
    for (unsigned i = 0; i < DISKS_MAX; i++)
        if (worker->disks[i].number == number)
            return &worker->disks[i];
    return NULL;
}

/* Nothing is in flight any more. */
static void finish_disconnect(struct worker_process *worker, struct disk *disk)
{
    disk->connected = 0;
    disk->in_flight = false;
    if (disk->closing) {
        say_plain(worker, WORKER_STORE_CLOSED, disk->number);
        *disk = (struct disk){.number = 0};
    } else if (disk->disconnecting) {
        disk->disconnecting = false;
        say_plain(worker, WORKER_DRAINED, disk->number);
    }
}

static void disconnect(struct worker_process *worker, struct disk *disk)
{
    if (disk->closing)
        return;
    disk->finishing = false;
    say_plain(worker, WORKER_DISCONNECTED, disk->number);
    disk->disconnecting = true;
    if (!disk->in_flight)
        finish_disconnect(worker, disk);
}

static void finish(struct worker_process *worker, struct disk *disk)
{
    disk->finished = true;
    disconnect(worker, disk);
}

static void open_store(struct worker_process *worker, const struct worker_message *message,
                       uint8_t choice)
{
    struct disk *disk = find(worker, 0);

    CHECK(find(worker, message->vbd) == NULL);
    if (!disk || choice % 8 == 7) {
        say_failed(worker, WORKER_STORE_FAILED, message->vbd, choice & 8 ? -ENOSPC : -EIO);
        return;
    }
    *disk = (struct disk){
        .number = message->vbd,
        .open = true,
        .read_only = message->u.open_store.read_only,
        .size = message->u.open_store.kind == WORKER_STORE_NULL ? message->u.open_store.size
                                                                : DISK_BYTES,
    };
    say_caps(worker, WORKER_STORE_OPENED, disk, 0);
}

static void connect_queue(struct worker_process *worker, struct disk *disk,
                          const struct worker_message *message, uint8_t choice)
{
    struct worker_message answer = worker_message(WORKER_QUEUE_CONNECTED, disk->number);
    const uint32_t bit = UINT32_C(1) << message->u.connect_queue.queue;

    disk->finished = false;
    if (disk->closing || disk->finishing || disk->disconnecting || (disk->connected & bit) ||
        choice % 8 == 7) {
        say_failed(worker, WORKER_QUEUE_FAILED, disk->number, -EINVAL);
        return;
    }
    disk->connected |= bit;
    disk->in_flight |= choice & 1;
    answer.u.connect_queue.queue = message->u.connect_queue.queue;
    say(worker, &answer);
}

static void change_store(struct worker_process *worker, struct disk *disk,
                         const struct worker_message *message, uint8_t choice)
{
    if (disk->closing || choice % 8 == 7) {
        say_failed(worker, WORKER_STORE_FAILED, disk->number, -EBUSY);
        return;
    }
    disk->read_only = message->u.open_store.read_only;
    say_caps(worker, WORKER_STORE_CHANGED, disk, 0);
}

static void refresh(struct worker_process *worker, struct disk *disk, uint8_t choice)
{
    if (disk->closing)
        return;
    disk->size += choice & 1 ? 4096 : 0;
    say_caps(worker, WORKER_SIZE, disk, choice % 8 == 7 ? -ERANGE : 0);
}

static void handle(struct worker_process *worker, const struct worker_message *message,
                   uint8_t choice)
{
    struct disk *disk = message->vbd ? find(worker, message->vbd) : NULL;

    if (message->type == WORKER_OPEN_STORE) {
        open_store(worker, message, choice);
        return;
    }
    if (!disk || message->type == WORKER_GRANT_BUDGET || message->type == WORKER_LIMITS)
        return;
    switch (message->type) {
    case WORKER_CONNECT_QUEUE:
        connect_queue(worker, disk, message, choice);
        break;
    case WORKER_FINISH:
        if (disk->closing || disk->disconnecting)
            break;
        disk->finishing = true;
        if (!disk->in_flight)
            finish(worker, disk);
        break;
    case WORKER_DISCONNECT:
        if (!disk->finished)
            disconnect(worker, disk);
        disk->finished = false;
        break;
    case WORKER_CLOSE_STORE:
        disk->finishing = false;
        disk->closing = true;
        if (!disk->in_flight)
            finish_disconnect(worker, disk);
        break;
    case WORKER_CHANGE_STORE:
        change_store(worker, disk, message, choice);
        break;
    case WORKER_RESUME:
        if (disk->closing || disk->disconnecting)
            break;
        if (choice & 1)
            say_failed(worker, WORKER_STORE_ALERT, disk->number, -ENOSPC);
        else
            say_plain(worker, WORKER_STORE_CONTINUES, disk->number);
        break;
    default:
        refresh(worker, disk, choice);
        break;
    }
}

bool fake_worker_work(unsigned index, struct input *input)
{
    struct worker_process *worker = at(index);

    if (!worker)
        return false;
    if (!worker->ready) {
        worker->ready = true;
        say_plain(worker, WORKER_READY, 0);
        return true;
    }
    if (worker->in.first == worker->in.end)
        return false;
    handle(worker, &worker->in.list[worker->in.first++ % MESSAGES_MAX], input_u8(input));
    return true;
}

bool fake_worker_speak(unsigned index)
{
    struct worker_process *worker = at(index);

    if (!worker || worker->stopped || worker->killed || worker->out.first == worker->out.end)
        return false;
    const struct worker_message message = worker->out.list[worker->out.first++ % MESSAGES_MAX];

    worker->greeted = true;
    worker->owner.on_message(worker->owner.context, &message);
    return true;
}

bool fake_worker_finish(unsigned index)
{
    struct worker_process *worker = at(index);
    bool any = false;

    for (unsigned i = 0; worker && i < DISKS_MAX; i++) {
        struct disk *disk = &worker->disks[i];

        if (!disk->number || !disk->in_flight)
            continue;
        any = true;
        disk->in_flight = false;
        if (disk->finishing)
            finish(worker, disk);
        else if (disk->closing || disk->disconnecting)
            finish_disconnect(worker, disk);
    }
    return any;
}

void fake_worker_trouble(unsigned index, struct input *input)
{
    struct worker_process *worker = at(index);
    const uint8_t which = input_u8(input);

    for (unsigned i = 0; worker && i < DISKS_MAX; i++) {
        const struct disk *disk = &worker->disks[i];

        if (!disk->number)
            continue;
        if (which & 1)
            say_failed(worker, WORKER_STORE_ALERT, disk->number, which & 2 ? -EIO : -ENOSPC);
        else if (disk->connected && !disk->disconnecting && !disk->closing)
            say_failed(worker, WORKER_RING_BROKEN, disk->number, -EPROTO);
    }
}

void fake_worker_lie(unsigned index, struct input *input)
{
    struct worker_process *worker = at(index);
    struct worker_message message = worker_message(WORKER_READY, 0);

    if (!worker || worker->stopped || worker->killed)
        return;
    worker->honest = false;
    message.type =
        (uint16_t)(WORKER_READY + input_u8(input) % (WORKER_MESSAGE_TYPES - WORKER_READY));
    message.vbd = input_u8(input);
    if (message.vbd == 0xff)
        message.vbd = input_u32(input);
    message.error = (int8_t)input_u8(input);
    input_bytes(input, &message.u, input_u8(input));
    /* As worker_message_receive() leaves it; fuzz_message shows that. */
    message.u.text[sizeof(message.u.text) - 1] = '\0';
    message.u.store_opened.engine[sizeof(message.u.store_opened.engine) - 1] = '\0';
    worker->owner.on_message(worker->owner.context, &message);
}

static void end(unsigned index, const char *how)
{
    struct worker_process *worker = at(index);

    workers[index % FAKE_WORKERS] = NULL;
    worker->owner.on_exit(worker->owner.context, how);
    free(worker);
}

void fake_worker_clog(unsigned index)
{
    if (at(index))
        at(index)->clogged = true;
}

void fake_worker_die(unsigned index)
{
    if (at(index))
        end(index, "killed by signal 11");
}

bool fake_worker_killed(unsigned index)
{
    return at(index) && at(index)->killed;
}

bool fake_worker_leave(unsigned index)
{
    if (!at(index) || !(at(index)->stopped || at(index)->killed))
        return false;
    end(index, at(index)->killed ? "killed by signal 9" : "exit status 0");
    return true;
}
