/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: introspection-hook, introspection-unhook, and the UNHOOK
 * event.
 */
#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "tests.h"

static void ask(TestVM *vm)
{
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-unhook'}");
}

static void ask_for(TestVM *vm, unsigned seconds)
{
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-unhook',"
                   " 'arguments': {'timeout': %u}}", seconds);
}

/* The answer to a QMP command that was sent before. */
static void expect_outcome(TestVM *vm, const char *outcome)
{
    QDict *response = qtest_qmp_receive(vm->qts);
    QDict *info;

    g_assert_true(qdict_haskey(response, "return"));
    info = qdict_get_qdict(response, "return");
    g_assert_cmpstr(qdict_get_str(info, "outcome"), ==, outcome);
    qobject_unref(response);
}

/* ... is an error that says all of @words, which '|' separates. */
static void expect_error(TestVM *vm, const char *words)
{
    g_auto(GStrv) list = g_strsplit(words, "|", 0);
    QDict *response = qtest_qmp_receive(vm->qts);
    const char *text;

    g_assert_true(qdict_haskey(response, "error"));
    text = qdict_get_str(qdict_get_qdict(response, "error"), "desc");
    for (char **word = list; *word; word++) {
        if (!strstr(text, *word)) {
            g_error("'%s' is missing in: %s", *word, text);
        }
    }
    qobject_unref(response);
}

static void enable_unhook(TestVM *vm)
{
    g_assert_cmpint(tool_control_vm_events(vm->tool, KVMI_EVENT_UNHOOK_FLAG),
                    ==, 0);
}

/* It has no vCPU, and so says nothing of one. */
static ToolEvent *expect_unhook_event(TestVM *vm)
{
    ToolEvent *event = tool_expect_event(vm->tool, 0, KVMI_EVENT_UNHOOK);
    struct kvmi_event none = { .event = KVMI_EVENT_UNHOOK };

    g_assert_cmpmem(&event->common, sizeof(none), &none, sizeof(none));
    return event;
}

/* Nobody comes, for as long as the test watches. */
static void expect_no_connection(TestVM *vm)
{
    g_assert_false(tool_wait_connection(vm->tool, TOOL_WATCH_MS));
    vm_wait_state(vm, "suspended");
}

/* The connection, whatever of the handshake QEMU has sent. */
static void expect_sent_away(TestVM *vm)
{
    g_assert_true(tool_eof_within(vm->tool, TOOL_LIMIT_MS));
    tool_close(vm->tool);
}

static void hook_again(TestVM *vm)
{
    QDict *response;

    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook'}");
    vm_rehook(vm);
    response = qtest_qmp_receive(vm->qts);
    g_assert_true(qdict_haskey(response, "return"));
    qobject_unref(response);
    vm_wait_state(vm, "hooked");
}

/* The tool answers, and closes. */
static void test_let_go(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint8_t byte;

    enable_unhook(vm);
    ask(vm);
    event = expect_unhook_event(vm);
    /* everything works until it closes */
    tool_continue(vm->tool, event);
    g_assert_cmpint(tool_read_physical(vm->tool, GUEST_SCRATCH, 1, &byte),
                    ==, 0);
    tool_close(vm->tool);
    expect_outcome(vm, "let-go");
    expect_no_connection(vm);
    hook_again(vm);
}

/* Closing is an answer, too. */
static void test_let_go_unanswered(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    enable_unhook(vm);
    ask(vm);
    event = expect_unhook_event(vm);
    tool_close(vm->tool);
    expect_outcome(vm, "let-go");
    expect_no_connection(vm);
    hook_again(vm);
}

/* What the tool had placed in the guest it can take away, events and all. */
static void test_clean_up(TestVM *vm)
{
    g_autofree ToolEvent *cr = NULL;
    g_autofree ToolEvent *event = NULL;
    const uint64_t placed = 0x1122334455667788, original = 0;

    g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH,
                                        sizeof(placed), &placed), ==, 0);
    vm_watch_cr(vm, 0, 3);
    enable_unhook(vm);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    cr = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    ask(vm);
    event = expect_unhook_event(vm);
    tool_continue(vm->tool, cr);
    vm_control_events(vm, 0, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH,
                                        sizeof(original), &original), ==, 0);
    tool_continue(vm->tool, event);
    tool_close(vm->tool);
    expect_outcome(vm, "let-go");
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_read(vm, GUEST_SCRATCH, 8), ==, original);
}

static void test_not_enabled(TestVM *vm)
{
    ask(vm);
    expect_error(vm, "kvmi0|KVMI_EVENT_UNHOOK");
    tool_expect_no_event(vm->tool);
    vm_wait_state(vm, "hooked");

    /* switched on, and off again */
    enable_unhook(vm);
    g_assert_cmpint(tool_control_vm_events(vm->tool, 0), ==, 0);
    ask(vm);
    expect_error(vm, "kvmi0|KVMI_EVENT_UNHOOK");
    tool_expect_no_event(vm->tool);
}

