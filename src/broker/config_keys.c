/* SPDX-License-Identifier: BSD-2-Clause */
/* The configuration keys and how the value of each type is read. */
#include "config_keys.h"

#include "blkback/parse.h"
#include "blkback/paths.h"
#include "config.h"
#include "negotiate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct config_choice claims[] = {
    {"script", CLAIM_SCRIPT}, {"all", CLAIM_ALL}, {NULL, 0}};

static const struct config_choice levels[] = {{"error", LOG_LEVEL_ERROR},
                                              {"warning", LOG_LEVEL_WARNING},
                                              {"info", LOG_LEVEL_INFO},
                                              {"debug", LOG_LEVEL_DEBUG},
                                              {NULL, 0}};

static const struct config_choice engines[] = {{"auto", WORKER_ENGINE_AUTO},
                                               {"uring", WORKER_ENGINE_URING},
                                               {"aio", WORKER_ENGINE_AIO},
                                               {"inline", WORKER_ENGINE_INLINE},
                                               {NULL, 0}};

static const struct config_choice sector_sizes[] = {
    {"auto", 0}, {"512", 512}, {"4096", 4096}, {NULL, 0}};

static const struct config_choice fault_policies[] = {
    {"pause", FAULT_PAUSE}, {"report", FAULT_REPORT}, {NULL, 0}};

static const struct config_choice grants[] = {{"no", WORKER_GRANTS_NOT_KEPT},
                                              {"copy", WORKER_GRANTS_COPIED},
                                              {"yes", WORKER_GRANTS_IN_PLACE},
                                              {NULL, 0}};

_Static_assert(sizeof(enum config_claim) == 4 && sizeof(enum log_level) == 4 &&
                   sizeof(enum worker_engine) == 4 && sizeof(enum fault_policy) == 4 &&
                   sizeof(enum worker_grants) == 4,
               "a choice is stored as 32 bits");

#define DAEMON(field)  CONFIG_IN_DAEMON, offsetof(struct config, field)
#define OPTIONS(field) CONFIG_IN_OPTIONS, offsetof(struct disk_options, field)
#define DISK(field)    CONFIG_IN_DISK, offsetof(struct disk_config, field)

/* With the largest domid, 32751, the sum must still fit 31 bits, which some file systems store a
 * uid in. */
/* A longer look costs more than any wake-up (WORKER_POLL_US_MAX). */
#define POLL_US_MAX 1000U

#define UID_BASE_MAX (UINT32_C(0x7fffffff) - 32768U)

/* The largest request's data must fit the least buffers, or it would wait for ever. */
#define SEGMENTS_MAX          255U
#define INDIRECT_SEGMENTS_MAX 256U
#define BUFFER_SIZE_MIN       (UINT64_C(1) << 20)

/* What the worker reckons with at most. */
#define BANDWIDTH_MAX (UINT64_C(64) << 30)

_Static_assert(SEGMENTS_MAX <= INDIRECT_SEGMENTS_MAX &&
                   (uint64_t)INDIRECT_SEGMENTS_MAX * NEGOTIATE_PAGE_BYTES <= BUFFER_SIZE_MIN,
               "any request fits");

