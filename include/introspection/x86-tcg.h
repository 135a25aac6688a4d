/*
 * Virtual machine introspection: x86 instructions under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_X86_TCG_H
#define INTROSPECTION_X86_TCG_H

#include "cpu.h"

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
