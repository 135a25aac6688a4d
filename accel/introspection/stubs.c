/*
 * Virtual machine introspection: where there is no engine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "introspection/tcg.h"
#include "introspection/vcpu.h"

bool introspection_vcpu_receive(CPUState *cpu)
{
    return false;
}

/* Reached only with CPUState.introspection set, which an engine does. */
void introspection_vcpu_kicked(CPUState *cpu)
{
    g_assert_not_reached();
}

void introspection_vcpu_enters_guest(CPUState *cpu)
{
    g_assert_not_reached();
}

void introspection_vcpu_left_guest(CPUState *cpu)
{
    g_assert_not_reached();
}

void introspection_vcpu_plugged(CPUState *cpu)
{
}

void introspection_vcpu_remove(CPUState *cpu)
{
}

uint32_t introspection_tcg_step_cflags(CPUState *cpu)
{
    return 0;
}
