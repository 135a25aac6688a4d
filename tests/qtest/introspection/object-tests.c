/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: the object, its states, and what the manager sees.
 */
#include "qemu/osdep.h"
#include <sys/klog.h>
#include <sys/wait.h>
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "tests.h"

/* What starting QEMU wrongly says. */

/* Each of @words, separated by '|', is in @text. */
static void expect_words(const char *text, const char *words)
{
    g_auto(GStrv) list = g_strsplit(words, "|", 0);

    for (char **word = list; *word; word++) {
        if (!strstr(text, *word)) {
            g_error("'%s' is missing in: %s", *word, text);
        }
    }
}

/*
 * QEMU started with these chardevs and objects ends with status 1 and an
 * error that has all of @words in it.
 */
static void expect_start_refused(TestVM *vm, const char *args,
                                 const char *words)
{
    g_autofree char *command = g_strdup_printf(
        "%s -M pc -nodefaults -display none -accel %s %s",
        g_getenv("QTEST_QEMU_BINARY"), vm->engine->accel, args);
    g_autofree char *output = NULL;
    g_autoptr(GError) err = NULL;
    int status;

    g_test_message("%s", command);
    g_spawn_command_line_sync(command, NULL, &output, &status, &err);
    g_assert_no_error(err);
    g_test_message("%s", output);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    expect_words(output, words);
}

static void test_refuse_no_chardev_property(TestVM *vm)
{
    expect_start_refused(vm, "-object introspection,id=kvmi0", "chardev");
}

static void test_refuse_unknown_chardev(TestVM *vm)
{
    expect_start_refused(vm, "-object introspection,id=kvmi0,chardev=absent",
                         "absent|chardev");
}

static void test_refuse_chardev_kind(TestVM *vm)
{
    expect_start_refused(vm, "-chardev null,id=vmi "
                         "-object introspection,id=kvmi0,chardev=vmi",
                         "vmi|socket");
    expect_start_refused(vm, "-chardev ringbuf,id=vmi "
                         "-object introspection,id=kvmi0,chardev=vmi",
                         "vmi|socket");
}

static void test_refuse_not_plain(TestVM *vm)
{
    g_autofree char *args = g_strdup_printf(
        "-chardev socket,id=vmi,path=%s,server=on,wait=off,telnet=on "
        "-object introspection,id=kvmi0,chardev=vmi", vm->socket);

    expect_start_refused(vm, args, "vmi|telnet");
}

static void test_refuse_client_no_reconnect(TestVM *vm)
{
    Tool *tool = tool_listen(vm->socket);
    g_autofree char *args = g_strdup_printf(
        "-chardev socket,id=vmi,path=%s "
        "-object introspection,id=kvmi0,chardev=vmi", vm->socket);

    expect_start_refused(vm, args, "vmi|reconnect");
    tool_free(tool);
}

static void test_refuse_chardev_in_use(TestVM *vm)
{
    g_autofree char *args = g_strdup_printf(
        "-chardev socket,id=vmi,path=%s,server=on,wait=off "
        "-object rng-egd,id=rng0,chardev=vmi "
        "-object introspection,id=kvmi0,chardev=vmi", vm->socket);

    expect_start_refused(vm, args, "vmi");
}

static void test_refuse_second_object(TestVM *vm)
{
    g_autofree char *args = g_strdup_printf(
        "-chardev socket,id=vmi,path=%s,server=on,wait=off "
        "-chardev socket,id=vmi2,path=%s2,server=on,wait=off "
        "-object introspection,id=kvmi0,chardev=vmi "
        "-object introspection,id=kvmi1,chardev=vmi2",
        vm->socket, vm->socket);
    g_autofree char *second = g_strdup_printf("%s2", vm->socket);

    expect_start_refused(vm, args, "introspection");
    unlink(second);
}

