/*
 * Virtual machine introspection: extended state of an x86 vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "introspection/x86.h"
#include "system/tcg.h"

void x86_introspection_xsave(CPUState *cpu, struct kvm_xsave *xsave)
{
    CPUX86State *env = cpu_env(cpu);
    X86XSaveHeader *header =
        (void *)xsave->region + sizeof(X86LegacyXSaveArea);

    if (tcg_enabled()) {
        /* TCG keeps the flags of SSE operations apart. */
        update_mxcsr_from_sse_status(env);
    }
    x86_cpu_xsave_all_areas(env_archcpu(env), xsave->region,
                            sizeof(xsave->region));
    /* TCG does not track which components are in use: all that can be. */
    header->xstate_bv = env->xcr0 | XSTATE_FP_MASK | XSTATE_SSE_MASK;
}
