/*
 * Virtual machine introspection, QEMU's engine: its side of a vCPU
 *
 * Whatever who reads the tool's messages has for a vCPU is put, in order, into
 * the vCPU's inbox; the vCPU's thread empties it as part of QEMU's own work
 * queue, which it serves in every state.  Both hold the BQL then.
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
#include "system/tcg.h"
#include "events.h"
#include "session.h"
#include "vcpu.h"
#include "vm-events.h"
#include "../masks.h"
#include "../trace.h"

typedef enum ItemType {
    ITEM_COMMAND,
    ITEM_REPLY,
    ITEM_CREATED,
    ITEM_STOP,
    ITEM_REPORT_STOP,
    ITEM_FLUSH_TLB,
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

void introspection_vcpu_update_blocked(IntrospectionVCPU *v)
{
    qatomic_set(&v->cpu->introspection_blocked,
                v->wait.valid || v->crashed || (v->stops && !v->finishing));
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

void introspection_vcpu_set_events(IntrospectionVCPU *v, uint32_t events)
{
    uint32_t changed = v->events ^ events;

    v->events = events;
    if ((changed & KVMI_EVENT_DESCRIPTOR_FLAG) && tcg_enabled()) {
        x86_introspection_watch_descriptors(
            v->cpu, events & KVMI_EVENT_DESCRIPTOR_FLAG);
    }
    if ((changed & events & KVMI_EVENT_PF_FLAG) && tcg_enabled()) {
        /* All pages have been open to this vCPU. */
        introspection_tcg_flush(v->cpu);
    }
}

/* The part of introspection_vcpu_detach() that is the vCPU thread's. */
static void detach(IntrospectionVCPU *v)
{
    introspection_vcpu_set_events(v, 0);
    v->crs = 0;
    bitmap_zero(v->msrs_low, INTROSPECTION_MSR_RANGE);
    bitmap_zero(v->msrs_high, INTROSPECTION_MSR_RANGE);
    v->due.valid = false;
    if (v->injection.pending && v->injection.woken) {
        v->cpu->halted = 1;
    }
    v->injection.pending = false;
    v->injection.lost = false;
    v->detaching = false;
}

static bool item_is_live(IntrospectionVCPU *v, const Item *item)
{
    switch (item->type) {
    case ITEM_CREATED:
    case ITEM_STOP:
    case ITEM_REPORT_STOP:
        return item->session == v->session;
    case ITEM_FLUSH_TLB:
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
                event_apply_reply(v, item->session, &item->wait, &item->hdr,
                                  item->payload);
                break;
            case ITEM_CREATED:
                event_report_created(v);
                break;
            case ITEM_STOP:
                v->stops++;
                /* An instruction that was answered already still goes first. */
                qatomic_set(&v->finishing, v->finishing || v->repeating);
                break;
            case ITEM_REPORT_STOP:
                if (v->stops_due < v->stops) {
                    v->stops_due++;
                    event_report_stop(v);
                }
                break;
            case ITEM_FLUSH_TLB:
                if (tcg_enabled()) {
                    introspection_tcg_flush(cpu);
                }
                break;
            case ITEM_DETACH:
                detach(v);
                break;
            }
            introspection_vcpu_update_blocked(v);
        }
        if (item->type == ITEM_STOP || item->type == ITEM_FLUSH_TLB) {
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
    struct kvmi_msg_hdr hdr;
    EventReply reply;

    if (event_unchanged_reply(&v->wait, &hdr, &reply)) {
        inbox_put(v, item_new(ITEM_REPLY, v->session, &hdr, &reply));
    }
}

void introspection_vcpu_attach(CPUState *cpu, IntrospectionSession *s)
{
    IntrospectionVCPU *v = cpu->introspection;

    if (!v) {
        v = g_new0(IntrospectionVCPU, 1);
        v->cpu = cpu;
        g_queue_init(&v->inbox);
        /* Too many open files: it sleeps as other vCPUs do. */
        event_notifier_init(&v->kick.notifier, 0);
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
        qatomic_set(&v->finishing, false);
        v->crashed = false;
        v->detaching = true;
        introspection_vcpu_update_blocked(v);
        inbox_put(v, item_new(ITEM_DETACH, s, NULL, NULL));
    }
}

void introspection_vcpu_begin_turn(IntrospectionVCPU *v,
                                   IntrospectionSession *s)
{
    if (v->receives && !v->turn && receiver_begin_turn(s)) {
        v->turn = session_ref(s);
    }
}

void introspection_vcpu_end_turn(IntrospectionVCPU *v)
{
    IntrospectionSession *s = g_steal_pointer(&v->turn);

    if (s) {
        receiver_end_turn(s);
        session_unref(s);
    }
}

bool introspection_vcpu_receive(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;

    if (!v) {
        return false;
    }
    v->receives = v->kick.notifier.initialized;
    if (v->session && v->wait.valid) {
        introspection_vcpu_begin_turn(v, v->session);
    }
    if (!v->turn) {
        return false;
    }

    qatomic_set(&v->kick.kicked, false);
    qatomic_set(&v->kick.listening, true);
    /*
     * Pairs with introspection_vcpu_kicked(): either what there is to do is
     * found here, or who has put it there finds that it has to kick.
     */
    smp_mb();
    if (!cpu_thread_is_idle(cpu)) {
        /* Its turn goes on when it has done that. */
    } else if (v->wait.valid && v->session == v->turn) {
        bql_unlock();
        if (!receiver_take_turn(v->turn, &v->kick)) {
            introspection_vcpu_end_turn(v);
        }
        bql_lock();
    } else {
        introspection_vcpu_end_turn(v);
    }
    qatomic_set(&v->kick.listening, false);
    return true;
}

