/*
 * Virtual machine introspection, QEMU's engine: its side of a vCPU
 *
 * Whatever the receiver thread wants of a vCPU it puts, in order, into the
 * vCPU's inbox; the vCPU's thread empties it as part of QEMU's own work queue,
 * which it serves in every state.  Both hold the BQL then.
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
#include "session.h"
#include "vcpu.h"
#include "vm-events.h"
#include "../masks.h"
#include "../trace.h"

typedef enum ItemType {
    ITEM_COMMAND,
    ITEM_REPLY,
    ITEM_STOP,
    ITEM_REPORT_STOP,
    ITEM_DETACH,
} ItemType;

/*
 * COMMAND and REPLY are acted on even when the tool has left meanwhile: what it
 * said before holds.  So they carry all they need.
 */
typedef struct Item {
    ItemType type;
    IntrospectionSession *session;      /* a reference */
    IntrospectionWait wait;             /* what the vCPU waited for */
    struct kvmi_msg_hdr hdr;            /* ITEM_COMMAND, ITEM_REPLY: */
    uint8_t payload[];
} Item;

static Item *item_new(ItemType type, IntrospectionSession *s,
                      const struct kvmi_msg_hdr *hdr, const void *payload)
{
    size_t size = hdr ? hdr->size : 0;
    Item *item = g_malloc0(sizeof(*item) + size);

    item->type = type;
    item->session = session_ref(s);
    if (hdr) {
        item->hdr = *hdr;
        memcpy(item->payload, payload, size);
    }
    return item;
}

static void item_free(Item *item)
{
    session_unref(item->session);
    g_free(item);
}

static void update_blocked(IntrospectionVCPU *v)
{
    qatomic_set(&v->cpu->introspection_blocked,
                v->wait.valid || v->crashed || (v->stops && !v->finishing));
}

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
    update_blocked(v);
}

static void event_send(IntrospectionSession *s, const EventMessage *msg)
{
    trace_introspection_event(msg->common.vcpu, msg->common.event,
                              msg->hdr.seq);
    stat64_add(&s->n_events, 1);
    session_send(s, msg, sizeof(msg->hdr) + msg->hdr.size);
}

/* The next PAUSE_VCPU event, once nothing else waits for the tool. */
static void report_stop(IntrospectionVCPU *v)
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
    report_stop(v);
    update_blocked(v);
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

static void apply_reply(IntrospectionVCPU *v, const Item *item)
{
    bool is_current = item->session == v->session;
    IntrospectionEventReplyData reply = { };
    struct kvmi_event_reply head;

    memcpy(&head, item->payload, sizeof(head));
    memcpy(&reply, item->payload + sizeof(head), item->hdr.size - sizeof(head));
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
        set_verdict(v, &item->wait, &reply);
    }
    report_stop(v);
}

static void run_command(IntrospectionVCPU *v, const Item *item)
{
    g_autoptr(GByteArray) data = g_byte_array_new();
    int err;

    err = introspection_vcpu_run_command(v, item->session, item->wait.valid,
                                         &item->hdr, item->payload, data);
    /* Before the tool can know of it, and send the next. */
    if (item->session == v->session) {
        v->command_queued = false;
    }
    /* A tool that is quick would find the BQL taken with its next command. */
    bql_unlock();
    session_reply(item->session, &item->hdr, err, data->data, data->len);
    bql_lock();
}

/* The part of introspection_vcpu_detach() that is the vCPU thread's. */
static void detach(IntrospectionVCPU *v)
{
    v->events = 0;
    v->crs = 0;
    bitmap_zero(v->msrs_low, INTROSPECTION_MSR_RANGE);
    bitmap_zero(v->msrs_high, INTROSPECTION_MSR_RANGE);
    v->due.valid = false;
    v->detaching = false;
}

static bool item_is_live(IntrospectionVCPU *v, const Item *item)
{
    switch (item->type) {
    case ITEM_STOP:
    case ITEM_REPORT_STOP:
        return item->session == v->session;
    case ITEM_DETACH:
        return true;
    default:
        return !item->session->forced;
    }
}

