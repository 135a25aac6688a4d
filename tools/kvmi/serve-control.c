/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi serve: asking for a VM, both sides
 *
 * The request is a line "open TIMEOUT-MS SUBCOMMAND VM", where VM is a name or
 * a UUID.  The answer is a line: "ok", and the VM's handshake follows; or
 * "error STATUS TEXT", with kvmi's exit status.
 */

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "serve.h"

#define MAX_LINE 1024
#define MAX_NAME 64             /* the handshake has no longer ones */
#define REQUEST_TIMEOUT_MS 5000

/* More than serve takes to answer, when it is to answer at once. */
#define ANSWER_TIMEOUT_MS 10000

typedef struct Request {
    uint64_t timeout_ms;
    char *user;                 /* the subcommand */
    char *vm;
} Request;

/*
 * Byte by byte: what comes behind the line is for somebody else.  NULL with an
 * error where none comes.
 */
static char *receive_line(int fd, const KvmiCancel *cancel, int timeout_ms,
                          GError **errp)
{
    gint64 deadline = g_get_monotonic_time() + timeout_ms * 1000LL;
    g_autoptr(GString) line = g_string_new(NULL);

    while (line->len < MAX_LINE) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        char c;
        ssize_t n;

        if (kvmi_is_cancelled(cancel)) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_CANCELLED,
                        "interrupted");
            return NULL;
        }
        if (poll(&pfd, 1, KVMI_CANCEL_LATENCY_MS) <= 0) {
            if (g_get_monotonic_time() < deadline) {
                continue;
            }
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_TIMEOUT, "no answer");
            return NULL;
        }
        n = recv(fd, &c, 1, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (n <= 0) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                        "the peer closed the connection");
            return NULL;
        }
        if (c == '\n') {
            return g_strdup(line->str);
        }
        g_string_append_c(line, c);
    }
    g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                "the peer sent %u bytes and no line", MAX_LINE);
    return NULL;
}

static bool send_text(int fd, const char *text)
{
    size_t size = strlen(text);

    /* Shorter than any socket's buffer, and nothing was sent before. */
    return send(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* serve's side */

static bool parse_request(const char *line, Request *request)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 4);

    if (g_strv_length(words) != 4 || strcmp(words[0], "open") ||
        !g_ascii_string_to_unsigned(words[1], 10, 0, INT32_MAX,
                                    &request->timeout_ms, NULL) ||
        strlen(words[2]) > MAX_NAME || strlen(words[3]) > MAX_NAME) {
        return false;
    }
    request->user = g_strdup(words[2]);
    request->vm = g_strdup(words[3]);
    return true;
}

/* The peer has sent its request and waits; so what is there is its end. */
static bool peer_has_gone(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    return poll(&pfd, 1, 0) > 0;
}

/*
 * Called with @lock held.  False, with the reason and the status, where the VM
 * cannot be had now.
 */
static bool find_vm(Serve *serve, const char *wanted, ServedVM **found,
                    int *status, GString *why)
{
    g_autoptr(GString) names = g_string_new(NULL);
    unsigned matches = 0;
    unsigned i;

    for (i = 0; i < serve->vms->len; i++) {
        ServedVM *vm = g_ptr_array_index(serve->vms, i);
        const KvmiVMInfo *info = kvmi_client_vm(vm->client);
        g_autofree char *uuid = format_uuid(info->uuid);

        if (!strcmp(info->name, wanted) ||
            !g_ascii_strcasecmp(uuid, wanted)) {
            *found = vm;
            matches++;
        }
        if (names->len < MAX_LINE / 4) {
            g_autofree char *name = printable(info->name);

            g_string_append_printf(names, "%s'%s'", i ? ", " : "", name);
        } else if (!g_str_has_suffix(names->str, "...")) {
            g_string_append(names, ", ...");
        }
    }

    g_string_truncate(why, 0);
    if (!matches) {
        *status = EXIT_NO_VM;
        g_string_printf(why, "there is no VM '%s'; there %s %s", wanted,
                        serve->vms->len ? "are:" : "is",
                        serve->vms->len ? names->str : "none");
    } else if (matches > 1) {
        *status = EXIT_USAGE;
        g_string_printf(why, "%u VMs are called '%s': give the UUID",
                        matches, wanted);
    } else if ((*found)->user) {
        *status = EXIT_HANDSHAKE;
        g_string_printf(why, "VM '%s' is in use by 'kvmi %s'", wanted,
                        (*found)->user);
    }
    return !why->len;
}

