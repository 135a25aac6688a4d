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
#include "page-access.h"
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
    case KVMI_EVENT_TRAP:
        return sizeof(struct kvmi_event_trap);
    case KVMI_EVENT_DESCRIPTOR:
        return sizeof(struct kvmi_event_descriptor);
    case KVMI_EVENT_PF:
        return sizeof(struct kvmi_event_pf);
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
    case KVMI_EVENT_PF:
        return sizeof(struct kvmi_event_pf_reply);
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
    case KVMI_EVENT_PF:
        return true;
    default:
        return false;
    }
}

static bool event_has_retry(uint32_t event)
{
    return event == KVMI_EVENT_BREAKPOINT || event == KVMI_EVENT_DESCRIPTOR ||
           event == KVMI_EVENT_PF;
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

void event_report_created(IntrospectionVCPU *v)
{
    EventMessage msg;

    event_prepare(v, KVMI_EVENT_CREATE_VCPU, NULL, &msg);
    event_send(v->session, &msg);
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
    qatomic_set(&v->finishing, false);
    event_report_stop(v);
    introspection_vcpu_update_blocked(v);
}

static bool anything_answered(const IntrospectionVCPU *v)
{
    return v->verdicts.n || page_grants_any(&v->grants);
}

/* What was answered comes again, before anything else. */
static void execute_answered(IntrospectionVCPU *v)
{
    unsigned i;

    for (i = 0; i < v->verdicts.n; i++) {
        v->verdicts.of[i].used = false;
    }
    v->repeating = true;
    if (tcg_enabled() && !v->delivery.pending) {
        introspection_tcg_execute_one(v->cpu, v->grants.whole_rep);
    }
}

static void forget_answers(IntrospectionVCPU *v)
{
    v->verdicts.n = 0;
    page_grants_clear(&v->grants);
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
        v->wait.delivery = v->delivery.pending;
        qatomic_set(&v->finishing, false);
    } else if (anything_answered(v)) {
        /* Nobody is there to ask any more, but what was answered holds. */
        execute_answered(v);
    }
    bql_unlock();

    if (s) {
        introspection_vcpu_begin_turn(v, s);
        event_send(s, &msg);
        session_unref(s);
    }
}

void introspection_vcpu_inject(IntrospectionVCPU *v,
                               const struct kvmi_inject_exception *exception)
{
    v->injection.pending = true;
    v->injection.delivering = false;
    v->injection.exception = *exception;
    v->injection.woken = tcg_enabled() && x86_introspection_wake(v->cpu);
}

/* The exception that the tool has injected is lost; say to what, if asked. */
static void report_lost(IntrospectionVCPU *v)
{
    v->injection.lost = false;
    if (v->events & KVMI_EVENT_TRAP_FLAG) {
        v->due.valid = true;
        v->due.event = KVMI_EVENT_TRAP;
        v->due.data.trap = v->injection.instead;
    }
}

void introspection_vcpu_enters_guest(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;

    introspection_vcpu_end_turn(v);
    /* A reset has taken back what was to be delivered. */
    v->delivery.pending &= cpu->exception_index == v->delivery.vector;
    if (v->injection.pending && !v->repeating && !v->delivery.pending &&
        tcg_enabled()) {
        x86_introspection_raise(cpu);
    }
    if (v->repeating || v->injection.pending) {
        /* The one instruction takes no notice of this, the next does. */
        cpu_exit(cpu);
    }
}

static bool repetitions_left(IntrospectionVCPU *v)
{
    return v->grants.whole_rep && !v->due.valid &&
           x86_introspection_rip(v->cpu) == v->grants.rip;
}

/*
 * What was answered holds until the instruction (or the delivery of an
 * interrupt) is done: also where another event has interrupted it, or
 * repetitions are left of it.
 */
static void keep_answers(IntrospectionVCPU *v)
{
    bool interrupted = v->repeating && v->due.valid &&
                       v->delivery.pending == v->grants.delivery;

    v->repeating = false;
    if (v->grants.fetched && tcg_enabled()) {
        introspection_tcg_forget_code(v->cpu);
    }
    v->grants.fetched = false;
    if (repetitions_left(v)) {
        execute_answered(v);
    } else if (!interrupted) {
        forget_answers(v);
        v->grants.delivery = v->delivery.pending;
    }
}

