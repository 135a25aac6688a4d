/*
 * Virtual machine introspection: x86 instructions that have events
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_TCG_INTROSPECTION_H
#define TARGET_I386_TCG_INTROSPECTION_H

#include "kvmi/accel/introspection/engine/vcpu.h"

/*
 * The tool's verdict on this very instruction, if it is being executed again
 * after its event.  @key says which, where an instruction can have the event
 * for several things: the control register, the MSR.  Otherwise 0.
 */
const IntrospectionVerdict *
introspection_take_verdict(IntrospectionVCPU *v, uint32_t event, uint64_t key,
                           uintptr_t ra);

/* Leave guest code before the instruction, for the tool to be asked. */
G_NORETURN void
introspection_leave_for_event(IntrospectionVCPU *v, uint32_t event,
                              const IntrospectionEventData *data,
                              uintptr_t ra);

#endif
