/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: living with a VM's events until somebody wants it to end
 */

#include <stdio.h>
#include <unistd.h>
#include "watch.h"

/* Write what has come together, even if more is to come. */
#define FLUSH_SIZE (32 * 1024)

bool watch_check_options(const WatchOptions *o, GError **errp)
{
    if (o->duration < 0 || o->duration > 1e9) {
        return usage_error(errp, "--duration %g: give seconds", o->duration);
    }
    if (o->count < 0) {
        return usage_error(errp, "--count: give the number of events");
    }
    return true;
}

/* Said in the user's terms, before the engine refuses. */
bool watch_check_events(Watch *w, uint32_t wanted, uint32_t *offered,
                        GError **errp)
{
    struct kvmi_get_version_reply version;
    uint32_t missing;

    if (!kvmi_get_version(w->app->client, &version, errp)) {
        return false;
    }
    missing = wanted & ~version.events;
    if (missing) {
        g_set_error(errp, KVMI_ENGINE_ERROR, KVM_EPERM,
                    "this VM does not offer the event '%s': its manager does "
                    "not allow it, or its engine does not have it (see kvmi "
                    "info)", kvmi_event_name(__builtin_ctz(missing)));
        return false;
    }
    *offered = version.commands & KVMI_CONTROL_VM_EVENTS_FLAG
               ? version.events
               : version.events & ~KVMI_KNOWN_VM_EVENTS;
    return true;
}

bool watch_vm_events(Watch *w, uint32_t wanted, uint32_t offered,
                     GError **errp)
{
    return !(wanted & offered) ||
           kvmi_control_vm_events(w->app->client, wanted & offered, errp);
}

/* Output */

void watch_put(Watch *w, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_string_append_vprintf(w->out, fmt, ap);
    va_end(ap);
}

void watch_put_json(Watch *w)
{
    g_string_append(w->out, w->json.text->str);
    g_string_append_c(w->out, '\n');
    json_clear(&w->json);
}

double watch_seconds(const Watch *w)
{
    return MAX(1, g_get_monotonic_time() - w->start) / 1e6;
}

void watch_begin_event(Watch *w, const KvmiEvent *event)
{
    Json *json = &w->json;

    if (!w->app->json) {
        watch_put(w, "%12.6f  vcpu %u  rip %016" PRIx64 "  ",
                  (g_get_monotonic_time() - w->start) / 1e6,
                  event->common.vcpu, (uint64_t)event->common.regs.rip);
        return;
    }
    json_object(json, NULL);
    json_double(json, "time", g_get_real_time() / 1e6, 6);
    json_uint(json, "vcpu", event->common.vcpu);
    json_hex(json, "rip", event->common.regs.rip);
    json_hex(json, "cr3", event->common.sregs.cr3);
    json_string(json, "event", kvmi_event_name(event->common.event));
}

/*
 * stdio loses what a signal keeps it from writing.  Here it is kept, so that
 * the guest can be let go first, and the output is still whole.
 */
static bool flush_out(Watch *w, GError **errp)
{
    while (w->out->len) {
        ssize_t n = write(STDOUT_FILENO, w->out->str, w->out->len);

        if (n >= 0) {
            g_string_erase(w->out, 0, n);
        } else if (errno != EINTR) {
            g_string_truncate(w->out, 0);
            return local_error(errp,
                               "cannot write to the standard output: %s",
                               g_strerror(errno));
        } else if (kvmi_is_cancelled(&w->app->cancel)) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_CANCELLED,
                        "interrupted");
            return false;
        }
    }
    return true;
}

/* Events */

bool watch_reply(Watch *w, const KvmiEvent *event, uint32_t action,
                 const void *reply, size_t size, GError **errp)
{
    w->answered = true;
    return kvmi_event_reply(w->app->client, event, action, reply, size, errp);
}

bool watch_continue(Watch *w, const KvmiEvent *event, GError **errp)
{
    w->answered = true;
    return kvmi_event_continue(w->app->client, event, errp);
}

/* What cannot be answered now is kept until the guest is let go. */
static bool handle_event(Watch *w, KvmiEvent *event, GError **errp)
{
    bool ok;

    w->answered = false;
    ok = w->handle(w, event, errp);
    if (w->answered) {
        kvmi_event_free(event);
    } else {
        g_assert(!ok);
        w->unanswered = event;
    }
    return ok;
}

static int time_left_ms(const Watch *w)
{
    return w->stop < 0 ? -1
                       : MAX(0, (w->stop - g_get_monotonic_time() + 999) /
                                1000);
}

static bool finished(const Watch *w)
{
    return w->unhook_asked ||
           (w->max_events && w->events >= w->max_events) ||
           (w->stop >= 0 && g_get_monotonic_time() >= w->stop);
}

/* Until it is finished, or somebody wants it to end. */
static bool watch_events(Watch *w, GError **errp)
{
    while (!finished(w)) {
        KvmiEvent *event;

        /* What is written is seen while nothing else happens. */
        if (!kvmi_next_event(w->app->client, 0, &event, errp)) {
            return false;
        }
        if (!event && !flush_out(w, errp)) {
            return false;
        }
        if (!event && !kvmi_next_event(w->app->client, time_left_ms(w),
                                       &event, errp)) {
            return false;
        }
        if (event && !handle_event(w, event, errp)) {
            return false;
        }
        if (w->out->len > FLUSH_SIZE && !flush_out(w, errp)) {
            return false;
        }
    }
    return true;
}

/* Being told to end is the ordinary end. */
static bool forgive_signal(GError **err)
{
    if (app_signal() &&
        g_error_matches(*err, KVMI_ERROR, KVMI_ERROR_CANCELLED)) {
        g_clear_error(err);
        return true;
    }
    return false;
}

/* Whatever happened: leave the guest as it was found. */
static bool let_go(Watch *w, GError **errp)
{
    KvmiClient *client = w->app->client;
    g_autofree KvmiEvent *event = g_steal_pointer(&w->unanswered);

    kvmi_cancel_reset(&w->app->cancel);
    return (!w->release || w->release(w, errp)) &&
           kvmi_client_unhook(client, w->answer, w, errp) &&
           (!event || (w->answer ? w->answer(client, event, w, errp)
                                 : kvmi_event_continue(client, event, errp)));
}

static bool watch(Watch *w, GError **errp)
{
    GError *err = NULL;
    bool ok;

    w->start = g_get_monotonic_time();
    ok = w->hook(w, &err) || forgive_signal(&err);
    if (ok) {
        if (!w->app->quiet) {
            fprintf(stderr, "kvmi: %s VM '%s', Ctrl-C ends it\n", w->what,
                    kvmi_client_vm(w->app->client)->name);
        }
        ok = watch_events(w, &err) || forgive_signal(&err);
        w->summary(w, watch_seconds(w));
    }
    if (!let_go(w, ok ? &err : NULL)) {
        ok = false;
    }
    app_disconnect(w->app);
    /* Only now may it wait for whoever reads what is still to be written. */
    if (!flush_out(w, ok ? &err : NULL)) {
        ok = false;
    }
    if (err) {
        g_propagate_error(errp, err);
    }
    return ok;
}

bool watch_run(Watch *w, const WatchOptions *o, GError **errp)
{
    bool ok;

    w->max_events = o->count;
    w->stop = o->duration > 0
              ? g_get_monotonic_time() + o->duration * G_USEC_PER_SEC : -1;
    w->out = g_string_new(NULL);
    ok = watch(w, errp);
    g_string_free(w->out, TRUE);
    return ok;
}
