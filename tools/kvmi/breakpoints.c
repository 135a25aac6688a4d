/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: breakpoints in a guest that goes on
 */

#include "breakpoints.h"

#define INT3 0xcc

typedef struct Breakpoint {
    uint64_t gva;
    uint64_t gpa;
    uint8_t byte;               /* the instruction's own */
    bool inserted;
} Breakpoint;

/* What a vCPU does at a breakpoint of a page that is closed */
typedef enum StepState {
    STEP_NONE,
    STEP_SEEN,                  /* reported; it comes again, by a PF event */
    STEP_UNDER_WAY,             /* told to execute the instruction */
} StepState;

typedef struct Step {
    StepState state;
    uint64_t rip;
} Step;

typedef struct Page {
    uint64_t gpa;
    bool closed;                /* no INT3s in it, and no execution */
    GArray *steps;              /* of Step, by vCPU */
} Page;

struct Breakpoints {
    Watch *watch;
    GArray *all;                /* of Breakpoint */
    GPtrArray *pages;           /* of Page: those that have one */
};

static uint64_t page_of(uint64_t gpa)
{
    return gpa - gpa % KVMI_PAGE_SIZE;
}

static void page_free(void *opaque)
{
    Page *page = opaque;

    g_array_unref(page->steps);
    g_free(page);
}

Breakpoints *breakpoints_new(Watch *w)
{
    Breakpoints *b = g_new0(Breakpoints, 1);

    b->watch = w;
    b->all = g_array_new(FALSE, TRUE, sizeof(Breakpoint));
    b->pages = g_ptr_array_new_with_free_func(page_free);
    return b;
}

void breakpoints_free(Breakpoints *b)
{
    g_array_unref(b->all);
    g_ptr_array_unref(b->pages);
    g_free(b);
}

static Breakpoint *nth(const Breakpoints *b, unsigned i)
{
    return &g_array_index(b->all, Breakpoint, i);
}

static Breakpoint *find_gpa(const Breakpoints *b, uint64_t gpa)
{
    unsigned i;

    for (i = 0; i < b->all->len; i++) {
        if (nth(b, i)->gpa == gpa) {
            return nth(b, i);
        }
    }
    return NULL;
}

static Page *find_page(const Breakpoints *b, uint64_t gpa)
{
    unsigned i;

    for (i = 0; i < b->pages->len; i++) {
        Page *page = g_ptr_array_index(b->pages, i);

        if (page->gpa == page_of(gpa)) {
            return page;
        }
    }
    return NULL;
}

static Step *step_of(Page *page, uint16_t vcpu)
{
    if (vcpu >= page->steps->len) {
        g_array_set_size(page->steps, vcpu + 1);
    }
    return &g_array_index(page->steps, Step, vcpu);
}

void breakpoints_add(Breakpoints *b, uint64_t gva)
{
    /* no gpa yet: none that a guest can have */
    Breakpoint bp = { .gva = gva, .gpa = UINT64_MAX };
    unsigned i;

    for (i = 0; i < b->all->len; i++) {
        if (nth(b, i)->gva == gva) {
            return;
        }
    }
    g_array_append_val(b->all, bp);
}

bool breakpoints_empty(const Breakpoints *b)
{
    return !b->all->len;
}

bool breakpoints_in_page(const Breakpoints *b, uint64_t gpa)
{
    return find_page(b, gpa);
}

/* In the first vCPU's address space that has it */
static bool locate(Breakpoints *b, Breakpoint *bp, GError **errp)
{
    KvmiClient *client = b->watch->app->client;
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    GError *local = NULL;
    uint32_t mode;
    uint64_t gpa;
    unsigned vcpu;

    for (vcpu = b->watch->first; vcpu < b->watch->end; vcpu++) {
        g_clear_error(&local);
        if (kvmi_get_registers(client, vcpu, NULL, 0, &mode, &regs, &sregs,
                               NULL, &local) &&
            kvmi_translate(client, &sregs, bp->gva, &gpa, &local)) {
            if (find_gpa(b, gpa)) {
                return usage_error(errp, "--bp 0x%" PRIx64 " is the same "
                                   "instruction as --bp 0x%" PRIx64, bp->gva,
                                   find_gpa(b, gpa)->gva);
            }
            bp->gpa = gpa;
            return true;
        }
        if (!g_error_matches(local, KVMI_ERROR, KVMI_ERROR_NOT_MAPPED)) {
            break;
        }
    }
    g_propagate_prefixed_error(errp, local, "--bp 0x%" PRIx64 ": ", bp->gva);
    return false;
}

