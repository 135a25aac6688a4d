/*
 * Virtual machine introspection, QEMU's engine: its side of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_VCPU_H
#define ACCEL_INTROSPECTION_ENGINE_VCPU_H

#include <linux/kvmi.h>
#include "introspection/engine.h"
#include "page-grants.h"
#include "qemu/bitmap.h"
#include "receiver.h"

/* The MSRs that can be watched: two ranges of this many. */
#define INTROSPECTION_MSR_RANGE     0x2000
#define INTROSPECTION_MSR_HIGH_BASE 0xc0000000

/* An event's own part. */
typedef union IntrospectionEventData {
    struct kvmi_event_cr cr;
    struct kvmi_event_msr msr;
    struct kvmi_event_breakpoint breakpoint;
    struct kvmi_event_descriptor descriptor;
    struct kvmi_event_pf pf;
    struct kvmi_event_trap trap;
} IntrospectionEventData;

typedef union IntrospectionEventReplyData {
    struct kvmi_event_cr_reply cr;
    struct kvmi_event_msr_reply msr;
    struct kvmi_event_pf_reply pf;
} IntrospectionEventReplyData;

/* An event that the vCPU waits to be answered. */
typedef struct IntrospectionWait {
    bool valid;
    uint32_t seq;
    uint32_t event;
    int64_t since;                  /* QEMU_CLOCK_REALTIME, ms */
    uint64_t rip;
    bool delivery;                  /* of an interrupt or exception */
    IntrospectionEventData data;
} IntrospectionWait;

/* What the tool has decided on an event. */
typedef struct IntrospectionVerdict {
    uint32_t event;
    bool used;
    IntrospectionEventData data;
    IntrospectionEventReplyData reply;
} IntrospectionVerdict;

/* One instruction has no more events than this. */
#define INTROSPECTION_MAX_VERDICTS 8

/*
 * CPUState.introspection: made when the vCPU is first introspected, kept
 * until the vCPU goes.
 *
 * How an event works: a helper that finds one due fills @due, leaves
 * cpu_exec() and so forgets about the instruction.  introspection_vcpu_left_
 * guest() sends the event and blocks the vCPU.  The tool's reply becomes a
 * verdict, the vCPU is unblocked, executes that one instruction again, and its
 * helper finds the verdict.  Where the instruction then has a further event,
 * the verdicts are kept for the next time.  The answers to PF events are @grants
 * instead, which the misses of the TLB find.
 */
typedef struct IntrospectionVCPU {
    /* BQL */
    CPUState *cpu;
    IntrospectionSession *session;  /* NULL: nobody introspects it */
    GQueue inbox;                   /* of Item, see vcpu.c */
    bool command_queued;            /* not answered yet */
    IntrospectionWait wait;
    bool reply_queued;
    unsigned stops;                 /* PAUSE_ALL_VCPUS not yet answered... */
    unsigned stops_due;             /* ...and whose event may be sent */
    bool finishing;                 /* an answered instruction goes first;
                                       its thread reads it without the BQL */
    bool crashed;
    bool detaching;                 /* a former session owns what follows */

    ReceiverKick kick;              /* while it reads the socket itself */

    /* The vCPU's thread. */
    bool receives;                  /* it comes to introspection_vcpu_receive() */
    IntrospectionSession *turn;     /* it reads this one's socket; a reference */

    /* The vCPU's thread; others only while it runs their work. */
    uint32_t events;                /* 1 << KVMI_EVENT_* */
    uint32_t crs;                   /* watched: 1 << number */
    DECLARE_BITMAP(msrs_low, INTROSPECTION_MSR_RANGE);
    DECLARE_BITMAP(msrs_high, INTROSPECTION_MSR_RANGE);
    struct {
        bool valid;
        uint32_t event;
        IntrospectionEventData data;
    } due;
    bool repeating;                 /* what was answered comes, and only that */
    struct {
        unsigned n;                 /* 0: nothing has been answered */
        uint64_t rip;               /* of the instruction */
        IntrospectionVerdict of[INTROSPECTION_MAX_VERDICTS];
    } verdicts;
    PageGrants grants;
    struct {
        bool pending;               /* the guest has not got it yet */
        bool delivering;            /* the processor has been told to */
        bool woken;                 /* from HLT, for it */
        bool lost;                  /* to @instead */
        struct kvmi_inject_exception exception;
        struct kvmi_event_trap instead;
    } injection;
    struct {
        bool active;                /* the vCPU is at it */
        bool pending;               /* an event interrupted it: comes again */
        bool hardware;
        bool software;              /* INT n and the like */
        int vector;
        int error_code;
    } delivery;
} IntrospectionVCPU;

