/*
 * Virtual machine introspection, QEMU's engine: events of the VM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_VM_EVENTS_H
#define ACCEL_INTROSPECTION_ENGINE_VM_EVENTS_H

#include "session.h"

/*
 * Send UNHOOK, unless the tool still has to answer the last one.  -ENOENT
 * where the tool has not switched it on or is gone.  BQL held.
 */
int vm_events_request_unhook(IntrospectionSession *s);

/*
 * Is @seq one of the VM's events?  Then acts on the tool's reply to it, and
 * sets an error if that does not fit.  BQL held.
 */
bool vm_events_take_reply(IntrospectionSession *s,
                          const struct kvmi_msg_hdr *hdr,
                          const struct kvmi_event_reply *reply, Error **errp);

/* The CRASH action, where no vCPU carries it out. */
void vm_events_crash(void);

#endif
