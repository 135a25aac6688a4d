/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi trace: a line for each write to control registers and MSRs
 */

#include <stdio.h>
#include <unistd.h>
#include "cmd.h"

/* Write what has come together, even if more is to come. */
#define FLUSH_SIZE (32 * 1024)

/* What is traced: a control register or an MSR, and how often it came. */
typedef struct Target {
    uint32_t event;             /* KVMI_EVENT_CR or KVMI_EVENT_MSR */
    uint32_t index;
    uint64_t count;
    GHashTable *values;         /* distinct new values */
} Target;

typedef struct Trace {
    App *app;
    GArray *targets;            /* of Target */
    GArray *vcpu_counts;        /* of uint64_t */
    unsigned first, end;        /* vCPUs */
    bool new_vcpus;             /* hotplugged ones are traced too */
    bool summary_only;
    uint64_t max_events;
    uint64_t events;
    gint64 start;
    gint64 stop;                /* or -1 */
    bool unhook_asked;
    Json json;
    GString *out;               /* still to be written to stdout */
} Trace;

static void target_clear(void *opaque)
{
    Target *target = opaque;

    g_hash_table_unref(target->values);
}

static void add_target(Trace *t, uint32_t event, uint32_t index)
{
    Target target = {
        .event = event,
        .index = index,
        .values = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                        g_free, NULL),
    };

    g_array_append_val(t->targets, target);
}

static Target *find_target(Trace *t, uint32_t event, uint32_t index)
{
    unsigned i;

    for (i = 0; i < t->targets->len; i++) {
        Target *target = &g_array_index(t->targets, Target, i);

        if (target->event == event && target->index == index) {
            return target;
        }
    }
    return NULL;
}

static uint32_t wanted_events(Trace *t)
{
    uint32_t events = 0;
    unsigned i;

    for (i = 0; i < t->targets->len; i++) {
        events |= 1u << g_array_index(t->targets, Target, i).event;
    }
    return events;
}

/* Setting up */

static bool parse_targets(Trace *t, char **crs, char **msrs, GError **errp)
{
    uint64_t cr;
    uint32_t msr;

    for (; crs && *crs; crs++) {
        if (!parse_number(*crs, "--cr", UINT32_MAX, &cr, errp)) {
            return false;
        }
        if (cr != 0 && cr != 3 && cr != 4) {
            return usage_error(errp, "--cr %s: 0, 3 and 4 can be traced",
                               *crs);
        }
        if (!find_target(t, KVMI_EVENT_CR, cr)) {
            add_target(t, KVMI_EVENT_CR, cr);
        }
    }
    for (; msrs && *msrs; msrs++) {
        if (!parse_msr(*msrs, &msr, errp)) {
            return false;
        }
        if (!find_target(t, KVMI_EVENT_MSR, msr)) {
            add_target(t, KVMI_EVENT_MSR, msr);
        }
    }
    if (!t->targets->len) {
        return usage_error(errp, "nothing to trace: give --cr or --msr");
    }
    return true;
}

/* Say it in the user's terms, before the engine refuses. */
static bool check_events(Trace *t, uint32_t allowed, GError **errp)
{
    uint32_t missing = wanted_events(t) & ~allowed;

    if (missing) {
        g_set_error(errp, KVMI_ENGINE_ERROR, KVM_EPERM,
                    "this VM does not offer the event '%s': its manager does "
                    "not allow it, or its engine does not have it (see kvmi "
                    "info)", kvmi_event_name(__builtin_ctz(missing)));
        return false;
    }
    return true;
}

static bool hook_vcpu(Trace *t, uint16_t vcpu, GError **errp)
{
    KvmiClient *client = t->app->client;
    unsigned i;

    for (i = 0; i < t->targets->len; i++) {
        Target *target = &g_array_index(t->targets, Target, i);
        bool ok = target->event == KVMI_EVENT_CR
                  ? kvmi_control_cr(client, vcpu, target->index, true, errp)
                  : kvmi_control_msr(client, vcpu, target->index, true, errp);

        if (!ok) {
            return false;
        }
    }
    return kvmi_control_events(client, vcpu, wanted_events(t), errp);
}

