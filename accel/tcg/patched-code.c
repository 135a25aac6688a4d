/*
 * Code that another vCPU patches is translated anew
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/ram_addr.h"
#include "exec/translation-block.h"
#include "introspection/patched-code.h"
#include "accel/tcg/tb-internal.h"

void tcg_code_stored(CPUState *cpu, ram_addr_t ram_addr, unsigned size)
{
    if (!(cpu->tcg_cflags & CF_PARALLEL)) {
        return;
    }
    /* Pairs with page_protect_code(). */
    smp_mb();
    if (!cpu_physical_memory_get_dirty_flag(ram_addr, DIRTY_MEMORY_CODE)) {
        tb_invalidate_phys_range_fast(ram_addr, size, 0);
    }
}
