/* SPDX-License-Identifier: BSD-2-Clause */
/* Telling the service manager how far we are: a datagram to the socket it named in NOTIFY_SOCKET.
 */
#include "notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_length; /* 0: nobody wants to know */

void notify_init(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path != NULL ? strlen(path) : 0;
    if (length > 1 && length < sizeof(address.sun_path) && (path[0] == '/' || path[0] == '@')) {
        memcpy(address.sun_path, path, length);
        if (path[0] == '@')
            address.sun_path[0] = '\0'; /* the abstract namespace */
        address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    }
    unsetenv("NOTIFY_SOCKET");
}

int notify_send(const char *message)
{
    if (address_length == 0)
        return 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    ssize_t sent = sendto(fd, message, strlen(message), MSG_NOSIGNAL,
                          (const struct sockaddr *)&address, address_length);
    int error = sent < 0 ? -errno : 0;
    close(fd);
    return error;
}
