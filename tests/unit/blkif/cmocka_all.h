/* SPDX-License-Identifier: BSD-2-Clause */
/* cmocka with what it needs to be included first. */
#ifndef BLKBACK_TEST_CMOCKA_ALL_H
#define BLKBACK_TEST_CMOCKA_ALL_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#endif
