/*
 * Virtual machine introspection, QEMU's engine: events of the VM
 *
 * They have no vCPU that would wait for the reply.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "system/runstate.h"
#include "vm-events.h"
#include "../trace.h"

int vm_events_request_unhook(IntrospectionSession *s)
{
    struct {
        struct kvmi_msg_hdr hdr;
        struct kvmi_event common;
    } msg = {
        .hdr = { .id = KVMI_EVENT, .size = sizeof(msg.common) },
        .common = { .event = KVMI_EVENT_UNHOOK },
    };

    if (s->dead || !(s->vm_events & KVMI_EVENT_UNHOOK_FLAG)) {
        return -ENOENT;
    }
    /* One at a time: session.h promises that @out is bounded. */
    if (s->unhook_event.valid) {
        return 0;
    }
    msg.hdr.seq = qatomic_inc_fetch(&s->event_seq);
    s->unhook_event = (VMEvent) { .valid = true, .seq = msg.hdr.seq };
    trace_introspection_vm_event(s, msg.common.event, msg.hdr.seq);
    stat64_add(&s->n_events, 1);
    session_send(s, &msg, sizeof(msg));
    return 0;
}

/* Main loop, where the VM can be stopped. */
static void crash_bh(void *opaque)
{
    qemu_system_guest_panicked(NULL);
}

void vm_events_crash(void)
{
    aio_bh_schedule_oneshot(qemu_get_aio_context(), crash_bh, NULL);
}

bool vm_events_take_reply(IntrospectionSession *s,
                          const struct kvmi_msg_hdr *hdr,
                          const struct kvmi_event_reply *reply, Error **errp)
{
    if (!s->unhook_event.valid || hdr->seq != s->unhook_event.seq) {
        return false;
    }
    if (reply->event != KVMI_EVENT_UNHOOK) {
        error_setg(errp, "its reply %" PRIu32 " is for event %" PRIu32
                   ", but the event was %d", hdr->seq, reply->event,
                   KVMI_EVENT_UNHOOK);
        return true;
    }
    if (hdr->size != sizeof(*reply)) {
        error_setg(errp, "its reply to event %" PRIu32 " has %u bytes "
                   "instead of %zu", reply->event, hdr->size, sizeof(*reply));
        return true;
    }
    switch (reply->action) {
    case KVMI_EVENT_ACTION_CONTINUE:
        break;
    case KVMI_EVENT_ACTION_CRASH:
        vm_events_crash();
        break;
    default:
        error_setg(errp, "event %" PRIu32 " has no action %" PRIu32,
                   reply->event, reply->action);
        return true;
    }
    trace_introspection_vm_event_reply(s, reply->event, reply->action);
    stat64_add(&s->n_replies, 1);
    s->unhook_event.valid = false;
    return true;
}