void introspection_vcpu_kicked(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;

    smp_mb();       /* see introspection_vcpu_receive() */
    if (qatomic_read(&v->kick.listening) &&
        !qatomic_xchg(&v->kick.kicked, true) && !qemu_cpu_is_self(cpu)) {
        event_notifier_set(&v->kick.notifier);
    }
}

/* Who introspects the VM now.  BQL held. */
static IntrospectionSession *current_session(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (cpu->introspection && cpu->introspection->session) {
            return cpu->introspection->session;
        }
    }
    return NULL;
}

void introspection_vcpu_plugged(CPUState *cpu)
{
    IntrospectionSession *s = current_session();

    if (s) {
        introspection_vcpu_attach(cpu, s);
        if (s->vm_events & KVMI_EVENT_CREATE_VCPU_FLAG) {
            inbox_put(cpu->introspection,
                      item_new(ITEM_CREATED, s, NULL, NULL));
        }
    }
}

/* What the tool has answered, or will answer, to a vCPU that is gone. */
static void reply_to_removed(const void *payload)
{
    struct kvmi_event_reply reply;

    memcpy(&reply, payload, sizeof(reply));
    if (reply.action == KVMI_EVENT_ACTION_CRASH) {
        vm_events_crash();
    }
}

void introspection_vcpu_remove(CPUState *cpu)
{
    IntrospectionVCPU *v = g_steal_pointer(&cpu->introspection);
    Item *item;

    if (!v) {
        return;
    }
    if (v->session && v->wait.valid && !v->reply_queued) {
        g_array_append_val(v->session->removed_waits, v->wait);
    }
    introspection_vcpu_end_turn(v);
    introspection_vcpu_set_events(v, 0);
    while ((item = g_queue_pop_head(&v->inbox))) {
        if (item->type == ITEM_COMMAND) {
            session_reply(item->session, &item->hdr, -KVM_EINVAL, NULL, 0);
        } else if (item->type == ITEM_REPLY) {
            reply_to_removed(item->payload);
        } else if (item->type == ITEM_STOP || item->type == ITEM_FLUSH_TLB) {
            qemu_sem_post(&item->session->stopped);
        }
        item_free(item);
    }
    page_grants_clear(&v->grants);
    event_notifier_cleanup(&v->kick.notifier);
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

int introspection_vcpu_check(IntrospectionSession *s, uint16_t index)
{
    CPUState *cpu = qemu_get_cpu(index);

    if (s->dead || !cpu || cpu->unplug) {
        return -KVM_EINVAL;
    }
    if (!cpu->created) {
        return -KVM_EAGAIN;
    }
    return vcpu_of(cpu, s)->command_queued ? -KVM_EBUSY : 0;
}

int introspection_vcpu_queue_command(IntrospectionSession *s, uint16_t index,
                                     const struct kvmi_msg_hdr *hdr,
                                     const void *payload)
{
    IntrospectionVCPU *v;
    int err;

    BQL_LOCK_GUARD();
    err = introspection_vcpu_check(s, index);
    if (!err) {
        v = qemu_get_cpu(index)->introspection;
        v->command_queued = true;
        inbox_put(v, item_new(ITEM_COMMAND, s, hdr, payload));
    }
    return err;
}

/* Whether the reply is to an event of a vCPU that has been removed since. */
static bool take_removed_wait(IntrospectionSession *s,
                              const struct kvmi_msg_hdr *hdr,
                              IntrospectionWait *wait)
{
    guint i;

    for (i = 0; i < s->removed_waits->len; i++) {
        *wait = g_array_index(s->removed_waits, IntrospectionWait, i);
        if (wait->seq == hdr->seq) {
            g_array_remove_index_fast(s->removed_waits, i);
            return true;
        }
    }
    return false;
}

bool introspection_vcpu_queue_reply(IntrospectionSession *s,
                                    const struct kvmi_msg_hdr *hdr,
                                    const void *payload, Error **errp)
{
    struct kvmi_event_reply reply;
    IntrospectionWait wait;
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
            if (!event_reply_fits(&v->wait, hdr, payload, errp)) {
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
    if (take_removed_wait(s, hdr, &wait)) {
        if (!event_reply_fits(&wait, hdr, payload, errp)) {
            return false;
        }
        stat64_add(&s->n_replies, 1);
        reply_to_removed(payload);
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

/* Returns when all of them have seen it. */
static unsigned put_to_all_and_wait(IntrospectionSession *s, ItemType type)
{
    unsigned n = put_to_all(s, type);
    unsigned i;

    for (i = 0; i < n; i++) {
        qemu_sem_wait(&s->stopped);
    }
    return n;
}

unsigned introspection_vcpus_stop(IntrospectionSession *s)
{
    return put_to_all_and_wait(s, ITEM_STOP);
}

void introspection_vcpus_flush_tlbs(IntrospectionSession *s)
{
    if (tcg_enabled()) {
        put_to_all_and_wait(s, ITEM_FLUSH_TLB);
    }
}

void introspection_vcpus_report_stop(IntrospectionSession *s)
{
    put_to_all(s, ITEM_REPORT_STOP);
}
