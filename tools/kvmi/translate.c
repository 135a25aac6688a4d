/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: guest virtual addresses, through the guest's own page
 * tables
 */

#include <string.h>
#include "internals.h"

#define CR0_PG (1u << 31)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_LA57 (1u << 12)
#define EFER_LMA (1u << 10)

#define PTE_PRESENT 1u
#define PTE_HUGE (1u << 7)
#define PTE_ADDRESS 0x000ffffffffff000ULL

/* A kind of page tables, from the top: which bits of the gva each level has */
typedef struct Paging {
    unsigned levels;
    unsigned bits;              /* of each level's index */
    unsigned entry_size;
    unsigned top_bits;          /* of the first level's index */
} Paging;

static const Paging paging_32 = { 2, 10, 4, 10 };
static const Paging paging_pae = { 3, 9, 8, 2 };
static const Paging paging_4_level = { 4, 9, 8, 9 };
static const Paging paging_5_level = { 5, 9, 8, 9 };

static const Paging *paging_of(const struct kvm_sregs *sregs)
{
    if (sregs->efer & EFER_LMA) {
        return sregs->cr4 & CR4_LA57 ? &paging_5_level : &paging_4_level;
    }
    return sregs->cr4 & CR4_PAE ? &paging_pae : &paging_32;
}

static bool read_entry(KvmiClient *c, uint64_t gpa, unsigned size,
                       uint64_t *entry, GError **errp)
{
    *entry = 0;
    return kvmi_read_physical(c, gpa, entry, size, errp);
}

static bool not_mapped(GError **errp, uint64_t gva, uint64_t cr3)
{
    g_set_error(errp, KVMI_ERROR, KVMI_ERROR_NOT_MAPPED,
                "0x%" PRIx64 " is not mapped in the address space of CR3 0x%"
                PRIx64, gva, cr3);
    return false;
}

/* Whether an entry of this level, 0 the last, maps a page. */
static bool is_page(const struct kvm_sregs *sregs, const Paging *p,
                    unsigned level, uint64_t entry)
{
    if (level == 0) {
        return true;
    }
    /* A level more, and it would be 512 GiB. */
    if (!(entry & PTE_HUGE) || level > 2 || (p == &paging_pae && level > 1)) {
        return false;
    }
    return p != &paging_32 || (sregs->cr4 & CR4_PSE);
}

/* Of a page with @shift bits of offset; 4 MiB pages have more bits elsewhere */
static uint64_t page_address(const Paging *p, unsigned level, unsigned shift,
                             uint64_t entry)
{
    if (p == &paging_32 && level) {
        return (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32;
    }
    return entry & PTE_ADDRESS & -(1ULL << shift);
}

bool kvmi_translate(KvmiClient *c, const struct kvm_sregs *sregs,
                    uint64_t gva, uint64_t *gpa, GError **errp)
{
    const Paging *p = paging_of(sregs);
    uint64_t table = sregs->cr3 & PTE_ADDRESS;
    unsigned level;

    if (!(sregs->cr0 & CR0_PG)) {
        *gpa = gva;
        return true;
    }
    if (p == &paging_pae) {
        table = sregs->cr3 & 0xffffffe0;
    }
    for (level = p->levels; level--; ) {
        unsigned shift = 12 + level * p->bits;
        unsigned bits = level == p->levels - 1 ? p->top_bits : p->bits;
        uint64_t index = gva >> shift & ((1u << bits) - 1);
        uint64_t entry;

        if (!read_entry(c, table + index * p->entry_size, p->entry_size,
                        &entry, errp)) {
            g_prefix_error(errp, "translating 0x%" PRIx64 ": ", gva);
            return false;
        }
        if (!(entry & PTE_PRESENT)) {
            return not_mapped(errp, gva, sregs->cr3);
        }
        if (is_page(sregs, p, level, entry)) {
            *gpa = page_address(p, level, shift, entry) |
                   (gva & ((1ULL << shift) - 1));
            return true;
        }
        table = entry & PTE_ADDRESS;
    }
    g_assert_not_reached();
}

bool kvmi_read_virtual(KvmiClient *c, const struct kvm_sregs *sregs,
                       uint64_t gva, void *buf, size_t size, size_t *done,
                       GError **errp)
{
    uint8_t *p = buf;

    *done = 0;
    while (*done < size) {
        size_t n = MIN(size - *done, KVMI_PAGE_SIZE - gva % KVMI_PAGE_SIZE);
        uint64_t gpa;

        if (!kvmi_translate(c, sregs, gva, &gpa, errp) ||
            !kvmi_read_physical(c, gpa, p + *done, n, errp)) {
            return false;
        }
        *done += n;
        gva += n;
    }
    return true;
}