/* @s's end of the vCPU begins.  BQL held. */
void introspection_vcpu_attach(CPUState *cpu, IntrospectionSession *s);
/* Undo everything that @s has set, if it is @s's vCPU.  BQL held. */
void introspection_vcpu_detach(CPUState *cpu, IntrospectionSession *s);

/* The complete new set.  On the vCPU's thread, BQL held. */
void introspection_vcpu_set_events(IntrospectionVCPU *v, uint32_t events);

/* What keeps @v from running may have changed.  BQL held. */
void introspection_vcpu_update_blocked(IntrospectionVCPU *v);

/*
 * The vCPU will wait for @s's tool: nobody else is to be woken by what that
 * sends next.  On the vCPU's thread, which comes to introspection_vcpu_receive()
 * or goes on in the guest.
 */
void introspection_vcpu_begin_turn(IntrospectionVCPU *v,
                                   IntrospectionSession *s);
void introspection_vcpu_end_turn(IntrospectionVCPU *v);

/* For query-introspection.  BQL held. */
IntrospectionWaitingVcpuList *
introspection_vcpus_waiting(IntrospectionSession *s);

/*
 * A vCPU command for vCPU @index, answered by its thread.  Returns 0 when it
 * is queued, or a negative KVM_E*.  @payload is copied.
 */
int introspection_vcpu_queue_command(IntrospectionSession *s, uint16_t index,
                                     const struct kvmi_msg_hdr *hdr,
                                     const void *payload);

/*
 * For a command to vCPU @index that is carried out elsewhere: 0, or what keeps
 * the vCPU from taking it.  BQL held.
 */
int introspection_vcpu_check(IntrospectionSession *s, uint16_t index);

/*
 * events.c: have @v's guest get @exception before its next instruction.
 * None may be pending.  On the vCPU's thread, BQL held.
 */
void introspection_vcpu_inject(IntrospectionVCPU *v,
                               const struct kvmi_inject_exception *exception);

/* The tool's reply to an event; false and an error if none fits it. */
bool introspection_vcpu_queue_reply(IntrospectionSession *s,
                                    const struct kvmi_msg_hdr *hdr,
                                    const void *payload, Error **errp);

/*
 * PAUSE_ALL_VCPUS: stop() returns, with their number, when no vCPU executes
 * guest code any more; report() makes each of them send its event.
 */
unsigned introspection_vcpus_stop(IntrospectionSession *s);
void introspection_vcpus_report_stop(IntrospectionSession *s);

/* When this returns, no vCPU's TLB has what it had before. */
void introspection_vcpus_flush_tlbs(IntrospectionSession *s);

/*
 * vcpu-commands.c: run @s's command on @v's thread; @waiting says whether the
 * vCPU waited for an event reply when the command came.  Returns 0 or a
 * negative KVM_E*; the reply's data is appended to @data.
 */
int introspection_vcpu_run_command(IntrospectionVCPU *v,
                                   IntrospectionSession *s, bool waiting,
                                   const struct kvmi_msg_hdr *hdr,
                                   const void *payload, GByteArray *data);

static inline bool introspection_msr_can_be_watched(uint32_t msr)
{
    return msr < INTROSPECTION_MSR_RANGE ||
           (msr >= INTROSPECTION_MSR_HIGH_BASE &&
            msr < INTROSPECTION_MSR_HIGH_BASE + INTROSPECTION_MSR_RANGE);
}

/* Where it is noted whether @msr, which can be watched, is. */
static inline unsigned long *introspection_msr_map(IntrospectionVCPU *v,
                                                   uint32_t msr)
{
    return msr < INTROSPECTION_MSR_RANGE ? v->msrs_low : v->msrs_high;
}

static inline unsigned introspection_msr_bit(uint32_t msr)
{
    return msr % INTROSPECTION_MSR_RANGE;
}

#endif