/* clang-format off */
const struct config_key config_keys[] = {
    {"daemon", "claim", CONFIG_CHOICE, DAEMON(claim), 0, 0, claims, "script", NULL,
     "which disks are served: those whose script is the hook, or all without another script"},
    {"daemon", "log-level", CONFIG_CHOICE, DAEMON(log_level), 0, 0, levels, "info", NULL,
     "the least important lines that are logged"},
    {"daemon", "run-dir", CONFIG_PATH, DAEMON(run_dir), 0, CONFIG_PATH_MAX, NULL,
     BLKBACKD_RUN_DIR, NULL, "folder of the lock file and the control socket"},
    {"daemon", "state-dir", CONFIG_PATH, DAEMON(state_dir), 0, CONFIG_PATH_MAX, NULL,
     BLKBACKD_RUN_DIR "/" BLKBACKD_STATE_NAME, NULL, "folder of the state files"},
    {"daemon", "control-socket", CONFIG_PATH, DAEMON(control_socket), 0, 108, NULL,
     BLKBACKD_RUN_DIR "/" BLKBACKD_CONTROL_NAME, NULL, "socket that blkbackctl and the hook use"},
    {"daemon", "disks-dir", CONFIG_PATH, DAEMON(disks_dir), 0, CONFIG_PATH_MAX, NULL,
     BLKBACKD_DISKS_DIR, NULL, "folder of the files that target=disk:NAME refers to"},
    {"daemon", "hook", CONFIG_NAME, DAEMON(hook), 0, CONFIG_PATH_MAX, NULL, "block-blkbackd", NULL,
     "name of the hook script"},
    {"daemon", "attach-timeout", CONFIG_U32, DAEMON(attach_timeout), 1, 3600, NULL, "30", "seconds",
     "how long a new disk waits for an image that is in use"},
    {"worker", "binary", CONFIG_PATH, DAEMON(worker), 0, CONFIG_PATH_MAX, NULL, NULL, NULL,
     "the worker's program"},
    {"worker", "uid-base", CONFIG_U32, DAEMON(worker_uid_base), 0, UID_BASE_MAX, NULL, "1900000000",
     NULL, "a worker's uid and gid are this plus the domain's number"},
    {"worker", "sandbox", CONFIG_BOOL, DAEMON(worker_sandbox), 0, 0, NULL, "on", NULL,
     "whether workers are confined"},
    {"worker", "buffer-size", CONFIG_SIZE, DAEMON(worker_buffer_size), BUFFER_SIZE_MIN, UINT64_C(1) << 40,
     NULL, "64M", "bytes", "memory for data in flight, per worker"},
    {"worker", "queue-threads", CONFIG_U32, DAEMON(queue_threads), 0, STATE_MAX_QUEUES, NULL, "0",
     "threads", "how many threads of a worker serve queues"},
    {"worker", "poll-time", CONFIG_U32, DAEMON(poll_us), 0, POLL_US_MAX, NULL, "50",
     "microseconds", "how long a thread looks for work before it sleeps"},
    {"worker", "persistent-grants", CONFIG_U32, DAEMON(grant_budget), 0, 1U << 24, NULL, "65536",
     "pages", "granted pages that all guests together may keep mapped"},
    {"disk", "engine", CONFIG_CHOICE, OPTIONS(engine), 0, 0, engines, "auto", NULL,
     "how I/O reaches the kernel"},
    {"disk", "direct", CONFIG_BOOL, OPTIONS(direct), 0, 0, NULL, "yes", NULL,
     "whether the host's page cache is bypassed"},
    {"disk", "sector-size", CONFIG_CHOICE, OPTIONS(sector_size), 0, 0, sector_sizes, "auto",
     "bytes", "logical sector size"},
    {"disk", "max-ring-page-order", CONFIG_U32, OPTIONS(max_ring_page_order), 0, 5, NULL, "5",
     "log2 of pages", "the largest ring a frontend may use"},
    {"disk", "max-requests", CONFIG_U32, OPTIONS(max_requests), 0, STATE_MAX_SLOTS, NULL, "256",
     "requests", "how many requests of a ring are in flight at once"},
    {"disk", "max-request-segments", CONFIG_U32, OPTIONS(max_segments), 11, SEGMENTS_MAX, NULL, "255",
     "segments", "how large a request in the ring's own slots may be"},
    {"disk", "max-indirect-segments", CONFIG_U32, OPTIONS(max_indirect_segments), 0, INDIRECT_SEGMENTS_MAX, NULL, "256",
     "segments", "how large an indirect request may be"},
    {"disk", "max-queues", CONFIG_U32, OPTIONS(max_queues), 1, STATE_MAX_QUEUES, NULL, NULL, "rings",
     "how many rings a frontend may use"},
    {"disk", "persistent-grants", CONFIG_CHOICE, OPTIONS(grants), 0, 0, grants, "no", NULL,
     "whether grants that the frontend keeps stay mapped"},
    {"disk", "discard", CONFIG_BOOL, OPTIONS(discard), 0, 0, NULL, "yes", NULL,
     "whether the guest may discard"},
    {"disk", "on-no-space", CONFIG_CHOICE, OPTIONS(on_no_space), 0, 0, fault_policies, "pause", NULL,
     "what becomes of requests for which there is no space"},
    {"disk", "on-error", CONFIG_CHOICE, OPTIONS(on_error), 0, 0, fault_policies, "report", NULL,
     "what becomes of requests that the storage fails otherwise"},
    {"disk", "reconnects-per-minute", CONFIG_U32, OPTIONS(reconnects_per_minute), 0, 60000, NULL, "60", "connections",
     "how often a guest's frontend may connect"},
    {"disk", "work-per-turn", CONFIG_SIZE, OPTIONS(work_per_turn), UINT64_C(1) << 20, UINT64_C(1) << 30, NULL, "1M",
     "bytes", "after how much data of a ring others of the worker have their turn"},
    {"disk", "max-event-delay", CONFIG_U32, OPTIONS(max_event_delay_ms), 0, 1000, NULL, "64", "milliseconds",
     "how long a guest's events are left alone at most that bring nothing"},
    {"disk", "log-lines-per-minute", CONFIG_U32, OPTIONS(log_lines_per_minute), 1, 60000, NULL, "60", "lines",
     "how much is logged about the disk"},
    {"disk", "iops-limit", CONFIG_U32, OPTIONS(limits.iops), 0, 10000000, NULL, "0", "requests per second",
     "how many requests the disk may serve; 0: no limit"},
    {"disk", "iops-burst", CONFIG_U32, OPTIONS(limits.iops_burst), 0, 1000000000, NULL, "0", "requests",
     "how many may pass at once after a rest; 0: a tenth of a second's worth"},
    {"disk", "bandwidth-limit", CONFIG_SIZE, OPTIONS(limits.bandwidth), 0, BANDWIDTH_MAX, NULL, "0", "bytes per second",
     "how much data the disk may move; 0: no limit"},
    {"disk", "bandwidth-burst", CONFIG_SIZE, OPTIONS(limits.bandwidth_burst), 0, UINT64_C(1) << 40, NULL, "0", "bytes",
     "how much may pass at once after a rest; 0: a tenth of a second's worth"},
    {"disk", "weight", CONFIG_U32, OPTIONS(limits.weight), 1, 1000, NULL, "100", NULL,
     "its share beside the guest's other disks"},
    {"disk", "target", CONFIG_TARGET, DISK(target), 0, 0, NULL, NULL, NULL,
     "where the bytes are"},
    {"disk", "read-only", CONFIG_BOOL, DISK(read_only), 0, 0, NULL, "no", NULL,
     "whether writing is refused, whatever the guest's configuration says"},
    {"disk", "shared", CONFIG_BOOL, DISK(shared), 0, 0, NULL, "no", NULL,
     "whether several guests may write at once"},
};
/* clang-format on */

