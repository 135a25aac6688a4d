/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi pause: hold all vCPUs, look at them and change their registers
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

/* A vCPU that runs sends its event at once. */
#define PAUSE_TIMEOUT_MS 10000

typedef struct Pause {
    App *app;
    GPtrArray *events;          /* of KvmiEvent: the vCPUs that we hold */
    uint32_t expected;
    Json json;
} Pause;

static void show_vcpu(Pause *p, const KvmiEvent *event)
{
    const struct kvmi_event *e = &event->common;

    if (!p->app->json) {
        printf("vCPU %u paused, %s\n", e->vcpu, mode_name(e->mode));
        print_registers(&e->regs, &e->sregs);
        printf("\n");
        return;
    }
    json_object(&p->json, NULL);
    json_uint(&p->json, "vcpu", e->vcpu);
    json_uint(&p->json, "mode", e->mode);
    json_registers(&p->json, &e->regs, &e->sregs);
    json_object_end(&p->json);
}

static bool pause_vcpus(Pause *p, GError **errp)
{
    if (!kvmi_pause_all_vcpus(p->app->client, &p->expected, errp)) {
        return false;
    }
    while (p->events->len < p->expected) {
        KvmiEvent *event;

        if (!kvmi_next_event(p->app->client, PAUSE_TIMEOUT_MS, &event,
                             errp)) {
            return false;
        }
        if (!event) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_TIMEOUT,
                        "%u of %" PRIu32 " vCPUs have not paused for %d s: "
                        "is the VM stopped?", p->expected - p->events->len,
                        p->expected, PAUSE_TIMEOUT_MS / 1000);
            return false;
        }
        g_ptr_array_add(p->events, event);
        show_vcpu(p, event);
    }
    return true;
}

static bool continue_vcpus(Pause *p, GError **errp)
{
    bool ok = true;
    unsigned i;

    for (i = 0; ok && i < p->events->len; i++) {
        ok = kvmi_event_continue(p->app->client,
                                 g_ptr_array_index(p->events, i), errp);
    }
    g_ptr_array_set_size(p->events, 0);
    return ok;
}

static bool read_regs(Pause *p, uint16_t vcpu, struct kvm_regs *regs,
                      GError **errp)
{
    struct kvm_sregs sregs;
    uint32_t mode;

    return kvmi_get_registers(p->app->client, vcpu, NULL, 0, &mode, regs,
                              &sregs, NULL, errp);
}

/* Set one register, and read back that it has the value. */
static bool write_reg(Pause *p, uint16_t vcpu, unsigned reg, uint64_t value,
                      uint64_t *old_value, GError **errp)
{
    struct kvm_regs regs;
    uint64_t now;

    if (!read_regs(p, vcpu, &regs, errp)) {
        return false;
    }
    *old_value = *kvmi_reg(&regs, reg);
    *kvmi_reg(&regs, reg) = value;
    if (!kvmi_set_registers(p->app->client, vcpu, &regs, errp) ||
        !read_regs(p, vcpu, &regs, errp)) {
        return false;
    }
    now = *kvmi_reg(&regs, reg);
    if (now != value) {
        return local_error(errp, "vCPU %u: %s was set to 0x%" PRIx64
                           ", but reads back as 0x%" PRIx64, vcpu,
                           kvmi_reg_name(reg), value, now);
    }
    return true;
}

static void show_change(Pause *p, const char *what, uint16_t vcpu,
                        unsigned reg, uint64_t from, uint64_t to)
{
    if (!p->app->json) {
        printf("vCPU %u: %s %s: %016" PRIx64 " -> %016" PRIx64
               ", reads back as %016" PRIx64 "\n", vcpu, kvmi_reg_name(reg),
               what, from, to, to);
        return;
    }
    json_object(&p->json, NULL);
    json_string(&p->json, "what", what);
    json_uint(&p->json, "vcpu", vcpu);
    json_string(&p->json, "reg", kvmi_reg_name(reg));
    json_hex(&p->json, "from", from);
    json_hex(&p->json, "to", to);
    json_object_end(&p->json);
}

static bool change_reg(Pause *p, uint16_t vcpu, unsigned reg, uint64_t value,
                       bool put_back, GError **errp)
{
    uint64_t old_value, ignored;

    if (!write_reg(p, vcpu, reg, value, &old_value, errp)) {
        return false;
    }
    show_change(p, "changed", vcpu, reg, old_value, value);
    if (put_back) {
        if (!write_reg(p, vcpu, reg, old_value, &ignored, errp)) {
            return false;
        }
        show_change(p, "put back", vcpu, reg, value, old_value);
    }
    return true;
}

