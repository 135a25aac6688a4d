/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: answering events, and leaving
 */

#include <string.h>
#include "internals.h"

void kvmi_event_free(KvmiEvent *event)
{
    g_free(event);
}

bool kvmi_event_reply(KvmiClient *c, const KvmiEvent *event, uint32_t action,
                      const void *reply, size_t size, GError **errp)
{
    struct {
        struct kvmi_event_reply common;
        uint8_t own[sizeof(struct kvmi_event_pf_reply)];
    } msg = {
        .common = { .action = action, .event = event->common.event },
    };

    if (size > sizeof(msg.own)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ARGUMENT,
                    "no event takes a reply of %zu bytes", size);
        return false;
    }
    if (size) {
        memcpy(msg.own, reply, size);
    }
    return kvmi_send(c, KVMI_EVENT_REPLY, event->seq, &msg,
                     sizeof(msg.common) + size, errp);
}

bool kvmi_event_continue(KvmiClient *c, const KvmiEvent *event, GError **errp)
{
    union {
        struct kvmi_event_cr_reply cr;
        struct kvmi_event_msr_reply msr;
        struct kvmi_event_pf_reply pf;
    } own = { .pf = { 0 } };
    size_t size = 0;

    switch (event->common.event) {
    case KVMI_EVENT_CR:
        own.cr.new_val = event->cr.new_value;
        size = sizeof(own.cr);
        break;
    case KVMI_EVENT_MSR:
        own.msr.new_val = event->msr.new_value;
        size = sizeof(own.msr);
        break;
    case KVMI_EVENT_PF:
        size = sizeof(own.pf);
        break;
    }
    return kvmi_event_reply(c, event, KVMI_EVENT_ACTION_CONTINUE, &own, size,
                            errp);
}

static bool answer_all(KvmiClient *c, KvmiAnswerFunc *answer, void *opaque,
                       GError **errp)
{
    KvmiEvent *event;
    bool ok;

    do {
        if (!kvmi_next_event(c, 0, &event, errp)) {
            return false;
        }
        if (!event) {
            return true;
        }
        ok = answer ? answer(c, event, opaque, errp)
                    : kvmi_event_continue(c, event, errp);
        kvmi_event_free(event);
    } while (ok);
    return false;
}

/*
 * A vCPU sends an event before it answers a command, so once the commands
 * that switch events off are answered, what is in the queue is all there is.
 */
bool kvmi_client_unhook(KvmiClient *c, KvmiAnswerFunc *answer, void *opaque,
                        GError **errp)
{
    g_autoptr(GArray) vcpus = kvmi_client_vcpus_with_events(c);
    unsigned i;

    if (!kvmi_wait_all(c, errp)) {
        return false;
    }
    for (i = 0; i < vcpus->len; i++) {
        uint16_t vcpu = g_array_index(vcpus, uint16_t, i);

        if (!kvmi_control_events(c, vcpu, 0, errp)) {
            return false;
        }
    }
    return (!kvmi_client_has_vm_events(c) ||
            kvmi_control_vm_events(c, 0, errp)) &&
           kvmi_give_back_access(c, errp) &&
           answer_all(c, answer, opaque, errp);
}
