/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: the handshake
 *
 * The VM sends who it is, the tool answers.  Both structures begin with their
 * own size, and either side may send more than the other knows.  Where they
 * have a key, the tool proves in its answer that it knows it; with HMAC the VM
 * then does, too.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include "internals.h"

#define DEFAULT_TIMEOUT_MS 10000

#define MIN_STRUCT_SIZE 20
#define MAX_STRUCT_SIZE (1024 * 1024)

#define NONCE_SIZE 32
#define MAC_SIZE 32             /* SHA-256 */
#define LABEL_SIZE 16

/* All of it that this version of the protocol knows. */
typedef struct VMHello {
    uint32_t struct_size;
    uint8_t uuid[16];
    uint32_t padding;
    int64_t start_time;
    char name[64];
} VMHello;

G_STATIC_ASSERT(sizeof(VMHello) == 96);

/* Behind that, where the VM takes HMAC. */
typedef struct VMAuth {
    uint32_t methods;
    uint32_t padding;
    uint8_t nonce[NONCE_SIZE];
} VMAuth;

G_STATIC_ASSERT(sizeof(VMHello) + sizeof(VMAuth) == 136);

typedef struct ToolHello {
    uint32_t struct_size;
    uint8_t cookie_hash[KVMI_COOKIE_SIZE];
} ToolHello;

G_STATIC_ASSERT(sizeof(ToolHello) == 24);

/* Behind that, for HMAC. */
typedef struct ToolAuth {
    uint32_t method;
    uint8_t nonce[NONCE_SIZE];
    uint8_t mac[MAC_SIZE];
} ToolAuth;

typedef struct ToolAuthHello {
    ToolHello base;
    ToolAuth auth;
} ToolAuthHello;

G_STATIC_ASSERT(sizeof(ToolAuthHello) == 92);

/* The VM's, after that. */
typedef struct VMProof {
    uint32_t struct_size;
    uint8_t mac[MAC_SIZE];
} VMProof;

G_STATIC_ASSERT(sizeof(VMProof) == 36);

/* Neither side's proof is good for the other. */
static const uint8_t tool_label[LABEL_SIZE] = "KVMI tool";
static const uint8_t vm_label[LABEL_SIZE] = "KVMI VM";

typedef struct Handshake {
    int fd;
    gint64 deadline;
    const KvmiConfig *config;       /* or NULL */
    const KvmiCancel *cancel;
    size_t received;
    GByteArray *hello;              /* the VM's, as it came */
} Handshake;

static void set_closed_error(const Handshake *hs, GError **errp)
{
    if (!hs->hello->len && !hs->received) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_LEFT,
                    "the peer closed the connection at once: its VM may be "
                    "paused, or about to be migrated, or another tool is "
                    "connected to it already");
        return;
    }
    g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                "the peer closed the connection after %zu bytes of the "
                "handshake: is another tool connected to this VM already?",
                hs->received);
}

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
            set_closed_error(hs, errp);
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

    g_byte_array_set_size(hs->hello, hello.struct_size);
    memcpy(hs->hello->data, &hello.struct_size, sizeof(hello.struct_size));
    if (!receive(hs, hs->hello->data + sizeof(hello.struct_size),
                 hello.struct_size - sizeof(hello.struct_size), errp)) {
        return false;
    }
    memcpy(&hello, hs->hello->data, MIN(hs->hello->len, sizeof(hello)));

    vm->struct_size = hello.struct_size;
    memcpy(vm->uuid, hello.uuid, sizeof(vm->uuid));
    if (hs->hello->len >= offsetof(VMHello, name)) {
        vm->start_time = hello.start_time;
    }
    memcpy(vm->name, hello.name, sizeof(hello.name));
    vm->name[sizeof(hello.name)] = 0;
    return true;
}

/* What the VM accepts as far as it has said so: KVMI_AUTH_*. */
static unsigned vm_methods(const Handshake *hs)
{
    VMAuth auth;

    if (hs->hello->len < sizeof(VMHello) + sizeof(auth)) {
        return 0;
    }
    memcpy(&auth, hs->hello->data + sizeof(VMHello), sizeof(auth));
    return auth.padding ? 0 : auth.methods;
}

static bool choose_method(const Handshake *hs, unsigned *method, GError **errp)
{
    unsigned offered = vm_methods(hs);
    unsigned wanted;

    *method = 0;
    if (!hs->config || !hs->config->key) {
        if (offered) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                        "the VM wants proof of a key, and none was given");
            return false;
        }
        return true;
    }
    wanted = hs->config->auth ?: KVMI_AUTH_HMAC;
    if (wanted & offered & KVMI_AUTH_HMAC) {
        *method = KVMI_AUTH_HMAC;
    } else if (wanted & KVMI_AUTH_COOKIE) {
        *method = KVMI_AUTH_COOKIE;
    } else {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "the VM does not prove that it knows the key: it has "
                    "none, or takes the cookie only (auth=cookie)");
        return false;
    }
    return true;
}

