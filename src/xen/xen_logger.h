/* SPDX-License-Identifier: BSD-2-Clause */
/* What libxen* has to say goes to our log, rate-limited: some of it a guest can provoke at will. */
#ifndef BLKBACK_XEN_LOGGER_H
#define BLKBACK_XEN_LOGGER_H

#include <xentoollog.h>

/* One per process, static. */
struct xentoollog_logger *xen_logger(void);

#endif
