/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi inject: an exception for a vCPU
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

#define PAGE_FAULT 14

static const struct {
    const char *name;
    uint8_t vector;
    bool has_error;
} exceptions[] = {
    { "de", 0 }, { "db", 1 }, { "bp", 3 }, { "of", 4 }, { "br", 5 },
    { "ud", 6 }, { "nm", 7 }, { "df", 8, true }, { "ts", 10, true },
    { "np", 11, true }, { "ss", 12, true }, { "gp", 13, true },
    { "pf", 14, true }, { "mf", 16 }, { "ac", 17, true }, { "mc", 18 },
    { "xm", 19 }, { "ve", 20 }, { "cp", 21, true }, { "hv", 28 },
    { "vc", 29, true }, { "sx", 30, true },
};

typedef struct Injection {
    App *app;
    int vcpu;
    uint64_t vector;
    bool has_error;
    uint64_t error_code;
    uint64_t address;
    double wait;
    KvmiEvent *lost;            /* the TRAP event */
} Injection;

static bool parse_vector(const char *text, uint64_t *vector, GError **errp)
{
    const char *name = *text == '#' ? text + 1 : text;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(exceptions); i++) {
        if (!g_ascii_strcasecmp(name, exceptions[i].name)) {
            *vector = exceptions[i].vector;
            return true;
        }
    }
    if (!g_ascii_isdigit(*text)) {
        return usage_error(errp, "there is no exception '%s': give a name "
                           "like ud or gp, or a vector from 0 to 31", text);
    }
    return parse_number(text, "VECTOR", 31, vector, errp);
}

static const char *vector_name(uint32_t vector, char buf[8])
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(exceptions); i++) {
        if (exceptions[i].vector == vector) {
            g_snprintf(buf, 8, "#%c%c",
                       g_ascii_toupper(exceptions[i].name[0]),
                       g_ascii_toupper(exceptions[i].name[1]));
            return buf;
        }
    }
    g_snprintf(buf, 8, "%u", vector);
    return buf;
}

static bool vector_has_error(uint64_t vector)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(exceptions); i++) {
        if (exceptions[i].vector == vector) {
            return exceptions[i].has_error;
        }
    }
    return false;
}

/* Where the VM offers it, the TRAP event says that the exception was lost. */
static bool watch_for_trap(Injection *in, GError **errp)
{
    struct kvmi_get_version_reply version;

    return kvmi_get_version(in->app->client, &version, errp) &&
           (!(version.events & KVMI_EVENT_TRAP_FLAG) ||
            !(version.commands & KVMI_CONTROL_EVENTS_FLAG) ||
            kvmi_control_events(in->app->client, in->vcpu,
                                KVMI_EVENT_TRAP_FLAG, errp));
}

/*
 * An exception that has not reached the guest when the connection is closed
 * never does: stay.
 */
static bool stay(Injection *in, GError **errp)
{
    gint64 end = g_get_monotonic_time() + in->wait * G_USEC_PER_SEC;

    while (!in->lost && g_get_monotonic_time() < end) {
        int left_ms = (end - g_get_monotonic_time() + 999) / 1000;
        KvmiEvent *event;

        if (!kvmi_next_event(in->app->client, left_ms, &event, errp)) {
            return false;
        }
        if (event && !kvmi_event_continue(in->app->client, event, errp)) {
            kvmi_event_free(event);
            return false;
        }
        if (event && event->common.event == KVMI_EVENT_TRAP) {
            in->lost = event;
        } else {
            kvmi_event_free(event);
        }
    }
    return true;
}