static void expect_property_refused(TestVM *vm, const char *property,
                                    const char *words)
{
    g_autofree char *args = g_strdup_printf(
        "-chardev socket,id=vmi,path=%s,reconnect-ms=100 "
        "-object introspection,id=kvmi0,chardev=vmi,%s",
        vm->socket, property);

    expect_start_refused(vm, args, words);
}

static void test_refuse_unknown_command(TestVM *vm)
{
    expect_property_refused(vm, "commands.0=get-registers,"
                            "commands.1=get-coffee", "get-coffee");
    expect_property_refused(vm, "commands.0=6", "6");
}

static void test_refuse_unknown_event(TestVM *vm)
{
    expect_property_refused(vm, "events.0=cr,events.1=sunset", "sunset");
}

static void test_refuse_bad_timeout(TestVM *vm)
{
    expect_property_refused(vm, "handshake-timeout=soon",
                            "handshake-timeout");
    expect_property_refused(vm, "handshake-timeout=0",
                            "handshake-timeout");
    expect_property_refused(vm, "handshake-timeout=-1",
                            "handshake-timeout");
    expect_property_refused(vm, "unhook-timeout=soon", "unhook-timeout");
}

static void test_refuse_unknown_property(TestVM *vm)
{
    expect_property_refused(vm, "colour=red", "colour");
}

/* By QMP as well, with the VM running on. */
static void test_refuse_second_by_qmp(TestVM *vm)
{
    g_autofree char *path = g_strdup_printf("%s2", vm->socket);
    QDict *error;

    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'chardev-add', 'arguments': {'id': 'vmi2',"
        " 'backend': {'type': 'socket', 'data': {'server': true,"
        " 'wait': false, 'addr': {'type': 'unix',"
        " 'data': {'path': %s}}}}}}", path);
    error = qtest_qmp_assert_failure_ref(
        vm->qts, "{'execute': 'object-add', 'arguments': {'id': 'kvmi1',"
        " 'qom-type': 'introspection', 'chardev': 'vmi2'}}");
    qobject_unref(error);
    tool_expect_no_event(vm->tool);
}

/* query-introspection */

static void test_query_no_object(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf(
        "path=%s,server=on,wait=off", vm->socket);
    QDict *error;

    vm_start_with(vm, chardev, NULL, NULL);
    error = qtest_qmp_assert_failure_ref(
        vm->qts, "{'execute': 'query-introspection'}");
    g_assert_cmpstr(qdict_get_str(error, "class"), ==, "GenericError");
    qobject_unref(error);
}

static void expect_names(QDict *info, const char *member,
                         const char *expected)
{
    QList *list = qdict_get_qlist(info, member);
    g_autoptr(GString) names = g_string_new(NULL);
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(list, entry) {
        g_string_append_printf(names, "%s%s", names->len ? " " : "",
            qstring_get_str(qobject_to(QString, qlist_entry_obj(entry))));
    }
    g_assert_cmpstr(names->str, ==, expected);
}

static const char engine_commands[] =
    "get-version get-guest-info get-registers set-registers get-page-access "
    "set-page-access inject-exception read-physical write-physical "
    "control-events control-cr control-msr event event-reply get-cpuid "
    "get-xsave pause-all-vcpus control-vm-events";

static const char engine_events[] =
    "unhook "
    "cr "
    "msr "
    "xsetbv "
    "breakpoint "
    "hypercall "
    "pf "
    "trap "
    "descriptor "
    "create-vcpu "
    "pause-vcpu";

/* What the kernel implements of these QEMU cannot know. */
static const char all_commands[] =
    "get-version get-guest-info get-registers set-registers get-page-access "
    "set-page-access inject-exception read-physical write-physical "
    "get-map-token control-events control-cr control-msr event event-reply "
    "get-cpuid get-xsave pause-all-vcpus control-vm-events";

static const char all_events[] =
    "unhook cr msr xsetbv breakpoint hypercall pf trap descriptor create-vcpu "
    "pause-vcpu";