/* On the vCPU's thread, BQL held. */
static void empty_inbox(CPUState *cpu, run_on_cpu_data unused)
{
    IntrospectionVCPU *v = cpu->introspection;
    Item *item;

    while ((item = g_queue_pop_head(&v->inbox))) {
        if (item_is_live(v, item)) {
            switch (item->type) {
            case ITEM_COMMAND:
                run_command(v, item);
                break;
            case ITEM_REPLY:
                apply_reply(v, item);
                break;
            case ITEM_STOP:
                v->stops++;
                /* An instruction that was answered already still goes first. */
                v->finishing |= v->verdict.valid;
                break;
            case ITEM_REPORT_STOP:
                if (v->stops_due < v->stops) {
                    v->stops_due++;
                    report_stop(v);
                }
                break;
            case ITEM_DETACH:
                detach(v);
                break;
            }
            update_blocked(v);
        }
        if (item->type == ITEM_STOP) {
            qemu_sem_post(&item->session->stopped);
        }
        item_free(item);
    }
}

static void inbox_put(IntrospectionVCPU *v, Item *item)
{
    item->wait = v->wait;
    g_queue_push_tail(&v->inbox, item);
    async_run_on_cpu(v->cpu, empty_inbox, RUN_ON_CPU_NULL);
}

/* As if the tool had answered CONTINUE with the guest's value. */
static void inbox_put_unchanged(IntrospectionVCPU *v)
{
    struct {
        struct kvmi_event_reply head;
        IntrospectionEventReplyData data;
    } reply = {
        .head = {
            .action = KVMI_EVENT_ACTION_CONTINUE,
            .event = v->wait.event,
        },
    };
    struct kvmi_msg_hdr hdr = {
        .size = sizeof(reply.head) + event_reply_data_size(v->wait.event),
    };

    switch (v->wait.event) {
    case KVMI_EVENT_CR:
        reply.data.cr.new_val = v->wait.data.cr.new_value;
        break;
    case KVMI_EVENT_MSR:
        reply.data.msr.new_val = v->wait.data.msr.new_value;
        break;
    default:
        return;
    }
    inbox_put(v, item_new(ITEM_REPLY, v->session, &hdr, &reply));
}

void introspection_vcpu_attach(CPUState *cpu, IntrospectionSession *s)
{
    IntrospectionVCPU *v = cpu->introspection;

    if (!v) {
        v = g_new0(IntrospectionVCPU, 1);
        v->cpu = cpu;
        g_queue_init(&v->inbox);
        qatomic_store_release(&cpu->introspection, v);
    }
    v->session = s;
}

void introspection_vcpu_detach(CPUState *cpu, IntrospectionSession *s)
{
    IntrospectionVCPU *v = cpu->introspection;

    if (v && v->session == s) {
        trace_introspection_vcpu_detach(cpu->cpu_index, v->wait.valid);
        if (v->wait.valid && !v->reply_queued) {
            inbox_put_unchanged(v);
        }
        v->session = NULL;
        v->command_queued = false;
        v->wait.valid = false;
        v->reply_queued = false;
        v->stops = 0;
        v->stops_due = 0;
        v->finishing = false;
        v->crashed = false;
        v->detaching = true;
        update_blocked(v);
        inbox_put(v, item_new(ITEM_DETACH, s, NULL, NULL));
    }
}

void introspection_vcpu_remove(CPUState *cpu)
{
    IntrospectionVCPU *v = g_steal_pointer(&cpu->introspection);
    Item *item;

    if (!v) {
        return;
    }
    while ((item = g_queue_pop_head(&v->inbox))) {
        if (item->type == ITEM_COMMAND) {
            session_reply(item->session, &item->hdr, -KVM_EINVAL, NULL, 0);
        } else if (item->type == ITEM_STOP) {
            qemu_sem_post(&item->session->stopped);
        }
        item_free(item);
    }
    g_free(v);
}

