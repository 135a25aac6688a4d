/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: the handshake
 *
 * The VM sends who it is, the tool answers.  Both structures begin with their
 * own size, and either side may send more than the other knows.
 */

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "internals.h"

#define DEFAULT_TIMEOUT_MS 10000

#define MIN_STRUCT_SIZE 20
#define MAX_STRUCT_SIZE (1024 * 1024)

/* All of it that this version of the protocol knows. */
typedef struct VMHello {
    uint32_t struct_size;
    uint8_t uuid[16];
    uint32_t padding;
    int64_t start_time;
    char name[64];
} VMHello;

G_STATIC_ASSERT(sizeof(VMHello) == 96);

typedef struct ToolHello {
    uint32_t struct_size;
    uint8_t cookie_hash[KVMI_COOKIE_SIZE];
} ToolHello;

G_STATIC_ASSERT(sizeof(ToolHello) == 24);

typedef struct Handshake {
    int fd;
    gint64 deadline;
    const KvmiCancel *cancel;
    size_t received;
} Handshake;

/*
 * Nothing but the handshake may be read here: what follows belongs to the
 * engine.
 */
static bool receive(Handshake *hs, void *buf, size_t size, GError **errp)
{
    GError *local = NULL;
    uint8_t *p = buf;

    while (size) {
        ssize_t n;

        if (!kvmi_poll(hs->fd, POLLIN, hs->deadline, hs->cancel,
                       "handshake", &local)) {
            if (g_error_matches(local, KVMI_ERROR, KVMI_ERROR_TIMEOUT)) {
                g_clear_error(&local);
                g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                            "the peer has sent %zu bytes of a handshake and "
                            "then nothing: is it a QEMU with -object "
                            "introspection?", hs->received);
            } else {
                g_propagate_error(errp, local);
            }
            return false;
        }
        n = recv(hs->fd, p, size, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n <= 0) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                        "the peer closed the connection after %zu bytes of "
                        "the handshake: is another tool connected to this "
                        "VM already?", hs->received);
            return false;
        }
        p += n;
        size -= n;
        hs->received += n;
    }
    return true;
}

static bool receive_hello(Handshake *hs, KvmiVMInfo *vm, GError **errp)
{
    VMHello hello = { 0 };
    size_t known, rest;

    if (!receive(hs, &hello.struct_size, sizeof(hello.struct_size), errp)) {
        return false;
    }
    if (hello.struct_size < MIN_STRUCT_SIZE ||
        hello.struct_size > MAX_STRUCT_SIZE) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "the peer is no QEMU with -object introspection: its "
                    "handshake claims to have %" G_GUINT32_FORMAT " bytes, "
                    "and %d to %d are possible", hello.struct_size,
                    MIN_STRUCT_SIZE, MAX_STRUCT_SIZE);
        return false;
    }

    known = MIN(hello.struct_size, sizeof(hello));
    if (!receive(hs, (uint8_t *)&hello + sizeof(hello.struct_size),
                 known - sizeof(hello.struct_size), errp)) {
        return false;
    }
    for (rest = hello.struct_size - known; rest; ) {
        uint8_t ignored[4096];
        size_t n = MIN(rest, sizeof(ignored));

        if (!receive(hs, ignored, n, errp)) {
            return false;
        }
        rest -= n;
    }

    vm->struct_size = hello.struct_size;
    memcpy(vm->uuid, hello.uuid, sizeof(vm->uuid));
    if (known >= offsetof(VMHello, name)) {
        vm->start_time = hello.start_time;
    }
    memcpy(vm->name, hello.name, sizeof(hello.name));
    vm->name[sizeof(hello.name)] = 0;
    return true;
}

static bool send_hello(Handshake *hs, const KvmiConfig *config, GError **errp)
{
    ToolHello hello = { .struct_size = sizeof(hello) };
    ssize_t n;

    if (config) {
        memcpy(hello.cookie_hash, config->cookie, sizeof(hello.cookie_hash));
    }
    do {
        n = send(hs->fd, &hello, sizeof(hello), MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != sizeof(hello)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "cannot answer the VM's handshake: %s",
                    n < 0 ? g_strerror(errno) : "short write");
        return false;
    }
    return true;
}

bool kvmi_handshake(int fd, const KvmiConfig *config, KvmiVMInfo *vm,
                    GError **errp)
{
    int timeout_ms = config && config->handshake_timeout_ms
                     ? config->handshake_timeout_ms : DEFAULT_TIMEOUT_MS;
    Handshake hs = {
        .fd = fd,
        .deadline = kvmi_deadline(timeout_ms),
        .cancel = config ? config->cancel : NULL,
    };

    return receive_hello(&hs, vm, errp) && send_hello(&hs, config, errp);
}
