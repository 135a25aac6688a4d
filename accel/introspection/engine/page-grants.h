/*
 * Virtual machine introspection, QEMU's engine: accesses let through once
 *
 * What the tool's answers to PF events let one vCPU do with restricted pages:
 * for one execution of one instruction, or one delivery of an interrupt or
 * exception.  One that touches several restricted pages has an event for
 * each, comes again after each answer, and finds all answers so far.
 *
 * For the vCPU's thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_PAGE_GRANTS_H
#define ACCEL_INTROSPECTION_ENGINE_PAGE_GRANTS_H

#include <linux/kvmi.h>
#include "exec/hwaddr.h"
#include "exec/vaddr.h"

typedef struct PageGrants {
    GArray *pages;              /* of PageGrant, see page-grants.c */
    GPtrArray *shadows;         /* of Shadow */
    bool delivery;              /* not an instruction */
    bool whole_rep;             /* every page, for all of a REP instruction */
    uint64_t rip;               /* whole_rep: where that is */
    bool fetched;               /* code came from such a page */
} PageGrants;

/* Take the tool's answer to an event in. */
void page_grants_add(PageGrants *grants, const struct kvmi_event_pf *event,
                     uint32_t action, const struct kvmi_event_pf_reply *reply);
void page_grants_clear(PageGrants *grants);
bool page_grants_any(const PageGrants *grants);

/* KVMI_PAGE_ACCESS_* that are let through at page @gfn. */
uint8_t page_grants_of(const PageGrants *grants, uint64_t gfn);

/* Whether loads at page @gfn, mapped at @page, see bytes of the tool. */
bool page_grants_hide(const PageGrants *grants, uint64_t gfn, vaddr page);

/*
 * Memory for such loads: put the tool's bytes into the copy of the page that
 * @read makes.  Lives until page_grants_clear().
 */
void *page_grants_shadow(PageGrants *grants, uint64_t gfn, vaddr page,
                         void (*read)(void *opaque, void *copy), void *opaque);

#endif
