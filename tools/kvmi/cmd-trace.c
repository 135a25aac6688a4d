/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi trace: a line for each thing that the guest does
 */

#include <stdio.h>
#include <string.h>
#include "breakpoints.h"
#include "trace-event.h"

#define MAX_ADDRESS ((1ULL << 52) - 1)
/* More pages would take the engine's time, and give nothing to look at. */
#define MAX_PF_PAGES 65536

/* What is traced, and how often it came. */
typedef struct Target {
    uint32_t event;             /* KVMI_EVENT_* */
    uint64_t index;             /* of a CR or MSR; the gpa, or the gva */
    uint64_t length;            /* PF: from there on */
    uint8_t access;             /* PF: of these kinds */
    uint64_t count;
    GHashTable *values;         /* the different event_value()s */
} Target;

typedef struct Trace {
    Watch watch;                /* the first */
    GArray *targets;            /* of Target */
    GArray *vcpu_counts;        /* of uint64_t */
    Breakpoints *breakpoints;
    bool vm_events;             /* are shown */
    bool new_vcpus;             /* hotplugged ones are traced too */
    bool summary_only;
} Trace;

static void target_clear(void *opaque)
{
    Target *target = opaque;

    g_hash_table_unref(target->values);
}

static Target *nth(Trace *t, unsigned i)
{
    return &g_array_index(t->targets, Target, i);
}

static Target *find_target(Trace *t, uint32_t event, uint64_t index)
{
    unsigned i;

    for (i = 0; i < t->targets->len; i++) {
        if (nth(t, i)->event == event && nth(t, i)->index == index) {
            return nth(t, i);
        }
    }
    return NULL;
}

static Target *add_target(Trace *t, uint32_t event, uint64_t index)
{
    Target *target = find_target(t, event, index);

    if (!target) {
        g_array_set_size(t->targets, t->targets->len + 1);
        target = nth(t, t->targets->len - 1);
        target->event = event;
        target->index = index;
        target->values = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                               g_free, NULL);
    }
    return target;
}

static uint32_t wanted_events(Trace *t)
{
    uint32_t events = breakpoints_empty(t->breakpoints) ? 0
                                                        : BREAKPOINT_EVENTS;
    unsigned i;

    for (i = 0; i < t->targets->len; i++) {
        events |= 1u << nth(t, i)->event;
    }
    return events & KVMI_KNOWN_VCPU_EVENTS;
}

/* Options */

static bool parse_cr(Trace *t, const char *text, GError **errp)
{
    uint64_t cr;

    if (!parse_number(text, "--cr", UINT32_MAX, &cr, errp)) {
        return false;
    }
    if (cr != 0 && cr != 3 && cr != 4) {
        return usage_error(errp, "--cr %s: 0, 3 and 4 can be traced", text);
    }
    add_target(t, KVMI_EVENT_CR, cr);
    return true;
}

static bool parse_traced_msr(Trace *t, const char *text, GError **errp)
{
    uint32_t msr;

    if (!parse_msr(text, &msr, errp)) {
        return false;
    }
    add_target(t, KVMI_EVENT_MSR, msr);
    return true;
}

static bool parse_bp(Trace *t, const char *text, GError **errp)
{
    uint64_t gva;

    if (!parse_number(text, "--bp", UINT64_MAX, &gva, errp)) {
        return false;
    }
    add_target(t, KVMI_EVENT_BREAKPOINT, gva);
    breakpoints_add(t->breakpoints, gva);
    return true;
}

