/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: addresses, listening and connecting
 */

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/vm_sockets.h>
#include "internals.h"

#define CONNECT_RETRY_MS 50

typedef struct SocketAddress {
    struct sockaddr_storage sa;
    socklen_t len;
    const char *path;           /* in @sa; NULL unless it is a unix socket */
} SocketAddress;

struct KvmiListener {
    int fd;
    char *address;              /* as given, for messages */
    char *path;                 /* that we made, or NULL */
    dev_t dev;
    ino_t ino;
};

GQuark kvmi_error_quark(void)
{
    return g_quark_from_static_string("kvmi-error-quark");
}

void kvmi_cancel(KvmiCancel *cancel)
{
    g_atomic_int_set(&cancel->set, 1);
}

void kvmi_cancel_reset(KvmiCancel *cancel)
{
    g_atomic_int_set(&cancel->set, 0);
}

bool kvmi_is_cancelled(const KvmiCancel *cancel)
{
    return cancel && g_atomic_int_get(&cancel->set);
}

int kvmi_deadline_slice_ms(gint64 deadline)
{
    gint64 left;

    if (deadline < 0) {
        return KVMI_CANCEL_LATENCY_MS;
    }
    left = (deadline - g_get_monotonic_time() + 999) / 1000;
    return CLAMP(left, 0, KVMI_CANCEL_LATENCY_MS);
}

bool kvmi_poll(int fd, short events, gint64 deadline,
               const KvmiCancel *cancel, const char *what, GError **errp)
{
    struct pollfd pfd = { .fd = fd, .events = events };

    for (;;) {
        int slice = kvmi_deadline_slice_ms(deadline);
        int ret;

        if (kvmi_is_cancelled(cancel)) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_CANCELLED,
                        "%s: interrupted", what);
            return false;
        }
        ret = poll(&pfd, 1, slice);
        if (ret > 0) {
            return true;
        }
        if (ret < 0 && errno != EINTR) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                        "%s: poll: %s", what, g_strerror(errno));
            return false;
        }
        if (ret == 0 && slice == 0) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_TIMEOUT,
                        "%s: timed out", what);
            return false;
        }
    }
}

static bool unix_address(const char *path, SocketAddress *out, GError **errp)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->sa;

    if (!*path) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ADDRESS,
                    "the path of a unix socket is empty: give unix:PATH");
        return false;
    }
    if (strlen(path) >= sizeof(un->sun_path)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ADDRESS,
                    "'%s' is too long for a unix socket: "
                    "%zu bytes, and at most %zu are possible",
                    path, strlen(path), sizeof(un->sun_path) - 1);
        return false;
    }
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    out->len = sizeof(*un);
    out->path = un->sun_path;
    return true;
}

/* Splits "HOST:PORT" at its last colon.  [HOST] loses its brackets. */
static bool split_port(const char *address, const char *rest,
                       char **host, char **port, GError **errp)
{
    const char *colon = strrchr(rest, ':');
    size_t len;

    if (!colon || colon == rest || !colon[1]) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ADDRESS,
                    "'%s' has no host or no port: "
                    "give tcp:HOST:PORT or vsock:CID:PORT", address);
        return false;
    }
    len = colon - rest;
    if (rest[0] == '[' && rest[len - 1] == ']') {
        *host = g_strndup(rest + 1, len - 2);
    } else {
        *host = g_strndup(rest, len);
    }
    *port = g_strdup(colon + 1);
    return true;
}

static bool tcp_address(const char *address, const char *rest, bool listening,
                        SocketAddress *out, GError **errp)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = listening ? AI_PASSIVE : 0,
    };
    g_autofree char *host = NULL;
    g_autofree char *port = NULL;
    struct addrinfo *res;
    int ret;

    if (!split_port(address, rest, &host, &port, errp)) {
        return false;
    }
    ret = getaddrinfo(host, port, &hints, &res);
    if (ret) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ADDRESS,
                    "'%s': %s", address, gai_strerror(ret));
        return false;
    }
    memcpy(&out->sa, res->ai_addr, res->ai_addrlen);
    out->len = res->ai_addrlen;
    freeaddrinfo(res);
    return true;
}