static void test_query_hooked(TestVM *vm)
{
    int64_t now = g_get_real_time() / G_USEC_PER_SEC;
    QDict *info = vm_query_introspection(vm);
    int64_t since = qdict_get_int(info, "since");

    g_assert_cmpstr(qdict_get_str(info, "id"), ==, "kvmi0");
    g_assert_cmpstr(qdict_get_str(info, "chardev"), ==, "vmi");
    g_assert_cmpstr(qdict_get_str(info, "engine"), ==,
                    vm->engine->in_kernel ? "kvm" : "qemu");
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "hooked");
    g_assert_nonnull(strstr(qdict_get_str(info, "peer"), vm->socket));
    g_assert_false(qdict_get_bool(info, "guest-held"));
    g_assert_cmpint(since, <=, now);
    g_assert_cmpint(since, >=, now - TOOL_LIMIT_MS / 1000);
    if (vm->engine->in_kernel) {
        expect_names(info, "commands", all_commands);
        expect_names(info, "events", all_events);
        g_assert_false(qdict_haskey(info, "stats"));
        g_assert_false(qdict_haskey(info, "waiting-vcpus"));
    } else {
        expect_names(info, "commands", engine_commands);
        expect_names(info, "events", engine_events);
        g_assert_true(qlist_empty(qdict_get_qlist(info, "waiting-vcpus")));
    }
    qobject_unref(info);
}

static void test_query_disconnected(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,reconnect-ms=20",
                                               vm->socket);
    QDict *info;

    vm_start_with(vm, chardev, "", NULL);
    info = vm_query_introspection(vm);
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "disconnected");
    g_assert_false(qdict_haskey(info, "peer"));
    qobject_unref(info);

    vm->tool = tool_listen(vm->socket);
    tool_accept(vm->tool);
    vm_wait_state(vm, "handshaking");
    tool_hook(vm->tool);
    vm_wait_state(vm, "hooked");
    tool_free(vm->tool);
    vm->tool = NULL;
    unlink(vm->socket);
    vm_wait_state(vm, "disconnected");
}

static void test_query_allowed(TestVM *vm)
{
    QDict *info = vm_query_introspection(vm);

    expect_names(info, "commands",
                 "get-version get-registers read-physical event event-reply");
    expect_names(info, "events", "msr");
    qobject_unref(info);
}

static int64_t stat_of(TestVM *vm, const char *name)
{
    QDict *info = vm_query_introspection(vm);
    int64_t value = qdict_get_int(qdict_get_qdict(info, "stats"), name);

    qobject_unref(info);
    return value;
}

static void test_query_stats(TestVM *vm)
{
    int64_t commands = stat_of(vm, "commands");
    int64_t events = stat_of(vm, "events");
    int64_t replies = stat_of(vm, "replies");
    struct kvmi_get_version_reply version;

    for (int i = 0; i < 10; i++) {
        tool_get_version(vm->tool, &version);
    }
    g_assert_cmpint(stat_of(vm, "commands"), ==, commands + 10);
    tool_pause_all(vm->tool);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);

        g_assert_cmpint(stat_of(vm, "replies"), ==, replies + i);
        tool_continue(vm->tool, event);
        tool_get_version(vm->tool, &version);
    }
    g_assert_cmpint(stat_of(vm, "events"), ==, events + VM_VCPUS);
    g_assert_cmpint(stat_of(vm, "replies"), ==, replies + VM_VCPUS);
    g_assert_cmpint(stat_of(vm, "commands"), ==, commands + 11 + VM_VCPUS);
}

static void test_hmp(TestVM *vm)
{
    g_autofree char *text = qtest_hmp(vm->qts, "info introspection");

    expect_words(text, "kvmi0|vmi|hooked|get-registers|msr");
}

/* INTROSPECTION_STATE_CHANGE */

/* @has_reason: the state alone doesn't tell why */
static void expect_state_event(TestVM *vm, const char *state,
                               bool has_reason)
{
    QDict *event = qtest_qmp_eventwait_ref(vm->qts,
                                           "INTROSPECTION_STATE_CHANGE");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "kvmi0");
    g_assert_cmpstr(qdict_get_str(data, "state"), ==, state);
    g_assert_cmpint(qdict_haskey(data, "reason"), ==, has_reason);
    qobject_unref(event);
}

