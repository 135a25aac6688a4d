/*
 * Virtual machine introspection under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_TCG_H
#define INTROSPECTION_TCG_H

#include "exec/vaddr.h"
#include "hw/core/cpu.h"

/*
 * The next thing that @cpu does in guest code is one instruction, before any
 * interrupt is taken, and nothing else until it is back in its loop.  Of a
 * REP-prefixed instruction that is one repetition, or with @whole_rep as many
 * as TCG does at once.  On the vCPU's thread.
 */
void introspection_tcg_execute_one(CPUState *cpu, bool whole_rep);

/* What execution in an exclusive context needs for such an instruction. */
uint32_t introspection_tcg_step_cflags(CPUState *cpu);

/* Forget translations of addresses; on the vCPU's thread. */
void introspection_tcg_flush(CPUState *cpu);
void introspection_tcg_flush_page(CPUState *cpu, vaddr addr);
/* Forget code that was translated for one execution. */
void introspection_tcg_forget_code(CPUState *cpu);

/* The exception that is pending does not come.  On the vCPU's thread. */
void introspection_tcg_cancel_delivery(CPUState *cpu);

#endif
