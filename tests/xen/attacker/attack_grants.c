/* SPDX-License-Identifier: BSD-2-Clause */
/* Attacks by what is granted. */
#include "attacker.h"

const struct attack grant_attacks[] = {{NULL, NULL, STOPS, NULL}};
