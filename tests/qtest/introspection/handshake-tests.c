/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: connection and handshake.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "tests.h"

/* Time enough for a handshake, short enough to wait for its end. */
#define HANDSHAKE_TIMEOUT_S 1
#define HANDSHAKE_TIMEOUT "handshake-timeout=1"

static void test_structure(TestVM *vm)
{
    static const uint8_t uuid[] = VM_UUID_BYTES;
    static const uint8_t zeros[HELLO_NAME_SIZE];
    int64_t before = g_get_real_time() / G_USEC_PER_SEC;
    uint8_t hello[HELLO_SIZE];
    int64_t start_time;
    size_t length = strlen(VM_NAME);

    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, hello);
    tool_expect_silence(vm->tool);

    g_assert_cmpuint(ldl_he_p(hello), ==, HELLO_SIZE);
    g_assert_cmpmem(hello + HELLO_UUID_OFFSET, 16, uuid, 16);
    g_assert_cmpuint(ldl_he_p(hello + HELLO_PADDING_OFFSET), ==, 0);
    start_time = ldq_he_p(hello + HELLO_START_TIME_OFFSET);
    g_assert_cmpint(start_time, >=, before);
    g_assert_cmpint(start_time, <=, g_get_real_time() / G_USEC_PER_SEC);
    g_assert_cmpmem(hello + HELLO_NAME_OFFSET, length, VM_NAME, length);
    g_assert_cmpmem(hello + HELLO_NAME_OFFSET + length,
                    HELLO_NAME_SIZE - length,
                    zeros, HELLO_NAME_SIZE - length);
}

static void test_anonymous(TestVM *vm)
{
    static const uint8_t zeros[HELLO_NAME_SIZE];
    uint8_t hello[HELLO_SIZE];

    vm->identity = "";
    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, hello);
    g_assert_cmpmem(hello + HELLO_UUID_OFFSET, 16, zeros, 16);
    g_assert_cmpmem(hello + HELLO_NAME_OFFSET, HELLO_NAME_SIZE,
                    zeros, HELLO_NAME_SIZE);
}

static void test_long_name(TestVM *vm)
{
    g_autofree char *name = g_strnfill(100, 'n');
    g_autofree char *identity = g_strdup_printf("-name guest=%s", name);
    uint8_t hello[HELLO_SIZE];

    vm->identity = identity;
    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, hello);
    g_assert_cmpmem(hello + HELLO_NAME_OFFSET, HELLO_NAME_SIZE - 1,
                    name, HELLO_NAME_SIZE - 1);
    g_assert_cmpuint(hello[HELLO_SIZE - 1], ==, 0);
}

/* A tool's structure of @size bytes, the cookie zeros, then more zeros. */
static GByteArray *answer_of(uint32_t size)
{
    GByteArray *answer = g_byte_array_new();

    g_byte_array_set_size(answer, MAX(size, sizeof(size)));
    memset(answer->data, 0, answer->len);
    stl_he_p(answer->data, size);
    return answer;
}

static void start_and_greet(TestVM *vm, const char *object)
{
    uint8_t hello[HELLO_SIZE];

    vm_start(vm, object, NULL);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, hello);
}

static void expect_hooked(TestVM *vm)
{
    struct kvmi_get_version_reply version;

    tool_get_version(vm->tool, &version);
    g_assert_cmpuint(version.version, ==, KVMI_VERSION);
}

static void expect_accepted(TestVM *vm, uint32_t size)
{
    g_autoptr(GByteArray) answer = answer_of(size);

    start_and_greet(vm, "");
    tool_send_bytes(vm->tool, answer->data, answer->len);
    expect_hooked(vm);
}

static void test_answer(TestVM *vm)
{
    expect_accepted(vm, ANSWER_SIZE);
}

static void test_answer_size_only(TestVM *vm)
{
    expect_accepted(vm, 4);
}

static void test_answer_part_of_cookie(TestVM *vm)
{
    expect_accepted(vm, 10);
}

static void test_answer_longer(TestVM *vm)
{
    expect_accepted(vm, ANSWER_SIZE + 1);
}

static void test_answer_longest(TestVM *vm)
{
    expect_accepted(vm, ANSWER_MAX_SIZE);
}

static void test_answer_cookie_unasked(TestVM *vm)
{
    g_autoptr(GByteArray) answer = answer_of(ANSWER_SIZE);

    start_and_greet(vm, "");
    memset(answer->data + 4, 0x5a, ANSWER_SIZE - 4);
    tool_send_bytes(vm->tool, answer->data, answer->len);
    expect_hooked(vm);
}

static void test_answer_in_pieces(TestVM *vm)
{
    g_autoptr(GByteArray) answer = answer_of(100);

    start_and_greet(vm, "");
    tool_send_bytes_slowly(vm->tool, answer->data, answer->len);
    expect_hooked(vm);
}

static void test_answer_first(TestVM *vm)
{
    g_autoptr(GByteArray) answer = answer_of(ANSWER_SIZE);
    uint8_t hello[HELLO_SIZE];

    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    tool_send_bytes(vm->tool, answer->data, answer->len);
    tool_receive_hello(vm->tool, hello);
    expect_hooked(vm);
}

