/*
 * Virtual machine introspection: access to pages under TCG
 *
 * A TLB has of a restricted page only what is not forbidden, so a forbidden
 * access misses it, comes here, and becomes an event.  When the tool has let
 * it through the access comes here again, and gets an entry that is good for
 * this access only: the next misses again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/cpu-common.h"
#include "exec/cputlb.h"
#include "exec/memory.h"
#include "exec/page-protection.h"
#include "introspection/tcg.h"
#include "introspection/x86-tcg.h"
#include "kvmi/accel/introspection/engine/page-access.h"
#include "introspection.h"

QEMU_BUILD_BUG_ON(PAGE_READ != KVMI_PAGE_ACCESS_R);
QEMU_BUILD_BUG_ON(PAGE_WRITE != KVMI_PAGE_ACCESS_W);
QEMU_BUILD_BUG_ON(PAGE_EXEC != KVMI_PAGE_ACCESS_X);
QEMU_BUILD_BUG_ON(TARGET_PAGE_BITS != PAGE_ACCESS_PAGE_BITS);

/* An access that has missed the TLB. */
typedef struct Access {
    CPUState *cs;
    vaddr addr;
    hwaddr paddr;
    MMUAccessType type;
    int mmu_idx;
    uintptr_t ra;
    MemTxAttrs attrs;
    bool delivery;
} Access;

static G_NORETURN void leave_for_page(const Access *a)
{
    IntrospectionVCPU *v = a->cs->introspection;
    IntrospectionEventData data = {
        .pf = {
            .gva = is_mmu_index_32(a->mmu_idx) ? (uint32_t)a->addr : a->addr,
            .gpa = a->paddr,
            .mode = 1 << a->type,
        },
    };

    introspection_leave_for_event(v, KVMI_EVENT_PF, &data, a->ra);
}

static void read_page(void *opaque, void *copy)
{
    const Access *a = opaque;

    address_space_read(cpu_addressspace(a->cs, a->attrs),
                       a->paddr & TARGET_PAGE_MASK, a->attrs,
                       copy, TARGET_PAGE_SIZE);
}

/*
 * What the tool has let this instruction or delivery do with the page.  The
 * vCPU does nothing else before it is back in its loop, but may begin to
 * deliver something then.
 */
static int granted(const IntrospectionVCPU *v, const Access *a)
{
    return v->repeating && v->grants.delivery == a->delivery
           ? page_grants_of(&v->grants, a->paddr >> TARGET_PAGE_BITS) : 0;
}

/* Loads see the tool's bytes in place of the page's, stores do not. */
static void hide(IntrospectionVCPU *v, Access *a, CPUTLBEntryFull *full)
{
    uint64_t gfn = a->paddr >> TARGET_PAGE_BITS;
    vaddr page = a->addr & TARGET_PAGE_MASK;

    if (!v->repeating || v->grants.delivery != a->delivery ||
        !page_grants_hide(&v->grants, gfn, page)) {
        return;
    }
    full->lg_page_size = TARGET_PAGE_BITS - 1;
    if (a->type == MMU_DATA_LOAD) {
        full->prot = PAGE_READ;
        full->introspection_host = page_grants_shadow(&v->grants, gfn, page,
                                                      read_page, a);
    } else if (a->type == MMU_DATA_STORE) {
        full->prot = PAGE_WRITE;
        if ((a->cs->tcg_cflags & CF_PARALLEL) &&
            !cpu_in_exclusive_context(a->cs)) {
            /* An atomic instruction has the same memory for both. */
            cpu_loop_exit_atomic(a->cs, a->ra);
        }
    }
}

/*
 * Atomic instructions that find a page writable take it for readable, too, or
 * else for a fault.  So an entry that is writable only must not stay.
 */
static int without_write_only(int prot)
{
    return prot & PAGE_READ ? prot : prot & ~PAGE_WRITE;
}

bool introspection_tlb_fill(CPUState *cs, vaddr addr, hwaddr paddr, int prot,
                            int page_size, MMUAccessType type, int mmu_idx,
                            bool probe, uintptr_t ra)
{
    IntrospectionVCPU *v = cs->introspection;
    Access a = {
        .cs = cs,
        .addr = addr,
        .paddr = paddr,
        .type = type,
        .mmu_idx = mmu_idx,
        .ra = ra,
        .attrs = cpu_get_mem_attrs(cpu_env(cs)),
        .delivery = v->delivery.active && !ra && type != MMU_INST_FETCH,
    };
    CPUTLBEntryFull full = {
        .phys_addr = paddr & TARGET_PAGE_MASK,
        .attrs = a.attrs,
        .prot = prot,
        .lg_page_size = ctz64(page_size),
    };
    int need = 1 << type;
    int allowed = v->events & KVMI_EVENT_PF_FLAG
                  ? page_access_of(paddr >> TARGET_PAGE_BITS) : PAGE_ACCESS_ALL;
    int once = allowed == PAGE_ACCESS_ALL ? 0 : granted(v, &a);

    if (!((allowed | once) & need)) {
        if (probe) {
            return false;
        }
        leave_for_page(&a);
    }
    if (type == MMU_INST_FETCH && (allowed & need)) {
        full.prot &= without_write_only(allowed);
    } else if (once || !(without_write_only(allowed) & need)) {
        full.prot &= allowed | once;
        full.lg_page_size = TARGET_PAGE_BITS - 1;
        v->grants.fetched |= type == MMU_INST_FETCH;
    } else {
        full.prot &= without_write_only(allowed);
    }
    hide(v, &a, &full);
    tlb_set_page_full(cs, mmu_idx, addr & TARGET_PAGE_MASK, &full);
    return true;
}
