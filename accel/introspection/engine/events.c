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
    case KVMI_EVENT_BREAKPOINT:
        return sizeof(struct kvmi_event_breakpoint);
    case KVMI_EVENT_DESCRIPTOR:
        return sizeof(struct kvmi_event_descriptor);
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

/* Whether the event is one of an instruction, which is to come again. */
static bool event_has_instruction(uint32_t event)
{
    switch (event) {
    case KVMI_EVENT_CR:
    case KVMI_EVENT_MSR:
    case KVMI_EVENT_XSETBV:
    case KVMI_EVENT_BREAKPOINT:
    case KVMI_EVENT_HYPERCALL:
    case KVMI_EVENT_DESCRIPTOR:
        return true;
    default:
        return false;
    }
}

static bool event_has_retry(uint32_t event)
{
    return event == KVMI_EVENT_BREAKPOINT || event == KVMI_EVENT_DESCRIPTOR;
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

/* The instruction comes again, before anything else. */
static void execute_answered(IntrospectionVCPU *v)
{
    unsigned i;

    for (i = 0; i < v->verdicts.n; i++) {
        v->verdicts.of[i].used = false;
    }
    if (tcg_enabled()) {
        introspection_tcg_execute_one(v->cpu);
    }
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
    } else if (v->verdicts.n) {
        /* Nobody is there to ask any more, but what was answered holds. */
        execute_answered(v);
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

    if (!v->due.valid) {
        v->verdicts.n = 0;
    }
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
static void add_verdict(IntrospectionVCPU *v, const IntrospectionWait *wait,
                        const IntrospectionEventReplyData *reply)
{
    if (v->verdicts.rip != wait->rip) {
        v->verdicts.n = 0;
        v->verdicts.rip = wait->rip;
    }
    assert(v->verdicts.n < INTROSPECTION_MAX_VERDICTS);
    v->verdicts.of[v->verdicts.n++] = (IntrospectionVerdict) {
        .event = wait->event,
        .data = wait->data,
        .reply = *reply,
    };
    v->finishing = v->stops;
    execute_answered(v);
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
    } else if (head.action == KVMI_EVENT_ACTION_CONTINUE &&
               event_has_instruction(head.event) &&
               x86_introspection_rip(v->cpu) == wait->rip) {
        add_verdict(v, wait, &reply);
    } else {
        /* RETRY, or the tool has moved RIP: the guest goes on there. */
        v->verdicts.n = 0;
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
        break;
    case KVMI_EVENT_MSR:
        reply->data.msr.new_val = wait->data.msr.new_value;
        break;
    }
    return event_has_instruction(wait->event);
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
        reply->action != KVMI_EVENT_ACTION_CRASH &&
        (reply->action != KVMI_EVENT_ACTION_RETRY ||
         !event_has_retry(reply->event))) {
        error_setg(errp, "event %" PRIu32 " has no action %" PRIu32,
                   reply->event, reply->action);
        return false;
    }
    return true;
}
