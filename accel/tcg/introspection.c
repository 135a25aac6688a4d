/*
 * Virtual machine introspection under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/cputlb.h"
#include "exec/tb-flush.h"
#include "exec/translation-block.h"
#include "introspection/tcg.h"
#include "accel/tcg/internal-common.h"
#include "kvmi/accel/introspection/engine/vcpu.h"

/* CF_SINGLE_STEP keeps repetitions apart. */
static uint32_t one_insn_cflags(bool whole_rep)
{
    return CF_NO_GOTO_TB | CF_NO_GOTO_PTR | CF_NOIRQ | 1 |
           (whole_rep ? 0 : CF_SINGLE_STEP);
}

void introspection_tcg_execute_one(CPUState *cpu, bool whole_rep)
{
    /* Not counted by icount: there may be no budget left for it. */
    cpu->cflags_next_tb = (curr_cflags(cpu) & ~CF_USE_ICOUNT) |
                          one_insn_cflags(whole_rep);
}

uint32_t introspection_tcg_step_cflags(CPUState *cpu)
{
    const IntrospectionVCPU *v = cpu->introspection;

    return v && v->repeating ? one_insn_cflags(v->grants.whole_rep) : 0;
}

void introspection_tcg_flush(CPUState *cpu)
{
    tlb_flush(cpu);
}

void introspection_tcg_flush_page(CPUState *cpu, vaddr addr)
{
    tlb_flush_page(cpu, addr);
}

void introspection_tcg_forget_code(CPUState *cpu)
{
    tcg_flush_jmp_cache(cpu);
}