static void test_state_events(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,reconnect-ms=20",
                                               vm->socket);

    vm_start_with(vm, chardev, "", NULL);
    vm->tool = tool_listen(vm->socket);
    for (int i = 0; i < 3; i++) {
        tool_accept(vm->tool);
        expect_state_event(vm, "handshaking", false);
        tool_hook(vm->tool);
        expect_state_event(vm, "hooked", false);
        tool_close(vm->tool);
        expect_state_event(vm, "disconnected", true);
    }
}

static void test_state_events_garbage(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,reconnect-ms=20",
                                               vm->socket);

    vm_start_with(vm, chardev, "", NULL);
    vm->tool = tool_listen(vm->socket);
    tool_accept(vm->tool);
    expect_state_event(vm, "handshaking", false);
    tool_send_bytes(vm->tool, "garbage!", 8);
    expect_state_event(vm, "disconnected", true);
}

/* What the user reads. */

static unsigned count_lines(const char *text, const char *word)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    unsigned n = 0;

    for (char **line = lines; *line; line++) {
        n += strstr(*line, word) != NULL;
    }
    return n;
}

/* A tool that isn't there is missed once, however often QEMU tries. */
static void test_said_once_absent(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,reconnect-ms=10",
                                               vm->socket);
    g_autofree char *more = g_strdup_printf("2>%s", vm->log);
    g_autofree char *log = NULL;

    vm_start_with(vm, chardev, "", more);
    VM_WAIT_UNTIL(({
        g_autofree char *now = vm_read_log(vm);
        count_lines(now, "'kvmi0': nothing answers") > 0;
    }));
    g_usleep(5 * TOOL_WATCH_MS * 1000);
    log = vm_read_log(vm);
    g_test_message("%s", log);
    /* by the chardev, and by the object, which says what to do */
    g_assert_cmpuint(count_lines(log, "Failed to connect"), ==, 1);
    g_assert_cmpuint(count_lines(log, "'kvmi0': nothing answers"),
                     ==, 1);
    g_assert_cmpuint(count_lines(log, vm->socket), ==, 2);
}

/* A peer that is no tool, too. */
static void test_said_once_garbage(TestVM *vm)
{
    g_autofree char *more = g_strdup_printf("2>%s", vm->log);
    g_autofree char *log = NULL;
    g_autofree char *first = NULL;

    vm_start(vm, "", more);
    for (int i = 0; i < 10; i++) {
        uint8_t hello[HELLO_SIZE];

        tool_accept(vm->tool);
        tool_receive_hello(vm->tool, hello);
        tool_send_bytes(vm->tool, "garbage!", 8);
        tool_expect_eof(vm->tool);
        if (i == 1) {
            first = vm_read_log(vm);
        }
    }
    log = vm_read_log(vm);
    g_test_message("%s", log);
    g_assert_cmpuint(count_lines(log, vm->socket), ==, 1);
    g_assert_cmpstr(log, ==, first);
}

/* Where the engine reports what a tool does wrong. */
static char *read_engine_log(TestVM *vm)
{
    g_autofree char *log = NULL;
    int size;

    if (!vm->engine->in_kernel) {
        return vm_read_log(vm);
    }
    size = klogctl(10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0);
    g_assert_cmpint(size, >, 0);
    log = g_malloc0(size + 1);
    g_assert_cmpint(klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, size), >, 0);
    return g_steal_pointer(&log);
}

/* A message that closes the connection is reported once. */
static void test_said_once_mistake(TestVM *vm)
{
    g_autofree char *more = g_strdup_printf("2>%s", vm->log);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    struct kvmi_msg_hdr wrong = { .id = 1, .size = 0xffff };

    vm_start_hooked(vm, "", more);
    before = read_engine_log(vm);
    tool_send_bytes(vm->tool, &wrong, sizeof(wrong));
    vm_expect_close_and_rehook(vm);
    after = read_engine_log(vm);
    g_test_message("%s", after);
    g_assert_true(g_str_has_prefix(after, before));
    g_assert_cmpuint(count_lines(after + strlen(before), ":"), ==, 1);
}

