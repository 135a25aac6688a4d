/*
 * Virtual machine introspection, QEMU's engine: events of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_EVENTS_H
#define ACCEL_INTROSPECTION_ENGINE_EVENTS_H

#include "vcpu.h"

typedef struct EventReply {
    struct kvmi_event_reply head;
    IntrospectionEventReplyData data;
} EventReply;

/*
 * Whether the tool's reply in @payload, of @hdr's size and with at least its
 * head, is one to the event of @wait.
 */
bool event_reply_fits(const IntrospectionWait *wait,
                      const struct kvmi_msg_hdr *hdr, const void *payload,
                      Error **errp);

/*
 * Let @v go on after the event of @wait as @payload says: a reply that fits
 * it.  @s is whose event it was.  On the vCPU's thread, BQL held.
 */
void event_apply_reply(IntrospectionVCPU *v, IntrospectionSession *s,
                       const IntrospectionWait *wait,
                       const struct kvmi_msg_hdr *hdr, const void *payload);

/*
 * The reply of a tool that answers CONTINUE with the guest's own value.
 * False where no reply is needed for that.
 */
bool event_unchanged_reply(const IntrospectionWait *wait,
                           struct kvmi_msg_hdr *hdr, EventReply *reply);

/* Send CREATE_VCPU.  On the vCPU's thread, BQL held. */
void event_report_created(IntrospectionVCPU *v);

/*
 * Send the next PAUSE_VCPU event, once nothing else waits for the tool.  On
 * the vCPU's thread, BQL held.
 */
void event_report_stop(IntrospectionVCPU *v);

#endif