static bool hook(Trace *t, GError **errp)
{
    const uint32_t vm_events = KVMI_EVENT_UNHOOK_FLAG |
                               (t->new_vcpus ? KVMI_EVENT_CREATE_VCPU_FLAG
                                             : 0);
    struct kvmi_get_version_reply version;
    unsigned vcpu;

    if (!kvmi_get_version(t->app->client, &version, errp) ||
        !check_events(t, version.events, errp)) {
        return false;
    }
    if ((version.events & vm_events) &&
        (version.commands & KVMI_CONTROL_VM_EVENTS_FLAG) &&
        !kvmi_control_vm_events(t->app->client, version.events & vm_events,
                                errp)) {
        return false;
    }
    for (vcpu = t->first; vcpu < t->end; vcpu++) {
        if (!hook_vcpu(t, vcpu, errp)) {
            return false;
        }
    }
    return true;
}

/* Events */

static void count_event(Trace *t, Target *target, const KvmiEvent *event,
                        uint64_t new_value)
{
    uint16_t vcpu = event->common.vcpu;

    t->events++;
    target->count++;
    if (!g_hash_table_contains(target->values, &new_value)) {
        uint64_t *key = g_new(uint64_t, 1);

        *key = new_value;
        g_hash_table_add(target->values, key);
    }
    if (vcpu >= t->vcpu_counts->len) {
        g_array_set_size(t->vcpu_counts, vcpu + 1);
    }
    g_array_index(t->vcpu_counts, uint64_t, vcpu)++;
}

static const char *target_label(const Target *target, char buf[16])
{
    if (target->event == KVMI_EVENT_CR) {
        g_snprintf(buf, 16, "cr%" PRIu32, target->index);
        return buf;
    }
    return msr_label(target->index, buf);
}

/*
 * stdio loses what a signal keeps it from writing.  Here it is kept, so that
 * the guest can be let go first, and the output is still whole.
 */
static bool flush_out(Trace *t, GError **errp)
{
    while (t->out->len) {
        ssize_t n = write(STDOUT_FILENO, t->out->str, t->out->len);

        if (n >= 0) {
            g_string_erase(t->out, 0, n);
        } else if (errno != EINTR) {
            g_string_truncate(t->out, 0);
            return local_error(errp,
                               "cannot write to the standard output: %s",
                               g_strerror(errno));
        } else if (kvmi_is_cancelled(&t->app->cancel)) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_CANCELLED,
                        "interrupted");
            return false;
        }
    }
    return true;
}

static void put_json(Trace *t)
{
    g_string_append(t->out, t->json.text->str);
    g_string_append_c(t->out, '\n');
    json_clear(&t->json);
}

static void show_event(Trace *t, const Target *target,
                       const KvmiEvent *event, uint64_t old_value,
                       uint64_t new_value)
{
    char buf[16];
    Json *json = &t->json;

    if (t->summary_only) {
        return;
    }
    if (!t->app->json) {
        g_string_append_printf(t->out, "%12.6f  vcpu %u  rip %016" PRIx64
                               "  %-14s %016" PRIx64 " -> %016" PRIx64 "\n",
                               (g_get_monotonic_time() - t->start) / 1e6,
                               event->common.vcpu,
                               (uint64_t)event->common.regs.rip,
                               target_label(target, buf),
                               old_value, new_value);
        return;
    }
    json_object(json, NULL);
    json_double(json, "time", g_get_real_time() / 1e6, 6);
    json_uint(json, "vcpu", event->common.vcpu);
    json_hex(json, "rip", event->common.regs.rip);
    json_hex(json, "cr3", event->common.sregs.cr3);
    json_string(json, "event", kvmi_event_name(target->event));
    if (target->event == KVMI_EVENT_CR) {
        json_uint(json, "cr", target->index);
    } else {
        json_string(json, "msr", msr_label(target->index, buf));
        json_hex(json, "index", target->index);
    }
    json_hex(json, "old", old_value);
    json_hex(json, "new", new_value);
    json_object_end(json);
    put_json(t);
}