/* The tool keeps the VM, and can be asked again. */
static void test_timeout(TestVM *vm)
{
    g_autofree ToolEvent *first = NULL;
    g_autofree ToolEvent *second = NULL;

    enable_unhook(vm);
    ask_for(vm, 1);
    first = expect_unhook_event(vm);
    vm_wait_state_event(vm, "unhooking");
    expect_error(vm, "1 s|force");
    vm_wait_state(vm, "hooked");

    /* not asked twice for one answer */
    ask_for(vm, 0);
    expect_error(vm, "0 s|force");
    tool_expect_no_event(vm->tool);

    tool_continue(vm->tool, first);
    tool_expect_no_event(vm->tool);
    ask(vm);
    second = expect_unhook_event(vm);
    g_assert_cmpuint(first->seq, !=, second->seq);
    tool_close(vm->tool);
    expect_outcome(vm, "let-go");
}

static void test_force(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    enable_unhook(vm);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-unhook',"
                   " 'arguments': {'force': true}}");
    expect_outcome(vm, "forced");
    tool_expect_eof(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    expect_no_connection(vm);
    hook_again(vm);
}

/* By force while somebody else waits for the tool to let go by itself. */
static void test_force_while_asking(TestVM *vm)
{
    g_autofree char *hmp = NULL;
    g_autofree ToolEvent *event = NULL;

    enable_unhook(vm);
    hmp = qtest_hmp(vm->qts, "introspection_unhook");
    event = expect_unhook_event(vm);
    vm_wait_state(vm, "unhooking");
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-unhook',"
                   " 'arguments': {'force': true}}");
    expect_outcome(vm, "forced");
    tool_expect_eof(vm->tool);
}

/* Keep tools away before one has come. */
static void test_nobody_there(TestVM *vm)
{
    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    vm_wait_state(vm, "handshaking");
    ask(vm);
    expect_outcome(vm, "not-hooked");
    expect_sent_away(vm);
    expect_no_connection(vm);
    ask(vm);
    expect_error(vm, "introspection-unhook|introspection-hook");
    hook_again(vm);
}

static void test_unhook_refused(TestVM *vm)
{
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-unhook',"
                   " 'arguments': {'id': 'other'}}");
    expect_error(vm, "'other'|'kvmi0'");
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-unhook',"
                   " 'arguments': {'timeout': 3, 'force': true}}");
    expect_error(vm, "'timeout'|'force'");
    tool_expect_no_event(vm->tool);
}

static void test_no_object(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf(
        "path=%s,server=on,wait=off", vm->socket);

    vm_start_with(vm, chardev, NULL, NULL);
    ask(vm);
    expect_error(vm, "no introspection object");
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook'}");
    expect_error(vm, "no introspection object");
}

static void test_hook_refused(TestVM *vm)
{
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook'}");
    expect_error(vm, "already|kvmi0|hooked");
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook',"
                   " 'arguments': {'id': 'other'}}");
    expect_error(vm, "'other'|'kvmi0'");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'stop'}");
    tool_expect_eof(vm->tool);
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook'}");
    expect_error(vm, "paused");
}

static void test_hook_timeout(TestVM *vm)
{
    vm_start(vm, "", NULL);
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook',"
                   " 'arguments': {'timeout': 1}}");
    tool_accept(vm->tool);
    expect_error(vm, "no tool|1 s");
    /* whoever comes later is welcome */
    tool_hook(vm->tool);
}

static void test_hook_garbage(TestVM *vm)
{
    ask_for(vm, 0);
    expect_error(vm, "KVMI_EVENT_UNHOOK");
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-unhook',"
                   " 'arguments': {'force': true}}");
    expect_outcome(vm, "forced");
    tool_expect_eof(vm->tool);
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook'}");
    tool_accept(vm->tool);
    tool_send_bytes(vm->tool, "garbage!", 8);
    expect_error(vm, "did not hook|handshake structure");
    tool_close(vm->tool);
    vm_rehook(vm);
}

/* What ends the waiting of introspection-hook before a tool has come. */
static void expect_hook_ended(TestVM *vm, const char *command,
                              const char *words)
{
    g_autofree char *path = NULL;
    g_autofree char *more = vm_second_monitor(vm, &path);
    int fd;

    vm_start(vm, "", more);
    fd = vm_monitor_connect(path);
    ask(vm);
    expect_outcome(vm, "not-hooked");
    tool_accept(vm->tool);
    expect_sent_away(vm);
    /* That one may have come as far as to "handshaking". */
    vm_wait_state_event(vm, "suspended");
    qtest_qmp_send(vm->qts, "{'execute': 'introspection-hook',"
                   " 'arguments': {'timeout': 60}}");
    vm_wait_state_event(vm, "handshaking");
    tool_accept(vm->tool);
    vm_monitor_command(fd, command);
    expect_error(vm, words);
    expect_sent_away(vm);
    close(fd);
}

static void test_hook_stop(TestVM *vm)
{
    expect_hook_ended(vm, "{'execute': 'stop'}",
                      "no tool has hooked the VM|about to be stopped");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'cont'}");
    vm_rehook(vm);
}

