/* SPDX-License-Identifier: BSD-2-Clause */
/* The status for people: a table of disks, or one disk in detail. */
#include "disks.h"

#include "blkback/log.h"

#include <inttypes.h>
#include <stdio.h>

#define CELL_MAX 32U

/* A number of bytes in at most five characters: "0", "512", "4.0K", "1.2G". */
static const char *scaled(double value, char *cell)
{
    static const char units[] = "KMGTPE";
    int unit = -1;

    while (value >= 1024.0 && unit < (int)sizeof(units) - 2) {
        value /= 1024.0;
        unit++;
    }
    if (unit < 0)
        (void)snprintf(cell, CELL_MAX, "%.0f", value);
    else
        (void)snprintf(cell, CELL_MAX, value < 100.0 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return cell;
}

static const char *state_text(const struct ctl_disk *disk)
{
    if (disk->sample.valid && disk->sample.store_paused)
        return "Paused";
    return ctl_state_name(&disk->connection);
}

/* Pages, and how many rings if there are several; "-" when none is connected. */
static const char *ring_text(const struct connection_file *connection, char *cell)
{
    unsigned pages = 1U << connection->ring_order;

    if (connection->queue_count == 0)
        (void)snprintf(cell, CELL_MAX, "-");
    else if (connection->queue_count == 1)
        (void)snprintf(cell, CELL_MAX, "%u", pages);
    else
        (void)snprintf(cell, CELL_MAX, "%ux%u", pages, connection->queue_count);
    return cell;
}

static void print_counters(const struct ctl_disk *disk)
{
    const struct slab_statistics *statistics = &disk->sample.statistics;
    char in_flight[CELL_MAX];
    char reads[CELL_MAX];
    char writes[CELL_MAX];

    if (!disk->sample.valid) {
        (void)printf(" %9s %10s %10s %8s %7s %7s %6s", "-", "-", "-", "-", "-", "-", "-");
        return;
    }
    (void)snprintf(in_flight, sizeof(in_flight), "%u/%u", disk->sample.in_flight,
                   disk->connection.max_requests);
    (void)printf(" %9s %10" PRIu64 " %10" PRIu64 " %8" PRIu64 " %7s %7s %6" PRIu64, in_flight,
                 statistics->reads, statistics->writes, statistics->flushes + statistics->barriers,
                 disk->have_rates ? scaled(disk->read_rate, reads) : "-",
                 disk->have_rates ? scaled(disk->write_rate, writes) : "-", statistics->errors);
}

void ctl_print_table(const struct ctl_disks *disks)
{
    (void)printf("%6s %-8s %-12s %5s %9s %10s %10s %8s %7s %7s %6s  %s\n", "DOMAIN", "VDEV",
                 "STATE", "RING", "IN-FLIGHT", "READS", "WRITES", "FLUSHES", "READ/s", "WRITE/s",
                 "ERRORS", "TARGET");
    for (unsigned i = 0; i < disks->count; i++) {
        const struct ctl_disk *disk = &disks->disks[i];
        const struct connection_file *connection = &disk->connection;
        char ring[CELL_MAX];
        char text[4 * STATE_TEXT_MAX];

        (void)printf("%6u %-8s", connection->domid,
                     log_escape(connection->vdev, text, sizeof(text)));
        (void)printf(" %-12s %5s", state_text(disk), ring_text(connection, ring));
        print_counters(disk);
        (void)printf("  %s%s\n", log_escape(connection->target, text, sizeof(text)),
                     connection->read_only ? " (read-only)" : "");
        if (connection->reason[0])
            (void)printf("%6s %s\n", "", log_escape(connection->reason, text, sizeof(text)));
    }
}

static void print_line(const char *name, const char *value)
{
    (void)printf("%-22s %s\n", name, value);
}

static void print_text(const char *name, const char *value)
{
    char text[4 * STATE_TEXT_MAX];

    print_line(name, value[0] ? log_escape(value, text, sizeof(text)) : "-");
}

static void print_number(const char *name, uint64_t value)
{
    (void)printf("%-22s %" PRIu64 "\n", name, value);
}

static void print_bytes(const char *name, double value, const char *unit)
{
    char cell[CELL_MAX];

    (void)printf("%-22s %.0f (%s)%s\n", name, value, scaled(value, cell), unit);
}

static void print_rates(const struct connection_file *connection)
{
    const char *const by_hand = connection->limits_by_hand ? ", set by hand" : "";
    char rate[CELL_MAX];
    char burst[CELL_MAX];
    char text[128];

    print_number("weight", connection->weight ? connection->weight : 100);
    if (connection->request_limit) {
        (void)snprintf(burst, sizeof(burst), "%" PRIu64, connection->request_burst);
        (void)snprintf(text, sizeof(text), "%" PRIu64 " requests/s, bursts of %s%s",
                       connection->request_limit,
                       connection->request_burst ? burst : "0.1 s' worth", by_hand);
        print_line("IOPS limit", text);
    }
    if (connection->byte_limit) {
        (void)snprintf(text, sizeof(text), "%" PRIu64 " (%s) bytes/s, bursts of %s%s",
                       connection->byte_limit, scaled((double)connection->byte_limit, rate),
                       connection->byte_burst ? scaled((double)connection->byte_burst, burst)
                                              : "0.1 s' worth",
                       by_hand);
        print_line("bandwidth limit", text);
    }
}

static void print_connection(const struct connection_file *connection)
{
    print_number("domain", connection->domid);
    print_text("domain UUID", connection->domain_uuid);
    print_text("vdev", connection->vdev);
    print_number("device", connection->devid);
    print_text("class", connection->class_name);
    print_text("target", connection->target);
    print_line("state", ctl_state_name(connection));
    if (connection->reason[0])
        print_text("reason", connection->reason);
    if (connection->removable)
        print_line("medium", connection->target[0] ? "in the drive" : "none");
    print_line("mode", connection->read_only ? "read-only" : "read-write");
    print_bytes("size", (double)connection->size_bytes, " bytes");
    print_number("sector size", connection->sector_size);
    print_text("engine", connection->engine);
    print_line("direct I/O", connection->direct ? "yes" : "no");
    print_line("discard", connection->discard ? "yes" : "no");
    print_rates(connection);
    print_number("worker pid", connection->worker_pid);
    print_text("sandbox", connection->sandbox);
    print_number("connections", connection->connects);
    print_number("connections delayed", connection->connects_delayed);
    print_number("states delayed", connection->states_delayed);
    if (connection->queue_count == 0) {
        print_line("ring", "not connected");
        return;
    }
    print_number("rings", connection->queue_count);
    print_number("pages per ring", UINT64_C(1) << connection->ring_order);
    print_number("requests at once", connection->max_requests);
    print_number("segments per request", connection->max_segments);
    print_number("indirect segments", connection->max_indirect_segments);
    print_line("persistent grants", connection->persistent ? "yes" : "no");
    print_line("event channel",
               connection->evtchn_restricted ? "restricted to the domain" : "not restricted");
}

static void print_counter(const struct ctl_counter *counter, uint64_t value)
{
    switch (counter->kind) {
    case CTL_COUNTS:
        print_number(counter->name, value);
        break;
    case CTL_COUNTS_BYTES:
        print_bytes(counter->name, (double)value, " bytes");
        break;
    case CTL_COUNTS_MICROSECONDS:
        (void)printf("%-22s %.3f s\n", counter->name, (double)value / 1e6);
        break;
    }
}

void ctl_print_details(const struct ctl_disk *disk)
{
    const struct ctl_counter *counter = NULL;

    print_connection(&disk->connection);
    print_number("log lines suppressed",
                 disk->connection.log_suppressed + disk->sample.log_suppressed);
    if (!disk->sample.valid) {
        print_line("statistics", "none");
        return;
    }
    if (disk->sample.store_paused)
        print_line("paused", "yes: the store failed, and requests wait");
    if (disk->have_rates) {
        print_bytes("reading", disk->read_rate, " bytes/s");
        print_bytes("writing", disk->write_rate, " bytes/s");
    }
    print_number("in flight", disk->sample.in_flight);
    while ((counter = ctl_next_counter(counter)) != NULL)
        print_counter(counter, ctl_counter_value(counter, &disk->sample.statistics));
}
