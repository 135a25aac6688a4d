/*
 * Virtual machine introspection under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_TCG_H
#define INTROSPECTION_TCG_H

#include "hw/core/cpu.h"

/*
 * The next thing that @cpu does in guest code is one instruction, before any
 * interrupt is taken.  On the vCPU's thread.
 */
void introspection_tcg_execute_one(CPUState *cpu);

#endif
