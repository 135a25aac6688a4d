/*
 * Virtual machine introspection, QEMU's engine: access to the guest's pages
 *
 * The table is the VM's, of which there is one.  It has the restricted pages
 * only, and is read on every miss of a TLB.  What the TLBs have of a page is
 * thrown away where access is taken from it, before the command is answered.
 * Where access is given back that is not needed: a TLB has at most less than
 * the table allows, and then asks again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/qht.h"
#include "qemu/rcu.h"
#include "qemu/xxhash.h"
#include "page-access.h"
#include "session.h"
#include "vcpu.h"
#include "vm-commands.h"
#include "../trace.h"

typedef struct RestrictedPage {
    struct rcu_head rcu;
    uint64_t gfn;
    uint8_t access;             /* atomic */
} RestrictedPage;

/* Written under the BQL, read under RCU. */
static struct qht restricted;
static unsigned n_restricted;   /* atomic */

static uint32_t hash_of(uint64_t gfn)
{
    return qemu_xxhash2(gfn);
}

static bool same_gfn(const void *page, const void *gfn)
{
    return ((const RestrictedPage *)page)->gfn == *(const uint64_t *)gfn;
}

static bool same_page(const void *a, const void *b)
{
    return same_gfn(a, &((const RestrictedPage *)b)->gfn);
}

static RestrictedPage *find(uint64_t gfn)
{
    return qatomic_read(&n_restricted)
           ? qht_lookup_custom(&restricted, &gfn, hash_of(gfn), same_gfn)
           : NULL;
}

uint8_t page_access_of(uint64_t gfn)
{
    RCU_READ_LOCK_GUARD();
    const RestrictedPage *page = find(gfn);

    return page ? qatomic_read(&page->access) : PAGE_ACCESS_ALL;
}

static void restrict_page(uint64_t gfn, uint8_t access)
{
    RestrictedPage *page = find(gfn);

    if (page) {
        qatomic_set(&page->access, access);
        return;
    }
    page = g_new0(RestrictedPage, 1);
    page->gfn = gfn;
    page->access = access;
    qht_insert(&restricted, page, hash_of(gfn), NULL);
    qatomic_inc(&n_restricted);
}

static void forget_page(uint64_t gfn)
{
    RestrictedPage *page = find(gfn);

    if (page) {
        qht_remove(&restricted, page, hash_of(gfn));
        qatomic_dec(&n_restricted);
        g_free_rcu(page, rcu);
    }
}

static bool forget_any(void *page, uint32_t hash, void *unused)
{
    RestrictedPage *p = page;

    g_free_rcu(p, rcu);
    return true;
}

void page_access_clear(void)
{
    if (n_restricted) {
        qatomic_set(&n_restricted, 0);
        qht_iter_remove(&restricted, forget_any, NULL);
    }
}

/* Returns 0 or a negative KVM_E*; *@taken: some access was taken away. */
static int set_access(uint64_t gpa, uint8_t access, bool *taken)
{
    uint64_t gfn = gpa >> PAGE_ACCESS_PAGE_BITS;
    uint8_t old;

    if ((access & ~PAGE_ACCESS_ALL) || !vm_page_is_ram(gpa)) {
        return -KVM_EINVAL;
    }
    old = page_access_of(gfn);
    trace_introspection_page_access(gfn, old, access);
    *taken |= (old & ~access) != 0;
    if (access == PAGE_ACCESS_ALL) {
        forget_page(gfn);
    } else {
        restrict_page(gfn, access);
    }
    return 0;
}

/* All entries in order, whatever becomes of the others; the first error. */
static int set_all(const struct kvmi_set_page_access *req, bool *taken)
{
    int err = 0;

    for (unsigned i = 0; i < req->count; i++) {
        const struct kvmi_page_access_entry *entry = &req->entries[i];
        int e = set_access(entry->gpa, entry->access, taken);

        err = err ?: e;
    }
    return err;
}

void page_access_set(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                     const void *payload)
{
    const struct kvmi_set_page_access *req = payload;
    bool taken = false;
    int err;

    bql_lock();
    err = introspection_vcpu_check(s, req->vcpu);
    if (!err) {
        err = set_all(req, &taken);
    }
    bql_unlock();
    if (taken) {
        introspection_vcpus_flush_tlbs(s);
    }
    session_reply(s, hdr, err, NULL, 0);
}

static int get_all(const struct kvmi_get_page_access *req, uint8_t *access)
{
    for (unsigned i = 0; i < req->count; i++) {
        if (!vm_page_is_ram(req->gpa[i])) {
            return -KVM_EINVAL;
        }
        access[i] = page_access_of(req->gpa[i] >> PAGE_ACCESS_PAGE_BITS);
    }
    return 0;
}

void page_access_get(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                     const void *payload)
{
    const struct kvmi_get_page_access *req = payload;
    uint8_t access[KVMI_MSG_SIZE / sizeof(req->gpa[0])];
    int err;

    bql_lock();
    err = introspection_vcpu_check(s, req->vcpu);
    if (!err) {
        err = get_all(req, access);
    }
    bql_unlock();
    session_reply(s, hdr, err, access, req->count);
}

static void __attribute__((constructor)) page_access_init(void)
{
    qht_init(&restricted, same_page, 0, QHT_MODE_AUTO_RESIZE);
}