static bool change_regs(Pause *p, uint16_t vcpu, char **changes,
                        bool put_back, GError **errp)
{
    uint64_t value;
    unsigned reg;

    for (; changes && *changes; changes++) {
        if (!parse_reg_value(*changes, &reg, &value, errp) ||
            !change_reg(p, vcpu, reg, value, put_back, errp)) {
            return false;
        }
    }
    return true;
}

static bool hold(Pause *p, double seconds, GError **errp)
{
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;

    if (!app_flush(errp)) {
        return false;
    }
    while (g_get_monotonic_time() < end) {
        int left_ms = (end - g_get_monotonic_time() + 999) / 1000;
        KvmiEvent *event;

        if (!kvmi_next_event(p->app->client, left_ms, &event, errp)) {
            return false;
        }
        if (event) {
            g_ptr_array_add(p->events, event);
        }
    }
    return true;
}

typedef struct PauseOptions {
    int vcpu;
    char **set;
    char **try;
    double seconds;
} PauseOptions;

static bool pause_vm(Pause *p, const PauseOptions *o, GError **errp)
{
    Json *json = &p->json;
    GError *err = NULL;
    gint64 start = g_get_monotonic_time();
    double held;
    bool ok;

    json_object(json, NULL);
    json_array(json, "vcpus");
    ok = pause_vcpus(p, &err);
    json_array_end(json);
    json_array(json, "changes");
    ok = ok && change_regs(p, o->vcpu, o->set, false, &err) &&
         change_regs(p, o->vcpu, o->try, true, &err);
    json_array_end(json);
    ok = ok && hold(p, o->seconds, &err);

    /* Whatever happened: nobody stays paused. */
    kvmi_cancel_reset(&p->app->cancel);
    if (!continue_vcpus(p, ok ? &err : NULL)) {
        ok = false;
    }
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }

    held = (g_get_monotonic_time() - start) / 1e6;
    if (p->app->json) {
        json_double(json, "seconds", held, 6);
        json_object_end(json);
        json_flush(json);
    } else {
        printf("%" PRIu32 " vCPUs go on after %.3f s\n", p->expected, held);
    }
    return ok;
}

/* Before the VM is touched. */
static bool check_changes(char **changes, GError **errp)
{
    uint64_t value;
    unsigned reg;

    for (; changes && *changes; changes++) {
        if (!parse_reg_value(*changes, &reg, &value, errp)) {
            return false;
        }
    }
    return true;
}

static bool run_pause(App *app, int argc, char **argv, GError **errp)
{
    g_auto(GStrv) set = NULL;
    g_auto(GStrv) try = NULL;
    g_autofree char *vcpu_text = NULL;
    PauseOptions o = { 0 };
    const GOptionEntry entries[] = {
        { "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &set,
          "change this register and leave it changed; may be repeated",
          "REG=VALUE" },
        { "try", 0, 0, G_OPTION_ARG_STRING_ARRAY, &try,
          "change this register, show it, and put it back; may be repeated",
          "REG=VALUE" },
        { "vcpu", 0, 0, G_OPTION_ARG_STRING, &vcpu_text,
          "the vCPU whose registers change (default: 0)", "N" },
        { "seconds", 0, 0, G_OPTION_ARG_DOUBLE, &o.seconds,
          "hold the VM so long", "SECONDS" },
        { NULL }
    };
    Pause p = { .app = app };
    bool ok;

    p.events = g_ptr_array_new_with_free_func((GDestroyNotify)kvmi_event_free);
    ok = app_parse(app, entries, &argc, &argv, 0, 0, errp) &&
         parse_vcpu(vcpu_text, 0, &o.vcpu, errp) &&
         check_changes(set, errp) && check_changes(try, errp);
    if (ok && (o.seconds < 0 || o.seconds > 1e9)) {
        ok = usage_error(errp, "--seconds %g: give seconds", o.seconds);
    }
    if (ok && app_connect(app, errp)) {
        o.set = set;
        o.try = try;
        ok = pause_vm(&p, &o, errp);
    } else {
        ok = false;
    }
    json_clear(&p.json);
    g_ptr_array_unref(p.events);
    return ok;
}

const Subcommand cmd_pause = {
    .name = "pause",
    .summary = "hold all vCPUs, look at them, change registers, go on",
    .description =
        "Pauses all vCPUs, shows the registers of each as it stops, changes\n"
        "registers if asked to, and lets all of them go on.  The guest does\n"
        "not notice, except for the time and for what --set changed.",
    .run = run_pause,
};
