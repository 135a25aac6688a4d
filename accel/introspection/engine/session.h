/*
 * Virtual machine introspection, QEMU's engine: one connection to a tool
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_SESSION_H
#define ACCEL_INTROSPECTION_ENGINE_SESSION_H

#include <linux/kvmi.h>
#include "introspection/engine.h"
#include "qemu/event_notifier.h"
#include "qemu/stats64.h"
#include "qemu/thread.h"
#include "receiver.h"

/* What this engine implements; everything else is unknown to it. */
#define ENGINE_COMMANDS \
    (KVMI_GET_VERSION_FLAG | KVMI_GET_GUEST_INFO_FLAG | \
     KVMI_GET_REGISTERS_FLAG | KVMI_SET_REGISTERS_FLAG | \
     KVMI_GET_PAGE_ACCESS_FLAG | KVMI_SET_PAGE_ACCESS_FLAG | \
     KVMI_READ_PHYSICAL_FLAG | KVMI_WRITE_PHYSICAL_FLAG | \
     KVMI_CONTROL_EVENTS_FLAG | KVMI_CONTROL_CR_FLAG | \
     KVMI_CONTROL_MSR_FLAG | KVMI_EVENT_FLAG | KVMI_EVENT_REPLY_FLAG | \
     KVMI_GET_CPUID_FLAG | KVMI_GET_XSAVE_FLAG | \
     KVMI_INJECT_EXCEPTION_FLAG | \
     KVMI_PAUSE_ALL_VCPUS_FLAG | KVMI_CONTROL_VM_EVENTS_FLAG)
#define ENGINE_EVENTS \
    (KVMI_EVENT_UNHOOK_FLAG | \
     KVMI_EVENT_CREATE_VCPU_FLAG | \
     KVMI_EVENT_CR_FLAG | \
     KVMI_EVENT_MSR_FLAG | \
     KVMI_EVENT_XSETBV_FLAG | \
     KVMI_EVENT_BREAKPOINT_FLAG | \
     KVMI_EVENT_HYPERCALL_FLAG | \
     KVMI_EVENT_PF_FLAG | \
     KVMI_EVENT_TRAP_FLAG | \
     KVMI_EVENT_DESCRIPTOR_FLAG | \
     KVMI_EVENT_PAUSE_VCPU_FLAG)

/* An event of the VM itself that the tool has to answer. */
typedef struct VMEvent {
    bool valid;
    uint32_t seq;
} VMEvent;

/*
 * Who reads the socket (see receiver.h) answers VM commands; vCPU threads
 * answer their commands and send their events.  Nobody ever waits for the
 * tool to read: what the socket does not take is kept in @out, and no further
 * command is acted on before @out is empty.  That bounds @out:
 * each vCPU has at most one reply and one event under way, and the VM one
 * event.
 */
struct IntrospectionSession {
    /* Constant. */
    int fd;
    uint32_t commands;
    uint32_t events;
    QemuThread thread;

    int refs;                       /* atomic */

    /* BQL */
    bool dead;                      /* no vCPU belongs to it any more */
    bool forced;                    /* ended by QEMU, not by the tool */
    GArray *removed_waits;          /* of IntrospectionWait: no vCPU any more */
    uint32_t vm_events;             /* switched on: 1 << KVMI_EVENT_* */
    VMEvent unhook_event;           /* not answered yet */
    IntrospectionClosedFn *closed;  /* NULL once it must not be called */
    void *opaque;

    /* The session's thread, until the closed callback. */
    char *end_reason;

    QemuMutex out_lock;
    GByteArray *out;                /* out_lock */
    EventNotifier out_notifier;     /* set: look at @out again */

    Receiver receiver;

    /* Posted by each vCPU that has stopped, or flushed its TLB. */
    QemuSemaphore stopped;

    /* Atomic counters. */
    uint32_t event_seq;
    Stat64 n_commands;
    Stat64 n_events;
    Stat64 n_replies;
};

IntrospectionSession *session_ref(IntrospectionSession *s);
void session_unref(IntrospectionSession *s);

/* Send one message, in one piece and never waiting.  Any thread. */
void session_send(IntrospectionSession *s, const void *msg, size_t size);

/* Write what is left, and return whether nothing is.  Any thread. */
bool session_flush(IntrospectionSession *s);

/*
 * Send the reply to a command: @err (0 or negative KVM_E*), then if it is 0
 * the @size bytes of @data.  Any thread.
 */
void session_reply(IntrospectionSession *s, const struct kvmi_msg_hdr *cmd,
                   int err, const void *data, size_t size);

/*
 * Take @s's vCPUs from it and undo what it has set in them.  Idempotent.
 * BQL held.
 */
void session_detach_vcpus(IntrospectionSession *s);

/*
 * dispatch.c: act on one complete message of the tool, whose payload has
 * hdr->size bytes.  False and an error when the tool broke the protocol.
 * Whoever reads, BQL not held.
 */
bool session_dispatch(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                      const void *payload, Error **errp);

/* dispatch.c: whether the command @id waits for vCPUs, so none can do it. */
bool session_command_waits(uint16_t id);

#endif