static bool vsock_address(const char *address, const char *rest,
                          bool listening, SocketAddress *out, GError **errp)
{
    struct sockaddr_vm *vm = (struct sockaddr_vm *)&out->sa;
    g_autofree char *cid = NULL;
    g_autofree char *port = NULL;
    guint64 cid_nr = VMADDR_CID_ANY;
    guint64 port_nr;

    if (!split_port(address, rest, &cid, &port, errp)) {
        return false;
    }
    if ((!(listening && !strcmp(cid, "any")) &&
         !g_ascii_string_to_unsigned(cid, 10, 0, UINT32_MAX, &cid_nr, NULL)) ||
        !g_ascii_string_to_unsigned(port, 10, 0, UINT32_MAX, &port_nr, NULL)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ADDRESS,
                    "'%s': give vsock:CID:PORT with two numbers%s", address,
                    listening ? ", or vsock:any:PORT" : "");
        return false;
    }
    vm->svm_family = AF_VSOCK;
    vm->svm_cid = cid_nr;
    vm->svm_port = port_nr;
    out->len = sizeof(*vm);
    return true;
}

static bool parse_address(const char *address, bool listening,
                          SocketAddress *out, GError **errp)
{
    memset(out, 0, sizeof(*out));
    if (g_str_has_prefix(address, "unix:")) {
        return unix_address(address + 5, out, errp);
    }
    if (g_str_has_prefix(address, "tcp:")) {
        return tcp_address(address, address + 4, listening, out, errp);
    }
    if (g_str_has_prefix(address, "vsock:")) {
        return vsock_address(address, address + 6, listening, out, errp);
    }
    if (strchr(address, '/')) {
        return unix_address(address, out, errp);
    }
    g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ADDRESS,
                "'%s' is no address: give unix:PATH, tcp:HOST:PORT, "
                "vsock:CID:PORT, or a path with a slash (./%s)",
                address, address);
    return false;
}

static int stream_socket(int family, GError **errp)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                    "cannot make a socket: %s%s", g_strerror(errno),
                    family == AF_VSOCK ?
                    " (is the host's vsock module loaded?)" : "");
        return -1;
    }
    if (family == AF_INET || family == AF_INET6) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    }
    return fd;
}

/* A message is small and somebody waits for it. */
static void set_nodelay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* Why bind() said EADDRINUSE, for the one who has to clear the path. */
static void path_exists_error(const SocketAddress *addr, GError **errp)
{
    const char *path = addr->path;
    struct stat st;
    bool alive;
    int fd;

    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_PATH_EXISTS,
                    "'%s' exists and is no socket: choose another path",
                    path);
        return;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    alive = fd >= 0 &&
            (connect(fd, (const struct sockaddr *)&addr->sa,
                     addr->len) == 0 || errno != ECONNREFUSED);
    if (fd >= 0) {
        close(fd);
    }
    if (alive) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_PATH_EXISTS,
                    "somebody listens at '%s' already: if it is QEMU, connect "
                    "to it (--connect), else choose another path", path);
    } else {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_PATH_EXISTS,
                    "'%s' exists and nobody listens there: it was left by a "
                    "process that has ended, remove it (rm '%s')",
                    path, path);
    }
}

KvmiListener *kvmi_listener_new(const char *address, GError **errp)
{
    SocketAddress addr;
    KvmiListener *listener;
    struct stat st;
    int fd;

    if (!parse_address(address, true, &addr, errp)) {
        return NULL;
    }
    fd = stream_socket(addr.sa.ss_family, errp);
    if (fd < 0) {
        return NULL;
    }
    if (bind(fd, (struct sockaddr *)&addr.sa, addr.len) < 0) {
        if (errno == EADDRINUSE && addr.path) {
            path_exists_error(&addr, errp);
        } else {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                        "cannot listen at '%s': %s", address,
                        g_strerror(errno));
        }
        close(fd);
        return NULL;
    }

    listener = g_new0(KvmiListener, 1);
    listener->fd = fd;
    listener->address = g_strdup(address);
    if (addr.path && stat(addr.path, &st) == 0) {
        listener->path = g_strdup(addr.path);
        listener->dev = st.st_dev;
        listener->ino = st.st_ino;
    }
    if (listen(fd, 1) < 0) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                    "cannot listen at '%s': %s", address, g_strerror(errno));
        kvmi_listener_free(listener);
        return NULL;
    }
    return listener;
}

void kvmi_listener_free(KvmiListener *listener)
{
    struct stat st;

    if (!listener) {
        return;
    }
    /* Somebody may have put another file there. */
    if (listener->path && lstat(listener->path, &st) == 0 &&
        st.st_dev == listener->dev && st.st_ino == listener->ino) {
        unlink(listener->path);
    }
    close(listener->fd);
    g_free(listener->path);
    g_free(listener->address);
    g_free(listener);
}

