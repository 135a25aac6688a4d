/*
 * Virtual machine introspection, QEMU's engine: commands to the VM
 *
 * Each function acts and replies at once, whatever the vCPUs do.  Whoever reads
 * the messages, BQL not held.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_VM_COMMANDS_H
#define ACCEL_INTROSPECTION_ENGINE_VM_COMMANDS_H

#include "session.h"

void vm_get_version(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                    const void *payload);
void vm_get_guest_info(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                       const void *payload);
void vm_read_physical(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                      const void *payload);
void vm_write_physical(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                       const void *payload);
void vm_pause_all_vcpus(IntrospectionSession *s,
                        const struct kvmi_msg_hdr *hdr, const void *payload);
void vm_control_vm_events(IntrospectionSession *s,
                          const struct kvmi_msg_hdr *hdr, const void *payload);

/* Whether all of the page at @gpa is RAM that the guest can write. */
bool vm_page_is_ram(uint64_t gpa);

#endif
