/*
 * Virtual machine introspection: writes to control registers and MSRs under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "introspection/x86.h"
#include "introspection/x86-tcg.h"
#include "target/i386/tcg/helper-tcg.h"
#include "kvmi/target/i386/introspection/msr.h"
#include "introspection.h"

#define CR3_NO_FLUSH (UINT64_C(1) << 63)

/* Whether MOV to the control register raises #GP: SDM Vol. 2, MOV. */
static bool cr_refuses(CPUX86State *env, int cr, uint64_t value)
{
    uint64_t lma = env->efer & MSR_EFER_LMA;

    switch (cr) {
    case 0:
        return (value >> 32) ||
               ((value & CR0_PG_MASK) && !(value & CR0_PE_MASK)) ||
               ((value & CR0_NW_MASK) && !(value & CR0_CD_MASK)) ||
               (!(value & CR0_PG_MASK) && (env->hflags & HF_CS64_MASK)) ||
               ((value & CR0_PG_MASK) && !(env->cr[0] & CR0_PG_MASK) &&
                (env->efer & MSR_EFER_LME) && !(env->cr[4] & CR4_PAE_MASK));
    case 3:
        return lma && (value >> env_archcpu(env)->phys_bits);
    case 4:
        return (value & cr4_reserved_bits(env)) ||
               ((value & (CR4_VME_MASK | CR4_PVI_MASK)) &&
                !(env->features[FEAT_1_EDX] & CPUID_VME)) ||
               ((value & CR4_PCIDE_MASK) &&
                (!lma || (env->cr[3] & 0xfff) ||
                 !(env->features[FEAT_1_ECX] & CPUID_EXT_PCID))) ||
               (lma && !(value & CR4_PAE_MASK)) ||
               (lma && ((value ^ env->cr[4]) & CR4_LA57_MASK));
    default:
        g_assert_not_reached();
    }
}

/* CR0 has 32 bits, and ET is always set. */
static uint64_t cr_stored(int cr, uint64_t value)
{
    return cr == 0 ? (uint32_t)value | CR0_ET_MASK : value;
}

target_ulong introspection_cr_written(CPUX86State *env, int cr,
                                      target_ulong value, uintptr_t ra)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;
    uint64_t keep = cr == 3 ? value & CR3_NO_FLUSH : 0;
    IntrospectionEventData data = {
        .cr = {
            .cr = cr,
            .old_value = env->cr[cr],
            .new_value = cr_stored(cr, value & ~keep),
        },
    };
    const IntrospectionVerdict *verdict;
    uint64_t new_val;

    verdict = introspection_take_verdict(v, KVMI_EVENT_CR, cr, ra);
    if (verdict) {
        new_val = verdict->reply.cr.new_val;
        if (cr == 3 && !(env->efer & MSR_EFER_LMA)) {
            new_val = (uint32_t)new_val;
        }
        if (new_val != data.cr.new_value && cr_refuses(env, cr, new_val)) {
            raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
        }
        return new_val | keep;
    }
    if ((v->events & KVMI_EVENT_CR_FLAG) && (v->crs & (1u << cr)) &&
        data.cr.old_value != data.cr.new_value) {
        introspection_leave_for_event(v, KVMI_EVENT_CR, &data, ra);
    }
    return value;
}

static bool msr_is_watched(IntrospectionVCPU *v, uint32_t msr)
{
    return (v->events & KVMI_EVENT_MSR_FLAG) &&
           introspection_msr_can_be_watched(msr) &&
           test_bit(introspection_msr_bit(msr), introspection_msr_map(v, msr));
}

uint64_t introspection_msr_written(CPUX86State *env, uint32_t msr,
                                   uint64_t value, uintptr_t ra)
{
    CPUState *cpu = env_cpu(env);
    IntrospectionVCPU *v = cpu->introspection;
    IntrospectionEventData data = {
        .msr = { .msr = msr, .new_value = value },
    };
    const IntrospectionVerdict *verdict;
    uint64_t old;

    verdict = introspection_take_verdict(v, KVMI_EVENT_MSR, msr, ra);
    if (verdict) {
        return verdict->reply.msr.new_val;
    }
    if (msr_is_watched(v, msr) &&
        x86_introspection_read_msr(cpu, msr, &old) &&
        !x86_introspection_msr_refuses(cpu, msr, value) &&
        x86_introspection_msr_stored(cpu, msr, old, value) != old) {
        data.msr.old_value = old;
        introspection_leave_for_event(v, KVMI_EVENT_MSR, &data, ra);
    }
    return value;
}
