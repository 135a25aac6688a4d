/*
 * Virtual machine introspection under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/translation-block.h"
#include "introspection/tcg.h"
#include "accel/tcg/internal-common.h"

void introspection_tcg_execute_one(CPUState *cpu)
{
    /* Not counted by icount: there may be no budget left for it. */
    cpu->cflags_next_tb = (curr_cflags(cpu) & ~CF_USE_ICOUNT) | CF_NOIRQ | 1;
}
