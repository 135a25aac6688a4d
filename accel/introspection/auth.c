/*
 * Virtual machine introspection: QEMU and the tool prove that they know a key
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "crypto/hash.h"
#include "crypto/hmac.h"
#include "crypto/random.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "auth.h"

/* Keep the two directions apart: neither proof is good for the other. */
static const char tool_label[16] = "KVMI tool";
static const char vm_label[16] = "KVMI VM";

/* Takes the same time wherever they differ. */
static bool equal_bytes(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint8_t difference = 0;

    while (size--) {
        difference |= *a++ ^ *b++;
    }
    return !difference;
}

bool introspection_auth_hello(IntrospectionAuthHello *hello, unsigned methods,
                              Error **errp)
{
    hello->base.struct_size = sizeof(*hello);
    hello->methods = methods;
    hello->padding = 0;
    return qcrypto_random_bytes(hello->nonce, sizeof(hello->nonce),
                                errp) == 0;
}

/* The MAC of @label and all that was said. */
static bool compute_mac(GBytes *key, const char label[16],
                        const IntrospectionAuthHello *hello,
                        const void *answer, size_t answer_size,
                        uint8_t mac[INTROSPECTION_MAC_SIZE], Error **errp)
{
    const struct iovec iov[] = {
        { .iov_base = (void *)label, .iov_len = 16 },
        { .iov_base = (void *)hello, .iov_len = hello->base.struct_size },
        { .iov_base = (void *)answer, .iov_len = answer_size },
    };
    size_t key_size, size = 0;
    const uint8_t *key_data = g_bytes_get_data(key, &key_size);
    g_autofree uint8_t *result = NULL;
    g_autoptr(QCryptoHmac) hmac =
        qcrypto_hmac_new(QCRYPTO_HASH_ALGO_SHA256, key_data, key_size, errp);

    if (!hmac || qcrypto_hmac_bytesv(hmac, iov, ARRAY_SIZE(iov), &result,
                                     &size, errp) < 0) {
        return false;
    }
    assert(size == INTROSPECTION_MAC_SIZE);
    memcpy(mac, result, size);
    return true;
}

static bool check_cookie(GBytes *key, const IntrospectionAuthAnswer *answer,
                         Error **errp)
{
    size_t key_size, size = 0;
    const char *key_data = g_bytes_get_data(key, &key_size);
    g_autofree uint8_t *cookie = NULL;

    if (qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA1, key_data, key_size,
                           &cookie, &size, errp) < 0) {
        return false;
    }
    assert(size == sizeof(answer->cookie_hash));
    if (!equal_bytes(answer->cookie_hash, cookie, size)) {
        error_setg(errp, "its cookie is not that of the key");
        return false;
    }
    return true;
}

static bool check_hmac(GBytes *key, const IntrospectionAuthHello *hello,
                       const uint8_t *bytes, size_t size,
                       IntrospectionAuthProof *proof, Error **errp)
{
    g_autofree uint8_t *answer = g_memdup2(bytes, size);
    IntrospectionAuthAnswer *known = (IntrospectionAuthAnswer *)answer;
    uint8_t received[INTROSPECTION_MAC_SIZE];
    uint8_t expected[INTROSPECTION_MAC_SIZE];

    memcpy(received, known->mac, sizeof(received));
    memset(known->mac, 0, sizeof(known->mac));
    if (!compute_mac(key, tool_label, hello, answer, size, expected, errp)) {
        return false;
    }
    if (!equal_bytes(received, expected, sizeof(expected))) {
        error_setg(errp, "its proof is not that of the key, or was made for "
                   "another connection");
        return false;
    }
    proof->struct_size = sizeof(*proof);
    return compute_mac(key, vm_label, hello, bytes, size, proof->mac, errp);
}

unsigned introspection_auth_check(GBytes *key, unsigned methods,
                                  const IntrospectionAuthHello *hello,
                                  const uint8_t *answer, size_t answer_size,
                                  IntrospectionAuthProof *proof, Error **errp)
{
    IntrospectionAuthAnswer known = { };
    unsigned method;

    memcpy(&known, answer, MIN(answer_size, sizeof(known)));
    if (answer_size >= sizeof(known) && known.method) {
        method = known.method;
    } else if (buffer_is_zero(known.cookie_hash, sizeof(known.cookie_hash))) {
        error_setg(errp, "it has no key");
        return 0;
    } else {
        method = INTROSPECTION_AUTH_BIT_COOKIE;
    }

    if (!(methods & method) || (method != INTROSPECTION_AUTH_BIT_COOKIE &&
                                method != INTROSPECTION_AUTH_BIT_HMAC)) {
        error_setg(errp, "it used %s, which is not allowed (auth=)",
                   method == INTROSPECTION_AUTH_BIT_COOKIE ? "the cookie" :
                   method == INTROSPECTION_AUTH_BIT_HMAC ? "HMAC" :
                   "an unknown method");
        return 0;
    }
    if (method == INTROSPECTION_AUTH_BIT_COOKIE
        ? !check_cookie(key, &known, errp)
        : !check_hmac(key, hello, answer, answer_size, proof, errp)) {
        return 0;
    }
    return method;
}
