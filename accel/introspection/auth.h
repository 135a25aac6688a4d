/*
 * Virtual machine introspection: QEMU and the tool prove that they know a key
 *
 * docs/interop/kvmi.rst has the bytes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_AUTH_H
#define ACCEL_INTROSPECTION_AUTH_H

#include "handshake.h"

/* The methods, in QEMU's hello and, one of them, in the tool's answer. */
#define INTROSPECTION_AUTH_BIT_COOKIE   1
#define INTROSPECTION_AUTH_BIT_HMAC     2

#define INTROSPECTION_NONCE_SIZE        32
#define INTROSPECTION_MAC_SIZE          32
#define INTROSPECTION_COOKIE_SIZE       20

/* What QEMU sends where the tool may use HMAC. */
typedef struct IntrospectionAuthHello {
    IntrospectionHello base;
    uint32_t methods;
    uint32_t padding;
    uint8_t nonce[INTROSPECTION_NONCE_SIZE];
} IntrospectionAuthHello;

QEMU_BUILD_BUG_ON(sizeof(IntrospectionAuthHello) != 136);

/* What the tool answers. */
typedef struct IntrospectionAuthAnswer {
    uint32_t struct_size;
    uint8_t cookie_hash[INTROSPECTION_COOKIE_SIZE];
    uint32_t method;
    uint8_t nonce[INTROSPECTION_NONCE_SIZE];
    uint8_t mac[INTROSPECTION_MAC_SIZE];
} IntrospectionAuthAnswer;

QEMU_BUILD_BUG_ON(sizeof(IntrospectionAuthAnswer) != 92);

/* What QEMU sends then, if the method was HMAC. */
typedef struct IntrospectionAuthProof {
    uint32_t struct_size;
    uint8_t mac[INTROSPECTION_MAC_SIZE];
} IntrospectionAuthProof;

QEMU_BUILD_BUG_ON(sizeof(IntrospectionAuthProof) != 36);

/* Completes @hello, whose base is there, with a fresh nonce. */
bool introspection_auth_hello(IntrospectionAuthHello *hello, unsigned methods,
                              Error **errp);

/*
 * Does the @answer to @hello (base.struct_size bytes of it) prove that the tool
 * knows @key, by one of @methods?  Returns that method, with @proof filled if
 * it is HMAC, or 0 and an error.
 */
unsigned introspection_auth_check(GBytes *key, unsigned methods,
                                  const IntrospectionAuthHello *hello,
                                  const uint8_t *answer, size_t answer_size,
                                  IntrospectionAuthProof *proof,
                                  Error **errp);

#endif