/* The guest waits: answer before anything else. */
static bool handle_event(Trace *t, const KvmiEvent *event, GError **errp)
{
    uint64_t old_value, new_value;
    Target *target;

    if (event->common.event == KVMI_EVENT_CREATE_VCPU &&
        !hook_vcpu(t, event->common.vcpu, errp)) {
        return false;
    }
    if (!kvmi_event_continue(t->app->client, event, errp)) {
        return false;
    }

    switch (event->common.event) {
    case KVMI_EVENT_CR:
        target = find_target(t, KVMI_EVENT_CR, event->cr.cr);
        old_value = event->cr.old_value;
        new_value = event->cr.new_value;
        break;
    case KVMI_EVENT_MSR:
        target = find_target(t, KVMI_EVENT_MSR, event->msr.msr);
        old_value = event->msr.old_value;
        new_value = event->msr.new_value;
        break;
    case KVMI_EVENT_UNHOOK:
        t->unhook_asked = true;
        return true;
    default:
        return true;
    }
    if (!target) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_PROTOCOL,
                    "the VM sent an event that was not asked for");
        return false;
    }
    count_event(t, target, event, new_value);
    show_event(t, target, event, old_value, new_value);
    return true;
}

static int time_left_ms(const Trace *t)
{
    return t->stop < 0 ? -1
                       : MAX(0, (t->stop - g_get_monotonic_time() + 999) /
                                1000);
}

static bool finished(const Trace *t)
{
    return t->unhook_asked ||
           (t->max_events && t->events >= t->max_events) ||
           (t->stop >= 0 && g_get_monotonic_time() >= t->stop);
}

/* Until it is finished, or somebody wants it to end. */
static bool trace_events(Trace *t, GError **errp)
{
    while (!finished(t)) {
        KvmiEvent *event;
        bool ok;

        /* What is written is seen while nothing else happens. */
        if (!kvmi_next_event(t->app->client, 0, &event, errp)) {
            return false;
        }
        if ((!event || t->out->len > FLUSH_SIZE) && !flush_out(t, errp)) {
            kvmi_event_free(event);
            return false;
        }
        if (!event && !kvmi_next_event(t->app->client, time_left_ms(t),
                                       &event, errp)) {
            return false;
        }
        if (event) {
            ok = handle_event(t, event, errp);
            kvmi_event_free(event);
            if (!ok) {
                return false;
            }
        }
    }
    return true;
}

/* The summary */

static void print_summary(Trace *t, double seconds)
{
    GString *out = t->out;
    unsigned i;

    g_string_append_printf(out, "%" PRIu64 " events in %.1f s, "
                           "%.0f per second%s\n", t->events, seconds,
                           t->events / seconds, t->unhook_asked ?
                           "; the VM asked to be released" : "");
    for (i = 0; i < t->targets->len; i++) {
        Target *target = &g_array_index(t->targets, Target, i);
        unsigned values = g_hash_table_size(target->values);
        char buf[16];

        g_string_append_printf(out, "  %-14s %10" PRIu64 "  %10.1f/s  %u %s\n",
                               target_label(target, buf), target->count,
                               target->count / seconds, values,
                               target->event == KVMI_EVENT_CR &&
                               target->index == 3 ?
                               "address spaces" : "values");
    }
    for (i = 0; i < t->vcpu_counts->len; i++) {
        uint64_t count = g_array_index(t->vcpu_counts, uint64_t, i);
        g_autofree char *label = g_strdup_printf("vcpu %u", i);

        g_string_append_printf(out, "  %-14s %10" PRIu64 "  %10.1f/s\n",
                               label, count, count / seconds);
    }
}

