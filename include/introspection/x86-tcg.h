/*
 * Virtual machine introspection: x86 instructions under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_X86_TCG_H
#define INTROSPECTION_X86_TCG_H

#include "cpu.h"
#include "introspection/vcpu.h"
#include "target/i386/svm.h"
#include "target/i386/tcg/access.h"
#include "target/i386/tcg/helper-tcg.h"

/*
 * Called by the helpers that write control registers and MSRs once nothing
 * but the store is left to do.  They return the value to store, or do not
 * return: when the tool has to be asked (the instruction comes again), and
 * when its value is one that the processor refuses (#GP).
 */
target_ulong introspection_cr_written(CPUX86State *env, int cr,
                                      target_ulong value, uintptr_t ra);
uint64_t introspection_msr_written(CPUX86State *env, uint32_t msr,
                                   uint64_t value, uintptr_t ra);

/*
 * Called before the instruction does anything, and once nothing can refuse
 * it.  They do not return when the tool has to be asked: the instruction
 * comes again.
 */
void introspection_insn_int3(CPUX86State *env, uintptr_t ra);
void introspection_insn_xsetbv(CPUX86State *env, uint64_t value, uintptr_t ra);
bool introspection_insn_hypercall(CPUX86State *env, uintptr_t ra);

/* The same, where a hypervisor could intercept it, for SVM's exit codes. */
void introspection_intercept(CPUX86State *env, uint32_t type, uintptr_t ra);

/* vCPUs that report accesses to descriptor tables; translated code depends on it. */
extern unsigned introspection_descriptor_watchers;

/*
 * For misses of a TLB, once the guest's own page tables have allowed the
 * access: @paddr with @prot.  Takes away what introspection forbids, and
 * fills the TLB.  Returns false for a @probe of what is forbidden; does not
 * return where the tool has to be asked.
 */
bool introspection_tlb_fill(CPUState *cs, vaddr addr, hwaddr paddr, int prot,
                            int page_size, MMUAccessType access_type,
                            int mmu_idx, bool probe, uintptr_t ra);

/* Page walks are not the guest's accesses. */
static inline bool introspection_sees_access(CPUState *cs, int mmu_idx)
{
    return cs->introspection && mmu_idx != MMU_PHYS_IDX &&
           mmu_idx != MMU_NESTED_IDX;
}

/*
 * Around the delivery of an interrupt or exception, which is no instruction
 * but accesses memory, too.
 */
void introspection_note_delivery(CPUX86State *env, int vector, bool is_int,
                                 int error_code, bool is_hw);
void introspection_delivered(CPUX86State *env);

static inline void introspection_delivery_begins(CPUX86State *env, int vector,
                                                 bool is_int, int error_code,
                                                 bool is_hw)
{
    if (unlikely(env_cpu(env)->introspection)) {
        introspection_note_delivery(env, vector, is_int, error_code, is_hw);
    }
}

static inline void introspection_delivery_ends(CPUX86State *env)
{
    if (unlikely(env_cpu(env)->introspection)) {
        introspection_delivered(env);
    }
}

bool introspection_exception_first(CPUState *cpu);

/* Whether the pending vector is a hardware interrupt that comes again. */
bool introspection_redelivers_hw(CPUX86State *env);

/*
 * The base answers reserved bits with an exit to the hypervisor, even where
 * there is none; #GP is what the guest expects then.
 */
static inline void introspection_refuse_cr(CPUX86State *env, uintptr_t ra)
{
    if (!(env->hflags & HF_GUEST_MASK)) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
}

/* False, at compile time, where there is no machine to introspect. */
static inline bool introspection_possible(void)
{
#ifdef CONFIG_USER_ONLY
    return false;
#else
    return true;
#endif
}

static inline bool introspection_hooked(CPUX86State *env)
{
    return introspection_possible() && unlikely(env_cpu(env)->introspection);
}

/* Whether code that is being translated needs introspection_intercept(). */
static inline bool introspection_intercepts(uint32_t type)
{
    return introspection_possible() &&
           type >= SVM_EXIT_IDTR_READ && type <= SVM_EXIT_TR_WRITE &&
           unlikely(qatomic_read(&introspection_descriptor_watchers));
}

static inline target_ulong introspection_write_cr(CPUX86State *env, int cr,
                                                  target_ulong value,
                                                  uintptr_t ra)
{
    if (introspection_hooked(env)) {
        return introspection_cr_written(env, cr, value, ra);
    }
    return value;
}

/*
 * Before a task switch changes anything: what it will write to CR0 and CR3, the
 * latter from @tss, which is NULL for a TSS of 16 bits: that has none.
 */
static inline void introspection_task_switch(CPUX86State *env, X86Access *tss,
                                             uint32_t *cr0, uint32_t *cr3,
                                             uintptr_t ra)
{
    *cr0 = introspection_write_cr(env, 0, env->cr[0] | CR0_TS_MASK, ra);
    *cr3 = 0;
    if (tss && (env->cr[0] & CR0_PG_MASK)) {
        *cr3 = introspection_write_cr(env, 3, access_ldl(tss, tss->vaddr + 0x1c),
                                      ra);
    }
}

static inline uint64_t introspection_write_msr(CPUX86State *env, uint32_t msr,
                                               uint64_t value, uintptr_t ra)
{
    if (introspection_hooked(env)) {
        return introspection_msr_written(env, msr, value, ra);
    }
    return value;
}

static inline void introspection_int3(CPUX86State *env, uintptr_t ra)
{
    if (introspection_hooked(env)) {
        introspection_insn_int3(env, ra);
    }
}

static inline void introspection_xsetbv(CPUX86State *env, uint64_t value,
                                        uintptr_t ra)
{
    if (introspection_hooked(env)) {
        introspection_insn_xsetbv(env, value, ra);
    }
}

/*
 * VMCALL or VMMCALL that no hypervisor in the guest has intercepted.  False
 * where it is none of ours.
 */
static inline bool introspection_hypercall(CPUX86State *env, uintptr_t ra)
{
    if (!qatomic_read(&introspection_present)) {
        return false;
    }
    return introspection_insn_hypercall(env, ra);
}

/*
 * An exception that the tool has injected goes before interrupts.  True when
 * one was delivered.  BQL held.
 */
static inline bool introspection_inject_first(CPUState *cpu)
{
    return unlikely(cpu->introspection) && introspection_exception_first(cpu);
}

#endif
