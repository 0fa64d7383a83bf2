/* SPDX-License-Identifier: BSD-2-Clause */
/* Attacks by what is in XenStore. */
#include "attacker.h"

const struct attack node_attacks[] = {{NULL, NULL, STOPS, NULL}};
