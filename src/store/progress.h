/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How far an I/O has come: the one place that knows what a short transfer, an interruption or the
 * end of a truncated file means. Every engine hands it what the kernel answered.
 */
#ifndef BLKBACK_STORE_PROGRESS_H
#define BLKBACK_STORE_PROGRESS_H

#include "blkback/io.h"

#include <stdbool.h>
#include <stdint.h>

/* Readies the engine's part of `io` for its first attempt on `fd`; of a discard what
 * discard_prepare() has left. */
void progress_start(struct io *io, int fd);

/*
 * Takes the outcome of one attempt: bytes transferred, 0 for a discard of discard_span(), or
 * -errno. Returns true when the I/O is over and `io->result` set; false when engine.iov, iov_count
 * and position say what to ask for next.
 *
 * -EINTR and -EAGAIN are asked again as they are. A transfer of nothing is -EIO: all that is asked
 * for lies within the advertised size, so the image was truncated or the device has gone. The same
 * where a short transfer ended at an offset from which direct I/O can't go on (-EINVAL after some
 * progress).
 */
bool progress_over(struct io *io, int64_t outcome);

/* Number of engine.iov entries to hand to the kernel in one attempt (it takes 1024 at most). */
int progress_iov_count(const struct io *io);

/* Bytes of the first entry to hand over in one attempt where there is only one: lengths are 32 bits
 * wide in an io_uring. */
unsigned progress_span(const struct io *io);

#endif