/* wait=on */

static void test_wait_on(TestVM *vm)
{
    QDict *response, *status;

    vm_start(vm, "wait=on", NULL);
    /* the monitor answers, and the guest has done nothing */
    response = qtest_qmp(vm->qts, "{'execute': 'query-status'}");
    status = qdict_get_qdict(response, "return");
    g_test_message("status %s", qdict_get_str(status, "status"));
    qobject_unref(response);
    tool_accept(vm->tool);
    vm_wait_state(vm, "handshaking");
    g_usleep(2 * TOOL_WATCH_MS * 1000);
    g_assert_false(vm_guest_is_up(vm, 0));

    tool_hook(vm->tool);
    vm_guest_wait_up(vm, 0);
    /* it was held once; the next tool comes while it runs */
    tool_close(vm->tool);
    vm_guest_wait_counting(vm, 0);
    vm_rehook(vm);
}

/* The same where QEMU listens. */
static void test_wait_on_server(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,server=on,wait=off",
                                               vm->socket);
    QDict *info;

    vm_start_with(vm, chardev, "wait=on", NULL);
    info = vm_query_introspection(vm);
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "disconnected");
    g_assert_true(qdict_get_bool(info, "guest-held"));
    qobject_unref(info);
    g_usleep(2 * TOOL_WATCH_MS * 1000);
    g_assert_false(vm_guest_is_up(vm, 0));

    vm->tool = tool_new();
    tool_connect(vm->tool, vm->socket);
    tool_hook(vm->tool);
    vm_guest_wait_up(vm, 0);
    info = vm_query_introspection(vm);
    g_assert_false(qdict_get_bool(info, "guest-held"));
    qobject_unref(info);
}

/* A peer that is no tool doesn't let the guest go. */
static void test_wait_on_garbage(TestVM *vm)
{
    vm_start(vm, "wait=on", NULL);
    tool_accept(vm->tool);
    tool_send_bytes(vm->tool, "garbage!", 8);
    vm_wait_state(vm, "disconnected");
    tool_close(vm->tool);
    g_usleep(2 * TOOL_WATCH_MS * 1000);
    g_assert_false(vm_guest_is_up(vm, 0));
    vm_rehook(vm);
    vm_guest_wait_up(vm, 0);
}

/* Without the object the guest has nobody to wait for. */
static void test_wait_on_object_del(TestVM *vm)
{
    vm_start(vm, "wait=on", NULL);
    g_assert_false(vm_guest_is_up(vm, 0));
    qtest_qmp_assert_success(vm->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': 'kvmi0'}}");
    vm_guest_wait_up(vm, 0);
}

/* A guest that runs already isn't held. */
static void test_wait_on_late(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,server=on,wait=off",
                                               vm->socket);
    QDict *info;

    vm_start_with(vm, chardev, NULL, NULL);
    vm_guest_wait_up(vm, 0);
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'object-add', 'arguments': {'id': 'kvmi0',"
        " 'qom-type': 'introspection', 'chardev': 'vmi', 'wait': true}}");
    vm_guest_wait_counting(vm, 0);
    info = vm_query_introspection(vm);
    g_assert_false(qdict_get_bool(info, "guest-held"));
    qobject_unref(info);
    vm->tool = tool_new();
    tool_connect(vm->tool, vm->socket);
    tool_hook(vm->tool);
}

/* The object goes while a vCPU waits: as when the tool goes. */
static void test_object_del(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    QDict *error;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': 'kvmi0'}}");
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    tool_expect_eof(vm->tool);
    error = qtest_qmp_assert_failure_ref(
        vm->qts, "{'execute': 'query-introspection'}");
    qobject_unref(error);

    /* another one can be made */
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'object-add', 'arguments': {'id': 'kvmi1',"
        " 'qom-type': 'introspection', 'chardev': 'vmi'}}");
    vm_rehook(vm);
}

