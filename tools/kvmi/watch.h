/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: living with a VM's events until somebody wants it to end
 *
 * What trace and protect have in common: events are answered first and shown
 * then, output never holds up the guest, a signal is the ordinary end, and
 * whatever happens the guest is left as it was found.
 */

#ifndef KVMI_WATCH_H
#define KVMI_WATCH_H

#include "cmd.h"

typedef struct Watch Watch;

struct Watch {
    App *app;
    const char *what;           /* "tracing": for the line on stderr */
    unsigned first, end;        /* vCPUs */
    uint64_t max_events;        /* 0: any number */
    gint64 stop;                /* or -1 */

    /* Begin: switch on what is to be seen. */
    bool (*hook)(Watch *w, GError **errp);
    /* Answer this event with watch_reply(), and show it. */
    bool (*handle)(Watch *w, const KvmiEvent *event, GError **errp);
    /* Take back what is written into the guest, while events are still on. */
    bool (*release)(Watch *w, GError **errp);
    /* Answer this event, which came too late; as in kvmi_client_unhook(). */
    KvmiAnswerFunc *answer;
    void (*summary)(Watch *w, double seconds);

    KvmiEvent *unanswered;      /* handle() was interrupted */
    bool answered;
    uint64_t events;            /* shown */
    gint64 start;
    bool unhook_asked;          /* by the VM: it is time to go */
    Json json;
    GString *out;               /* still to be written to stdout */
};

/* The options that all have, to be put among a subcommand's own. */
typedef struct WatchOptions {
    char *vcpu;
    double duration;
    int64_t count;
    gboolean summary;
} WatchOptions;

#define WATCH_OPTIONS(o)                                                   \
    { "duration", 0, 0, G_OPTION_ARG_DOUBLE, &(o).duration,                \
      "end after so long", "SECONDS" },                                    \
    { "count", 0, 0, G_OPTION_ARG_INT64, &(o).count,                       \
      "end after so many events", "N" },                                   \
    { "summary", 0, 0, G_OPTION_ARG_NONE, &(o).summary,                    \
      "only the summary, no line for each event", NULL }

bool watch_check_options(const WatchOptions *o, GError **errp);

/*
 * With the options checked and the VM connected: all of it, to the end.  The
 * connection is closed then.
 */
bool watch_run(Watch *w, const WatchOptions *o, GError **errp);

bool watch_reply(Watch *w, const KvmiEvent *event, uint32_t action,
                 const void *reply, size_t size, GError **errp);
bool watch_continue(Watch *w, const KvmiEvent *event, GError **errp);

/* Which events the VM offers; an error that names the first that is missing. */
bool watch_check_events(Watch *w, uint32_t wanted, uint32_t *offered,
                        GError **errp);
/* The events for the VM as a whole that are offered, out of these. */
bool watch_vm_events(Watch *w, uint32_t wanted, uint32_t offered,
                     GError **errp);

/* A line of text, or what is in w->json. */
void watch_put(Watch *w, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void watch_put_json(Watch *w);

/* "   0.123456  vcpu 0  rip ...", or the members that every event has. */
void watch_begin_event(Watch *w, const KvmiEvent *event);
/* Seconds since the beginning, for rates. */
double watch_seconds(const Watch *w);

#endif /* KVMI_WATCH_H */
