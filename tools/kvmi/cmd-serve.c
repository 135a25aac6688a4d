/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi serve: many VMs, one process, and a table of them
 */

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include "serve.h"

/* What is said once is not said again for so long. */
#define SAY_AGAIN_US (60 * G_USEC_PER_SEC)
#define MAX_SAID 100

/* Many changes at the same time make one new table. */
#define MIN_INTERVAL_US 50000

/* How long to leave a system alone that has no socket left for us. */
#define RETRY_MS 200

/* A VM that does not answer the first question for so long is no good. */
#define REPLY_TIMEOUT_MS 5000

/* Around the VMs: the titles, and the last line with the cursor behind it */
#define TABLE_FRAME 3

/* A terminal: to the top, and nothing is left below */
#define CLEAR "\033[H\033[J"

/* Threads */

typedef struct Peer {
    Serve *serve;
    ServePeer *peer;
    int fd;
} Peer;

static void *peer_thread(void *opaque)
{
    Peer *p = opaque;
    Serve *serve = p->serve;

    p->peer(serve, p->fd);
    g_free(p);

    g_mutex_lock(&serve->lock);
    serve->threads--;
    g_cond_broadcast(&serve->changed);
    g_mutex_unlock(&serve->lock);
    return NULL;
}

void serve_start_peer(Serve *serve, ServePeer *peer, int fd)
{
    g_autoptr(GError) err = NULL;
    Peer *p = g_new(Peer, 1);
    GThread *thread;

    *p = (Peer) { serve, peer, fd };
    g_mutex_lock(&serve->lock);
    serve->threads++;
    g_mutex_unlock(&serve->lock);

    thread = g_thread_try_new("kvmi-peer", peer_thread, p, &err);
    if (thread) {
        g_thread_unref(thread);
        return;
    }
    serve_say(serve, "cannot serve one more: %s", err->message);
    close(fd);
    g_free(p);
    g_mutex_lock(&serve->lock);
    serve->threads--;
    g_mutex_unlock(&serve->lock);
}

bool serve_stopping(Serve *serve)
{
    bool stopping;

    g_mutex_lock(&serve->lock);
    stopping = serve->stopping;
    g_mutex_unlock(&serve->lock);
    return stopping;
}

void serve_change(Serve *serve)
{
    serve->changes = true;
    g_cond_broadcast(&serve->changed);
}

/* Messages */

char *printable(const char *name)
{
    char *valid = g_utf8_make_valid(name, -1);
    char *p = valid;

    while (*p) {
        char *next = g_utf8_next_char(p);

        if (!g_unichar_isprint(g_utf8_get_char(p))) {
            memset(p, '?', next - p);
        }
        p = next;
    }
    return valid;
}

void serve_say(Serve *serve, const char *fmt, ...)
{
    gint64 now = g_get_monotonic_time();
    char *text;
    gint64 *last;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    g_mutex_lock(&serve->lock);
    last = g_hash_table_lookup(serve->said, text);
    if (serve->stopping || (last && now - *last < SAY_AGAIN_US)) {
        g_clear_pointer(&text, g_free);
    } else {
        if (g_hash_table_size(serve->said) >= MAX_SAID) {
            g_hash_table_remove_all(serve->said);
        }
        last = g_new(gint64, 1);
        *last = now;
        g_hash_table_replace(serve->said, g_strdup(text), last);
    }
    g_mutex_unlock(&serve->lock);

    /* Without the lock: stderr may be stuck. */
    if (text && !serve->app->quiet) {
        fprintf(stderr, "kvmi serve: %s\n", text);
    }
    g_free(text);
}

/* Accepting */

typedef struct Door {
    Serve *serve;
    KvmiListener *listener;
    ServePeer *peer;
} Door;

static void *accept_thread(void *opaque)
{
    Door *door = opaque;
    Serve *serve = door->serve;

    while (!serve_stopping(serve)) {
        g_autoptr(GError) err = NULL;
        int fd = kvmi_listener_accept_fd(door->listener, &serve->app->cancel,
                                         -1, &err);

        if (fd >= 0) {
            serve_start_peer(serve, door->peer, fd);
        } else if (!g_error_matches(err, KVMI_ERROR, KVMI_ERROR_CANCELLED)) {
            serve_say(serve, "%s", err->message);
            g_usleep(RETRY_MS * 1000);
        } else {
            break;
        }
    }
    return NULL;
}

/* The table */

static int compare_vms(const void *a, const void *b)
{
    const KvmiVMInfo *x = kvmi_client_vm((*(ServedVM **)a)->client);
    const KvmiVMInfo *y = kvmi_client_vm((*(ServedVM **)b)->client);
    int order = strcmp(x->name, y->name);

    return order ? order : memcmp(x->uuid, y->uuid, sizeof(x->uuid));
}