/* GPA[+LENGTH][:ACCESS]; without a length, all of the page that GPA is in */
static bool parse_pf(Trace *t, const char *text, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 2);
    g_auto(GStrv) range = g_strsplit(parts[0] ?: "", "+", 2);
    uint8_t access = KVMI_PAGE_ACCESS_ALL;
    uint64_t gpa, length = KVMI_PAGE_SIZE;
    Target *target;

    if (!parse_number(range[0] ?: "", "--pf", MAX_ADDRESS, &gpa, errp) ||
        (range[0] && range[1] &&
         !parse_number(range[1], "--pf", (uint64_t)MAX_PF_PAGES *
                       KVMI_PAGE_SIZE, &length, errp)) ||
        (parts[0] && parts[1] && !parse_access(parts[1], &access, errp))) {
        return false;
    }
    if (!access || !length) {
        return usage_error(errp, "--pf %s: nothing to trace: give "
                           "GPA[+LENGTH][:rwx]", text);
    }
    if (!range[1]) {
        gpa -= gpa % KVMI_PAGE_SIZE;
    }
    target = add_target(t, KVMI_EVENT_PF, gpa);
    target->length = MAX(length, target->length);
    target->access |= access;
    return true;
}

static bool parse_all(Trace *t, char **texts,
                      bool (*parse)(Trace *, const char *, GError **),
                      GError **errp)
{
    for (; texts && *texts; texts++) {
        if (!parse(t, *texts, errp)) {
            return false;
        }
    }
    return true;
}

/* Switching on */

static uint64_t first_page(const Target *target)
{
    return target->index - target->index % KVMI_PAGE_SIZE;
}

static uint64_t page_count(const Target *target)
{
    return (target->index + target->length - first_page(target) +
            KVMI_PAGE_SIZE - 1) / KVMI_PAGE_SIZE;
}

static bool hook_vcpu(Trace *t, uint16_t vcpu, GError **errp)
{
    KvmiClient *client = t->watch.app->client;
    unsigned i;

    for (i = 0; i < t->targets->len; i++) {
        const Target *target = nth(t, i);

        if ((target->event == KVMI_EVENT_CR &&
             !kvmi_control_cr(client, vcpu, target->index, true, errp)) ||
            (target->event == KVMI_EVENT_MSR &&
             !kvmi_control_msr(client, vcpu, target->index, true, errp))) {
            return false;
        }
    }
    return !wanted_events(t) ||
           kvmi_control_events(client, vcpu, wanted_events(t), errp);
}

/* A page that several targets have is closed to what any of them traces. */
static bool restrict_page(Trace *t, uint64_t gpa, GError **errp)
{
    uint8_t access = KVMI_PAGE_ACCESS_ALL;
    unsigned i;

    if (breakpoints_in_page(t->breakpoints, gpa)) {
        return usage_error(errp, "--pf and --bp cannot both have the page "
                           "0x%" PRIx64, gpa);
    }
    for (i = 0; i < t->targets->len; i++) {
        const Target *target = nth(t, i);

        if (target->event == KVMI_EVENT_PF && gpa >= first_page(target) &&
            gpa - first_page(target) < page_count(target) * KVMI_PAGE_SIZE) {
            access &= ~target->access;
        }
    }
    return kvmi_set_access(t->watch.app->client, gpa, 1, access, errp);
}