/* Commands right behind the answer belong to the engine, to the byte. */
static void expect_commands_behind(TestVM *vm, uint32_t size)
{
    g_autoptr(GByteArray) out = answer_of(size);
    struct kvmi_read_physical read = { .gpa = GUEST_ROM_MARK, .size = 8 };
    struct kvmi_get_version_reply version;
    uint8_t data[8];

    start_and_greet(vm, "");
    tool_append(out, KVMI_GET_VERSION, 1, NULL, 0);
    tool_append(out, KVMI_READ_PHYSICAL, 2, &read, sizeof(read));
    tool_append(out, KVMI_GET_VERSION, 3, NULL, 0);
    tool_send_bytes(vm->tool, out->data, out->len);

    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_VERSION, 1,
                                       &version, sizeof(version)), ==, 0);
    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL, 2,
                                       data, sizeof(data)), ==, 0);
    g_assert_cmpmem(data, 8, GUEST_ROM_MARK_TEXT, 8);
    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_VERSION, 3,
                                       &version, sizeof(version)), ==, 0);
}

static void test_commands_behind(TestVM *vm)
{
    expect_commands_behind(vm, ANSWER_SIZE);
}

static void test_commands_behind_longer(TestVM *vm)
{
    expect_commands_behind(vm, 5000);
}

/* A structure that is none: the connection ends, the next one works. */
static void expect_refused(TestVM *vm, const void *bytes, size_t size)
{
    start_and_greet(vm, "");
    tool_send_bytes(vm->tool, bytes, size);
    vm_expect_close_and_rehook(vm);
}

static void expect_size_refused(TestVM *vm, uint32_t size)
{
    uint8_t bytes[4];

    stl_he_p(bytes, size);
    expect_refused(vm, bytes, sizeof(bytes));
}

static void test_answer_of_0(TestVM *vm)
{
    expect_size_refused(vm, 0);
}

static void test_answer_of_3(TestVM *vm)
{
    expect_size_refused(vm, 3);
}

static void test_answer_too_long(TestVM *vm)
{
    expect_size_refused(vm, ANSWER_MAX_SIZE + 1);
}

static void test_answer_negative(TestVM *vm)
{
    expect_size_refused(vm, 0xffffffff);
}

static void test_garbage(TestVM *vm)
{
    static const char garbage[] = "HELO introspection.example\r\n";

    expect_refused(vm, garbage, strlen(garbage));
}

/* Not enough, and no more to come: it ends at handshake-timeout. */
static void expect_timeout(TestVM *vm, size_t size)
{
    g_autoptr(GByteArray) answer = answer_of(ANSWER_SIZE);
    int64_t begin = g_get_monotonic_time();

    start_and_greet(vm, HANDSHAKE_TIMEOUT);
    tool_send_bytes(vm->tool, answer->data, size);
    tool_expect_eof(vm->tool);
    g_assert_cmpint(g_get_monotonic_time() - begin, >=,
                    HANDSHAKE_TIMEOUT_S * G_TIME_SPAN_SECOND * 9 / 10);
    vm_rehook(vm);
}

static void test_timeout_silent(TestVM *vm)
{
    expect_timeout(vm, 0);
}

static void test_timeout_half(TestVM *vm)
{
    expect_timeout(vm, 3);
}

static void test_timeout_all_but_one(TestVM *vm)
{
    expect_timeout(vm, ANSWER_SIZE - 1);
}

/* The limit is on the handshake, not on what comes after it. */
static void test_no_timeout_when_hooked(TestVM *vm)
{
    vm_start_hooked(vm, HANDSHAKE_TIMEOUT, NULL);
    g_assert_false(tool_eof_within(vm->tool, HANDSHAKE_TIMEOUT_S * 1500));
    expect_hooked(vm);
}

static void test_hangup_at_once(TestVM *vm)
{
    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    tool_close(vm->tool);
    vm_rehook(vm);
}

static void test_hangup_in_answer(TestVM *vm)
{
    g_autoptr(GByteArray) answer = answer_of(ANSWER_SIZE);

    start_and_greet(vm, "");
    tool_send_bytes(vm->tool, answer->data, 10);
    tool_close(vm->tool);
    vm_rehook(vm);
}

static void test_reconnect(TestVM *vm)
{
    uint8_t first[HELLO_SIZE], again[HELLO_SIZE];

    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, first);
    tool_answer_hello(vm->tool);
    expect_hooked(vm);
    for (int i = 0; i < 5; i++) {
        tool_close(vm->tool);
        tool_accept(vm->tool);
        tool_receive_hello(vm->tool, again);
        tool_answer_hello(vm->tool);
        expect_hooked(vm);
        g_assert_cmpmem(again, HELLO_SIZE, first, HELLO_SIZE);
    }
}

/* The tool comes long after QEMU has started. */
static void test_tool_comes_later(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,reconnect-ms=20",
                                               vm->socket);

    vm_start_with(vm, chardev, "", NULL);
    if (vm->engine->runs) {
        vm_guest_wait_up(vm, 0);
    }
    vm->tool = tool_listen(vm->socket);
    vm_rehook(vm);
}