static void no_vm_error(GError **errp, const char *address, int timeout_ms)
{
    const char *path = g_str_has_prefix(address, "unix:") ? address + 5
                                                          : address;

    g_clear_error(errp);
    g_set_error(errp, KVMI_ERROR, KVMI_ERROR_NO_VM,
                "no VM connected to '%s' within %g s: start QEMU with -chardev "
                "socket,id=vmi,%s%s,reconnect-ms=1000 "
                "-object introspection,id=kvmi0,chardev=vmi",
                address, timeout_ms / 1000.0,
                strchr(path, '/') ? "path=" : "host=HOST,port=PORT",
                strchr(path, '/') ? path : "");
}

bool kvmi_listener_expect_many(KvmiListener *listener, GError **errp)
{
    if (listen(listener->fd, SOMAXCONN) < 0) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                    "cannot listen at '%s': %s", listener->address,
                    g_strerror(errno));
        return false;
    }
    return true;
}

static int accept_until(KvmiListener *listener, const KvmiCancel *cancel,
                        gint64 deadline, int timeout_ms, GError **errp)
{
    GError *local = NULL;
    int fd;

    do {
        if (!kvmi_poll(listener->fd, POLLIN, deadline, cancel,
                       listener->address, &local)) {
            if (g_error_matches(local, KVMI_ERROR, KVMI_ERROR_TIMEOUT)) {
                no_vm_error(&local, listener->address, timeout_ms);
            }
            g_propagate_error(errp, local);
            return -1;
        }
        fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));

    if (fd < 0) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                    "cannot accept a VM at '%s': %s", listener->address,
                    g_strerror(errno));
        return -1;
    }
    set_nodelay(fd);
    return fd;
}

int kvmi_listener_accept_fd(KvmiListener *listener, const KvmiCancel *cancel,
                            int timeout_ms, GError **errp)
{
    return accept_until(listener, cancel, kvmi_deadline(timeout_ms),
                        timeout_ms, errp);
}

KvmiClient *kvmi_listener_accept(KvmiListener *listener,
                                 const KvmiConfig *config, int timeout_ms,
                                 GError **errp)
{
    gint64 deadline = kvmi_deadline(timeout_ms);

    for (;;) {
        GError *local = NULL;
        int fd = accept_until(listener, config ? config->cancel : NULL,
                              deadline, timeout_ms, errp);
        KvmiClient *client;

        if (fd < 0) {
            return NULL;
        }
        client = kvmi_client_new_from_fd(fd, config, &local);
        if (!g_error_matches(local, KVMI_ERROR, KVMI_ERROR_LEFT)) {
            if (local) {
                g_propagate_error(errp, local);
            }
            return client;
        }
        if (config && config->peer_left) {
            config->peer_left(local, config->opaque);
        }
        g_error_free(local);
    }
}

static bool worth_retrying(int err)
{
    return err == ENOENT || err == ECONNREFUSED || err == EAGAIN ||
           err == EINTR || err == ETIMEDOUT || err == ECONNRESET;
}

int kvmi_connect_fd(const char *address, const KvmiCancel *cancel,
                    int timeout_ms, GError **errp)
{
    gint64 deadline = kvmi_deadline(timeout_ms);
    SocketAddress addr;
    int fd, err;

    if (!parse_address(address, false, &addr, errp)) {
        return -1;
    }
    for (;;) {
        fd = stream_socket(addr.sa.ss_family, errp);
        if (fd < 0) {
            return -1;
        }
        if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == 0) {
            set_nodelay(fd);
            return fd;
        }
        err = errno;
        close(fd);
        if (!worth_retrying(err)) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                        "cannot connect to '%s': %s", address,
                        g_strerror(err));
            return -1;
        }
        if (kvmi_is_cancelled(cancel)) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_CANCELLED,
                        "%s: interrupted", address);
            return -1;
        }
        if (deadline >= 0 && g_get_monotonic_time() >= deadline) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_NO_VM,
                        "no VM listens at '%s': %s.  QEMU listens where its "
                        "chardev has server=on,wait=off; without --connect, "
                        "the tool listens and QEMU connects",
                        address, g_strerror(err));
            return -1;
        }
        g_usleep(CONNECT_RETRY_MS * 1000);
    }
}

KvmiClient *kvmi_connect(const char *address, const KvmiConfig *config,
                         int timeout_ms, GError **errp)
{
    int fd = kvmi_connect_fd(address, config ? config->cancel : NULL,
                             timeout_ms, errp);

    return fd < 0 ? NULL : kvmi_client_new_from_fd(fd, config, errp);
}