void introspection_vcpu_left_guest(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;

    keep_answers(v);
    v->delivery.active = false;
    if (v->injection.lost) {
        report_lost(v);
    }
    if (v->due.valid) {
        /* A delivery stays pending, so that it is not lost whatever comes. */
        cpu->exception_index = v->delivery.pending ? v->delivery.vector : -1;
        send_due(v);
    } else if (qatomic_read(&v->finishing) && !v->repeating) {
        finish(v);
    }
}

/* The instruction of the event is to find @reply when it comes again. */
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
}

static void add_grant(IntrospectionVCPU *v, const IntrospectionWait *wait,
                      uint32_t action,
                      const struct kvmi_event_pf_reply *reply)
{
    const struct kvmi_event_pf *pf = &wait->data.pf;

    page_grants_add(&v->grants, pf, action, reply);
    if (action == KVMI_EVENT_ACTION_CONTINUE && reply->rep_complete &&
        !wait->delivery && x86_introspection_at_rep(v->cpu)) {
        v->grants.whole_rep = true;
        v->grants.rip = wait->rip;
    }
    if (tcg_enabled() &&
        pf->gpa % PAGE_ACCESS_PAGE_SIZE + reply->ctx_size >
        PAGE_ACCESS_PAGE_SIZE) {
        /* The next page may be an open one, whose loads miss no TLB. */
        introspection_tcg_flush_page(v->cpu, pf->gva + PAGE_ACCESS_PAGE_SIZE);
    }
}

/* The tool has moved RIP: the guest goes on there. */
static void give_up(IntrospectionVCPU *v)
{
    forget_answers(v);
    if (v->delivery.pending && !v->delivery.hardware && tcg_enabled()) {
        introspection_tcg_cancel_delivery(v->cpu);
        v->delivery.pending = false;
    }
}

static void go_on(IntrospectionVCPU *v, const IntrospectionWait *wait,
                  uint32_t action, const IntrospectionEventReplyData *reply)
{
    bool hardware = wait->delivery && v->delivery.hardware;

    if (x86_introspection_rip(v->cpu) != wait->rip && !hardware) {
        give_up(v);
    } else if (action == KVMI_EVENT_ACTION_RETRY && v->injection.pending &&
               !wait->delivery) {
        /* The exception goes before the instruction. */
        forget_answers(v);
    } else if (wait->event == KVMI_EVENT_PF) {
        add_grant(v, wait, action, &reply->pf);
    } else if (action == KVMI_EVENT_ACTION_CONTINUE) {
        add_verdict(v, wait, reply);
    } else {
        forget_answers(v);
    }
    if (anything_answered(v)) {
        qatomic_set(&v->finishing, v->stops);
        execute_answered(v);
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
    } else if (event_has_instruction(head.event)) {
        go_on(v, wait, head.action, &reply);
    } else if (x86_introspection_rip(v->cpu) != wait->rip) {
        give_up(v);
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

static bool pf_reply_fits(const struct kvmi_event_pf_reply *reply,
                          Error **errp)
{
    if (reply->ctx_size > sizeof(reply->ctx_data)) {
        error_setg(errp, "its reply to event %d has a ctx_size of %" PRIu32
                   "; at most %zu are possible", KVMI_EVENT_PF,
                   reply->ctx_size, sizeof(reply->ctx_data));
        return false;
    }
    return true;
}

bool event_reply_fits(const IntrospectionWait *wait,
                      const struct kvmi_msg_hdr *hdr, const void *payload,
                      Error **errp)
{
    size_t size = sizeof(struct kvmi_event_reply) +
                  event_reply_data_size(wait->event);
    EventReply reply = { };

    memcpy(&reply, payload, MIN(hdr->size, sizeof(reply)));
    if (reply.head.event != wait->event) {
        error_setg(errp, "its reply %" PRIu32 " is for event %" PRIu32
                   ", but the event was %" PRIu32, hdr->seq, reply.head.event,
                   wait->event);
        return false;
    }
    if (hdr->size != size) {
        error_setg(errp, "its reply to event %" PRIu32 " has %u bytes "
                   "instead of %zu", reply.head.event, hdr->size, size);
        return false;
    }
    if (reply.head.action != KVMI_EVENT_ACTION_CONTINUE &&
        reply.head.action != KVMI_EVENT_ACTION_CRASH &&
        (reply.head.action != KVMI_EVENT_ACTION_RETRY ||
         !event_has_retry(wait->event))) {
        error_setg(errp, "event %" PRIu32 " has no action %" PRIu32,
                   reply.head.event, reply.head.action);
        return false;
    }
    return wait->event != KVMI_EVENT_PF ||
           pf_reply_fits(&reply.data.pf, errp);
}
