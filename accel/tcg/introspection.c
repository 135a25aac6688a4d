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
    cpu->cflags_next_tb = 1 | CF_NOIRQ | curr_cflags(cpu);
}
