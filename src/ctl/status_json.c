/* SPDX-License-Identifier: BSD-2-Clause */
/* The status for programs. The members are described in blkbackctl(8); more may be added, none
 * changes its meaning. */
#include "disks.h"

#include "blkback/log.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

static void set_text(json_t *object, const char *name, const char *value)
{
    char escaped[4 * STATE_TEXT_MAX];
    json_t *text = json_string(value);

    /* A path need not be UTF-8, which JSON must be. */
    if (!text)
        text = json_string(log_escape(value, escaped, sizeof(escaped)));
    (void)json_object_set_new(object, name, text);
}

static void set_number(json_t *object, const char *name, uint64_t value)
{
    /* JSON's integers are signed here; only a slab that lies has more. */
    (void)json_object_set_new(object, name,
                              json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

static void set_bool(json_t *object, const char *name, bool value)
{
    (void)json_object_set_new(object, name, json_boolean(value));
}

static json_t *statistics_object(const struct ctl_sample *sample)
{
    const struct ctl_counter *counter = NULL;
    json_t *object = json_object();

    set_number(object, "in_flight", sample->in_flight);
    while ((counter = ctl_next_counter(counter)) != NULL)
        set_number(object, counter->member, ctl_counter_value(counter, &sample->statistics));
    return object;
}

static json_t *connection_object(const struct connection_file *connection)
{
    json_t *object = json_object();

    set_number(object, "domid", connection->domid);
    set_text(object, "domain_uuid", connection->domain_uuid);
    set_number(object, "devid", connection->devid);
    set_text(object, "vdev", connection->vdev);
    set_text(object, "class", connection->class_name);
    set_text(object, "target", connection->target);
    set_text(object, "state", ctl_state_name(connection));
    set_text(object, "reason", connection->reason);
    set_bool(object, "online", connection->online != 0);
    set_bool(object, "read_only", connection->read_only != 0);
    set_number(object, "size_bytes", connection->size_bytes);
    set_number(object, "sector_size", connection->sector_size);
    set_text(object, "engine", connection->engine);
    set_bool(object, "direct", connection->direct != 0);
    set_bool(object, "discard", connection->discard != 0);
    set_bool(object, "removable", connection->removable != 0);
    set_number(object, "iops_limit", connection->request_limit);
    set_number(object, "iops_burst", connection->request_burst);
    set_number(object, "bandwidth_limit", connection->byte_limit);
    set_number(object, "bandwidth_burst", connection->byte_burst);
    set_number(object, "weight", connection->weight ? connection->weight : 100);
    set_bool(object, "limits_by_hand", connection->limits_by_hand != 0);
    set_number(object, "worker_pid", connection->worker_pid);
    set_text(object, "sandbox", connection->sandbox);
    set_number(object, "rings", connection->queue_count);
    set_number(object, "ring_pages",
               connection->queue_count ? UINT64_C(1) << connection->ring_order : 0);
    set_number(object, "max_requests", connection->max_requests);
    set_number(object, "max_segments", connection->max_segments);
    set_number(object, "max_indirect_segments", connection->max_indirect_segments);
    set_bool(object, "persistent_grants", connection->persistent != 0);
    set_bool(object, "event_channel_restricted", connection->evtchn_restricted != 0);
    set_number(object, "connects", connection->connects);
    set_number(object, "connects_delayed", connection->connects_delayed);
    set_number(object, "states_delayed", connection->states_delayed);
    return object;
}

static json_t *disk_object(const struct ctl_disk *disk)
{
    json_t *object = connection_object(&disk->connection);

    set_bool(object, "paused", disk->sample.valid && disk->sample.store_paused);
    set_number(object, "log_lines_suppressed",
               disk->connection.log_suppressed + disk->sample.log_suppressed);
    (void)json_object_set_new(object, "statistics",
                              disk->sample.valid ? statistics_object(&disk->sample) : json_null());
    if (disk->have_rates) {
        (void)json_object_set_new(object, "read_bytes_per_second", json_real(disk->read_rate));
        (void)json_object_set_new(object, "written_bytes_per_second", json_real(disk->write_rate));
    }
    return object;
}

int ctl_print_json(const struct ctl_daemon *daemon, const struct ctl_disks *disks)
{
    json_t *root = json_object();
    json_t *about = json_object();
    json_t *array = json_array();

    set_bool(about, "running", daemon->running);
    if (daemon->running) {
        set_number(about, "pid", daemon->pid);
        set_text(about, "version", daemon->version);
    }
    (void)json_object_set_new(root, "daemon", about);
    for (unsigned i = 0; i < disks->count; i++)
        (void)json_array_append_new(array, disk_object(&disks->disks[i]));
    (void)json_object_set_new(root, "disks", array);
    int rc = json_dumpf(root, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(root);
    return rc ? -ENOMEM : 0;
}
