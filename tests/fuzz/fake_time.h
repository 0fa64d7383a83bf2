/* SPDX-License-Identifier: BSD-2-Clause */
/* Takes the place of libev's timers: time passes when the fuzz input says. */
#ifndef BLKBACK_FUZZ_FAKE_TIME_H
#define BLKBACK_FUZZ_FAKE_TIME_H

/* At the beginning; no timer may be running. */
void fake_time_reset(void);

/* Fires the timers that are due meanwhile, in their order. */
void fake_time_pass(double seconds);

/* How many timers are running. */
unsigned fake_time_running(void);

#endif
