/* SPDX-License-Identifier: BSD-2-Clause */
/* Strict parsing of numbers, sizes and booleans: the whole string or nothing. */
#include "blkback/parse.h"

#include <errno.h>
#include <string.h>

/* Digits from `text` up to the first other character, which `end` gets. Needs at least one digit.
 */
static int parse_digits(const char *text, uint64_t max, const char **end, uint64_t *out)
{
    uint64_t value = 0;
    bool over = false;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            over = true;
    }
    *end = text;
    if (over || value > max)
        return -ERANGE;
    *out = value;
    return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    const char *end = text;
    uint64_t value = 0;
    int rc = parse_digits(text, max, &end, &value);

    /* Garbage behind the digits is garbage, however large the number before it. */
    if (rc == -EINVAL || *end != '\0')
        return -EINVAL;
    if (rc)
        return rc;
    *out = value;
    return 0;
}

int parse_u32(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    int rc = parse_u64(text, max, &value);

    if (rc)
        return rc;
    *out = (uint32_t)value;
    return 0;
}

int parse_size(const char *text, uint64_t *out)
{
    static const char suffixes[] = "KMGT";
    const char *end = text;
    uint64_t value = 0;
    unsigned shift = 0;
    int rc = parse_digits(text, UINT64_MAX, &end, &value);

    if (rc == -EINVAL)
        return rc;
    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end);
        if (!suffix || end[1] != '\0')
            return -EINVAL;
        shift = 10U * (unsigned)(suffix - suffixes + 1);
    }
    if (rc || value > UINT64_MAX >> shift)
        return -ERANGE;
    *out = value << shift;
    return 0;
}

int parse_bool(const char *text, bool *out)
{
    static const char *const words[][2] = {
        {"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        for (unsigned value = 0; value < 2; value++) {
            if (strcmp(text, words[i][value]) == 0) {
                *out = value == 1;
                return 0;
            }
        }
    }
    return -EINVAL;
}