static void test_wait_off(TestVM *vm)
{
    vm_start(vm, "wait=off", NULL);
    vm_guest_wait_up(vm, 0);
}

/* A tool that doesn't answer for a while. */

static int64_t waiting_ms(TestVM *vm)
{
    QDict *info = vm_query_introspection(vm);
    QList *list = qdict_get_qlist(info, "waiting-vcpus");
    QDict *waiting;
    int64_t ms;

    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "hooked");
    g_assert_cmpuint(qlist_size(list), ==, 1);
    waiting = qobject_to(QDict, qlist_peek(list));
    g_assert_cmpint(qdict_get_int(waiting, "vcpu"), ==, 0);
    g_assert_cmpstr(qdict_get_str(waiting, "event"), ==, "cr");
    ms = qdict_get_int(waiting, "waiting-ms");
    qobject_unref(info);
    return ms;
}

static void test_frozen_tool(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    int64_t first = 0;

    vm_guest_start_vcpu(vm, 1);
    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);

    if (!vm->engine->in_kernel) {
        first = waiting_ms(vm);
        g_assert_cmpint(first, <, TOOL_LIMIT_MS);
    }
    for (int i = 0; i < 100; i++) {
        vm_guest_wait_counting(vm, 1);
        vm_wait_state(vm, "hooked");
        g_usleep(10000);
    }
    if (!vm->engine->in_kernel) {
        g_assert_cmpint(waiting_ms(vm), >=, first + 900);
    }

    g_assert_false(vm_guest_is_done(vm, 0));
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    vm_expect_waiting_vcpus(vm, 0);
}

/* The monitor's ordinary work goes on while a vCPU waits. */
static void test_monitor_while_waiting(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    g_autofree char *registers = NULL;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    /* these run something on the vCPU's thread */
    registers = qtest_hmp(vm->qts, "info registers");
    expect_words(registers, "CR3=0000000000010000");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'query-cpus-fast'}");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'inject-nmi'}");
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    /* the NMI is there too, and the write was reported once */
    VM_WAIT_UNTIL(vm_guest_get(vm, 0, interrupts) == 1);
    tool_expect_no_event(vm->tool);
}

/* stop and cont while a vCPU waits: neither hangs, and nothing is lost. */
static void test_stop_while_waiting(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'stop'}");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'cont'}");
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
}

/* Reset ends the connection; the next hello says when the guest began. */
static void test_reset(TestVM *vm)
{
    uint8_t before[HELLO_SIZE], after[HELLO_SIZE];
    int64_t start_time;

    vm_start(vm, "", "-action reboot=reset");
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, before);
    tool_answer_hello(vm->tool);
    tool_expect_no_event(vm->tool);
    start_time = ldq_he_p(before + HELLO_START_TIME_OFFSET);
    VM_WAIT_UNTIL(g_get_real_time() / G_USEC_PER_SEC > start_time);

    qtest_system_reset(vm->qts);
    tool_expect_eof(vm->tool);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, after);
    tool_answer_hello(vm->tool);
    tool_expect_no_event(vm->tool);
    g_assert_cmpint(ldq_he_p(after + HELLO_START_TIME_OFFSET), >, start_time);
    g_assert_cmpmem(before, HELLO_START_TIME_OFFSET,
                    after, HELLO_START_TIME_OFFSET);
}

/* A handshake that a reset overtakes is of no use: its time is wrong. */
static void test_reset_handshaking(TestVM *vm)
{
    uint8_t before[HELLO_SIZE], after[HELLO_SIZE];
    int64_t start_time;

    vm_start(vm, "", "-action reboot=reset");
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, before);
    start_time = ldq_he_p(before + HELLO_START_TIME_OFFSET);
    VM_WAIT_UNTIL(g_get_real_time() / G_USEC_PER_SEC > start_time);

    qtest_system_reset(vm->qts);
    tool_expect_eof(vm->tool);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, after);
    g_assert_cmpint(ldq_he_p(after + HELLO_START_TIME_OFFSET), >, start_time);
    tool_answer_hello(vm->tool);
    tool_expect_no_event(vm->tool);
}

