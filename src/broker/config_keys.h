/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of configuration keys: what each is called, what it takes, where it goes, and what the
 * documentation says of it. A test holds conf/blkbackd.conf and blkbackd.conf(5) to it.
 */
#ifndef BLKBACK_BROKER_CONFIG_KEYS_H
#define BLKBACK_BROKER_CONFIG_KEYS_H

#include <stddef.h>
#include <stdint.h>

enum config_type {
    CONFIG_BOOL,
    CONFIG_U32,    /* from `min` to `max` */
    CONFIG_SIZE,   /* bytes, uint64_t, from `min` to `max` */
    CONFIG_PATH,   /* absolute; `max` bytes with the terminator at most, the field's size */
    CONFIG_NAME,   /* a file's name without a slash; the same limit */
    CONFIG_CHOICE, /* one of `choices`, stored as its number in a 32-bit field */
    CONFIG_TARGET  /* a struct target */
};

/* What the offset counts from; each file has some of these. */
enum config_place {
    CONFIG_IN_DAEMON,  /* struct config */
    CONFIG_IN_OPTIONS, /* struct disk_options, of either file */
    CONFIG_IN_DISK,    /* struct disk_config, disks.d only */
    CONFIG_PLACES
};

struct config_choice {
    const char *name; /* NULL ends the list */
    uint32_t value;
};

struct config_key {
    const char *section;
    const char *name;
    enum config_type type;
    enum config_place place;
    size_t offset;
    uint64_t min, max;
    const struct config_choice *choices;
    const char *standard; /* default, as it would be written in the file; NULL: computed, or none */
    const char *unit;     /* NULL: none */
    const char *summary;
};

extern const struct config_key config_keys[];
extern const unsigned config_key_count;

/* More than there are keys. */
#define CONFIG_KEYS_MAX 64U

/* Writes what the key takes, for people, as in "a number from 0 to 5". */
void config_key_expected(const struct config_key *key, char *buffer, size_t size);

/* Stores a value at the key's place in `base`. Returns 0, or -EINVAL with the reason in `why`. */
int config_key_set(const struct config_key *key, const char *value, void *base, char *why,
                   size_t why_size);

#endif
