/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi access: what the guest may do with its pages
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"
#include "trace-event.h"

#define MAX_ADDRESS ((1ULL << 52) - 1)
#define MAX_LENGTH (16ULL << 30)

typedef struct Access {
    App *app;
    uint64_t gpa;               /* of the first page */
    size_t npages;
    uint8_t *access;            /* of each page */
} Access;

/* The range from page @i on that has one access. */
static size_t same_access(const Access *a, size_t i)
{
    size_t n = 1;

    while (i + n < a->npages && a->access[i + n] == a->access[i]) {
        n++;
    }
    return n;
}

static void show(const Access *a)
{
    Json json = { 0 };
    char buf[4];
    size_t i, n;

    json_array(&json, NULL);
    for (i = 0; i < a->npages; i += n) {
        uint64_t gpa = a->gpa + i * KVMI_PAGE_SIZE;
        const char *access = access_name(a->access[i], buf);

        n = same_access(a, i);
        if (!a->app->json) {
            printf("%016" PRIx64 "-%016" PRIx64 "  %s  %zu page%s\n", gpa,
                   gpa + n * KVMI_PAGE_SIZE - 1, access, n,
                   n == 1 ? "" : "s");
        }
        json_object(&json, NULL);
        json_hex(&json, "gpa", gpa);
        json_uint(&json, "pages", n);
        json_string(&json, "access", access);
        json_object_end(&json);
    }
    json_array_end(&json);
    if (a->app->json) {
        json_flush(&json);
    }
    json_clear(&json);
}

static bool get_and_show(Access *a, GError **errp)
{
    if (!kvmi_get_access(a->app->client, a->gpa, a->npages, a->access,
                         errp)) {
        return false;
    }
    show(a);
    return app_flush(errp);
}

/* Until the time is over, or a signal comes: both are the ordinary end. */
static bool hold(App *app, double seconds, GError **errp)
{
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    GError *err = NULL;

    if (seconds < 0 && !app->quiet) {
        fprintf(stderr, "kvmi: until Ctrl-C\n");
    }
    while (seconds < 0 || g_get_monotonic_time() < end) {
        int left_ms = seconds < 0 ? -1
                                  : (end - g_get_monotonic_time() + 999) / 1000;
        g_autofree KvmiEvent *event = NULL;

        if (!kvmi_next_event(app->client, left_ms, &event, &err) ||
            (event && !kvmi_event_continue(app->client, event, &err))) {
            break;
        }
    }
    if (app_signal() &&
        g_error_matches(err, KVMI_ERROR, KVMI_ERROR_CANCELLED)) {
        g_clear_error(&err);
    }
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    return true;
}

static bool set_and_hold(Access *a, uint8_t access, double seconds,
                         GError **errp)
{
    GError *err = NULL;
    bool ok = kvmi_set_access(a->app->client, a->gpa, a->npages, access,
                              &err) &&
              get_and_show(a, &err) &&
              (!seconds || hold(a->app, seconds, &err));

    kvmi_cancel_reset(&a->app->cancel);
    if (!kvmi_client_unhook(a->app->client, NULL, NULL, ok ? &err : NULL)) {
        ok = false;
    }
    if (err) {
        g_propagate_error(errp, err);
    }
    return ok;
}

static bool parse_range(Access *a, const char *gpa_text,
                        const char *length_text, GError **errp)
{
    uint64_t gpa, length = 1;

    if (!parse_number(gpa_text, "GPA", MAX_ADDRESS, &gpa, errp) ||
        (length_text &&
         !parse_number(length_text, "LENGTH", MAX_LENGTH, &length, errp))) {
        return false;
    }
    if (!length) {
        return usage_error(errp, "LENGTH: 0 bytes have no pages");
    }
    a->gpa = gpa - gpa % KVMI_PAGE_SIZE;
    a->npages = (gpa + length - a->gpa + KVMI_PAGE_SIZE - 1) /
                KVMI_PAGE_SIZE;
    return true;
}

static bool run_access(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *set = NULL;
    double seconds = 0;
    const GOptionEntry entries[] = {
        { "set", 0, 0, G_OPTION_ARG_STRING, &set,
          "let the guest do only this with these pages: r, w and x, or -",
          "ACCESS" },
        { "seconds", 0, 0, G_OPTION_ARG_DOUBLE, &seconds,
          "with --set: stay so long; negative: until Ctrl-C", "SECONDS" },
        { NULL }
    };
    g_autofree uint8_t *access = NULL;
    Access a = { .app = app };
    uint8_t wanted = 0;

    if (!app_parse(app, entries, &argc, &argv, 1, 2, errp) ||
        !parse_range(&a, argv[1], argc > 2 ? argv[2] : NULL, errp) ||
        (set && !parse_access(set, &wanted, errp))) {
        return false;
    }
    if ((seconds && !set) || seconds > 1e9) {
        return usage_error(errp, seconds > 1e9 ? "--seconds: give seconds"
                           : "--seconds: what for, without --set?");
    }
    if (!app_connect(app, errp)) {
        return false;
    }
    a.access = access = g_malloc(a.npages);
    return set ? set_and_hold(&a, wanted, seconds, errp)
               : get_and_show(&a, errp);
}

const Subcommand cmd_access = {
    .name = "access",
    .arguments = "GPA [LENGTH]",
    .summary = "what the guest may do with its pages",
    .description =
        "Shows which kinds of access (r, w, x) the guest has to the pages\n"
        "from GPA on, or takes some away for as long as kvmi runs.  What the\n"
        "guest does then with these pages, kvmi trace --pf shows.",
    .run = run_access,
};