static void test_hook_object_del(TestVM *vm)
{
    expect_hook_ended(vm, "{'execute': 'object-del',"
                      " 'arguments': {'id': 'kvmi0'}}",
                      "object was removed");
}

/* The object goes while somebody waits. */
static void test_object_del(TestVM *vm)
{
    g_autofree char *path = NULL;
    g_autofree char *more = vm_second_monitor(vm, &path);
    g_autofree ToolEvent *event = NULL;
    int fd;

    vm_start_hooked(vm, "", more);
    enable_unhook(vm);
    fd = vm_monitor_connect(path);
    ask_for(vm, 3600);
    event = expect_unhook_event(vm);
    vm_monitor_command(fd, "{'execute': 'object-del',"
                       " 'arguments': {'id': 'kvmi0'}}");
    expect_outcome(vm, "forced");
    tool_expect_eof(vm->tool);
    close(fd);
}

/* Replies to the event that break the protocol. */

static ToolEvent *asked(TestVM *vm)
{
    enable_unhook(vm);
    ask(vm);
    return expect_unhook_event(vm);
}

static void expect_closed(TestVM *vm)
{
    tool_expect_eof(vm->tool);
    expect_outcome(vm, "let-go");
    hook_again(vm);
}

static void test_wrong_replies(TestVM *vm)
{
    static const struct {
        uint32_t event, action;
        size_t size;
    } wrong[] = {
        { KVMI_EVENT_PAUSE_VCPU, KVMI_EVENT_ACTION_CONTINUE, 8 },
        { KVMI_EVENT_CREATE_VCPU, KVMI_EVENT_ACTION_CONTINUE, 8 },
        { KVMI_EVENT_UNHOOK, KVMI_EVENT_ACTION_RETRY, 8 },
        { KVMI_EVENT_UNHOOK, KVMI_EVENT_ACTION_CRASH + 1, 8 },
        { KVMI_EVENT_UNHOOK, KVMI_EVENT_ACTION_CONTINUE, 16 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree ToolEvent *event = asked(vm);

        tool_reply_raw(vm->tool, event->seq, wrong[i].event, wrong[i].action,
                       wrong[i].size);
        expect_closed(vm);
    }
}

static void test_answered_twice(TestVM *vm)
{
    g_autofree ToolEvent *event = asked(vm);

    tool_continue(vm->tool, event);
    tool_continue(vm->tool, event);
    expect_closed(vm);
}

static void test_unknown_seq(TestVM *vm)
{
    g_autofree ToolEvent *event = asked(vm);

    tool_reply_raw(vm->tool, event->seq + 1, KVMI_EVENT_UNHOOK,
                   KVMI_EVENT_ACTION_CONTINUE, 8);
    expect_closed(vm);
}

static void test_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = asked(vm);

    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    qtest_qmp_eventwait(vm->qts, "GUEST_PANICKED");
    tool_close(vm->tool);
    expect_outcome(vm, "let-go");
}

static void test_hmp(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    g_autofree char *text = qtest_hmp(vm->qts, "introspection_unhook");

    g_assert_nonnull(strstr(text, "KVMI_EVENT_UNHOOK"));
    g_free(text);
    enable_unhook(vm);
    text = qtest_hmp(vm->qts, "introspection_unhook");
    event = expect_unhook_event(vm);
    tool_close(vm->tool);
    expect_no_connection(vm);
    g_free(text);
    text = qtest_hmp(vm->qts, "introspection_hook");
    vm_rehook(vm);
    g_free(text);
    text = qtest_hmp(vm->qts, "introspection_unhook -f");
    tool_expect_eof(vm->tool);
    expect_no_connection(vm);
}

static const TestCase cases[] = {
    { "unhook/let-go", test_let_go },
    { "unhook/let-go-unanswered", test_let_go_unanswered },
    { "unhook/clean-up", test_clean_up, NEEDS_RUNNING_GUEST },
    { "unhook/not-enabled", test_not_enabled },
    { "unhook/timeout", test_timeout },
    { "unhook/force", test_force, NEEDS_RUNNING_GUEST },
    { "unhook/force-while-asking", test_force_while_asking },
    { "unhook/nobody-there", test_nobody_there, .unstarted = true },
    { "unhook/refused", test_unhook_refused },
    { "unhook/no-object", test_no_object, .unstarted = true },
    { "unhook/object-del", test_object_del, .unstarted = true },
    { "unhook/wrong-replies", test_wrong_replies },
    { "unhook/answered-twice", test_answered_twice },
    { "unhook/unknown-seq", test_unknown_seq },
    { "unhook/crash", test_crash, .more = "-action panic=none" },
    { "unhook/hmp", test_hmp },
    { "hook/refused", test_hook_refused },
    { "hook/timeout", test_hook_timeout, .unstarted = true },
    { "hook/garbage", test_hook_garbage },
    { "hook/stop", test_hook_stop, .unstarted = true },
    { "hook/object-del", test_hook_object_del, .unstarted = true },
};

void introspection_add_unhook_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
