/*
 * Virtual machine introspection, QEMU's engine: events of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "introspection/tcg.h"
#include "introspection/vcpu.h"
#include "introspection/x86.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "events.h"
#include "session.h"
#include "../trace.h"

typedef struct EventMessage {
    struct kvmi_msg_hdr hdr;
    struct kvmi_event common;
    IntrospectionEventData data;
} EventMessage;

static size_t event_data_size(uint32_t event)
{
    switch (event) {
    case KVMI_EVENT_CR:
        return sizeof(struct kvmi_event_cr);
    case KVMI_EVENT_MSR:
        return sizeof(struct kvmi_event_msr);
    default:
        return 0;
    }
}

static size_t event_reply_data_size(uint32_t event)
{
    switch (event) {
    case KVMI_EVENT_CR:
        return sizeof(struct kvmi_event_cr_reply);
    case KVMI_EVENT_MSR:
        return sizeof(struct kvmi_event_msr_reply);
    default:
        return 0;
    }
}

/* From here on @v waits for the tool.  @data may be NULL.  BQL held. */
static void event_prepare(IntrospectionVCPU *v, uint32_t event,
                          const IntrospectionEventData *data,
                          EventMessage *msg)
{
    IntrospectionSession *s = v->session;

    memset(msg, 0, sizeof(*msg));
    msg->hdr.id = KVMI_EVENT;
    msg->hdr.size = sizeof(msg->common) + event_data_size(event);
    msg->hdr.seq = qatomic_inc_fetch(&s->event_seq);
    msg->common.event = event;
    msg->common.vcpu = v->cpu->cpu_index;
    x86_introspection_event_state(v->cpu, &msg->common);
    if (data) {
        msg->data = *data;
    }

    v->wait = (IntrospectionWait) {
        .valid = true,
        .seq = msg->hdr.seq,
        .event = event,
        .since = qemu_clock_get_ms(QEMU_CLOCK_REALTIME),
        .rip = msg->common.regs.rip,
        .data = msg->data,
    };
    introspection_vcpu_update_blocked(v);
}

static void event_send(IntrospectionSession *s, const EventMessage *msg)
{
    trace_introspection_event(msg->common.vcpu, msg->common.event,
                              msg->hdr.seq);
    stat64_add(&s->n_events, 1);
    session_send(s, msg, sizeof(msg->hdr) + msg->hdr.size);
}

void event_report_stop(IntrospectionVCPU *v)
{
    EventMessage msg;

    if (v->stops_due && !v->wait.valid && !v->finishing) {
        event_prepare(v, KVMI_EVENT_PAUSE_VCPU, NULL, &msg);
        event_send(v->session, &msg);
    }
}

/* The instruction whose event was answered has been carried out. */
static void finish(IntrospectionVCPU *v)
{
    BQL_LOCK_GUARD();
    v->finishing = false;
    event_report_stop(v);
    introspection_vcpu_update_blocked(v);
}

static void send_due(IntrospectionVCPU *v)
{
    IntrospectionSession *s = NULL;
    EventMessage msg;

    v->due.valid = false;

    bql_lock();
    if (v->session && !v->detaching) {
        s = session_ref(v->session);
        event_prepare(v, v->due.event, &v->due.data, &msg);
    }
    bql_unlock();

    if (s) {
        event_send(s, &msg);
        session_unref(s);
    }
}

void introspection_vcpu_enters_guest(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;

    if (v->finishing) {
        /* The one instruction takes no notice of this, the next does. */
        cpu_exit(cpu);
    }
}

void introspection_vcpu_left_guest(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;

    v->verdict.valid = false;
    if (v->finishing) {
        finish(v);
    }
    if (v->due.valid) {
        send_due(v);
    }
}

/*
 * The instruction of the event is to find @reply when it comes again, which
 * is before anything else, a PAUSE_VCPU event too.
 */
static void set_verdict(IntrospectionVCPU *v, const IntrospectionWait *wait,
                        const IntrospectionEventReplyData *reply)
{
    if (x86_introspection_rip(v->cpu) != wait->rip) {
        /* The tool has moved RIP: the guest goes on there. */
        return;
    }
    v->verdict.valid = true;
    v->verdict.event = wait->event;
    v->verdict.rip = wait->rip;
    v->verdict.data = wait->data;
    v->verdict.reply = *reply;
    v->finishing = v->stops;
    if (tcg_enabled()) {
        introspection_tcg_execute_one(v->cpu);
    }
}

void event_apply_reply(IntrospectionVCPU *v, IntrospectionSession *s,
                       const IntrospectionWait *wait,
                       const struct kvmi_msg_hdr *hdr, const void *payload)
{
    bool is_current = s == v->session;
    IntrospectionEventReplyData reply = { };
    struct kvmi_event_reply head;

    memcpy(&head, payload, sizeof(head));
    memcpy(&reply, payload + sizeof(head), hdr->size - sizeof(head));
    trace_introspection_event_reply(v->cpu->cpu_index, head.event,
                                    head.action);

    if (is_current) {
        v->wait.valid = false;
        v->reply_queued = false;
        v->crashed |= head.action == KVMI_EVENT_ACTION_CRASH;
        if (head.event == KVMI_EVENT_PAUSE_VCPU) {
            v->stops--;
            v->stops_due--;
        }
    }
    if (head.action == KVMI_EVENT_ACTION_CRASH) {
        qemu_system_guest_panicked(NULL);
    } else if (event_reply_data_size(head.event)) {
        set_verdict(v, wait, &reply);
    }
    event_report_stop(v);
}

bool event_unchanged_reply(const IntrospectionWait *wait,
                           struct kvmi_msg_hdr *hdr, EventReply *reply)
{
    *reply = (EventReply) {
        .head = {
            .action = KVMI_EVENT_ACTION_CONTINUE,
            .event = wait->event,
        },
    };
    *hdr = (struct kvmi_msg_hdr) {
        .size = sizeof(reply->head) + event_reply_data_size(wait->event),
    };

    switch (wait->event) {
    case KVMI_EVENT_CR:
        reply->data.cr.new_val = wait->data.cr.new_value;
        return true;
    case KVMI_EVENT_MSR:
        reply->data.msr.new_val = wait->data.msr.new_value;
        return true;
    default:
        return false;
    }
}

bool event_reply_fits(const IntrospectionWait *wait,
                      const struct kvmi_msg_hdr *hdr,
                      const struct kvmi_event_reply *reply, Error **errp)
{
    size_t size = sizeof(*reply) + event_reply_data_size(wait->event);

    if (reply->event != wait->event) {
        error_setg(errp, "its reply %" PRIu32 " is for event %" PRIu32
                   ", but the event was %" PRIu32, hdr->seq, reply->event,
                   wait->event);
        return false;
    }
    if (hdr->size != size) {
        error_setg(errp, "its reply to event %" PRIu32 " has %u bytes "
                   "instead of %zu", reply->event, hdr->size, size);
        return false;
    }
    if (reply->action != KVMI_EVENT_ACTION_CONTINUE &&
        reply->action != KVMI_EVENT_ACTION_CRASH) {
        error_setg(errp, "event %" PRIu32 " has no action %" PRIu32,
                   reply->event, reply->action);
        return false;
    }
    return true;
}