static bool insert(Breakpoints *b, Breakpoint *bp, GError **errp)
{
    KvmiClient *client = b->watch->app->client;
    const uint8_t int3 = INT3;

    if (!kvmi_read_physical(client, bp->gpa, &bp->byte, 1, errp)) {
        return false;
    }
    if (bp->byte == INT3) {
        /* The guest's own: its events come without us, and it stays. */
        return true;
    }
    bp->inserted = true;
    return kvmi_write_physical(client, bp->gpa, &int3, 1, errp);
}

/* Unless the guest has written something else there meanwhile */
static bool put_back(Breakpoints *b, Breakpoint *bp, GError **errp)
{
    KvmiClient *client = b->watch->app->client;
    uint8_t byte;

    if (!bp->inserted) {
        return true;
    }
    if (!kvmi_read_physical(client, bp->gpa, &byte, 1, errp) ||
        (byte == INT3 &&
         !kvmi_write_physical(client, bp->gpa, &bp->byte, 1, errp))) {
        return false;
    }
    bp->inserted = false;
    return true;
}

bool breakpoints_insert(Breakpoints *b, GError **errp)
{
    unsigned i;

    for (i = 0; i < b->all->len; i++) {
        if (!locate(b, nth(b, i), errp)) {
            return false;
        }
    }
    for (i = 0; i < b->all->len; i++) {
        Breakpoint *bp = nth(b, i);

        if (!find_page(b, bp->gpa)) {
            Page *page = g_new0(Page, 1);

            page->gpa = page_of(bp->gpa);
            page->steps = g_array_new(FALSE, TRUE, sizeof(Step));
            g_ptr_array_add(b->pages, page);
        }
        if (!insert(b, bp, errp)) {
            return false;
        }
    }
    return true;
}

static bool for_all_in(Breakpoints *b, const Page *page,
                       bool (*act)(Breakpoints *, Breakpoint *, GError **),
                       GError **errp)
{
    unsigned i;

    for (i = 0; i < b->all->len; i++) {
        if (page_of(nth(b, i)->gpa) == page->gpa &&
            !act(b, nth(b, i), errp)) {
            return false;
        }
    }
    return true;
}

/* Closed before the INT3s go, and open after they are back. */

static bool close_page(Breakpoints *b, Page *page, GError **errp)
{
    if (page->closed) {
        return true;
    }
    page->closed = true;
    return kvmi_set_access(b->watch->app->client, page->gpa, 1,
                           KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W, errp) &&
           for_all_in(b, page, put_back, errp);
}

static bool open_page(Breakpoints *b, Page *page, GError **errp)
{
    if (!for_all_in(b, page, insert, errp) ||
        !kvmi_set_access(b->watch->app->client, page->gpa, 1,
                         KVMI_PAGE_ACCESS_ALL, errp)) {
        return false;
    }
    page->closed = false;
    return true;
}

/*
 * Whether no vCPU is still to execute the instruction of a breakpoint.  One
 * that was told to, and has not been heard of since, is asked.
 */
static bool all_past(Breakpoints *b, Page *page, bool *past, GError **errp)
{
    unsigned vcpu;

    *past = true;
    for (vcpu = 0; vcpu < page->steps->len; vcpu++) {
        Step *step = step_of(page, vcpu);
        struct kvm_sregs sregs;
        struct kvm_regs regs;
        uint32_t mode;

        if (step->state == STEP_UNDER_WAY) {
            if (!kvmi_get_registers(b->watch->app->client, vcpu, NULL, 0,
                                    &mode, &regs, &sregs, NULL, errp)) {
                return false;
            }
            if (regs.rip != step->rip) {
                step->state = STEP_NONE;
            }
        }
        *past &= step->state == STEP_NONE;
    }
    return true;
}