/*
 * Whether the VM's thread has the socket.  A VM that appears or is given back
 * is a change.
 */
static bool hand_over(Serve *serve, const Request *request, int fd,
                      int *status, GString *why)
{
    gint64 deadline = g_get_monotonic_time() + request->timeout_ms * 1000;
    ServedVM *vm = NULL;
    bool ok;

    g_mutex_lock(&serve->lock);
    for (;;) {
        gint64 now = g_get_monotonic_time();

        ok = find_vm(serve, request->vm, &vm, status, why);
        if (ok || serve->stopping || now >= deadline || peer_has_gone(fd)) {
            break;
        }
        g_cond_wait_until(&serve->changed, &serve->lock,
                          MIN(deadline,
                              now + KVMI_CANCEL_LATENCY_MS * 1000));
    }
    if (ok) {
        vm->user = g_strdup(request->user);
        vm->borrower = fd;
        serve_vm_wake(vm);
        serve_change(serve);
    }
    g_mutex_unlock(&serve->lock);
    return ok;
}

void serve_request(Serve *serve, int fd)
{
    g_autoptr(GString) why = g_string_new(NULL);
    g_autofree char *line = receive_line(fd, &serve->app->cancel,
                                         REQUEST_TIMEOUT_MS, NULL);
    Request request = { 0 };
    int status = EXIT_USAGE;

    if (line && parse_request(line, &request)) {
        if (hand_over(serve, &request, fd, &status, why)) {
            fd = -1;
        }
    } else if (kvmi_is_cancelled(&serve->app->cancel)) {
        status = EXIT_NO_VM;
        g_string_assign(why, "'kvmi serve' is about to end");
    } else {
        g_string_assign(why, "this is no request to 'kvmi serve'");
    }
    if (fd >= 0) {
        g_autofree char *answer = g_strdup_printf("error %d %s\n", status,
                                                  why->str);

        send_text(fd, answer);  /* a peer that has gone misses nothing */
        close(fd);
    }
    g_free(request.user);
    g_free(request.vm);
}

/* The user's side */

static bool check_answer(const char *line, GError **errp)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 3);
    guint64 status;

    if (!strcmp(line, "ok")) {
        return true;
    }
    if (g_strv_length(words) == 3 && !strcmp(words[0], "error") &&
        g_ascii_string_to_unsigned(words[1], 10, 1, 127, &status, NULL)) {
        g_set_error(errp, CMD_ERROR, status, "%s", words[2]);
    } else {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "what listens there is no 'kvmi serve': --name goes with "
                    "the path that is its --control");
    }
    return false;
}

int serve_borrow(App *app, const char *name, int timeout_ms, GError **errp)
{
    g_autofree char *request = g_strdup_printf("open %d %s %s\n", timeout_ms,
                                               app->subcommand->name, name);
    g_autofree char *line = NULL;
    GError *local = NULL;
    int fd;

    if (strlen(name) > MAX_NAME || strchr(name, '\n')) {
        usage_error(errp, "--name takes a name or a UUID");
        return -1;
    }
    fd = kvmi_connect_fd(app->socket, &app->cancel, 0, &local);
    if (g_error_matches(local, KVMI_ERROR, KVMI_ERROR_NO_VM)) {
        g_error_free(local);
        g_set_error(errp, CMD_ERROR, EXIT_NO_VM,
                    "no 'kvmi serve' listens at %s: --name goes with the path "
                    "that is its --control", app->socket);
        return -1;
    }
    if (local) {
        g_propagate_error(errp, local);
        return -1;
    }
    if (!send_text(fd, request)) {
        local_error(errp, "cannot ask 'kvmi serve' at %s: %s", app->socket,
                    g_strerror(errno));
    } else {
        line = receive_line(fd, &app->cancel, timeout_ms + ANSWER_TIMEOUT_MS,
                            errp);
        if (line && check_answer(line, errp)) {
            return fd;
        }
        g_prefix_error(errp, "%s: ", app->socket);
    }
    close(fd);
    return -1;
}
