/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: look into a virtual machine from outside
 *
 * The manual is docs/tools/kvmi.rst.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmd.h"
#include "serve.h"

#ifndef KVMI_TOOL_VERSION
#define KVMI_TOOL_VERSION "development"
#endif

/* A VM that is there has this long to answer a command. */
#define REPLY_TIMEOUT_MS 30000

/* Say what we wait for, if it takes this long. */
#define PATIENCE_MS 1000

/* A VM of "kvmi serve" may be on its way back. */
#define VM_TIMEOUT_MS 5000

static const Subcommand *const subcommands[] = {
    &cmd_info,
    &cmd_regs,
    &cmd_read,
    &cmd_write,
    &cmd_map,
    &cmd_dump,
    &cmd_search,
    &cmd_cpuid,
    &cmd_xsave,
    &cmd_trace,
    &cmd_access,
    &cmd_protect,
    &cmd_pause,
    &cmd_inject,
    &cmd_serve,
    &cmd_check_host,
};

/* Signals */

static KvmiCancel *signal_cancel;
static volatile sig_atomic_t signal_seen;

static void on_signal(int signum)
{
    signal_seen = signum;
    kvmi_cancel(signal_cancel);
}

int app_signal(void)
{
    return signal_seen;
}

void app_catch_signals(App *app)
{
    struct sigaction sa = {
        .sa_handler = on_signal,
        .sa_flags = SA_RESETHAND,
    };

    signal_cancel = &app->cancel;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);

    /* A pipe that nobody reads must not keep us from unhooking. */
    signal(SIGPIPE, SIG_IGN);
}

/* Connecting */

static void say_left(const GError *err, void *opaque)
{
    App *app = opaque;

    if (!app->quiet && !app->said_left) {
        fprintf(stderr, "kvmi: %s; waiting for a VM to connect to %s\n",
                err->message, app->socket);
        app->said_left = true;
    }
}

static bool app_listen(App *app, const KvmiConfig *config, int timeout_ms,
                       GError **errp)
{
    bool patient = app->quiet || (timeout_ms >= 0 &&
                                  timeout_ms <= PATIENCE_MS);
    GError *local = NULL;

    app->listener = kvmi_listener_new(app->socket, errp);
    if (!app->listener) {
        return false;
    }
    app->client = kvmi_listener_accept(app->listener, config,
                                       patient ? timeout_ms : PATIENCE_MS,
                                       &local);
    if (!patient && g_error_matches(local, KVMI_ERROR, KVMI_ERROR_NO_VM)) {
        g_clear_error(&local);
        if (!app->said_left) {
            fprintf(stderr, "kvmi: waiting for a VM to connect to %s\n",
                    app->socket);
        }
        if (timeout_ms >= 0) {
            timeout_ms -= PATIENCE_MS;
        }
        app->client = kvmi_listener_accept(app->listener, config, timeout_ms,
                                           &local);
    }
    if (local) {
        g_propagate_error(errp, local);
    }
    return app->client;
}

bool app_auth(App *app, KvmiConfig *config, GError **errp)
{
    gsize size;

    if (!app->key_file) {
        return !app->auth ||
               usage_error(errp, "--auth says how to prove that the key is "
                           "known: give --key-file, too");
    }
    if (!app->auth || !strcmp(app->auth, "hmac")) {
        config->auth = KVMI_AUTH_HMAC;
    } else if (!strcmp(app->auth, "cookie")) {
        config->auth = KVMI_AUTH_COOKIE;
    } else if (!strcmp(app->auth, "any")) {
        config->auth = KVMI_AUTH_COOKIE | KVMI_AUTH_HMAC;
    } else {
        return usage_error(errp, "--auth can be hmac, cookie or any, not '%s'",
                           app->auth);
    }
    if (!g_file_get_contents(app->key_file, &app->key, &size, errp)) {
        return false;
    }
    if (!size) {
        return local_error(errp, "the key file %s is empty", app->key_file);
    }
    config->key = (const uint8_t *)app->key;
    config->key_size = size;
    return true;
}

static bool app_borrow(App *app, const KvmiConfig *config, int timeout_ms,
                       GError **errp)
{
    int fd;

    if (app->connect || app->key_file || app->auth) {
        return usage_error(errp, "with --name, 'kvmi serve' has the connection "
                           "and the key: no --connect, --key-file or --auth");
    }
    fd = serve_borrow(app, app->vm,
                      timeout_ms < 0 ? VM_TIMEOUT_MS : timeout_ms, errp);
    if (fd >= 0) {
        app->client = kvmi_client_new_from_fd(fd, config, errp);
    }
    return app->client;
}

