/*
 * Virtual machine introspection: MSRs of an x86 vCPU
 *
 * TCG reads MSRs that it does not know as zero and ignores writes to them.
 * To introspection these do not exist.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "hw/i386/apic.h"
#include "introspection/x86.h"
#include "msr.h"

static bool is_mc_bank(CPUX86State *env, uint32_t msr)
{
    return msr >= MSR_MC0_CTL &&
           msr < MSR_MC0_CTL + 4 * (env->mcg_cap & 0xff);
}

bool x86_introspection_read_msr(CPUState *cpu, uint32_t msr, uint64_t *value)
{
    CPUX86State *env = cpu_env(cpu);
    DeviceState *apic = env_archcpu(env)->apic_state;

    switch (msr) {
    case MSR_IA32_SYSENTER_CS:
        *value = env->sysenter_cs;
        return true;
    case MSR_IA32_SYSENTER_ESP:
        *value = env->sysenter_esp;
        return true;
    case MSR_IA32_SYSENTER_EIP:
        *value = env->sysenter_eip;
        return true;
    case MSR_IA32_APICBASE:
        *value = apic ? cpu_get_apic_base(apic) : 0;
        return apic;
    case MSR_EFER:
        *value = env->efer;
        return true;
    case MSR_STAR:
        *value = env->star;
        return true;
#ifdef TARGET_X86_64
    case MSR_LSTAR:
        *value = env->lstar;
        return true;
    case MSR_CSTAR:
        *value = env->cstar;
        return true;
    case MSR_FMASK:
        *value = env->fmask;
        return true;
    case MSR_FSBASE:
        *value = env->segs[R_FS].base;
        return true;
    case MSR_GSBASE:
        *value = env->segs[R_GS].base;
        return true;
    case MSR_KERNELGSBASE:
        *value = env->kernelgsbase;
        return true;
#endif
    case MSR_PAT:
        *value = env->pat;
        return true;
    case MSR_TSC_AUX:
        *value = env->tsc_aux;
        return (env->features[FEAT_8000_0001_EDX] & CPUID_EXT2_RDTSCP) ||
               (env->features[FEAT_7_0_ECX] & CPUID_7_0_ECX_RDPID);
    case MSR_IA32_MISC_ENABLE:
        *value = env->msr_ia32_misc_enable;
        return true;
    case MSR_IA32_UCODE_REV:
        *value = env_archcpu(env)->ucode_rev;
        return true;
    case MSR_MTRRcap:
        *value = MSR_MTRRcap_VCNT | MSR_MTRRcap_FIXRANGE_SUPPORT |
                 MSR_MTRRcap_WC_SUPPORTED;
        return env->features[FEAT_1_EDX] & CPUID_MTRR;
    case MSR_MTRRdefType:
        *value = env->mtrr_deftype;
        return true;
    case MSR_MTRRphysBase(0) ... MSR_MTRRphysMask(MSR_MTRRcap_VCNT - 1):
        if (msr & 1) {
            *value = env->mtrr_var[(msr - MSR_MTRRphysBase(0)) / 2].mask;
        } else {
            *value = env->mtrr_var[(msr - MSR_MTRRphysBase(0)) / 2].base;
        }
        return true;
    case MSR_MTRRfix64K_00000:
        *value = env->mtrr_fixed[0];
        return true;
    case MSR_MTRRfix16K_80000 ... MSR_MTRRfix16K_A0000:
        *value = env->mtrr_fixed[msr - MSR_MTRRfix16K_80000 + 1];
        return true;
    case MSR_MTRRfix4K_C0000 ... MSR_MTRRfix4K_F8000:
        *value = env->mtrr_fixed[msr - MSR_MTRRfix4K_C0000 + 3];
        return true;
    case MSR_MCG_CAP:
        *value = env->mcg_cap;
        return true;
    case MSR_MCG_STATUS:
        *value = env->mcg_status;
        return true;
    case MSR_MCG_CTL:
        *value = env->mcg_ctl;
        return env->mcg_cap & MCG_CTL_P;
    case MSR_IA32_PKRS:
        *value = env->pkrs;
        return env->features[FEAT_7_0_ECX] & CPUID_7_0_ECX_PKS;
    case MSR_VM_HSAVE_PA:
        *value = env->vm_hsave;
        return env->features[FEAT_8000_0001_ECX] & CPUID_EXT3_SVM;
    case MSR_IA32_BNDCFGS:
        *value = env->msr_bndcfgs;
        return env->features[FEAT_7_0_EBX] & CPUID_7_0_EBX_MPX;
    default:
        if (is_mc_bank(env, msr)) {
            *value = env->mce_banks[msr - MSR_MC0_CTL];
            return true;
        }
        return false;
    }
}

/* The bits of EFER that WRMSR changes. */
static uint64_t efer_writable(CPUX86State *env)
{
    uint64_t mask = 0;

    if (env->features[FEAT_8000_0001_EDX] & CPUID_EXT2_SYSCALL) {
        mask |= MSR_EFER_SCE;
    }
    if (env->features[FEAT_8000_0001_EDX] & CPUID_EXT2_LM) {
        mask |= MSR_EFER_LME;
    }
    if (env->features[FEAT_8000_0001_EDX] & CPUID_EXT2_FFXSR) {
        mask |= MSR_EFER_FFXSR;
    }
    if (env->features[FEAT_8000_0001_EDX] & CPUID_EXT2_NX) {
        mask |= MSR_EFER_NXE;
    }
    if (env->features[FEAT_8000_0001_ECX] & CPUID_EXT3_SVM) {
        mask |= MSR_EFER_SVME;
    }
    return mask;
}

