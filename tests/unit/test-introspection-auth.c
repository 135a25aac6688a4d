/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's part of proving that both sides know a key.
 */
#include "qemu/osdep.h"
#include "crypto/init.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "kvmi/accel/introspection/auth.h"

#define COOKIE  INTROSPECTION_AUTH_BIT_COOKIE
#define HMAC    INTROSPECTION_AUTH_BIT_HMAC

static const QemuUUID uuid = {
    .data = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
};

/*
 * The example of docs/interop/kvmi.rst, computed with Python's hmac module:
 * key "open sesame", start_time 1700000000, name "example", QEMU's nonce is 32
 * bytes of 0x51 and the tool's 32 bytes of 0x54.
 */
static const uint8_t example_tool_mac[32] = {
    0x64, 0xb1, 0x77, 0x41, 0xb3, 0x36, 0xa0, 0x83,
    0x0a, 0x5e, 0x6d, 0x2a, 0x0b, 0x08, 0xf0, 0x3a,
    0x00, 0xae, 0xa2, 0x36, 0xaa, 0xe2, 0xfb, 0x7a,
    0xfe, 0xde, 0x8f, 0x05, 0x36, 0x51, 0xd9, 0x49,
};
static const uint8_t example_vm_mac[32] = {
    0xa6, 0xda, 0x4a, 0x1b, 0xee, 0x95, 0x91, 0xf4,
    0x61, 0x28, 0x2f, 0xa9, 0x25, 0xdc, 0x0e, 0x17,
    0x95, 0x3b, 0xac, 0x3e, 0xa1, 0xe4, 0xb2, 0x16,
    0x5f, 0xc9, 0x78, 0xc0, 0xcb, 0x31, 0x7b, 0x27,
};

static GBytes *key_of(const char *text)
{
    return g_bytes_new(text, strlen(text));
}

static void example(IntrospectionAuthHello *hello,
                    IntrospectionAuthAnswer *answer)
{
    introspection_hello_init(&hello->base, &uuid, 1700000000, "example");
    introspection_auth_hello(hello, HMAC, &error_abort);
    memset(hello->nonce, 0x51, sizeof(hello->nonce));

    *answer = (IntrospectionAuthAnswer) {
        .struct_size = sizeof(*answer),
        .method = HMAC,
    };
    memset(answer->nonce, 0x54, sizeof(answer->nonce));
    memcpy(answer->mac, example_tool_mac, sizeof(answer->mac));
}

static unsigned check(const char *key_text, unsigned methods,
                      const IntrospectionAuthHello *hello,
                      const void *answer, size_t size,
                      IntrospectionAuthProof *proof)
{
    g_autoptr(GBytes) key = key_of(key_text);
    IntrospectionAuthProof ignored;
    Error *err = NULL;
    unsigned method = introspection_auth_check(key, methods, hello, answer,
                                               size, proof ?: &ignored, &err);

    g_assert_true(!err == !!method);
    error_free(err);
    return method;
}

static void test_example(void)
{
    IntrospectionAuthProof proof;
    IntrospectionAuthHello hello;
    IntrospectionAuthAnswer answer;

    example(&hello, &answer);
    g_assert_cmpuint(hello.base.struct_size, ==, 136);
    g_assert_cmpuint(check("open sesame", HMAC, &hello, &answer,
                           sizeof(answer), &proof), ==, HMAC);
    g_assert_cmpuint(proof.struct_size, ==, 36);
    g_assert_cmpmem(proof.mac, 32, example_vm_mac, 32);
}

/* Each byte of what was said counts. */
static void test_every_byte(void)
{
    IntrospectionAuthHello hello, changed_hello;
    IntrospectionAuthAnswer answer, changed_answer;

    example(&hello, &answer);
    for (size_t i = 4; i < sizeof(hello); i++) {
        changed_hello = hello;
        ((uint8_t *)&changed_hello)[i] ^= 1;
        g_assert_cmpuint(check("open sesame", HMAC, &changed_hello, &answer,
                               sizeof(answer), NULL), ==, 0);
    }
    for (size_t i = 0; i < sizeof(answer); i++) {
        changed_answer = answer;
        ((uint8_t *)&changed_answer)[i] ^= 1;
        g_assert_cmpuint(check("open sesame", HMAC | COOKIE, &hello,
                               &changed_answer, sizeof(answer), NULL), ==, 0);
    }
}

static void test_short_answers(void)
{
    IntrospectionAuthHello hello;
    IntrospectionAuthAnswer answer;

    example(&hello, &answer);
    for (size_t size = 4; size < sizeof(answer); size++) {
        g_assert_cmpuint(check("open sesame", HMAC | COOKIE, &hello, &answer,
                               size, NULL), ==, 0);
    }
}

static void test_nonces_differ(void)
{
    IntrospectionAuthHello first, second;

    introspection_auth_hello(&first, HMAC, &error_abort);
    introspection_auth_hello(&second, HMAC, &error_abort);
    g_assert_false(memcmp(first.nonce, second.nonce,
                          sizeof(first.nonce)) == 0);
}

static void test_cookie(void)
{
    /* SHA-1 of "open sesame" */
    static const uint8_t cookie[20] = {
        0x5b, 0xca, 0xff, 0x7f, 0x22, 0xff, 0x53, 0x3c,
        0xa0, 0x99, 0xb3, 0x40, 0x8e, 0xad, 0x87, 0x6c,
        0x0e, 0xbb, 0xa9, 0xa7,
    };
    IntrospectionAuthHello hello;
    IntrospectionAuthAnswer answer = { .struct_size = 24 };

    introspection_hello_init(&hello.base, &uuid, 0, "x");
    memcpy(answer.cookie_hash, cookie, sizeof(cookie));
    g_assert_cmpuint(check("open sesame", COOKIE, &hello, &answer, 24, NULL),
                     ==, COOKIE);
    g_assert_cmpuint(check("open sesame", COOKIE | HMAC, &hello, &answer, 24,
                           NULL), ==, COOKIE);
    g_assert_cmpuint(check("open sesame", HMAC, &hello, &answer, 24, NULL),
                     ==, 0);
    g_assert_cmpuint(check("open sesam", COOKIE, &hello, &answer, 24, NULL),
                     ==, 0);
    for (size_t i = 0; i < sizeof(cookie); i++) {
        answer.cookie_hash[i] ^= 1;
        g_assert_cmpuint(check("open sesame", COOKIE, &hello, &answer, 24,
                               NULL), ==, 0);
        answer.cookie_hash[i] ^= 1;
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(qcrypto_init(&error_abort), ==, 0);
    g_test_add_func("/introspection/auth/example", test_example);
    g_test_add_func("/introspection/auth/every-byte", test_every_byte);
    g_test_add_func("/introspection/auth/short-answers", test_short_answers);
    g_test_add_func("/introspection/auth/nonces-differ", test_nonces_differ);
    g_test_add_func("/introspection/auth/cookie", test_cookie);
    return g_test_run();
}