const unsigned config_key_count = sizeof(config_keys) / sizeof(config_keys[0]);

_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) < CONFIG_KEYS_MAX, "CONFIG_KEYS_MAX");

/* "one of a, b or c" */
static void list_choices(const struct config_choice *choice, char *buffer, size_t size)
{
    const char *before = " ";
    size_t used = (size_t)snprintf(buffer, size, "one of");

    for (; choice->name && used < size; choice++) {
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", before, choice->name);
        before = choice[1].name && choice[2].name ? ", " : " or ";
    }
}

void config_key_expected(const struct config_key *key, char *buffer, size_t size)
{
    switch (key->type) {
    case CONFIG_BOOL:
        (void)snprintf(buffer, size, "yes or no");
        break;
    case CONFIG_U32:
        (void)snprintf(buffer, size, "a number from %llu to %llu", (unsigned long long)key->min,
                       (unsigned long long)key->max);
        break;
    case CONFIG_SIZE:
        (void)snprintf(buffer, size, "a size from %lluM to %lluM, in bytes or with K, M, G or T",
                       (unsigned long long)key->min >> 20, (unsigned long long)key->max >> 20);
        break;
    case CONFIG_PATH:
        (void)snprintf(buffer, size, "an absolute path of at most %llu bytes",
                       (unsigned long long)key->max - 1);
        break;
    case CONFIG_NAME:
        (void)snprintf(buffer, size, "a file's name without a slash");
        break;
    case CONFIG_CHOICE:
        list_choices(key->choices, buffer, size);
        break;
    case CONFIG_TARGET:
        (void)snprintf(buffer, size, "an absolute path or null:SIZE");
        break;
    }
}

