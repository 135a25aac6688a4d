/*
 * Virtual machine introspection: what WRMSR does under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_INTROSPECTION_MSR_H
#define TARGET_I386_INTROSPECTION_MSR_H

#include "hw/core/cpu.h"

/*
 * What @msr, which x86_introspection_read_msr() reads as @old, will hold after
 * the guest has written @value.
 */
uint64_t x86_introspection_msr_stored(CPUState *cpu, uint32_t msr,
                                      uint64_t old, uint64_t value);

/* Whether writing @value raises #GP. */
bool x86_introspection_msr_refuses(CPUState *cpu, uint32_t msr,
                                   uint64_t value);

#endif
