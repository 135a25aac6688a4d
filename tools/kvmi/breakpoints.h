/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: breakpoints in a guest that goes on
 *
 * A breakpoint is an INT3 (0xCC) in the place of an instruction's first byte.
 * When a vCPU gets there, the byte is put back, and the page is closed to
 * execution: so all vCPUs can be led through it one instruction at a time, none
 * past a breakpoint unseen.  Once no vCPU stands at a breakpoint of the page
 * any more, the INT3s return, and the page is open again.
 */

#ifndef KVMI_BREAKPOINTS_H
#define KVMI_BREAKPOINTS_H

#include "watch.h"

typedef struct Breakpoints Breakpoints;

/* What an event was. */
typedef enum BreakpointOutcome {
    BREAKPOINT_NOT_OURS,        /* unanswered */
    BREAKPOINT_HIT,             /* answered, like the rest */
    BREAKPOINT_STEP,
    BREAKPOINT_FAILED,
} BreakpointOutcome;

#define BREAKPOINT_EVENTS (KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_PF_FLAG)

Breakpoints *breakpoints_new(Watch *w);
void breakpoints_free(Breakpoints *b);

/* To be written by breakpoints_insert(), on all vCPUs' way. */
void breakpoints_add(Breakpoints *b, uint64_t gva);
bool breakpoints_empty(const Breakpoints *b);

/*
 * Find where they are in physical memory, and write them.  Events must be on
 * for all vCPUs before.
 */
bool breakpoints_insert(Breakpoints *b, GError **errp);
/* Whether one of them is in this page. */
bool breakpoints_in_page(const Breakpoints *b, uint64_t gpa);

/* BREAKPOINT and PF events; @gva gets which one was hit. */
BreakpointOutcome breakpoints_event(Breakpoints *b, const KvmiEvent *event,
                                    uint64_t *gva, GError **errp);

/* Put all bytes back, and open all pages. */
bool breakpoints_remove(Breakpoints *b, GError **errp);
/* What came too late to be seen: the guest goes on.  Not ours: unanswered. */
bool breakpoints_answer_late(Breakpoints *b, const KvmiEvent *event,
                             bool *answered, GError **errp);

#endif /* KVMI_BREAKPOINTS_H */