static bool retry(Breakpoints *b, const KvmiEvent *event, bool step,
                  GError **errp)
{
    struct kvmi_event_pf_reply reply = { .singlestep = step };

    return watch_reply(b->watch, event, KVMI_EVENT_ACTION_RETRY, &reply,
                       event->common.event == KVMI_EVENT_PF ? sizeof(reply)
                                                            : 0, errp);
}

/* A vCPU has met an INT3. */
static BreakpointOutcome int3_met(Breakpoints *b, const KvmiEvent *event,
                                  uint64_t *gva, GError **errp)
{
    const Breakpoint *bp = find_gpa(b, event->breakpoint.gpa);
    Page *page;
    Step *step;

    if (!bp || bp->byte == INT3) {
        return BREAKPOINT_NOT_OURS;
    }
    page = find_page(b, bp->gpa);
    if (!close_page(b, page, errp)) {
        return BREAKPOINT_FAILED;
    }
    step = step_of(page, event->common.vcpu);
    step->state = STEP_SEEN;
    step->rip = event->common.regs.rip;
    *gva = bp->gva;
    return retry(b, event, false, errp) ? BREAKPOINT_HIT : BREAKPOINT_FAILED;
}

/* A vCPU wants to execute an instruction of a page that is closed. */
static BreakpointOutcome fetch(Breakpoints *b, Page *page,
                               const KvmiEvent *event, uint64_t *gva,
                               GError **errp)
{
    const Breakpoint *bp = find_gpa(b, event->pf.gpa);
    Step *step = step_of(page, event->common.vcpu);
    bool was_seen = step->state == STEP_SEEN &&
                    step->rip == event->common.regs.rip;
    bool past;

    /* An event of its own says that it has done with what was before. */
    step->state = STEP_NONE;
    if (bp || was_seen) {
        /* It opened before this came: close it for the step. */
        if (!close_page(b, page, errp)) {
            return BREAKPOINT_FAILED;
        }
        step->state = STEP_UNDER_WAY;
        step->rip = event->common.regs.rip;
        if (!retry(b, event, true, errp)) {
            return BREAKPOINT_FAILED;
        }
        if (was_seen) {
            return BREAKPOINT_STEP;
        }
        *gva = bp->gva;
        return BREAKPOINT_HIT;
    }
    if (!all_past(b, page, &past, errp) ||
        (past && page->closed && !open_page(b, page, errp)) ||
        !retry(b, event, !past, errp)) {
        return BREAKPOINT_FAILED;
    }
    return BREAKPOINT_STEP;
}

BreakpointOutcome breakpoints_event(Breakpoints *b, const KvmiEvent *event,
                                    uint64_t *gva, GError **errp)
{
    Page *page;

    switch (event->common.event) {
    case KVMI_EVENT_BREAKPOINT:
        return int3_met(b, event, gva, errp);
    case KVMI_EVENT_PF:
        page = find_page(b, event->pf.gpa);
        return page ? fetch(b, page, event, gva, errp) : BREAKPOINT_NOT_OURS;
    default:
        return BREAKPOINT_NOT_OURS;
    }
}

bool breakpoints_remove(Breakpoints *b, GError **errp)
{
    unsigned i;

    for (i = 0; i < b->all->len; i++) {
        if (!put_back(b, nth(b, i), errp)) {
            return false;
        }
    }
    return true;
}

bool breakpoints_answer_late(Breakpoints *b, const KvmiEvent *event,
                             bool *answered, GError **errp)
{
    const Breakpoint *bp = event->common.event == KVMI_EVENT_BREAKPOINT
                           ? find_gpa(b, event->breakpoint.gpa) : NULL;

    *answered = (bp && bp->byte != INT3) ||
                (event->common.event == KVMI_EVENT_PF &&
                 find_page(b, event->pf.gpa));
    return !*answered || retry(b, event, false, errp);
}