/* The MAC of @label and all that was said. */
static void compute_mac(const Handshake *hs, const uint8_t label[LABEL_SIZE],
                        const ToolAuthHello *answer, uint8_t mac[MAC_SIZE])
{
    g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA256, hs->config->key,
                                       hs->config->key_size);
    gsize size = MAC_SIZE;

    g_hmac_update(hmac, label, LABEL_SIZE);
    g_hmac_update(hmac, hs->hello->data, hs->hello->len);
    g_hmac_update(hmac, (const guchar *)answer, sizeof(*answer));
    g_hmac_get_digest(hmac, mac, &size);
}

static void set_cookie(const KvmiConfig *config, ToolHello *hello)
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA1);
    gsize size = sizeof(hello->cookie_hash);

    g_checksum_update(checksum, config->key, config->key_size);
    g_checksum_get_digest(checksum, hello->cookie_hash, &size);
}

static bool prepare_hmac(const Handshake *hs, ToolAuthHello *answer,
                         GError **errp)
{
    answer->base.struct_size = sizeof(*answer);
    answer->auth.method = KVMI_AUTH_HMAC;
    if (getrandom(answer->auth.nonce, sizeof(answer->auth.nonce), 0) !=
        sizeof(answer->auth.nonce)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "cannot get random numbers: %s", g_strerror(errno));
        return false;
    }
    compute_mac(hs, tool_label, answer, answer->auth.mac);
    return true;
}

static bool send_answer(const Handshake *hs, const ToolAuthHello *answer,
                        GError **errp)
{
    ssize_t n;

    do {
        n = send(hs->fd, answer, answer->base.struct_size, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != answer->base.struct_size) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "cannot answer the VM's handshake: %s",
                    n < 0 ? g_strerror(errno) : "short write");
        return false;
    }
    return true;
}

/* Takes the same time wherever they differ. */
static bool equal_bytes(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint8_t difference = 0;

    while (size--) {
        difference |= *a++ ^ *b++;
    }
    return !difference;
}

static bool receive_proof(Handshake *hs, const ToolAuthHello *answer,
                          GError **errp)
{
    uint8_t expected[MAC_SIZE];
    GError *local = NULL;
    VMProof proof = { 0 };
    size_t rest;

    hs->received = 0;
    if (!receive(hs, &proof, sizeof(proof), &local)) {
        if (hs->received ||
            !g_error_matches(local, KVMI_ERROR, KVMI_ERROR_HANDSHAKE)) {
            g_propagate_error(errp, local);
            return false;
        }
        g_clear_error(&local);
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "the VM has refused the key");
        return false;
    }
    if (proof.struct_size < sizeof(proof) ||
        proof.struct_size > MAX_STRUCT_SIZE) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "the VM's proof claims to have %" G_GUINT32_FORMAT
                    " bytes, and %zu to %d are possible", proof.struct_size,
                    sizeof(proof), MAX_STRUCT_SIZE);
        return false;
    }
    for (rest = proof.struct_size - sizeof(proof); rest; ) {
        uint8_t ignored[4096];
        size_t n = MIN(rest, sizeof(ignored));

        if (!receive(hs, ignored, n, errp)) {
            return false;
        }
        rest -= n;
    }
    compute_mac(hs, vm_label, answer, expected);
    if (!equal_bytes(proof.mac, expected, sizeof(expected))) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_HANDSHAKE,
                    "the VM does not know the key");
        return false;
    }
    return true;
}

static bool answer_hello(Handshake *hs, GError **errp)
{
    ToolAuthHello answer = { .base.struct_size = sizeof(answer.base) };
    unsigned method;

    if (!choose_method(hs, &method, errp)) {
        return false;
    }
    if (method == KVMI_AUTH_COOKIE) {
        set_cookie(hs->config, &answer.base);
    } else if (method == KVMI_AUTH_HMAC && !prepare_hmac(hs, &answer, errp)) {
        return false;
    }
    return send_answer(hs, &answer, errp) &&
           (method != KVMI_AUTH_HMAC || receive_proof(hs, &answer, errp));
}

bool kvmi_handshake(int fd, const KvmiConfig *config, KvmiVMInfo *vm,
                    GError **errp)
{
    int timeout_ms = config && config->handshake_timeout_ms
                     ? config->handshake_timeout_ms : DEFAULT_TIMEOUT_MS;
    g_autoptr(GByteArray) hello = g_byte_array_new();
    Handshake hs = {
        .fd = fd,
        .deadline = kvmi_deadline(timeout_ms),
        .config = config,
        .cancel = config ? config->cancel : NULL,
        .hello = hello,
    };

    return receive_hello(&hs, vm, errp) && answer_hello(&hs, errp);
}