uint64_t x86_introspection_msr_stored(CPUState *cpu, uint32_t msr,
                                      uint64_t old, uint64_t value)
{
    CPUX86State *env = cpu_env(cpu);

    switch (msr) {
    case MSR_IA32_SYSENTER_CS:
        return value & 0xffff;
    case MSR_EFER: {
        uint64_t mask = efer_writable(env);

        return (old & ~mask) | (value & mask);
    }
    case MSR_MCG_CTL:
        return value == 0 || value == UINT64_MAX ? value : old;
    case MSR_MCG_CAP:
    case MSR_MTRRcap:
    case MSR_IA32_UCODE_REV:
        return old;
    case MSR_IA32_APICBASE:
        return (old & MSR_IA32_APICBASE_BSP) |
               (value & ~(uint64_t)MSR_IA32_APICBASE_BSP);
    default:
        if (is_mc_bank(env, msr) && (msr - MSR_MC0_CTL) % 4 == 0 &&
            value != 0 && value != UINT64_MAX) {
            return old;
        }
        return value;
    }
}

/* SDM Vol. 3, 11.12.1 and 11.12.5 */
static bool apic_base_refuses(CPUX86State *env, uint64_t value)
{
    uint64_t old = cpu_get_apic_base(env_archcpu(env)->apic_state);
    bool was_on = old & MSR_IA32_APICBASE_ENABLE;
    bool was_x2 = old & MSR_IA32_APICBASE_EXTD;
    bool on = value & MSR_IA32_APICBASE_ENABLE;
    bool x2 = value & MSR_IA32_APICBASE_EXTD;

    return (value & MSR_IA32_APICBASE_RESERVED) ||
           (x2 && !(env->features[FEAT_1_ECX] & CPUID_EXT_X2APIC)) ||
           (x2 && !on) || (x2 && !was_on) || (was_x2 && on && !x2);
}

bool x86_introspection_msr_refuses(CPUState *cpu, uint32_t msr, uint64_t value)
{
    CPUX86State *env = cpu_env(cpu);

    switch (msr) {
    case MSR_IA32_APICBASE:
        return apic_base_refuses(env, value);
    case MSR_IA32_PKRS:
        return value >> 32;
    case MSR_VM_HSAVE_PA:
        return (value & 0xfff) ||
               (value >> env_archcpu(env)->phys_bits);
    default:
        return false;
    }
}
