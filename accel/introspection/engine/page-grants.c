/*
 * Virtual machine introspection, QEMU's engine: accesses let through once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "page-access.h"
#include "page-grants.h"

typedef struct PageGrant {
    struct kvmi_event_pf event;
    uint8_t access;
    uint32_t ctx_size;
    uint8_t ctx_data[sizeof_field(struct kvmi_event_pf_reply, ctx_data)];
} PageGrant;

/* What the loads of one instruction see of one page. */
typedef struct Shadow {
    uint64_t gfn;
    vaddr page;
    void *memory;
} Shadow;

static void shadow_free(void *opaque)
{
    Shadow *shadow = opaque;

    qemu_vfree(shadow->memory);
    g_free(shadow);
}

static const PageGrant *grant_at(const PageGrants *grants, unsigned i)
{
    return &g_array_index(grants->pages, PageGrant, i);
}

static unsigned count(const PageGrants *grants)
{
    return grants->pages ? grants->pages->len : 0;
}

bool page_grants_any(const PageGrants *grants)
{
    return count(grants) || grants->whole_rep;
}

void page_grants_clear(PageGrants *grants)
{
    g_clear_pointer(&grants->pages, g_array_unref);
    g_clear_pointer(&grants->shadows, g_ptr_array_unref);
    grants->whole_rep = false;
}

void page_grants_add(PageGrants *grants, const struct kvmi_event_pf *event,
                     uint32_t action, const struct kvmi_event_pf_reply *reply)
{
    PageGrant grant = { .event = *event };

    if (action == KVMI_EVENT_ACTION_CONTINUE) {
        grant.access = event->mode;
        if (event->mode == KVMI_PAGE_ACCESS_R) {
            grant.ctx_size = reply->ctx_size;
            memcpy(grant.ctx_data, reply->ctx_data, reply->ctx_size);
        }
    } else if (reply->singlestep) {
        grant.access = PAGE_ACCESS_ALL;
    } else {
        return;
    }
    if (!grants->pages) {
        grants->pages = g_array_new(false, false, sizeof(PageGrant));
    }
    g_array_append_val(grants->pages, grant);
}

uint8_t page_grants_of(const PageGrants *grants, uint64_t gfn)
{
    uint8_t access = grants->whole_rep ? PAGE_ACCESS_ALL : 0;

    for (unsigned i = 0; i < count(grants); i++) {
        const PageGrant *grant = grant_at(grants, i);

        if (grant->event.gpa >> PAGE_ACCESS_PAGE_BITS == gfn) {
            access |= grant->access;
        }
    }
    return access;
}

/*
 * The part of @grant's bytes that lies in page @gfn, mapped at @page: returns
 * how many, where in the page, and where among the grant's bytes.  They begin
 * at the event's gpa, and go on in the page behind it as the guest sees it.
 */
static size_t bytes_in_page(const PageGrant *grant, uint64_t gfn, vaddr page,
                            size_t *in_page, size_t *in_ctx)
{
    size_t offset = grant->event.gpa % PAGE_ACCESS_PAGE_SIZE;
    size_t here = MIN(grant->ctx_size, PAGE_ACCESS_PAGE_SIZE - offset);

    if (grant->event.gpa >> PAGE_ACCESS_PAGE_BITS == gfn) {
        *in_page = offset;
        *in_ctx = 0;
        return here;
    }
    if (grant->event.gva - offset + PAGE_ACCESS_PAGE_SIZE == page) {
        *in_page = 0;
        *in_ctx = here;
        return grant->ctx_size - here;
    }
    return 0;
}

bool page_grants_hide(const PageGrants *grants, uint64_t gfn, vaddr page)
{
    size_t in_page, in_ctx;

    for (unsigned i = 0; i < count(grants); i++) {
        if (bytes_in_page(grant_at(grants, i), gfn, page, &in_page, &in_ctx)) {
            return true;
        }
    }
    return false;
}

static Shadow *shadow_of(PageGrants *grants, uint64_t gfn, vaddr page)
{
    Shadow *shadow;

    if (!grants->shadows) {
        grants->shadows = g_ptr_array_new_with_free_func(shadow_free);
    }
    for (unsigned i = 0; i < grants->shadows->len; i++) {
        shadow = g_ptr_array_index(grants->shadows, i);
        if (shadow->gfn == gfn && shadow->page == page) {
            return shadow;
        }
    }
    shadow = g_new(Shadow, 1);
    *shadow = (Shadow) {
        .gfn = gfn,
        .page = page,
        .memory = qemu_memalign(PAGE_ACCESS_PAGE_SIZE, PAGE_ACCESS_PAGE_SIZE),
    };
    g_ptr_array_add(grants->shadows, shadow);
    return shadow;
}

void *page_grants_shadow(PageGrants *grants, uint64_t gfn, vaddr page,
                         void (*read)(void *opaque, void *copy), void *opaque)
{
    Shadow *shadow = shadow_of(grants, gfn, page);

    read(opaque, shadow->memory);
    for (unsigned i = 0; i < count(grants); i++) {
        const PageGrant *grant = grant_at(grants, i);
        size_t in_page, in_ctx, n;

        n = bytes_in_page(grant, gfn, page, &in_page, &in_ctx);
        if (n) {
            memcpy(shadow->memory + in_page, grant->ctx_data + in_ctx, n);
        }
    }
    return shadow->memory;
}