static int set_choice(const struct config_key *key, const char *value, void *field)
{
    for (const struct config_choice *choice = key->choices; choice->name; choice++) {
        if (strcmp(choice->name, value) == 0) {
            memcpy(field, &choice->value, sizeof(choice->value));
            return 0;
        }
    }
    return -EINVAL;
}

/* A choice between `yes`, `no` and more takes the other words for these two, as a boolean does. */
static int set_choice_or_bool(const struct config_key *key, const char *value, void *field)
{
    bool on;

    if (set_choice(key, value, field) == 0)
        return 0;
    return parse_bool(value, &on) == 0 ? set_choice(key, on ? "yes" : "no", field) : -EINVAL;
}

static int set_string(const struct config_key *key, const char *value, void *field)
{
    size_t length = strlen(value);

    if (length == 0 || length >= key->max || (key->type == CONFIG_PATH) != (value[0] == '/') ||
        (key->type == CONFIG_NAME && strchr(value, '/')))
        return -EINVAL;
    memcpy(field, value, length + 1);
    return 0;
}

static int set_number(const struct config_key *key, const char *value, void *field)
{
    uint64_t number = 0;
    int rc =
        key->type == CONFIG_SIZE ? parse_size(value, &number) : parse_u64(value, key->max, &number);

    if (rc || number < key->min || number > key->max)
        return -EINVAL;
    if (key->type == CONFIG_SIZE) {
        memcpy(field, &number, sizeof(number));
    } else {
        uint32_t narrow = (uint32_t)number;
        memcpy(field, &narrow, sizeof(narrow));
    }
    return 0;
}

/* Of a file in disks.d: no reference to another one. */
static int set_target(const char *value, struct target *field, char *why, size_t why_size)
{
    struct target target;
    int rc = target_parse(value, why, (unsigned)why_size, &target);

    if (rc)
        return rc;
    if (target.kind == TARGET_DISK) {
        (void)snprintf(why, why_size, "a file of disks.d can't refer to another one");
        return -EINVAL;
    }
    *field = target;
    return 0;
}

int config_key_set(const struct config_key *key, const char *value, void *base, char *why,
                   size_t why_size)
{
    void *field = (char *)base + key->offset;
    char expected[128];
    int rc = -EINVAL;

    switch (key->type) {
    case CONFIG_BOOL:
        rc = parse_bool(value, field);
        break;
    case CONFIG_U32:
    case CONFIG_SIZE:
        rc = set_number(key, value, field);
        break;
    case CONFIG_PATH:
    case CONFIG_NAME:
        rc = set_string(key, value, field);
        break;
    case CONFIG_CHOICE:
        rc = set_choice_or_bool(key, value, field);
        break;
    case CONFIG_TARGET:
        return set_target(value, field, why, why_size);
    }
    if (rc) {
        config_key_expected(key, expected, sizeof(expected));
        (void)snprintf(why, why_size, "expected %s", expected);
    }
    return rc;
}