IntrospectionWaitingVcpuList *
introspection_vcpus_waiting(IntrospectionSession *s)
{
    IntrospectionWaitingVcpuList *list = NULL, **tail = &list;
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        IntrospectionVCPU *v = cpu->introspection;
        IntrospectionWaitingVcpu *w;

        if (v && v->session == s && v->wait.valid) {
            w = g_new0(IntrospectionWaitingVcpu, 1);
            w->vcpu = cpu->cpu_index;
            w->event = introspection_event_from_id(v->wait.event);
            w->waiting_ms = now - v->wait.since;
            QAPI_LIST_APPEND(tail, w);
        }
    }
    return list;
}

/* A vCPU of @s, which a hot-plugged one becomes here.  BQL held. */
static IntrospectionVCPU *vcpu_of(CPUState *cpu, IntrospectionSession *s)
{
    if (!cpu->introspection) {
        introspection_vcpu_attach(cpu, s);
    }
    return cpu->introspection;
}

int introspection_vcpu_queue_command(IntrospectionSession *s, uint16_t index,
                                     const struct kvmi_msg_hdr *hdr,
                                     const void *payload)
{
    IntrospectionVCPU *v;
    CPUState *cpu;

    BQL_LOCK_GUARD();
    cpu = qemu_get_cpu(index);
    if (s->dead || !cpu || cpu->unplug) {
        return -KVM_EINVAL;
    }
    if (!cpu->created) {
        return -KVM_EAGAIN;
    }
    v = vcpu_of(cpu, s);
    if (v->command_queued) {
        return -KVM_EBUSY;
    }
    v->command_queued = true;
    inbox_put(v, item_new(ITEM_COMMAND, s, hdr, payload));
    return 0;
}

static bool reply_fits(const IntrospectionVCPU *v,
                       const struct kvmi_msg_hdr *hdr,
                       const struct kvmi_event_reply *reply, Error **errp)
{
    size_t size = sizeof(*reply) + event_reply_data_size(v->wait.event);

    if (reply->event != v->wait.event) {
        error_setg(errp, "its reply %" PRIu32 " is for event %" PRIu32
                   ", but the event was %" PRIu32, hdr->seq, reply->event,
                   v->wait.event);
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

bool introspection_vcpu_queue_reply(IntrospectionSession *s,
                                    const struct kvmi_msg_hdr *hdr,
                                    const void *payload, Error **errp)
{
    struct kvmi_event_reply reply;
    Error *err = NULL;
    CPUState *cpu;

    if (hdr->size < sizeof(reply)) {
        error_setg(errp, "its event reply has only %u bytes", hdr->size);
        return false;
    }
    memcpy(&reply, payload, sizeof(reply));

    BQL_LOCK_GUARD();
    CPU_FOREACH(cpu) {
        IntrospectionVCPU *v = cpu->introspection;

        if (v && v->session == s && v->wait.valid && !v->reply_queued &&
            v->wait.seq == hdr->seq) {
            if (!reply_fits(v, hdr, &reply, errp)) {
                return false;
            }
            stat64_add(&s->n_replies, 1);
            v->reply_queued = true;
            inbox_put(v, item_new(ITEM_REPLY, s, hdr, payload));
            return true;
        }
    }
    if (s->dead) {
        return true;
    }
    if (vm_events_take_reply(s, hdr, &reply, &err)) {
        error_propagate(errp, err);
        return !err;
    }
    error_setg(errp, "no vCPU waits for its event reply %" PRIu32, hdr->seq);
    return false;
}

/* Returns the number of vCPUs that got one. */
static unsigned put_to_all(IntrospectionSession *s, ItemType type)
{
    unsigned n = 0;
    CPUState *cpu;

    BQL_LOCK_GUARD();
    if (s->dead) {
        return 0;
    }
    CPU_FOREACH(cpu) {
        if (cpu->created && !cpu->unplug) {
            inbox_put(vcpu_of(cpu, s), item_new(type, s, NULL, NULL));
            n++;
        }
    }
    return n;
}

unsigned introspection_vcpus_stop(IntrospectionSession *s)
{
    unsigned n = put_to_all(s, ITEM_STOP);
    unsigned i;

    for (i = 0; i < n; i++) {
        qemu_sem_wait(&s->stopped);
    }
    return n;
}

void introspection_vcpus_report_stop(IntrospectionSession *s)
{
    put_to_all(s, ITEM_REPORT_STOP);
}
