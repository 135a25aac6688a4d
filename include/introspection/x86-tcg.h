/*
 * Virtual machine introspection: x86 instructions under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_X86_TCG_H
#define INTROSPECTION_X86_TCG_H

#include "cpu.h"
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
 * The base answers reserved bits with an exit to the hypervisor, even where
 * there is none; #GP is what the guest expects then.
 */
static inline void introspection_refuse_cr(CPUX86State *env, uintptr_t ra)
{
    if (!(env->hflags & HF_GUEST_MASK)) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
}

static inline target_ulong introspection_write_cr(CPUX86State *env, int cr,
                                                  target_ulong value,
                                                  uintptr_t ra)
{
    if (unlikely(env_cpu(env)->introspection)) {
        return introspection_cr_written(env, cr, value, ra);
    }
    return value;
}

static inline uint64_t introspection_write_msr(CPUX86State *env, uint32_t msr,
                                               uint64_t value, uintptr_t ra)
{
    if (unlikely(env_cpu(env)->introspection)) {
        return introspection_msr_written(env, msr, value, ra);
    }
    return value;
}

#endif
