/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake: what QEMU says, and taking the tool's answer apart.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "kvmi/accel/introspection/handshake.h"

static const QemuUUID uuid = {
    .data = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
};

static void test_hello(void)
{
    IntrospectionHello hello;
    const uint8_t *bytes = (uint8_t *)&hello;
    uint32_t size;
    int64_t start_time;
    static const uint8_t zeros[64];

    memset(&hello, 0xff, sizeof(hello));
    introspection_hello_init(&hello, &uuid, 0x1122334455667788, "guest");

    memcpy(&size, bytes, 4);
    g_assert_cmpuint(size, ==, 96);
    g_assert_cmpmem(bytes + 4, 16, uuid.data, 16);
    g_assert_cmpmem(bytes + 20, 4, zeros, 4);
    memcpy(&start_time, bytes + 24, 8);
    g_assert_cmphex(start_time, ==, 0x1122334455667788);
    g_assert_cmpstr((const char *)bytes + 32, ==, "guest");
    g_assert_cmpmem(bytes + 37, 96 - 37, zeros, 96 - 37);
}

static void test_hello_names(void)
{
    static const struct {
        const char *name;
        size_t length;
    } names[] = {
        { NULL, 0 }, { "", 0 }, { "x", 1 },
        { "123456789 123456789 123456789 123456789 123456789 123456789 12",
          62 },
        { "123456789 123456789 123456789 123456789 123456789 123456789 123",
          63 },
        { "123456789 123456789 123456789 123456789 123456789 123456789 1234",
          63 },
        { "123456789 123456789 123456789 123456789 123456789 123456789 "
          "123456789 123456789 ", 63 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        IntrospectionHello hello;
        static const uint8_t zeros[64];
        size_t length = names[i].length;

        memset(&hello, 0xff, sizeof(hello));
        introspection_hello_init(&hello, &uuid, 0, names[i].name);
        g_assert_cmpmem(hello.name, length, names[i].name, length);
        g_assert_cmpmem(hello.name + length, 64 - length,
                        zeros, 64 - length);
    }
}

/*
 * Feed an answer whose struct_size is @size, in pieces of at most @piece, as
 * a reader does that takes no more than is missing.  Returns how many bytes
 * were taken, or -1 if it was refused.
 */
static int64_t feed(uint32_t size, uint32_t piece)
{
    g_autofree uint8_t *bytes = g_malloc0(INTROSPECTION_ANSWER_MAX + 8);
    IntrospectionAnswer answer = { };
    uint32_t missing, taken = 0;

    memcpy(bytes, &size, sizeof(size));
    while ((missing = introspection_answer_missing(&answer))) {
        Error *err = NULL;
        uint32_t n = MIN(missing, piece);

        if (!introspection_answer_feed(&answer, bytes + taken, n, &err)) {
            g_assert_nonnull(err);
            error_free(err);
            introspection_answer_clear(&answer);
            return -1;
        }
        g_assert_null(err);
        taken += n;
        g_assert_cmpuint(taken, <=, INTROSPECTION_ANSWER_MAX);
    }
    g_assert_cmpuint(answer.bytes->len, ==, taken);
    g_assert_cmpmem(answer.bytes->data, taken, bytes, taken);
    introspection_answer_clear(&answer);
    return taken;
}

static void test_answer_sizes(void)
{
    static const struct {
        uint32_t size;
        int64_t taken;
    } answers[] = {
        { 0, -1 }, { 1, -1 }, { 3, -1 }, { 4, 4 }, { 5, 5 }, { 23, 23 },
        { 24, 24 }, { 25, 25 }, { 4096, 4096 }, { MiB - 1, MiB - 1 },
        { MiB, MiB }, { MiB + 1, -1 }, { 0x80000000, -1 },
        { 0xffffffff, -1 },
    };
    static const uint32_t pieces[] = { 1, 3, 4, 7, 1000, UINT32_MAX };

    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(pieces); j++) {
            if (answers[i].taken > 4096 && pieces[j] < 1000) {
                continue;
            }
            g_assert_cmpint(feed(answers[i].size, pieces[j]), ==,
                            answers[i].taken);
        }
    }
}

/* The size is refused with its last byte, not before, and not later. */
static void test_answer_refused_at_once(void)
{
    static const uint8_t bytes[4] = { 0xff, 0xff, 0xff, 0xff };
    IntrospectionAnswer answer = { };
    Error *err = NULL;

    for (int i = 0; i < 3; i++) {
        g_assert_cmpuint(introspection_answer_missing(&answer), ==, 4 - i);
        g_assert_true(introspection_answer_feed(&answer, bytes, 1,
                                                &error_abort));
    }
    g_assert_false(introspection_answer_feed(&answer, bytes, 1, &err));
    error_free(err);
    introspection_answer_clear(&answer);
}

/* What the answer is made of doesn't matter, only its size. */
static void test_answer_contents(void)
{
    uint8_t bytes[24];
    uint32_t size = sizeof(bytes);
    IntrospectionAnswer answer = { };

    memset(bytes, 0xa5, sizeof(bytes));
    memcpy(bytes, &size, sizeof(size));
    g_assert_true(introspection_answer_feed(&answer, bytes, 4, &error_abort));
    g_assert_cmpuint(introspection_answer_missing(&answer), ==, 20);
    g_assert_true(introspection_answer_feed(&answer, bytes + 4, 20,
                                            &error_abort));
    g_assert_cmpuint(introspection_answer_missing(&answer), ==, 0);
    introspection_answer_clear(&answer);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/introspection/handshake/hello", test_hello);
    g_test_add_func("/introspection/handshake/hello-names",
                    test_hello_names);
    g_test_add_func("/introspection/handshake/answer-sizes",
                    test_answer_sizes);
    g_test_add_func("/introspection/handshake/answer-refused-at-once",
                    test_answer_refused_at_once);
    g_test_add_func("/introspection/handshake/answer-contents",
                    test_answer_contents);
    return g_test_run();
}
