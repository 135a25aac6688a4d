/*
 * Virtual machine introspection, QEMU's engine: access to the guest's pages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_PAGE_ACCESS_H
#define ACCEL_INTROSPECTION_ENGINE_PAGE_ACCESS_H

#include <linux/kvmi.h>
#include "introspection/engine.h"

#define PAGE_ACCESS_PAGE_BITS 12
#define PAGE_ACCESS_PAGE_SIZE (1 << PAGE_ACCESS_PAGE_BITS)
#define PAGE_ACCESS_ALL \
    (KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X)

/* What the guest may do with its page @gfn, KVMI_PAGE_ACCESS_*.  Any thread. */
uint8_t page_access_of(uint64_t gfn);

/* Every page is open again.  BQL held. */
void page_access_clear(void);

/* Commands; whoever reads the messages, BQL not held. */
void page_access_get(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                     const void *payload);
void page_access_set(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                     const void *payload);

#endif