static void show(const Injection *in)
{
    char buf[8];
    Json json = { 0 };

    if (!in->app->json) {
        printf("vCPU %d: %s injected", in->vcpu,
               vector_name(in->vector, buf));
        if (in->lost) {
            printf(", and lost: %s came first",
                   vector_name(in->lost->trap.vector, buf));
        }
        printf("\n");
        return;
    }
    json_object(&json, NULL);
    json_uint(&json, "vcpu", in->vcpu);
    json_uint(&json, "vector", in->vector);
    if (in->has_error) {
        json_hex(&json, "error-code", in->error_code);
    }
    if (in->vector == PAGE_FAULT) {
        json_hex(&json, "address", in->address);
    }
    json_bool(&json, "lost", in->lost);
    if (in->lost) {
        json_object(&json, "delivered");
        json_uint(&json, "vector", in->lost->trap.vector);
        json_uint(&json, "type", in->lost->trap.type);
        json_hex(&json, "error-code", in->lost->trap.error_code);
        json_hex(&json, "cr2", in->lost->trap.cr2);
        json_object_end(&json);
    }
    json_object_end(&json);
    json_flush(&json);
    json_clear(&json);
}

static bool inject(Injection *in, GError **errp)
{
    GError *err = NULL;
    bool ok = watch_for_trap(in, &err) &&
              kvmi_inject_exception(in->app->client, in->vcpu, in->vector,
                                    in->has_error, in->error_code,
                                    in->address, &err) &&
              stay(in, &err);

    if (ok) {
        show(in);
    }
    kvmi_cancel_reset(&in->app->cancel);
    if (!kvmi_client_unhook(in->app->client, NULL, NULL, ok ? &err : NULL)) {
        ok = false;
    }
    if (err) {
        g_propagate_error(errp, err);
    }
    if (ok && in->lost) {
        g_set_error(errp, CMD_ERROR, EXIT_LOST,
                    "the guest did not get the exception");
        return false;
    }
    return ok;
}

static bool check(Injection *in, const char *error_code, const char *address,
                  GError **errp)
{
    char buf[8];

    in->has_error = vector_has_error(in->vector);
    if (error_code &&
        !parse_number(error_code, "--error-code", UINT16_MAX,
                      &in->error_code, errp)) {
        return false;
    }
    if (address &&
        !parse_number(address, "--address", UINT64_MAX, &in->address,
                      errp)) {
        return false;
    }
    if (error_code && !in->has_error) {
        return usage_error(errp, "%s has no error code",
                           vector_name(in->vector, buf));
    }
    if (address && in->vector != PAGE_FAULT) {
        return usage_error(errp, "--address is CR2, and goes with #PF only");
    }
    if (in->vector == 2) {
        return usage_error(errp, "vector 2 is the NMI, which is no "
                           "exception: QEMU's monitor has 'nmi'");
    }
    if (in->wait < 0 || in->wait > 1e9) {
        return usage_error(errp, "--wait %g: give seconds", in->wait);
    }
    return true;
}

static bool run_inject(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *vcpu_text = NULL;
    g_autofree char *error_code = NULL;
    g_autofree char *address = NULL;
    Injection in = { .app = app, .wait = 0.5 };
    const GOptionEntry entries[] = {
        { "vcpu", 0, 0, G_OPTION_ARG_STRING, &vcpu_text,
          "the vCPU that gets it (default: 0)", "N" },
        { "error-code", 0, 0, G_OPTION_ARG_STRING, &error_code,
          "for exceptions that have one (default: 0)", "CODE" },
        { "address", 0, 0, G_OPTION_ARG_STRING, &address,
          "CR2, for pf (default: 0)", "GVA" },
        { "wait", 0, 0, G_OPTION_ARG_DOUBLE, &in.wait,
          "how long it may take to reach the guest (default: 0.5)",
          "SECONDS" },
        { NULL }
    };
    bool ok;

    ok = app_parse(app, entries, &argc, &argv, 1, 1, errp) &&
         parse_vcpu(vcpu_text, 0, &in.vcpu, errp) &&
         parse_vector(argv[1], &in.vector, errp) &&
         check(&in, error_code, address, errp) &&
         app_connect(app, errp) &&
         inject(&in, errp);
    kvmi_event_free(in.lost);
    return ok;
}

const Subcommand cmd_inject = {
    .name = "inject",
    .arguments = "VECTOR",
    .summary = "an exception for a vCPU",
    .description =
        "Lets a vCPU have an exception, as if its next instruction had\n"
        "raised it.  VECTOR is a number from 0 to 31, or a name like ud, gp\n"
        "or pf.  A guest that does not expect it may crash.",
    .run = run_inject,
};
