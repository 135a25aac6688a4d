/*
 * Virtual machine introspection: what QEMU's vCPU loops need of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_VCPU_H
#define INTROSPECTION_VCPU_H

#include "hw/core/cpu.h"
#include "qemu/atomic.h"

/* The guest waits for a tool before its first instruction.  BQL to write. */
extern bool introspection_guest_held;

/* There is an object, hooked or not.  BQL to write. */
extern bool introspection_present;

/*
 * True while introspection keeps @cpu from running guest code.  To the loops
 * such a vCPU is like a stopped one: it serves its work queue, and stop,
 * unplug and shutdown find it where they expect it.
 */
static inline bool introspection_vcpu_held(const CPUState *cpu)
{
    return qatomic_read(&cpu->introspection_blocked) ||
           qatomic_read(&introspection_guest_held);
}

/*
 * The vCPU's thread is to sleep: it reads the tool's messages itself instead,
 * until it is kicked.  False when it has to sleep.  BQL held, given up meanwhile.
 */
bool introspection_vcpu_receive(CPUState *cpu);
void introspection_vcpu_kicked(CPUState *cpu);

/* Part of kicking @cpu, behind what that is for.  Any thread. */
static inline void introspection_vcpu_kick(CPUState *cpu)
{
    if (unlikely(qatomic_read(&cpu->introspection))) {
        introspection_vcpu_kicked(cpu);
    }
}

void introspection_vcpu_enters_guest(CPUState *cpu);
void introspection_vcpu_left_guest(CPUState *cpu);

/* On the vCPU's thread, without the BQL, around the execution of guest code. */
static inline void introspection_tcg_cpu_exec_start(CPUState *cpu)
{
    if (unlikely(cpu->introspection)) {
        introspection_vcpu_enters_guest(cpu);
    }
}

/* @atomic: the instruction comes again at once, in an exclusive context */
static inline void introspection_tcg_cpu_exec_end(CPUState *cpu, bool atomic)
{
    if (unlikely(cpu->introspection) && !atomic) {
        introspection_vcpu_left_guest(cpu);
    }
}

/* @cpu was added to the running VM, and is about to be started.  BQL held. */
void introspection_vcpu_plugged(CPUState *cpu);

/* @cpu's thread has ended, and @cpu will be gone.  BQL held. */
void introspection_vcpu_remove(CPUState *cpu);

#endif
