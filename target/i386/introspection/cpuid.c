/*
 * Virtual machine introspection: CPUID as an x86 guest sees it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "introspection/x86.h"

static bool leaf_exists(CPUX86State *env, uint32_t function)
{
    if (function >= 0xc0000000) {
        return function <= env->cpuid_xlevel2;
    }
    if (function >= 0x80000000) {
        return function <= env->cpuid_xlevel;
    }
    if (function >= 0x40000000) {
        return function <= 0x40000001 &&
               (env->features[FEAT_1_ECX] & CPUID_EXT_HYPERVISOR);
    }
    return function <= env->cpuid_level;
}

/* SDM Vol. 2, CPUID: the leaves for which ECX counts */
static bool has_subleaves(uint32_t function)
{
    switch (function) {
    case 0x4:
    case 0x7:
    case 0xb:
    case 0xd:
    case 0xf:
    case 0x10:
    case 0x12:
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1b:
    case 0x1d:
    case 0x1f:
    case 0x8000001d:
        return true;
    default:
        return false;
    }
}

bool x86_introspection_cpuid(CPUState *cpu, uint32_t function, uint32_t index,
                             struct kvmi_get_cpuid_reply *leaf)
{
    CPUX86State *env = cpu_env(cpu);

    if (!leaf_exists(env, function)) {
        return false;
    }
    cpu_x86_cpuid(env, function, index, &leaf->eax, &leaf->ebx, &leaf->ecx,
                  &leaf->edx);
    if (has_subleaves(function) && index) {
        /* Beyond the last subleaf; 0xb and 0x1f echo the index in ECX. */
        return leaf->eax || leaf->ebx || (leaf->ecx & ~0xff);
    }
    return true;
}