bool app_connect(App *app, GError **errp)
{
    KvmiConfig config = {
        .reply_timeout_ms = REPLY_TIMEOUT_MS,
        .cancel = &app->cancel,
        .peer_left = say_left,
        .opaque = app,
    };
    int timeout_ms = app->timeout < 0 ? -1 : app->timeout * 1000;

    if (!app->socket) {
        return usage_error(errp, "where is the VM? Give --socket ADDRESS: "
                           "unix:PATH, tcp:HOST:PORT or vsock:CID:PORT");
    }
    app_catch_signals(app);
    if (app->vm) {
        return app_borrow(app, &config, timeout_ms, errp);
    }
    if (!app_auth(app, &config, errp)) {
        return false;
    }
    if (app->connect) {
        app->client = kvmi_connect(app->socket, &config, MAX(timeout_ms, 0),
                                   errp);
        return app->client;
    }
    return app_listen(app, &config, timeout_ms, errp);
}

void app_disconnect(App *app)
{
    g_clear_pointer(&app->client, kvmi_client_free);
    g_clear_pointer(&app->listener, kvmi_listener_free);
}

bool app_vcpus(App *app, int only, unsigned *first, unsigned *end,
               GError **errp)
{
    struct kvmi_get_guest_info_reply info;

    if (only >= 0) {
        *first = only;
        *end = only + 1;
        return true;
    }
    if (!kvmi_get_guest_info(app->client, &info, errp)) {
        return false;
    }
    *first = 0;
    *end = info.vcpu_count;
    return true;
}

bool app_flush(GError **errp)
{
    if (fflush(stdout) || ferror(stdout)) {
        if (errno == EINTR && app_signal()) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_CANCELLED,
                        "interrupted");
            return false;
        }
        return local_error(errp, "cannot write to the standard output: %s",
                           g_strerror(errno));
    }
    return true;
}

/* Options */

bool app_parse(App *app, const GOptionEntry *entries, int *argc, char ***argv,
               int min, int max, GError **errp)
{
    const GOptionEntry common[] = {
        { "socket", 's', 0, G_OPTION_ARG_STRING, &app->socket,
          "where the VM is: unix:PATH, tcp:HOST:PORT or vsock:CID:PORT",
          "ADDRESS" },
        { "connect", 'c', 0, G_OPTION_ARG_NONE, &app->connect,
          "connect to a VM that listens, instead of listening", NULL },
        { "name", 0, 0, G_OPTION_ARG_STRING, &app->vm,
          "the VM of a 'kvmi serve' whose --control is ADDRESS",
          "NAME|UUID" },
        { "key-file", 0, 0, G_OPTION_ARG_FILENAME, &app->key_file,
          "file with the key that QEMU's object has", "FILE" },
        { "auth", 0, 0, G_OPTION_ARG_STRING, &app->auth,
          "prove the key with hmac (default), cookie or any", "METHOD" },
        { "timeout", 't', 0, G_OPTION_ARG_DOUBLE, &app->timeout,
          "wait so long for the VM", "SECONDS" },
        { "json", 'j', 0, G_OPTION_ARG_NONE, &app->json,
          "write JSON, for programs", NULL },
        { "quiet", 'q', 0, G_OPTION_ARG_NONE, &app->quiet,
          "nothing on stderr but errors", NULL },
        { "progress", 0, 0, G_OPTION_ARG_NONE, &app->progress,
          "show progress also where stderr is no terminal", NULL },
        { NULL }
    };
    g_autofree char *name = g_strdup_printf("kvmi %s", app->subcommand->name);
    g_autoptr(GOptionContext) ctx =
        g_option_context_new(app->subcommand->arguments);

    g_set_prgname(name);
    g_option_context_set_summary(ctx, app->subcommand->description);
    if (entries) {
        g_option_context_add_main_entries(ctx, entries, NULL);
    }
    g_option_context_add_main_entries(ctx, common, NULL);
    if (!g_option_context_parse(ctx, argc, argv, errp)) {
        return false;
    }
    if (*argc > 1 && !strcmp((*argv)[1], "--")) {
        memmove(*argv + 1, *argv + 2, (*argc - 1) * sizeof(char *));
        (*argc)--;
    }
    if (*argc - 1 < min || *argc - 1 > max) {
        return usage_error(errp, "usage: %s [OPTION...]%s%s", name,
                           app->subcommand->arguments ? " " : "",
                           app->subcommand->arguments ?: "");
    }
    return true;
}

