/* SPDX-License-Identifier: BSD-2-Clause */
/* What a disk may do per second: from the configuration, or set by hand while it is served, which
 * outlives its worker and this broker. The worker does the rest. */
#include "vbd.h"

#include "config_keys.h"
#include "domain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The key of that name, if it is one of a limit. */
static const struct config_key *find_key(const char *name)
{
    const size_t start = offsetof(struct disk_options, limits);

    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];

        if (key->place == CONFIG_IN_OPTIONS && key->offset >= start &&
            key->offset < start + sizeof(struct disk_limits) && strcmp(key->name, name) == 0)
            return key;
    }
    return NULL;
}

/* One "KEY=VALUE", which is taken apart. */
static int take_word(char *word, struct disk_options *options, char *why, size_t why_size)
{
    char reason[256];
    char shown[128];
    char *value = strchr(word, '=');

    if (value != NULL)
        *value++ = '\0';
    const struct config_key *key = find_key(word);
    if (value == NULL || key == NULL) {
        snprintf(why, why_size, "'%s' is no limit", log_escape(word, shown, sizeof(shown)));
        return -EINVAL;
    }
    if (config_key_set(key, value, options, reason, sizeof(reason)) != 0) {
        snprintf(why, why_size, "bad value '%s' for %s: %s",
                 log_escape(value, shown, sizeof(shown)), key->name, reason);
        return -EINVAL;
    }
    return 0;
}

/* Takes all of it or nothing. */
static int parse(const char *text, struct disk_limits *limits, char *why, size_t why_size)
{
    struct disk_options options = {.limits = *limits};
    char words[STATE_TEXT_MAX];
    char *rest = NULL;

    snprintf(words, sizeof(words), "%s", text);
    for (char *word = strtok_r(words, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        int error = take_word(word, &options, why, why_size);
        if (error != 0)
            return error;
    }
    *limits = options.limits;
    return 0;
}

void vbd_limits_change(struct broker *broker, const char *path, const char *text,
                       struct control_call_token *token)
{
    struct vbd_address address;
    struct vbd *vbd;
    char why[STATE_TEXT_MAX + 256];

    int error = vbd_find(broker, path, &address, &vbd);
    if (error != 0) {
        vbd_explain_missing(error, path, token);
        return;
    }
    error = parse(text, &vbd->limits, why, sizeof(why));
    if (error != 0) {
        control_reply(token, error, why);
        return;
    }
    vbd->limits_by_hand = true;
    vbd_log(vbd, LOG_LEVEL_INFO, "limits set by hand: %s", text);
    if (vbd->store == STORE_OPENING || vbd->store == STORE_OPEN)
        vbd_limits_send(vbd);
    vbd_status_save(vbd);
    control_reply(token, 0, NULL);
}

void vbd_limits_configure(struct vbd *vbd)
{
    if (!vbd->limits_by_hand)
        vbd->limits = vbd->disk.options.limits;
}

void vbd_limits_send(struct vbd *vbd)
{
    struct worker_message message = worker_message(WORKER_LIMITS, vbd->number);

    message.u.limits = (struct worker_limits){
        .requests = vbd->limits.iops,
        .requests_burst = vbd->limits.iops_burst,
        .bytes = vbd->limits.bandwidth,
        .bytes_burst = vbd->limits.bandwidth_burst,
        .weight = vbd->limits.weight,
        .let_through = vbd->phase == VBD_CLOSING,
    };
    /* A worker that can't be reached is ended by this; its successor is told anew. */
    (void)domain_send(vbd->domain, &message, NULL, 0);
}

void vbd_limits_save(const struct vbd *vbd, struct connection_file *file)
{
    file->request_limit = vbd->limits.iops;
    file->request_burst = vbd->limits.iops_burst;
    file->byte_limit = vbd->limits.bandwidth;
    file->byte_burst = vbd->limits.bandwidth_burst;
    file->weight = vbd->limits.weight;
    file->limits_by_hand = vbd->limits_by_hand;
}

void vbd_limits_take_up(struct vbd *vbd, const struct connection_file *file)
{
    if (file->limits_by_hand == 0)
        return;
    vbd->limits_by_hand = true;
    vbd->limits = (struct disk_limits){
        .iops = (uint32_t)file->request_limit,
        .iops_burst = (uint32_t)file->request_burst,
        .bandwidth = file->byte_limit,
        .bandwidth_burst = file->byte_burst,
        .weight = file->weight,
    };
}