/* Reset while a vCPU waits: the guest starts again. */
static void test_reset_while_waiting(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'stop'}");
    qtest_writel(vm->qts, VM_MAILBOX(0, magic), 0);
    qtest_writeq(vm->qts, VM_MAILBOX(0, done), vm->request[0]);
    tool_close(vm->tool);
    qtest_system_reset(vm->qts);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'cont'}");
    vm_guest_wait_up(vm, 0);
}

static const TestCase cases[] = {
    { "object/refuse-no-chardev", test_refuse_no_chardev_property,
      .unstarted = true },
    { "object/refuse-unknown-chardev", test_refuse_unknown_chardev,
      .unstarted = true },
    { "object/refuse-chardev-kind", test_refuse_chardev_kind,
      .unstarted = true },
    { "object/refuse-not-plain", test_refuse_not_plain, .unstarted = true },
    { "object/refuse-client-no-reconnect", test_refuse_client_no_reconnect,
      .unstarted = true },
    { "object/refuse-chardev-in-use", test_refuse_chardev_in_use,
      .unstarted = true },
    { "object/refuse-second-object", test_refuse_second_object,
      .unstarted = true },
    { "object/refuse-unknown-command", test_refuse_unknown_command,
      .unstarted = true },
    { "object/refuse-unknown-event", test_refuse_unknown_event,
      .unstarted = true },
    { "object/refuse-bad-timeout", test_refuse_bad_timeout,
      .unstarted = true },
    { "object/refuse-unknown-property", test_refuse_unknown_property,
      .unstarted = true },
    { "object/refuse-second-by-qmp", test_refuse_second_by_qmp },
    { "object/query-no-object", test_query_no_object, .unstarted = true },
    { "object/query-hooked", test_query_hooked },
    { "object/query-disconnected", test_query_disconnected,
      .unstarted = true },
    { "object/query-allowed", test_query_allowed,
      .object = "commands.0=get-registers,commands.1=read-physical,"
                "events.0=msr" },
    { "object/query-stats", test_query_stats, NEEDS_COUNTS },
    { "object/info-introspection", test_hmp },
    { "object/state-events", test_state_events, .unstarted = true },
    { "object/state-events-garbage", test_state_events_garbage,
      .unstarted = true },
    { "object/said-once-absent", test_said_once_absent, .unstarted = true },
    { "object/said-once-garbage", test_said_once_garbage,
      .unstarted = true },
    { "object/said-once-mistake", test_said_once_mistake,
      .unstarted = true },
    { "object/wait-on", test_wait_on, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "object/wait-on-server", test_wait_on_server, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "object/wait-on-garbage", test_wait_on_garbage, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "object/wait-on-object-del", test_wait_on_object_del,
      NEEDS_RUNNING_GUEST, .unstarted = true },
    { "object/wait-on-late", test_wait_on_late, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "object/object-del", test_object_del, NEEDS_RUNNING_GUEST },
    { "object/wait-off", test_wait_off, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "object/frozen-tool", test_frozen_tool, NEEDS_RUNNING_GUEST },
    { "object/monitor-while-waiting", test_monitor_while_waiting,
      NEEDS_RUNNING_GUEST },
    { "object/stop-while-waiting", test_stop_while_waiting,
      NEEDS_RUNNING_GUEST },
    { "object/reset", test_reset, .unstarted = true },
    { "object/reset-handshaking", test_reset_handshaking,
      .unstarted = true },
    { "object/reset-while-waiting", test_reset_while_waiting,
      NEEDS_RUNNING_GUEST, .more = "-action reboot=reset" },
};

void introspection_add_object_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