static void start_server(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,server=on,wait=off",
                                               vm->socket);

    vm_start_with(vm, chardev, "", NULL);
    vm->tool = tool_new();
    tool_connect(vm->tool, vm->socket);
}

static void test_server(TestVM *vm)
{
    start_server(vm);
    tool_hook(vm->tool);
    expect_hooked(vm);
}

static void test_server_reconnect(TestVM *vm)
{
    start_server(vm);
    for (int i = 0; i < 5; i++) {
        tool_hook(vm->tool);
        tool_close(vm->tool);
        tool_connect(vm->tool, vm->socket);
    }
    tool_hook(vm->tool);
}

static void test_server_after_garbage(TestVM *vm)
{
    uint8_t hello[HELLO_SIZE];

    start_server(vm);
    tool_receive_hello(vm->tool, hello);
    tool_send_bytes(vm->tool, "garbage!", 8);
    tool_expect_eof(vm->tool);
    tool_connect(vm->tool, vm->socket);
    tool_hook(vm->tool);
}

static void test_server_second_refused(TestVM *vm)
{
    Tool *second = tool_new();

    start_server(vm);
    tool_hook(vm->tool);
    tool_connect(second, vm->socket);
    tool_expect_eof(second);
    tool_free(second);

    expect_hooked(vm);
    tool_close(vm->tool);
    tool_connect(vm->tool, vm->socket);
    tool_hook(vm->tool);
}

/* It comes while QEMU has not been told yet that the last one is gone. */
static void test_server_next(TestVM *vm)
{
    start_server(vm);
    for (int i = 0; i < 5; i++) {
        tool_hook(vm->tool);
        expect_hooked(vm);
        vm_block_main_loop(vm);
        tool_close(vm->tool);
        tool_connect(vm->tool, vm->socket);
        vm_unblock_main_loop(vm);
    }
    tool_hook(vm->tool);
}

/* What the last one has sent counts. */
static void test_server_next_after_reply(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    start_server(vm);
    tool_hook(vm->tool);
    vm_guest_wait_up(vm, 0);
    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    vm_block_main_loop(vm);
    tool_continue_with(vm->tool, event, GUEST_PML4_A);
    tool_close(vm->tool);
    tool_connect(vm->tool, vm->socket);
    vm_unblock_main_loop(vm);
    tool_hook(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_A);
}

static const TestCase cases[] = {
    { "handshake/structure", test_structure, .unstarted = true },
    { "handshake/anonymous", test_anonymous, .unstarted = true },
    { "handshake/long-name", test_long_name, .unstarted = true },
    { "handshake/answer", test_answer, .unstarted = true },
    { "handshake/answer-size-only", test_answer_size_only,
      .unstarted = true },
    { "handshake/answer-part-of-cookie", test_answer_part_of_cookie,
      .unstarted = true },
    { "handshake/answer-longer", test_answer_longer, .unstarted = true },
    { "handshake/answer-longest", test_answer_longest, .unstarted = true },
    { "handshake/answer-cookie-unasked", test_answer_cookie_unasked,
      .unstarted = true },
    { "handshake/answer-in-pieces", test_answer_in_pieces,
      .unstarted = true },
    { "handshake/answer-first", test_answer_first, .unstarted = true },
    { "handshake/commands-behind", test_commands_behind,
      .unstarted = true },
    { "handshake/commands-behind-longer", test_commands_behind_longer,
      .unstarted = true },
    { "handshake/answer-of-0", test_answer_of_0, .unstarted = true },
    { "handshake/answer-of-3", test_answer_of_3, .unstarted = true },
    { "handshake/answer-too-long", test_answer_too_long,
      .unstarted = true },
    { "handshake/answer-negative", test_answer_negative,
      .unstarted = true },
    { "handshake/garbage", test_garbage, .unstarted = true },
    { "handshake/timeout-silent", test_timeout_silent, .unstarted = true },
    { "handshake/timeout-half", test_timeout_half, .unstarted = true },
    { "handshake/timeout-all-but-one", test_timeout_all_but_one,
      .unstarted = true },
    { "handshake/no-timeout-when-hooked", test_no_timeout_when_hooked,
      .unstarted = true },
    { "handshake/hangup-at-once", test_hangup_at_once, .unstarted = true },
    { "handshake/hangup-in-answer", test_hangup_in_answer,
      .unstarted = true },
    { "handshake/reconnect", test_reconnect, .unstarted = true },
    { "handshake/tool-comes-later", test_tool_comes_later,
      .unstarted = true },
    { "handshake/server", test_server, .unstarted = true },
    { "handshake/server-reconnect", test_server_reconnect,
      .unstarted = true },
    { "handshake/server-after-garbage", test_server_after_garbage,
      .unstarted = true },
    { "handshake/server-second-refused", test_server_second_refused,
      .unstarted = true },
    { "handshake/server-next", test_server_next, .unstarted = true },
    { "handshake/server-next-after-reply", test_server_next_after_reply,
      NEEDS_RUNNING_GUEST, .unstarted = true },
};

void introspection_add_handshake_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