static void json_summary(Trace *t, double seconds)
{
    Json *json = &t->json;
    unsigned i;

    json_object(json, NULL);
    json_object(json, "summary");
    json_double(json, "seconds", seconds, 3);
    json_uint(json, "events", t->events);
    json_double(json, "rate", t->events / seconds, 1);
    json_bool(json, "unhook-asked", t->unhook_asked);
    json_array(json, "targets");
    for (i = 0; i < t->targets->len; i++) {
        Target *target = &g_array_index(t->targets, Target, i);
        char buf[16];

        json_object(json, NULL);
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
    put_json(t);
}

static void show_summary(Trace *t)
{
    double seconds = MAX(1, g_get_monotonic_time() - t->start) / 1e6;

    (t->app->json ? json_summary : print_summary)(t, seconds);
}

/* Being told to end is the ordinary end of a trace. */
static bool forgive_signal(Trace *t, GError **err)
{
    if (app_signal() &&
        g_error_matches(*err, KVMI_ERROR, KVMI_ERROR_CANCELLED)) {
        g_clear_error(err);
        return true;
    }
    return false;
}

static bool trace(Trace *t, GError **errp)
{
    GError *err = NULL;
    bool ok;

    t->start = g_get_monotonic_time();
    ok = hook(t, &err) || forgive_signal(t, &err);
    if (ok) {
        if (!t->app->quiet) {
            fprintf(stderr, "kvmi: tracing VM '%s', Ctrl-C ends it\n",
                    kvmi_client_vm(t->app->client)->name);
        }
        ok = trace_events(t, &err) || forgive_signal(t, &err);
        show_summary(t);
    }

    /*
     * Whatever happened: leave the guest as it was found, and only then wait
     * for whoever reads what is still to be written.
     */
    kvmi_cancel_reset(&t->app->cancel);
    if (!kvmi_client_unhook(t->app->client, ok ? &err : NULL)) {
        ok = false;
    }
    app_disconnect(t->app);
    if (!flush_out(t, ok ? &err : NULL)) {
        ok = false;
    }
    if (err) {
        g_propagate_error(errp, err);
    }
    return ok;
}

static bool parse_options(Trace *t, double duration, int64_t count,
                          char **crs, char **msrs, GError **errp)
{
    if (duration < 0 || duration > 1e9) {
        return usage_error(errp, "--duration %g: give seconds", duration);
    }
    if (count < 0) {
        return usage_error(errp, "--count: give the number of events");
    }
    t->max_events = count;
    return parse_targets(t, crs, msrs, errp);
}

static bool run_trace(App *app, int argc, char **argv, GError **errp)
{
    g_auto(GStrv) crs = NULL;
    g_auto(GStrv) msrs = NULL;
    g_autofree char *vcpu_text = NULL;
    double duration = 0;
    gboolean summary = FALSE;
    int64_t count = 0;
    const GOptionEntry entries[] = {
        { "cr", 0, 0, G_OPTION_ARG_STRING_ARRAY, &crs,
          "control register to trace: 0, 3 or 4; may be repeated", "N" },
        { "msr", 0, 0, G_OPTION_ARG_STRING_ARRAY, &msrs,
          "MSR to trace, like lstar; may be repeated", "NAME|INDEX" },
        { "vcpu", 0, 0, G_OPTION_ARG_STRING, &vcpu_text,
          "only this vCPU", "N" },
        { "duration", 0, 0, G_OPTION_ARG_DOUBLE, &duration,
          "end after so long", "SECONDS" },
        { "count", 0, 0, G_OPTION_ARG_INT64, &count,
          "end after so many events", "N" },
        { "summary", 0, 0, G_OPTION_ARG_NONE, &summary,
          "only the summary, no line for each event", NULL },
        { NULL }
    };
    Trace t = {
        .app = app,
        .targets = g_array_new(FALSE, TRUE, sizeof(Target)),
        .vcpu_counts = g_array_new(FALSE, TRUE, sizeof(uint64_t)),
        .stop = -1,
        .out = g_string_new(NULL),
    };
    bool ok;
    int vcpu;

    g_array_set_clear_func(t.targets, target_clear);
    ok = app_parse(app, entries, &argc, &argv, 0, 0, errp) &&
         parse_vcpu(vcpu_text, -1, &vcpu, errp) &&
         parse_options(&t, duration, count, crs, msrs, errp) &&
         app_connect(app, errp) &&
         app_vcpus(app, vcpu, &t.first, &t.end, errp);
    if (ok) {
        t.summary_only = summary;
        t.new_vcpus = vcpu < 0;
        if (duration > 0) {
            t.stop = g_get_monotonic_time() + duration * G_USEC_PER_SEC;
        }
        ok = trace(&t, errp);
    }
    g_array_unref(t.targets);
    g_array_unref(t.vcpu_counts);
    g_string_free(t.out, TRUE);
    return ok;
}

const Subcommand cmd_trace = {
    .name = "trace",
    .summary = "a line for each write to control registers and MSRs",
    .description =
        "Shows what the guest writes to CR0, CR3, CR4 and MSRs as it\n"
        "happens: when, on which vCPU, from which RIP, and the value before\n"
        "and after; with rates at the end.  The guest goes on after each.\n"
        "Ctrl-C unhooks, and leaves the guest running.",
    .run = run_trace,
};