static void measure_rates(Serve *serve, gint64 elapsed_us)
{
    unsigned i;

    for (i = 0; i < serve->vms->len; i++) {
        ServedVM *vm = g_ptr_array_index(serve->vms, i);
        uint64_t events = __atomic_load_n(&vm->events, __ATOMIC_RELAXED);

        vm->rate = (events - vm->shown_events) * 1e6 / MAX(elapsed_us, 1);
        vm->shown_events = events;
    }
}

static void put_json(Serve *serve, GString *out)
{
    Json json = { 0 };
    unsigned i;

    json_object(&json, NULL);
    json_double(&json, "time", g_get_real_time() / 1e6, 3);
    json_uint(&json, "handshakes", serve->handshakes);
    json_array(&json, "vms");
    for (i = 0; i < serve->vms->len; i++) {
        const ServedVM *vm = g_ptr_array_index(serve->vms, i);
        const KvmiVMInfo *info = kvmi_client_vm(vm->client);
        g_autofree char *uuid = format_uuid(info->uuid);

        json_object(&json, NULL);
        json_string(&json, "name", info->name);
        json_string(&json, "uuid", uuid);
        json_int(&json, "start-time", info->start_time);
        if (vm->engine) {
            json_string(&json, "engine", vm->engine);
        }
        json_string(&json, "state", vm->user ? "in-use" : "idle");
        if (vm->user) {
            json_string(&json, "user", vm->user);
        }
        json_uint(&json, "events", vm->shown_events);
        json_double(&json, "events-per-second", vm->rate, 1);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object_end(&json);
    g_string_append_printf(out, "%s\n", json.text->str);
    json_clear(&json);
}

/* How many VMs to show: on a terminal, as many as fit. */
static unsigned rows(bool is_tty, unsigned vms)
{
    struct winsize size;

    if (!is_tty || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 ||
        vms + TABLE_FRAME <= size.ws_row) {
        return vms;
    }
    return size.ws_row > TABLE_FRAME ? size.ws_row - TABLE_FRAME : 1;
}

static void put_table(Serve *serve, GString *out, bool is_tty)
{
    unsigned shown = rows(is_tty, serve->vms->len);
    unsigned i;

    if (is_tty) {
        g_string_append(out, CLEAR);
    }
    g_string_append_printf(out, "%-20s  %-36s  %-6s  %-16s  %10s\n",
                           "NAME", "UUID", "ENGINE", "STATE", "EVENTS/S");
    for (i = 0; i < shown; i++) {
        const ServedVM *vm = g_ptr_array_index(serve->vms, i);
        const KvmiVMInfo *info = kvmi_client_vm(vm->client);
        g_autofree char *name = printable(info->name);
        g_autofree char *uuid = format_uuid(info->uuid);
        g_autofree char *user = vm->user ? printable(vm->user) : NULL;
        g_autofree char *state = g_strconcat(user ? "in use: " : "idle",
                                             user, NULL);

        g_string_append_printf(out, "%-20s  %-36s  %-6s  %-16s  %10.1f\n",
                               name, uuid, vm->engine ?: "?", state,
                               vm->rate);
    }
    g_string_append_printf(out, "%u VM%s", serve->vms->len,
                           serve->vms->len == 1 ? "" : "s");
    if (shown < serve->vms->len) {
        g_string_append_printf(out, ", the first %u are shown", shown);
    }
    if (serve->handshakes) {
        g_string_append_printf(out, ", %u not yet through the handshake",
                               serve->handshakes);
    }
    g_string_append_c(out, '\n');
}

/* Called with @lock held. */
static void put_vms(Serve *serve, GString *out, bool is_tty)
{
    g_ptr_array_sort(serve->vms, compare_vms);
    if (serve->app->json) {
        put_json(serve, out);
    } else {
        put_table(serve, out, is_tty);
    }
}

/*
 * After each interval where somebody looks at rates, and when something has
 * changed.  Until a signal, or until the output cannot be written.
 */
static bool show_vms(Serve *serve, gint64 interval_us, GError **errp)
{
    App *app = serve->app;
    bool is_tty = !app->json && isatty(STDOUT_FILENO);
    bool is_live = is_tty || app->json;
    gint64 measured = g_get_monotonic_time();
    gint64 shown = 0;

    while (!kvmi_is_cancelled(&app->cancel)) {
        g_autoptr(GString) out = g_string_new(NULL);
        gint64 now = g_get_monotonic_time();
        bool due = false;

        g_mutex_lock(&serve->lock);
        if (now - measured >= interval_us) {
            measure_rates(serve, now - measured);
            measured = now;
            due = is_live;
        }
        if (due || (serve->changes && now - shown >= MIN_INTERVAL_US)) {
            put_vms(serve, out, is_tty);
            serve->changes = false;
            shown = now;
        } else {
            g_cond_wait_until(&serve->changed, &serve->lock,
                              now + (serve->changes ? MIN_INTERVAL_US
                                     : KVMI_CANCEL_LATENCY_MS * 1000));
        }
        g_mutex_unlock(&serve->lock);

        /* Without the lock: nobody may be reading. */
        fputs(out->str, stdout);
        if (!app_flush(errp)) {
            return false;
        }
    }
    return true;
}

/* Beginning and end */

static void stop(Serve *serve)
{
    unsigned i;

    g_mutex_lock(&serve->lock);
    serve->stopping = true;
    for (i = 0; i < serve->vms->len; i++) {
        serve_vm_wake(g_ptr_array_index(serve->vms, i));
    }
    g_cond_broadcast(&serve->changed);
    while (serve->threads) {
        g_cond_wait(&serve->changed, &serve->lock);
    }
    g_mutex_unlock(&serve->lock);
}

static bool serve_vms(App *app, const KvmiConfig *config, KvmiListener *vms,
                      KvmiListener *control, double interval, GError **errp)
{
    Serve serve = {
        .app = app,
        .config = *config,
        .changes = true,
        .vms = g_ptr_array_new(),
        .said = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
    };
    Door doors[] = {
        { &serve, vms, serve_vm },
        { &serve, control, serve_request },
    };
    GThread *threads[G_N_ELEMENTS(doors)] = { NULL };
    unsigned i;
    bool ok;

    g_mutex_init(&serve.lock);
    g_cond_init(&serve.changed);
    for (i = 0; i < G_N_ELEMENTS(doors); i++) {
        if (doors[i].listener) {
            threads[i] = g_thread_new("kvmi-accept", accept_thread, &doors[i]);
        }
    }
    ok = show_vms(&serve, interval * G_USEC_PER_SEC, errp);
    kvmi_cancel(&app->cancel);
    for (i = 0; i < G_N_ELEMENTS(doors); i++) {
        if (threads[i]) {
            g_thread_join(threads[i]);
        }
    }
    stop(&serve);

    g_ptr_array_free(serve.vms, TRUE);
    g_hash_table_unref(serve.said);
    g_cond_clear(&serve.changed);
    g_mutex_clear(&serve.lock);
    return ok;
}

static bool run_serve(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *control_path = NULL;
    double interval = 1;
    const GOptionEntry entries[] = {
        { "control", 0, 0, G_OPTION_ARG_FILENAME, &control_path,
          "listen here for other kvmi commands, with their --name", "PATH" },
        { "interval", 'i', 0, G_OPTION_ARG_DOUBLE, &interval,
          "measure and show events per second so often; 1 by default",
          "SECONDS" },
        { NULL }
    };
    KvmiConfig config = {
        .reply_timeout_ms = REPLY_TIMEOUT_MS,
        .cancel = &app->cancel,
    };
    KvmiListener *control = NULL;
    bool ok = false;

    if (!app_parse(app, entries, &argc, &argv, 0, 0, errp) ||
        !app_auth(app, &config, errp)) {
        return false;
    }
    if (app->connect || app->vm || app->timeout >= 0) {
        return usage_error(errp, "serve only listens, for as long as it runs: "
                           "no --connect, --name or --timeout");
    }
    if (!(interval >= 0.1 && interval <= 3600)) {
        return usage_error(errp, "--interval: give 0.1 to 3600 seconds");
    }
    if (!app->socket) {
        return usage_error(errp, "where do VMs connect? Give --socket "
                           "ADDRESS: unix:PATH, tcp:HOST:PORT or "
                           "vsock:any:PORT");
    }

    app_catch_signals(app);
    app->listener = kvmi_listener_new(app->socket, errp);
    if (!app->listener ||
        !kvmi_listener_expect_many(app->listener, errp)) {
        return false;
    }
    if (control_path) {
        g_autofree char *address = g_strdup_printf("unix:%s", control_path);

        control = kvmi_listener_new(address, errp);
        ok = control && kvmi_listener_expect_many(control, errp);
    }
    if (ok || !control_path) {
        ok = serve_vms(app, &config, app->listener, control, interval, errp);
    }
    kvmi_listener_free(control);
    return ok;
}

const Subcommand cmd_serve = {
    .name = "serve",
    .summary = "wait for many VMs, and let other kvmi commands use them",
    .description =
        "Accepts any number of VMs and shows a table of them: name, UUID,\n"
        "engine, whether a kvmi command uses it, and how many events it sends.\n"
        "\n"
        "With --control PATH, other kvmi commands get at a VM with\n"
        "--socket PATH --name NAME, each VM for one command at a time.\n"
        "\n"
        "Ctrl-C ends it; the VMs go on.",
    .run = run_serve,
};
