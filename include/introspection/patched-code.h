/*
 * Code that another vCPU patches is translated anew
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_PATCHED_CODE_H
#define INTROSPECTION_PATCHED_CODE_H

#include "exec/cpu-common.h"

/*
 * @cpu has stored into a page that had code, which notdirty_write() invalidated
 * before: in between, another vCPU may have translated what was there until the
 * store.  On the vCPU's thread.
 */
void tcg_code_stored(CPUState *cpu, ram_addr_t ram_addr, unsigned size);

#endif