static bool restrict_pages(Trace *t, GError **errp)
{
    unsigned i;
    uint64_t page;

    for (i = 0; i < t->targets->len; i++) {
        if (nth(t, i)->event == KVMI_EVENT_PF) {
            for (page = 0; page < page_count(nth(t, i)); page++) {
                if (!restrict_page(t, first_page(nth(t, i)) +
                                   page * KVMI_PAGE_SIZE, errp)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static bool hook(Watch *w, GError **errp)
{
    Trace *t = (Trace *)w;
    uint32_t vm_events = KVMI_EVENT_UNHOOK_FLAG |
                         (t->new_vcpus || t->vm_events
                          ? KVMI_EVENT_CREATE_VCPU_FLAG : 0);
    uint32_t offered;
    unsigned vcpu;

    if (!watch_check_events(w, wanted_events(t) |
                            (t->vm_events ? vm_events : 0), &offered, errp) ||
        !watch_vm_events(w, vm_events, offered, errp)) {
        return false;
    }
    for (vcpu = w->first; vcpu < w->end; vcpu++) {
        if (!hook_vcpu(t, vcpu, errp)) {
            return false;
        }
    }
    return breakpoints_insert(t->breakpoints, errp) &&
           restrict_pages(t, errp);
}

/* Events */

static Target *target_of(Trace *t, const KvmiEvent *event, uint64_t bp)
{
    unsigned i;

    switch (event->common.event) {
    case KVMI_EVENT_CR:
        return find_target(t, KVMI_EVENT_CR, event->cr.cr);
    case KVMI_EVENT_MSR:
        return find_target(t, KVMI_EVENT_MSR, event->msr.msr);
    case KVMI_EVENT_BREAKPOINT:
        return find_target(t, KVMI_EVENT_BREAKPOINT, bp);
    case KVMI_EVENT_PF:
        for (i = 0; i < t->targets->len; i++) {
            Target *target = nth(t, i);

            if (target->event == KVMI_EVENT_PF &&
                event->pf.gpa >= target->index &&
                event->pf.gpa - target->index < target->length &&
                (event->pf.mode & target->access)) {
                return target;
            }
        }
        return NULL;
    default:
        return find_target(t, event->common.event, 0);
    }
}

static void count_event(Trace *t, Target *target, const KvmiEvent *event)
{
    uint64_t value = event_value(event);
    uint16_t vcpu = event->common.vcpu;

    t->watch.events++;
    target->count++;
    if (!g_hash_table_contains(target->values, &value)) {
        uint64_t *key = g_new(uint64_t, 1);

        *key = value;
        g_hash_table_add(target->values, key);
    }
    if (vcpu >= t->vcpu_counts->len) {
        g_array_set_size(t->vcpu_counts, vcpu + 1);
    }
    g_array_index(t->vcpu_counts, uint64_t, vcpu)++;
}

/* A hit of a breakpoint that came as a PF event is shown as what it is. */
static void note_event(Trace *t, Target *target, const KvmiEvent *event,
                       bool hit)
{
    KvmiEvent shown = *event;

    if (hit && event->common.event == KVMI_EVENT_PF) {
        shown.common.event = KVMI_EVENT_BREAKPOINT;
        shown.breakpoint.gpa = event->pf.gpa;
    }
    count_event(t, target, &shown);
    if (!t->summary_only) {
        show_event(&t->watch, &shown);
    }
}

/* The guest waits: answer before anything else. */
static bool handle(Watch *w, const KvmiEvent *event, GError **errp)
{
    Trace *t = (Trace *)w;
    BreakpointOutcome outcome;
    uint64_t bp = 0;
    Target *target;

    if (event->common.event == KVMI_EVENT_CREATE_VCPU && t->new_vcpus &&
        !hook_vcpu(t, event->common.vcpu, errp)) {
        return false;
    }
    outcome = breakpoints_event(t->breakpoints, event, &bp, errp);
    if (outcome == BREAKPOINT_FAILED ||
        (outcome == BREAKPOINT_NOT_OURS && !watch_continue(w, event, errp))) {
        return false;
    }
    w->unhook_asked |= event->common.event == KVMI_EVENT_UNHOOK;
    target = outcome == BREAKPOINT_HIT
             ? find_target(t, KVMI_EVENT_BREAKPOINT, bp)
             : target_of(t, event, bp);
    if (target && outcome != BREAKPOINT_STEP) {
        note_event(t, target, event, outcome == BREAKPOINT_HIT);
    } else if (event->common.event == KVMI_EVENT_CR ||
               event->common.event == KVMI_EVENT_MSR) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_PROTOCOL,
                    "the VM sent an event that was not asked for");
        return false;
    }
    return true;
}

static bool release(Watch *w, GError **errp)
{
    return breakpoints_remove(((Trace *)w)->breakpoints, errp);
}

static bool answer_late(KvmiClient *client, const KvmiEvent *event,
                        void *opaque, GError **errp)
{
    Trace *t = opaque;
    bool answered;

    return breakpoints_answer_late(t->breakpoints, event, &answered, errp) &&
           (answered || kvmi_event_continue(client, event, errp));
}

/* The summary */

static const char *target_label(const Target *target, char buf[32])
{
    char access[4];

    switch (target->event) {
    case KVMI_EVENT_CR:
        g_snprintf(buf, 32, "cr%" PRIu64, target->index);
        return buf;
    case KVMI_EVENT_MSR:
        return msr_label(target->index, buf);
    case KVMI_EVENT_PF:
        g_snprintf(buf, 32, "0x%" PRIx64 ":%s", target->index,
                   access_name(target->access, access));
        return buf;
    case KVMI_EVENT_BREAKPOINT:
        g_snprintf(buf, 32, "0x%" PRIx64, target->index);
        return buf;
    default:
        return kvmi_event_name(target->event);
    }
}

static void print_summary(Trace *t, double seconds)
{
    Watch *w = &t->watch;
    unsigned i;

    watch_put(w, "%" PRIu64 " events in %.1f s, %.0f per second%s\n",
              w->events, seconds, w->events / seconds,
              w->unhook_asked ? "; the VM asked to be released" : "");
    for (i = 0; i < t->targets->len; i++) {
        const Target *target = nth(t, i);
        char buf[32];

        watch_put(w, "  %-14s %10" PRIu64 "  %10.1f/s  %u %s\n",
                  target_label(target, buf), target->count,
                  target->count / seconds,
                  g_hash_table_size(target->values),
                  event_value_name(target->event, target->index));
    }
    for (i = 0; i < t->vcpu_counts->len; i++) {
        uint64_t count = g_array_index(t->vcpu_counts, uint64_t, i);
        g_autofree char *label = g_strdup_printf("vcpu %u", i);

        watch_put(w, "  %-14s %10" PRIu64 "  %10.1f/s\n",
                  label, count, count / seconds);
    }
}

static void json_summary(Trace *t, double seconds)
{
    Json *json = &t->watch.json;
    unsigned i;

    json_object(json, NULL);
    json_object(json, "summary");
    json_double(json, "seconds", seconds, 3);
    json_uint(json, "events", t->watch.events);
    json_double(json, "rate", t->watch.events / seconds, 1);
    json_bool(json, "unhook-asked", t->watch.unhook_asked);
    json_array(json, "targets");
    for (i = 0; i < t->targets->len; i++) {
        const Target *target = nth(t, i);
        char buf[32];

        json_object(json, NULL);
        json_string(json, "event", kvmi_event_name(target->event));
        json_string(json, "what", target_label(target, buf));
        json_uint(json, "events", target->count);
        json_double(json, "rate", target->count / seconds, 1);
        json_uint(json, "values", g_hash_table_size(target->values));
        json_object_end(json);
    }
    json_array_end(json);
    json_array(json, "vcpus");
    for (i = 0; i < t->vcpu_counts->len; i++) {
        json_uint(json, NULL, g_array_index(t->vcpu_counts, uint64_t, i));
    }
    json_array_end(json);
    json_object_end(json);
    json_object_end(json);
    watch_put_json(&t->watch);
}

static void summary(Watch *w, double seconds)
{
    (w->app->json ? json_summary : print_summary)((Trace *)w, seconds);
}

/* The command line */

typedef struct TraceOptions {
    WatchOptions watch;
    char **crs;
    char **msrs;
    char **pfs;
    char **bps;
    gboolean descriptor;
    gboolean xsetbv;
    gboolean hypercall;
    gboolean trap;
    gboolean vm;
} TraceOptions;

static bool parse_targets(Trace *t, const TraceOptions *o, GError **errp)
{
    if (!parse_all(t, o->crs, parse_cr, errp) ||
        !parse_all(t, o->msrs, parse_traced_msr, errp) ||
        !parse_all(t, o->pfs, parse_pf, errp) ||
        !parse_all(t, o->bps, parse_bp, errp)) {
        return false;
    }
    if (o->descriptor) {
        add_target(t, KVMI_EVENT_DESCRIPTOR, 0);
    }
    if (o->xsetbv) {
        add_target(t, KVMI_EVENT_XSETBV, 0);
    }
    if (o->hypercall) {
        add_target(t, KVMI_EVENT_HYPERCALL, 0);
    }
    if (o->trap) {
        add_target(t, KVMI_EVENT_TRAP, 0);
    }
    if (o->vm) {
        t->vm_events = true;
        add_target(t, KVMI_EVENT_CREATE_VCPU, 0);
        add_target(t, KVMI_EVENT_UNHOOK, 0);
    }
    if (!t->targets->len) {
        return usage_error(errp, "nothing to trace: give --cr, --msr, --pf, "
                           "--bp or another event (see --help)");
    }
    if (o->bps && o->watch.vcpu) {
        return usage_error(errp, "--bp is for all vCPUs: a vCPU that is not "
                           "traced would crash at it");
    }
    return true;
}

static bool trace(Trace *t, const TraceOptions *o, GError **errp)
{
    Watch *w = &t->watch;
    int vcpu;

    if (!parse_vcpu(o->watch.vcpu, -1, &vcpu, errp) ||
        !watch_check_options(&o->watch, errp) ||
        !parse_targets(t, o, errp) ||
        !app_connect(w->app, errp) ||
        !app_vcpus(w->app, vcpu, &w->first, &w->end, errp)) {
        return false;
    }
    t->summary_only = o->watch.summary;
    t->new_vcpus = vcpu < 0;
    return watch_run(w, &o->watch, errp);
}

static bool run_trace(App *app, int argc, char **argv, GError **errp)
{
    TraceOptions o = { 0 };
    const GOptionEntry entries[] = {
        { "cr", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.crs,
          "control register to trace: 0, 3 or 4; may be repeated", "N" },
        { "msr", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.msrs,
          "MSR to trace, like lstar; may be repeated", "NAME|INDEX" },
        { "pf", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.pfs,
          "accesses to trace, of these kinds to this page or these bytes; "
          "may be repeated", "GPA[+LENGTH][:rwx]" },
        { "bp", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.bps,
          "instruction to trace; may be repeated", "GVA" },
        { "descriptor", 0, 0, G_OPTION_ARG_NONE, &o.descriptor,
          "trace LGDT, LIDT, LLDT, LTR, SGDT, SIDT, SLDT and STR", NULL },
        { "xsetbv", 0, 0, G_OPTION_ARG_NONE, &o.xsetbv,
          "trace writes to XCR0", NULL },
        { "hypercall", 0, 0, G_OPTION_ARG_NONE, &o.hypercall,
          "trace the guest's calls to the tool", NULL },
        { "trap", 0, 0, G_OPTION_ARG_NONE, &o.trap,
          "trace injected exceptions that were lost", NULL },
        { "vm", 0, 0, G_OPTION_ARG_NONE, &o.vm,
          "trace new vCPUs, and the VM's wish to be let go", NULL },
        { "vcpu", 0, 0, G_OPTION_ARG_STRING, &o.watch.vcpu,
          "only this vCPU", "N" },
        WATCH_OPTIONS(o.watch),
        { NULL }
    };
    Trace t = {
        .watch = {
            .app = app,
            .what = "tracing",
            .hook = hook,
            .handle = handle,
            .release = release,
            .answer = answer_late,
            .summary = summary,
        },
        .targets = g_array_new(FALSE, TRUE, sizeof(Target)),
        .vcpu_counts = g_array_new(FALSE, TRUE, sizeof(uint64_t)),
    };
    bool ok;

    t.breakpoints = breakpoints_new(&t.watch);
    g_array_set_clear_func(t.targets, target_clear);
    ok = app_parse(app, entries, &argc, &argv, 0, 0, errp) &&
         trace(&t, &o, errp);
    breakpoints_free(t.breakpoints);
    g_array_unref(t.targets);
    g_array_unref(t.vcpu_counts);
    g_strfreev(o.crs);
    g_strfreev(o.msrs);
    g_strfreev(o.pfs);
    g_strfreev(o.bps);
    g_free(o.watch.vcpu);
    return ok;
}

const Subcommand cmd_trace = {
    .name = "trace",
    .summary = "a line for each thing that the guest does",
    .description =
        "Shows what the guest does as it happens: writes to CR0, CR3, CR4 and\n"
        "MSRs, accesses to pages, instructions that it executes; when, on\n"
        "which vCPU, from which RIP; with rates at the end.  The guest goes\n"
        "on after each.  Ctrl-C unhooks, and leaves the guest running.",
    .run = run_trace,
};
