/*
 * INT3 under TCG, which is not INT 3: user-mode emulation has it, too
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "introspection/x86-tcg.h"
#include "target/i386/tcg/helper-tcg.h"

G_NORETURN void helper_int3(CPUX86State *env, int next_eip_addend)
{
    introspection_int3(env, GETPC());
    /* To SVM it is no software interrupt. */
    cpu_svm_check_intercept_param(env, SVM_EXIT_EXCP_BASE + EXCP03_INT3, 0,
                                  GETPC());
    raise_interrupt(env, EXCP03_INT3, next_eip_addend);
}
