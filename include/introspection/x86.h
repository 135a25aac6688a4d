/*
 * Virtual machine introspection: the state of an x86 vCPU
 *
 * All functions are for the vCPU's own thread, outside of guest code, with
 * the BQL held.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_X86_H
#define INTROSPECTION_X86_H

#include <linux/kvmi.h>
#include "hw/core/cpu.h"

/* mode, registers and MSRs of @event */
void x86_introspection_event_state(CPUState *cpu, struct kvmi_event *event);

/* Bytes of the default address size of the current code segment: 2, 4, 8. */
uint8_t x86_introspection_mode(CPUState *cpu);
uint64_t x86_introspection_rip(CPUState *cpu);
/* Whether the next instruction is a REP-prefixed string instruction. */
bool x86_introspection_at_rep(CPUState *cpu);
void x86_introspection_get_regs(CPUState *cpu, struct kvm_regs *regs);
void x86_introspection_get_sregs(CPUState *cpu, struct kvm_sregs *sregs);

/* Bits of RFLAGS that software cannot set are fixed up. */
void x86_introspection_set_regs(CPUState *cpu, const struct kvm_regs *regs);

/*
 * False for an MSR that the CPU model does not have, and for the registers of
 * the x2APIC, reading which could change the device.
 */
bool x86_introspection_read_msr(CPUState *cpu, uint32_t msr, uint64_t *value);

/* False for a leaf that the guest does not have. */
bool x86_introspection_cpuid(CPUState *cpu, uint32_t function, uint32_t index,
                             struct kvmi_get_cpuid_reply *leaf);

void x86_introspection_xsave(CPUState *cpu, struct kvm_xsave *xsave);

/*
 * Whether @cpu reports accesses to descriptor tables: TCG has to translate
 * them differently.
 */
void x86_introspection_watch_descriptors(CPUState *cpu, bool watch);

bool x86_introspection_canonical(CPUState *cpu, uint64_t address);

/* TCG: end HLT.  False if the vCPU was not halted by that. */
bool x86_introspection_wake(CPUState *cpu);

/*
 * TCG: have the exception that is pending delivered first thing when @cpu
 * enters guest code, unless the guest has not started it.  The BQL is not
 * needed.
 */
void x86_introspection_raise(CPUState *cpu);

/* Hz; 0 where it is not known */
uint64_t x86_introspection_tsc_speed(CPUState *cpu);

#endif
