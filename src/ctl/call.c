/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls to the broker, with what went wrong said in words and an exit code. */
#include "ctl.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ctl_complain(const char *format, ...)
{
    va_list arguments;

    (void)fputs("blkbackctl: ", stderr);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
}

int ctl_parse_seconds(const char *text, double max, double *out)
{
    char *end = NULL;

    /* strtod() would also take blanks, signs, hexadecimal numbers and "inf". */
    if (text[0] == '\0' || text[strspn(text, "0123456789.")] != '\0')
        return -EINVAL;
    double value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value) || value > max)
        return -EINVAL;
    *out = value;
    return 0;
}

static enum ctl_exit explain(int rc, const char *socket)
{
    switch (-rc) {
    case ENOENT:
        ctl_complain("blkbackd is not running: there is no socket at %s", socket);
        return CTL_NOT_RUNNING;
    case ECONNREFUSED:
        ctl_complain("blkbackd is not running: nobody listens at %s", socket);
        return CTL_NOT_RUNNING;
    case EACCES:
    case EPERM:
        ctl_complain("no permission to use %s: be root", socket);
        return CTL_ERROR;
    case ETIMEDOUT:
        ctl_complain("blkbackd did not answer in time");
        return CTL_ERROR;
    case ECONNRESET:
    case EPIPE:
        ctl_complain("blkbackd hung up without an answer");
        return CTL_ERROR;
    case EPROTO:
        ctl_complain("blkbackd is of a version that does not fit this blkbackctl");
        return CTL_ERROR;
    default:
        ctl_complain("%s: %s", socket, strerror(-rc));
        return CTL_ERROR;
    }
}

/* Returns whether it fits. */
static bool put_text(char field[STATE_TEXT_MAX], const char *what, const char *text)
{
    if (strlen(text) >= STATE_TEXT_MAX) {
        ctl_complain("the %s is longer than %u bytes", what, STATE_TEXT_MAX - 1);
        return false;
    }
    memcpy(field, text, strlen(text) + 1);
    return true;
}

enum ctl_exit ctl_call_with(const struct ctl_settings *settings, enum control_command command,
                            const char *path, const char *target, unsigned timeout_ms,
                            struct control_reply *out)
{
    struct control_request request;

    memset(&request, 0, sizeof(request));
    request.magic = CONTROL_MAGIC;
    request.version = CONTROL_VERSION;
    request.command = (uint16_t)command;
    if (!put_text(request.path, "backend path", path) ||
        !put_text(request.target, "target", target))
        return CTL_ERROR;
    int rc = control_call(settings->control_socket, &request, timeout_ms, out);
    return rc ? explain(rc, settings->control_socket) : CTL_OK;
}

enum ctl_exit ctl_call(const struct ctl_settings *settings, enum control_command command,
                       const char *path, unsigned timeout_ms, struct control_reply *out)
{
    return ctl_call_with(settings, command, path, "", timeout_ms, out);
}