static void print_help(void)
{
    unsigned i;

    printf("Usage:\n"
           "  kvmi SUBCOMMAND --socket ADDRESS [OPTION...]\n"
           "\n"
           "Look into a virtual machine from outside.  kvmi listens at a\n"
           "socket, waits for the VM that QEMU's -object introspection\n"
           "connects to it, does what it was asked, and leaves the VM\n"
           "running.\n"
           "\n"
           "Subcommands:\n");
    for (i = 0; i < G_N_ELEMENTS(subcommands); i++) {
        printf("  %-10s %s\n", subcommands[i]->name, subcommands[i]->summary);
    }
    printf("\n"
           "kvmi SUBCOMMAND --help shows a subcommand's options.\n"
           "\n"
           "Example, in two terminals:\n"
           "  kvmi trace --socket /tmp/vmi.sock --cr 3 --msr lstar\n"
           "  qemu-system-x86_64 ... \\\n"
           "    -chardev socket,id=vmi,path=/tmp/vmi.sock,reconnect-ms=1000 "
           "\\\n"
           "    -object introspection,id=kvmi0,chardev=vmi\n");
}

static const Subcommand *find_subcommand(const char *name)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(subcommands); i++) {
        if (!strcmp(subcommands[i]->name, name)) {
            return subcommands[i];
        }
    }
    return NULL;
}

/*
 * Options may stand before the subcommand too.  All that take a value there
 * are known.
 */
static int subcommand_position(int argc, char **argv)
{
    static const char *const with_value[] = {
        "-s", "--socket", "-t", "--timeout", "--name", "--key-file", "--auth",
    };
    int i;
    unsigned j;

    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        for (j = 0; j < G_N_ELEMENTS(with_value); j++) {
            if (!strcmp(argv[i], with_value[j])) {
                i++;
                break;
            }
        }
    }
    return i;
}

/* What to exit with */

static int kvmi_error_status(int code)
{
    switch (code) {
    case KVMI_ERROR_ADDRESS:
    case KVMI_ERROR_ARGUMENT:
        return EXIT_USAGE;
    case KVMI_ERROR_PATH_EXISTS:
        return EXIT_PATH_EXISTS;
    case KVMI_ERROR_NO_VM:
        return EXIT_NO_VM;
    case KVMI_ERROR_HANDSHAKE:
    case KVMI_ERROR_LEFT:
        return EXIT_HANDSHAKE;
    case KVMI_ERROR_DISCONNECTED:
        return EXIT_VM_GONE;
    case KVMI_ERROR_TIMEOUT:
        return EXIT_NO_ANSWER;
    case KVMI_ERROR_PROTOCOL:
        return EXIT_PROTOCOL;
    case KVMI_ERROR_NOT_MAPPED:
        return EXIT_NOT_FOUND;
    case KVMI_ERROR_CANCELLED:
        return EXIT_SIGNAL + app_signal();
    default:
        return EXIT_LOCAL;
    }
}

static int exit_status(const GError *err)
{
    if (err->domain == KVMI_ERROR) {
        return kvmi_error_status(err->code);
    }
    if (err->domain == KVMI_ENGINE_ERROR) {
        return EXIT_REFUSED;
    }
    if (err->domain == CMD_ERROR) {
        return err->code;
    }
    return err->domain == G_OPTION_ERROR ? EXIT_USAGE : EXIT_LOCAL;
}

static int run(App *app, int argc, char **argv)
{
    GError *err = NULL;
    int status = EXIT_OK;

    if (!app->subcommand->run(app, argc, argv, &err) || !app_flush(&err)) {
        status = exit_status(err);
        fprintf(stderr, "kvmi %s: %s\n", app->subcommand->name, err->message);
        if (err->domain == G_OPTION_ERROR) {
            fprintf(stderr, "Try 'kvmi %s --help'.\n", app->subcommand->name);
        }
        g_error_free(err);
    }
    app_disconnect(app);
    g_free(app->key);
    g_free(app->key_file);
    g_free(app->auth);
    g_free(app->socket);
    g_free(app->vm);
    return status;
}

int main(int argc, char **argv)
{
    App app = { .timeout = -1 };
    int position = subcommand_position(argc, argv);
    int i;

    for (i = 1; i < MIN(argc, position); i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help();
            return EXIT_OK;
        }
        if (!strcmp(argv[i], "--version") || !strcmp(argv[i], "-V")) {
            printf("kvmi (QEMU) version %s, KVMI version %d\n",
                   KVMI_TOOL_VERSION, KVMI_VERSION);
            return EXIT_OK;
        }
    }
    if (position >= argc) {
        fprintf(stderr, "kvmi: which subcommand?  Try 'kvmi --help'.\n");
        return EXIT_USAGE;
    }
    app.subcommand = find_subcommand(argv[position]);
    if (!app.subcommand) {
        fprintf(stderr, "kvmi: there is no subcommand '%s'.  "
                "Try 'kvmi --help'.\n", argv[position]);
        return EXIT_USAGE;
    }

    /* The subcommand's name goes, the options before it stay. */
    memmove(argv + position, argv + position + 1,
            (argc - position) * sizeof(char *));
    return run(&app, argc - 1, argv);
}
