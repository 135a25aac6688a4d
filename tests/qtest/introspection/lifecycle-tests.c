/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: what the life of the VM means for the tool.
 *
 * The cooperating tool of these tests has put a mark into guest memory, and
 * takes it away when it is asked to let go.  Memory that is saved or migrated
 * must never have the mark.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/sockets.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "tests/qtest/libqmp.h"
#include "tests.h"

/* So often the monitor has to answer while the tool is waited for. */
#define ANSWERS             50

static const char mark[] = "placed here by the introspection tool";
static const char unmarked[] = "what the guest has there by itself...";

QEMU_BUILD_BUG_ON(sizeof(mark) != sizeof(unmarked));

/* The tool. */

static void write_guest(TestVM *vm, const char *text)
{
    g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH, sizeof(mark),
                                        text), ==, 0);
}

static bool guest_has(TestVM *vm, const char *text)
{
    char now[sizeof(mark)];

    qtest_memread(vm->qts, GUEST_SCRATCH, now, sizeof(now));
    return memcmp(now, text, sizeof(now)) == 0;
}

/* The guest's memory is in the file, without the mark. */
static void expect_saved_unmarked(const char *path)
{
    g_autofree char *saved = NULL;
    gsize size;

    g_assert_true(g_file_get_contents(path, &saved, &size, NULL));
    g_assert_nonnull(memmem(saved, size, unmarked, sizeof(unmarked)));
    g_assert_null(memmem(saved, size, mark, sizeof(mark)));
}

/* From now on it wants to be asked. */
static void place_mark(TestVM *vm)
{
    g_assert_cmpint(tool_control_vm_events(vm->tool, KVMI_EVENT_UNHOOK_FLAG),
                    ==, 0);
    write_guest(vm, mark);
}

static ToolEvent *expect_asked(TestVM *vm)
{
    return tool_expect_event(vm->tool, 0, KVMI_EVENT_UNHOOK);
}

static void let_go(TestVM *vm)
{
    g_autofree ToolEvent *event = expect_asked(vm);

    write_guest(vm, unmarked);
    tool_continue(vm->tool, event);
    tool_close(vm->tool);
}

static void expect_away(TestVM *vm)
{
    vm_wait_state(vm, "suspended");
    g_assert_false(tool_wait_connection(vm->tool, TOOL_WATCH_MS));
}

static void expect_back(TestVM *vm)
{
    vm_rehook(vm);
    vm_wait_state(vm, "hooked");
}

/* The same where the chardev may have begun to connect too early. */
static void hook_sometime(TestVM *vm)
{
    char byte;

    for (;;) {
        tool_accept(vm->tool);
        if (RETRY_ON_EINTR(recv(tool_fd(vm->tool), &byte, 1, MSG_PEEK)) == 1) {
            break;
        }
        tool_close(vm->tool);
    }
    tool_hook(vm->tool);
    vm_wait_state(vm, "hooked");
}

/* The manager. */

static void expect_success(TestVM *vm)
{
    QDict *response = qtest_qmp_receive(vm->qts);

    g_assert_true(qdict_haskey(response, "return"));
    qobject_unref(response);
}

static void expect_run_state(TestVM *vm, const char *state)
{
    QDict *status = qtest_qmp_assert_success_ref(
        vm->qts, "{'execute': 'query-status'}");

    g_assert_cmpstr(qdict_get_str(status, "status"), ==, state);
    qobject_unref(status);
}

static bool run_state_is(TestVM *vm, const char *state)
{
    QDict *status = qtest_qmp_assert_success_ref(
        vm->qts, "{'execute': 'query-status'}");
    bool match = g_str_equal(qdict_get_str(status, "status"), state);

    qobject_unref(status);
    return match;
}

/* An interactive human monitor */
static char *human_monitor(TestVM *vm, char **path)
{
    *path = g_strdup_printf("%s.hmp", vm->socket);
    return g_strdup_printf("-chardev socket,id=mon2,path=%s,server=on,wait=off "
                           "-mon chardev=mon2,mode=readline", *path);
}

static void stop(TestVM *vm)
{
    qtest_qmp_send(vm->qts, "{'execute': 'stop'}");
}

static void cont(TestVM *vm)
{
    qtest_qmp_assert_success(vm->qts, "{'execute': 'cont'}");
}

/* stop and cont */

static void test_stop(TestVM *vm)
{
    place_mark(vm);
    stop(vm);
    let_go(vm);
    expect_success(vm);
    expect_run_state(vm, "paused");
    g_assert_true(guest_has(vm, unmarked));
    expect_away(vm);
    cont(vm);
    expect_back(vm);
}

/* The vCPUs run as long as the tool needs them. */
static void test_stop_waits(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    place_mark(vm);
    stop(vm);
    event = expect_asked(vm);
    tool_continue(vm->tool, event);
    vm_guest_wait_counting(vm, 0);
    g_assert_cmpint(tool_pause_all(vm->tool), ==, VM_VCPUS);
    tool_close(vm->tool);
    expect_success(vm);
    g_assert_true(vm_guest_stands_still(vm, 0));
}

/* A tool that cannot be asked is cut off at once. */
static void test_stop_not_enabled(TestVM *vm)
{
    stop(vm);
    tool_expect_eof(vm->tool);
    expect_success(vm);
    expect_run_state(vm, "paused");
    expect_away(vm);
    cont(vm);
    expect_back(vm);
}

static void expect_reason(TestVM *vm, const char *state, const char *word)
{
    for (;;) {
        QDict *event = qtest_qmp_eventwait_ref(vm->qts,
                                               "INTROSPECTION_STATE_CHANGE");
        QDict *data = qdict_get_qdict(event, "data");
        bool match = g_str_equal(qdict_get_str(data, "state"), state);

        if (match) {
            g_assert_nonnull(strstr(qdict_get_str(data, "reason"), word));
        }
        qobject_unref(event);
        if (match) {
            return;
        }
    }
}

/* One that does not let go is cut off after the unhook-timeout. */
static void test_stop_timeout(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    place_mark(vm);
    stop(vm);
    event = expect_asked(vm);
    expect_reason(vm, "unhooking", "about to be stopped");
    tool_expect_eof(vm->tool);
    expect_reason(vm, "suspended", "unhook-timeout");
    expect_success(vm);
    expect_run_state(vm, "paused");
    expect_away(vm);
}

/* With a vCPU waiting for it, too. */
static void test_stop_timeout_waiting(TestVM *vm)
{
    g_autofree ToolEvent *cr = NULL;
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    place_mark(vm);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    cr = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    stop(vm);
    event = expect_asked(vm);
    tool_expect_eof(vm->tool);
    expect_success(vm);
    cont(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
}

/* Somebody who has not come far yet is sent away. */
static void test_stop_handshaking(TestVM *vm)
{
    uint8_t hello[HELLO_SIZE];

    vm_start(vm, "", NULL);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, hello);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'stop'}");
    tool_expect_eof(vm->tool);
    expect_away(vm);
    cont(vm);
    expect_back(vm);
}

/* Where QEMU listens, whoever comes while the VM is paused is sent away. */
static void test_stop_server(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,server=on,wait=off",
                                               vm->socket);

    vm_start_with(vm, chardev, "", NULL);
    vm->tool = tool_new();
    tool_connect(vm->tool, vm->socket);
    tool_hook(vm->tool);
    stop(vm);
    tool_expect_eof(vm->tool);
    expect_success(vm);
    vm_wait_state(vm, "suspended");
    tool_connect(vm->tool, vm->socket);
    tool_expect_eof(vm->tool);
    cont(vm);
    vm_wait_state(vm, "disconnected");
    tool_connect(vm->tool, vm->socket);
    tool_hook(vm->tool);
}

/* Two managers want the same at the same time. */
static void test_stop_twice(TestVM *vm)
{
    g_autofree char *path = NULL;
    g_autofree char *more = vm_second_monitor(vm, &path);
    int fd;

    vm_start_hooked(vm, "", more);
    fd = vm_monitor_connect(path);
    place_mark(vm);
    stop(vm);
    vm_wait_state_event(vm, "unhooking");
    qmp_fd_send_raw(fd, "{'execute': 'stop'}");
    let_go(vm);
    expect_success(vm);
    vm_monitor_receive(fd);
    expect_run_state(vm, "paused");
    expect_away(vm);
    close(fd);
}

/* The object goes while the manager waits for its tool. */
static void test_stop_object_del(TestVM *vm)
{
    g_autofree char *path = NULL;
    g_autofree char *more = vm_second_monitor(vm, &path);
    g_autofree ToolEvent *event = NULL;
    int fd;

    vm_start_hooked(vm, "unhook-timeout=3600", more);
    fd = vm_monitor_connect(path);
    place_mark(vm);
    stop(vm);
    event = expect_asked(vm);
    vm_monitor_command(fd, "{'execute': 'object-del',"
                       " 'arguments': {'id': 'kvmi0'}}");
    expect_success(vm);
    tool_expect_eof(vm->tool);
    expect_run_state(vm, "paused");

    /*
     * The chardev connects by itself.  An object that is made now ends that,
     * and waits for the VM to run.
     */
    tool_accept(vm->tool);
    vm_monitor_command(fd, "{'execute': 'object-add', 'arguments':"
                       " {'id': 'kvmi0', 'qom-type': 'introspection',"
                       "  'chardev': 'vmi'}}");
    tool_expect_eof(vm->tool);
    expect_away(vm);
    cont(vm);
    expect_back(vm);
    close(fd);
}

/* A command that fails leaves the VM to a tool again. */
static void test_failed_command(TestVM *vm)
{
    QDict *response;

    place_mark(vm);
    qtest_qmp_send(vm->qts, "{'execute': 'migrate',"
                   " 'arguments': {'uri': 'nowhere'}}");
    let_go(vm);
    response = qtest_qmp_receive(vm->qts);
    g_assert_true(qdict_haskey(response, "error"));
    qobject_unref(response);
    expect_back(vm);
}

/* What QEMU does with the interactive human monitor. */
static void test_stop_hmp(TestVM *vm)
{
    g_autofree char *path = NULL;
    g_autofree char *more = human_monitor(vm, &path);
    g_autofree ToolEvent *event = NULL;
    int fd;

    vm_start_hooked(vm, "", more);
    fd = unix_connect(path, &error_abort);
    place_mark(vm);
    g_assert_cmpint(write(fd, "stop\n", 5), ==, 5);
    event = expect_asked(vm);
    expect_run_state(vm, "running");
    vm_wait_state(vm, "unhooking");
    write_guest(vm, unmarked);
    tool_close(vm->tool);
    VM_WAIT_UNTIL(run_state_is(vm, "paused"));
    expect_away(vm);
    /* and takes the next command */
    g_assert_cmpint(write(fd, "cont\n", 5), ==, 5);
    expect_back(vm);
    close(fd);
}

/* The monitor answers while the tool is waited for. */

static void expect_still_running(int fd)
{
    QDict *response = qmp_fd(fd, "{'execute': 'query-status'}");

    while (qdict_haskey(response, "event")) {
        qobject_unref(response);
        response = qmp_fd_receive(fd);
    }
    g_assert_true(qdict_get_bool(qdict_get_qdict(response, "return"),
                                 "running"));
    qobject_unref(response);
}

/*
 * @command waits for the tool, which does not let go before the other monitor
 * has given its answers: if these waited for the tool, too, they never came.
 */
static void expect_responsive(TestVM *vm, const char *command)
{
    g_autofree char *path = NULL;
    g_autofree char *more = vm_second_monitor(vm, &path);
    g_autofree ToolEvent *event = NULL;
    QDict *response;
    int fd;

    vm_start_hooked(vm, "unhook-timeout=3600", more);
    fd = vm_monitor_connect(path);
    place_mark(vm);
    qtest_qmp_send_raw(vm->qts, "%s", command);
    event = expect_asked(vm);
    for (unsigned n = 0; n < ANSWERS; n++) {
        expect_still_running(fd);
    }
    g_assert_true(guest_has(vm, mark));
    write_guest(vm, unmarked);
    tool_close(vm->tool);
    response = qtest_qmp_receive(vm->qts);
    qobject_unref(response);
    close(fd);
}

static void test_responsive_stop(TestVM *vm)
{
    expect_responsive(vm, "{'execute': 'stop'}");
    expect_run_state(vm, "paused");
}

static void test_responsive_migrate(TestVM *vm)
{
    expect_responsive(vm, "{'execute': 'migrate',"
                      " 'arguments': {'uri': 'exec:cat >/dev/null'}}");
}

static void test_responsive_savevm(TestVM *vm)
{
    expect_responsive(vm, "{'execute': 'human-monitor-command',"
                      " 'arguments': {'command-line': 'savevm x'}}");
}

static void test_responsive_unhook(TestVM *vm)
{
    expect_responsive(vm, "{'execute': 'introspection-unhook'}");
    vm_wait_state(vm, "suspended");
}

/* Snapshots */

static char *disk_path(TestVM *vm)
{
    return g_build_filename(vm->dir, "disk.qcow2", NULL);
}

static void run_job(TestVM *vm, const char *id)
{
    for (;;) {
        QDict *event = qtest_qmp_eventwait_ref(vm->qts, "JOB_STATUS_CHANGE");
        bool done = g_str_equal(qdict_get_str(qdict_get_qdict(event, "data"),
                                              "status"), "concluded");

        qobject_unref(event);
        if (done) {
            break;
        }
    }
    qtest_qmp_assert_success(vm->qts, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': %s}}", id);
}

static void add_disk(TestVM *vm)
{
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'blockdev-add', 'arguments': {"
        " 'driver': 'qcow2', 'node-name': 'disk0',"
        " 'file': {'driver': 'file', 'filename': %s}}}", disk_path(vm));
}

/* A disk that snapshots can be put on. */
static void make_disk(TestVM *vm)
{
    g_autofree char *path = disk_path(vm);

    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'blockdev-create', 'arguments': {'job-id': 'c',"
        " 'options': {'driver': 'file', 'filename': %s, 'size': 0}}}", path);
    run_job(vm, "c");
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'blockdev-add', 'arguments': {'driver': 'file',"
        " 'node-name': 'file0', 'filename': %s}}", path);
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'blockdev-create', 'arguments': {'job-id': 'c',"
        " 'options': {'driver': 'qcow2', 'file': 'file0',"
        "             'size': 1048576}}}");
    run_job(vm, "c");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'file0'}}");
    add_disk(vm);
}

static void hmp_begin(TestVM *vm, const char *command)
{
    qtest_qmp_send(vm->qts, "{'execute': 'human-monitor-command',"
                   " 'arguments': {'command-line': %s}}", command);
}

/* Returns nothing: HMP commands that went well say nothing. */
static void hmp_end(TestVM *vm)
{
    QDict *response = qtest_qmp_receive(vm->qts);

    g_assert_cmpstr(qdict_get_try_str(response, "return"), ==, "");
    qobject_unref(response);
}

static void test_savevm(TestVM *vm)
{
    make_disk(vm);
    place_mark(vm);
    hmp_begin(vm, "savevm before");
    let_go(vm);
    hmp_end(vm);
    expect_run_state(vm, "running");
    expect_back(vm);

    /* what was saved has no mark */
    place_mark(vm);
    hmp_begin(vm, "loadvm before");
    tool_close(vm->tool);
    hmp_end(vm);
    g_assert_true(guest_has(vm, unmarked));
    expect_back(vm);
}

/* A tool that does not cooperate does not keep the VM from being saved. */
static void test_savevm_timeout(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    make_disk(vm);
    place_mark(vm);
    hmp_begin(vm, "savevm before");
    event = expect_asked(vm);
    tool_expect_eof(vm->tool);
    hmp_end(vm);
    expect_back(vm);
}

/*
 * A tool that could not be asked is cut off before anything is saved.  What Xen
 * has for its tools takes no hold.
 */
static void test_save_unasked(TestVM *vm)
{
    g_autofree char *path = g_build_filename(vm->dir, "xen", NULL);

    place_mark(vm);
    qtest_qmp_send(vm->qts, "{'execute': 'xen-save-devices-state',"
                   " 'arguments': {'filename': %s}}", path);
    expect_reason(vm, "disconnected", "being saved");
    tool_expect_eof(vm->tool);
    expect_success(vm);
    expect_run_state(vm, "running");
    expect_back(vm);
}

static void test_savevm_paused(TestVM *vm)
{
    make_disk(vm);
    stop(vm);
    tool_expect_eof(vm->tool);
    expect_success(vm);
    hmp_begin(vm, "savevm before");
    hmp_end(vm);
    expect_away(vm);
    cont(vm);
    expect_back(vm);
}

/* A snapshot that is loaded is another guest. */
static void test_loadvm_start_time(TestVM *vm)
{
    uint8_t hello[HELLO_SIZE];
    int64_t begin;

    make_disk(vm);
    hmp_begin(vm, "savevm before");
    tool_expect_eof(vm->tool);
    hmp_end(vm);
    expect_back(vm);
    begin = g_get_real_time() / G_USEC_PER_SEC;
    VM_WAIT_UNTIL(g_get_real_time() / G_USEC_PER_SEC > begin);
    hmp_begin(vm, "loadvm before");
    tool_expect_eof(vm->tool);
    hmp_end(vm);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, hello);
    g_assert_cmpint(ldq_he_p(hello + HELLO_START_TIME_OFFSET), >, begin);
}

static void test_snapshot_save(TestVM *vm)
{
    make_disk(vm);
    place_mark(vm);
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'snapshot-save', 'arguments': {'job-id': 's',"
        " 'tag': 'before', 'vmstate': 'disk0', 'devices': ['disk0']}}");
    let_go(vm);
    run_job(vm, "s");
    expect_back(vm);
    place_mark(vm);
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'snapshot-load', 'arguments': {'job-id': 'l',"
        " 'tag': 'before', 'vmstate': 'disk0', 'devices': ['disk0']}}");
    tool_close(vm->tool);
    run_job(vm, "l");
    g_assert_true(guest_has(vm, unmarked));
    expect_run_state(vm, "running");
    expect_back(vm);
}

/* -loadvm */

static void start_with_loadvm(TestVM *vm, const char *options)
{
    g_autofree char *path = disk_path(vm);
    g_autofree char *more = g_strdup_printf(
        "-blockdev qcow2,node-name=disk0,file.driver=file,file.filename=%s "
        "-loadvm before %s", path, options);

    make_disk(vm);
    place_mark(vm);
    hmp_begin(vm, "savevm before");
    let_go(vm);
    hmp_end(vm);
    expect_back(vm);
    qtest_quit(vm->qts);
    tool_free(vm->tool);
    unlink(vm->socket);

    vm_start(vm, "", more);
    hook_sometime(vm);
    g_assert_true(guest_has(vm, unmarked));
}

static void test_loadvm_option(TestVM *vm)
{
    start_with_loadvm(vm, "");
    expect_run_state(vm, "running");
}

/* The tool has what was saved before it goes on. */
static void test_loadvm_prelaunch(TestVM *vm)
{
    start_with_loadvm(vm, "-S");
    expect_run_state(vm, "prelaunch");
    if (vm->engine->runs) {
        g_assert_true(vm_guest_stands_still(vm, 0));
    }
    place_mark(vm);
    cont(vm);
    tool_expect_no_event(vm->tool);
    vm_wait_state(vm, "hooked");
    if (vm->engine->runs) {
        vm_guest_wait_counting(vm, 0);
    }
    g_assert_true(guest_has(vm, mark));
}

/* Migration */

static void migrate_begin(TestVM *vm, const char *uri)
{
    qtest_qmp_send(vm->qts, "{'execute': 'migrate', 'arguments':"
                   " {'uri': %s}}", uri);
}

static bool migration_is(TestVM *vm, const char *status)
{
    QDict *info = qtest_qmp_assert_success_ref(
        vm->qts, "{'execute': 'query-migrate'}");
    const char *now = qdict_get_try_str(info, "status");
    bool match = now && g_str_equal(now, status);

    g_assert_false(now && g_str_equal(now, "failed") && !match);
    qobject_unref(info);
    return match;
}

static void slow_down(TestVM *vm)
{
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'migrate-set-parameters', 'arguments':"
        " {'max-bandwidth': 1000}}");
}

/* A VM that waits to be migrated to. */
static TestVM *vm_incoming(TestVM *vm, char **uri)
{
    TestVM *to = vm_new(vm->engine);
    g_autofree char *more = NULL;

    *uri = g_strdup_printf("unix:%s/migration", to->dir);
    more = g_strdup_printf("-incoming %s", *uri);
    vm_start(to, "", more);
    /* The chardev began to connect before there was an object. */
    tool_accept(to->tool);
    tool_expect_eof(to->tool);
    expect_away(to);
    return to;
}

static void test_migrate_to_file(TestVM *vm)
{
    g_autofree char *path = g_build_filename(vm->dir, "saved", NULL);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    g_autofree char *more = g_strdup_printf("-incoming %s", uri);
    TestVM *to = vm_new(vm->engine);

    place_mark(vm);
    migrate_begin(vm, uri);
    let_go(vm);
    expect_success(vm);
    VM_WAIT_UNTIL(migration_is(vm, "completed"));
    expect_away(vm);
    expect_saved_unmarked(path);

    /* what was saved is hooked once it runs */
    vm_start(to, "", more);
    hook_sometime(to);
    expect_run_state(to, "running");
    g_assert_true(guest_has(to, unmarked));
    vm_free(to);

    /* and so is the source, if that is let go on */
    cont(vm);
    expect_back(vm);
}

static void test_migrate(TestVM *vm)
{
    g_autofree char *uri = NULL;
    TestVM *to = vm_incoming(vm, &uri);

    place_mark(vm);
    migrate_begin(vm, uri);
    let_go(vm);
    expect_success(vm);
    VM_WAIT_UNTIL(migration_is(vm, "completed"));
    expect_away(vm);
    expect_back(to);
    expect_run_state(to, "running");
    g_assert_true(guest_has(to, unmarked));
    if (vm->engine->runs) {
        vm_guest_wait_counting(to, 0);
    }
    vm_free(to);
}

static void set_postcopy(TestVM *vm)
{
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'migrate-set-capabilities', 'arguments':"
        " {'capabilities': [{'capability': 'postcopy-ram',"
        "                    'state': true}]}}");
}

static bool host_has_postcopy(TestVM *vm)
{
    QDict *response = qtest_qmp(
        vm->qts, "{'execute': 'migrate-set-capabilities', 'arguments':"
        " {'capabilities': [{'capability': 'postcopy-ram',"
        "                    'state': true}]}}");
    bool has = qdict_haskey(response, "return");

    qobject_unref(response);
    return has;
}

static void test_migrate_postcopy(TestVM *vm)
{
    g_autofree char *uri = NULL;
    TestVM *to = vm_new(vm->engine);

    vm_start(to, "", "-incoming defer");
    tool_accept(to->tool);
    tool_expect_eof(to->tool);
    if (!host_has_postcopy(to)) {
        g_test_skip("this host does not let QEMU use userfaultfd");
        vm_free(to);
        return;
    }
    uri = g_strdup_printf("unix:%s/migration", to->dir);
    qtest_qmp_assert_success(to->qts, "{'execute': 'migrate-incoming',"
                             " 'arguments': {'uri': %s}}", uri);
    set_postcopy(vm);
    slow_down(vm);
    place_mark(vm);
    migrate_begin(vm, uri);
    let_go(vm);
    expect_success(vm);
    VM_WAIT_UNTIL(migration_is(vm, "active"));
    expect_away(vm);
    expect_away(to);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'migrate-start-postcopy'}");
    VM_WAIT_UNTIL(migration_is(vm, "completed"));
    expect_back(to);
    g_assert_true(guest_has(to, unmarked));
    expect_away(vm);
    vm_free(to);
}

/* The tool that never lets go is cut off, and the migration goes on. */
static void test_migrate_timeout(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    place_mark(vm);
    migrate_begin(vm, "exec:cat >/dev/null");
    event = expect_asked(vm);
    tool_expect_eof(vm->tool);
    expect_success(vm);
    VM_WAIT_UNTIL(migration_is(vm, "completed"));
    expect_away(vm);
}

static void test_migrate_cancelled(TestVM *vm)
{
    g_autofree char *uri = NULL;
    TestVM *to = vm_incoming(vm, &uri);

    slow_down(vm);
    place_mark(vm);
    migrate_begin(vm, uri);
    let_go(vm);
    expect_success(vm);
    VM_WAIT_UNTIL(migration_is(vm, "active"));
    expect_away(vm);
    expect_run_state(vm, "running");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'migrate_cancel'}");
    expect_back(vm);
    g_assert_true(migration_is(vm, "cancelled"));
    qtest_set_expected_status(to->qts, EXIT_FAILURE);
    qtest_wait_qemu(to->qts);
    vm_free(to);
}

static void test_migrate_failed(TestVM *vm)
{
    g_autofree char *uri = g_strdup_printf("unix:%s/absent", vm->dir);

    place_mark(vm);
    migrate_begin(vm, uri);
    let_go(vm);
    expect_success(vm);
    expect_back(vm);
    g_assert_true(migration_is(vm, "failed"));
    expect_run_state(vm, "running");
}

/* A socket that lets whoever connects wait. */
static int listen_full(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int ret;

    g_strlcpy(sa.sun_path, path, sizeof(sa.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
    g_assert_cmpint(listen(fd, 0), ==, 0);
    do {
        int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

        ret = connect(peer, (struct sockaddr *)&sa, sizeof(sa));
        g_assert_true(ret == 0 || errno == EAGAIN);
        close(peer);
    } while (ret == 0);
    return fd;
}

/* Whoever is just being hooked does not come in while the command goes on. */
static void test_migrate_hmp_handshaking(TestVM *vm)
{
    g_autofree char *path = NULL;
    g_autofree char *more = human_monitor(vm, &path);
    uint8_t hello[HELLO_SIZE];
    g_autofree char *to = g_build_filename(vm->dir, "migration", NULL);
    g_autofree char *command = g_strdup_printf("migrate -d unix:%s\n", to);
    int full, fd;

    vm_start(vm, "", more);
    fd = unix_connect(path, &error_abort);
    tool_accept(vm->tool);
    tool_receive_hello(vm->tool, hello);
    full = listen_full(to);
    g_assert_cmpint(write(fd, command, strlen(command)), ==, strlen(command));
    VM_WAIT_UNTIL(migration_is(vm, "setup"));
    tool_expect_eof(vm->tool);
    expect_away(vm);
    /* the migration fails */
    close(full);
    VM_WAIT_UNTIL(migration_is(vm, "failed"));
    expect_back(vm);
    close(fd);
}

/* The source is paused before, as managers do who save a VM. */
static void test_migrate_paused(TestVM *vm)
{
    g_autofree char *uri = NULL;
    TestVM *to = vm_incoming(vm, &uri);

    place_mark(vm);
    stop(vm);
    let_go(vm);
    expect_success(vm);
    migrate_begin(vm, uri);
    expect_success(vm);
    VM_WAIT_UNTIL(migration_is(vm, "completed"));
    VM_WAIT_UNTIL(run_state_is(to, "paused"));
    expect_away(to);
    cont(to);
    expect_back(to);
    vm_free(to);
}

static void test_dump(TestVM *vm)
{
    g_autofree char *path = g_build_filename(vm->dir, "dump", NULL);
    g_autofree char *protocol = g_strdup_printf("file:%s", path);

    place_mark(vm);
    qtest_qmp_send(vm->qts, "{'execute': 'dump-guest-memory', 'arguments':"
                   " {'paging': false, 'protocol': %s}}", protocol);
    let_go(vm);
    expect_success(vm);
    expect_saved_unmarked(path);
    expect_back(vm);
}

/* Beginning and end */

/* -S: the tool has the VM before its first instruction, and keeps it. */
static void test_prelaunch(TestVM *vm)
{
    vm_start(vm, "", "-S");
    expect_back(vm);
    expect_run_state(vm, "prelaunch");
    /* there is nothing to stop yet */
    qtest_qmp_assert_success(vm->qts, "{'execute': 'stop'}");
    tool_expect_no_event(vm->tool);
    cont(vm);
    tool_expect_no_event(vm->tool);
    vm_wait_state(vm, "hooked");
}

static void test_powerdown(TestVM *vm)
{
    place_mark(vm);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'system_powerdown'}");
    qtest_qmp_eventwait(vm->qts, "POWERDOWN");
    tool_expect_no_event(vm->tool);
    vm_wait_state(vm, "hooked");
}

/* The tool is told, and not waited for. */
static void test_quit(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    place_mark(vm);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'quit'}");
    event = expect_asked(vm);
    tool_expect_eof(vm->tool);
    qtest_wait_qemu(vm->qts);
}

/* Whoever waits for the tool does not keep QEMU from ending. */
static void test_quit_while_waiting(TestVM *vm)
{
    g_autofree char *path = NULL;
    g_autofree char *more = vm_second_monitor(vm, &path);
    g_autofree ToolEvent *event = NULL;
    int fd;

    vm_start_hooked(vm, "unhook-timeout=3600", more);
    fd = vm_monitor_connect(path);
    place_mark(vm);
    migrate_begin(vm, "exec:cat >/dev/null");
    event = expect_asked(vm);
    vm_monitor_command(fd, "{'execute': 'quit'}");
    tool_expect_eof(vm->tool);
    qtest_wait_qemu(vm->qts);
    close(fd);
}

/* A guest that has panicked is what a tool wants to see. */
static void test_panic(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t value;

    place_mark(vm);
    g_assert_cmpint(tool_pause_all(vm->tool), ==, VM_VCPUS);
    event = tool_receive_event(vm->tool);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    VM_WAIT_UNTIL(run_state_is(vm, "guest-panicked"));
    g_assert_cmpint(tool_read_physical(vm->tool, GUEST_SCRATCH, 8, &value),
                    ==, 0);
    vm_wait_state(vm, "hooked");
    /* when its memory is saved, the tool is asked as ever */
    migrate_begin(vm, "exec:cat >/dev/null");
    do {
        g_free(event);
        event = tool_receive_event(vm->tool);
    } while (event->common.event != KVMI_EVENT_UNHOOK);
    tool_close(vm->tool);
    expect_success(vm);
    VM_WAIT_UNTIL(migration_is(vm, "completed"));
    expect_away(vm);
}

static void test_object_add_del(TestVM *vm)
{
    for (int i = 0; i < 5; i++) {
        qtest_qmp_assert_success(vm->qts, "{'execute': 'object-del',"
                                 " 'arguments': {'id': 'kvmi0'}}");
        tool_expect_eof(vm->tool);
        qtest_qmp_assert_success(
            vm->qts, "{'execute': 'object-add', 'arguments': {'id': 'kvmi0',"
            " 'qom-type': 'introspection', 'chardev': 'vmi'}}");
        expect_back(vm);
    }
}

/* A vCPU that is plugged in while the tool is being asked. */
static void test_hotplug(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    struct kvmi_get_guest_info_reply info;
    ToolRegisters registers;

    place_mark(vm);
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'device_add', 'arguments': {'id': 'cpu2',"
        " 'driver': %s, 'socket-id': 0, 'core-id': 2, 'thread-id': 0}}",
        vm->engine->runs ? "max-x86_64-cpu" : "qemu64-x86_64-cpu");
    g_assert_cmpint(tool_get_guest_info(vm->tool, 0, &info), ==, 0);
    g_assert_cmpuint(info.vcpu_count, ==, VM_VCPUS + 1);
    stop(vm);
    event = expect_asked(vm);
    g_assert_cmpint(tool_get_registers(vm->tool, VM_VCPUS, NULL, 0,
                                       &registers), ==, 0);
    tool_close(vm->tool);
    expect_success(vm);
    cont(vm);
    expect_back(vm);
    g_assert_cmpint(tool_get_registers(vm->tool, VM_VCPUS, NULL, 0,
                                       &registers), ==, 0);
}

static const TestCase cases[] = {
    { "lifecycle/stop", test_stop },
    { "lifecycle/stop-waits", test_stop_waits, NEEDS_RUNNING_GUEST },
    { "lifecycle/stop-not-enabled", test_stop_not_enabled },
    { "lifecycle/stop-timeout", test_stop_timeout,
      .object = "unhook-timeout=1" },
    { "lifecycle/stop-timeout-waiting", test_stop_timeout_waiting,
      NEEDS_RUNNING_GUEST, .object = "unhook-timeout=1" },
    { "lifecycle/stop-handshaking", test_stop_handshaking,
      .unstarted = true },
    { "lifecycle/stop-server", test_stop_server, .unstarted = true },
    { "lifecycle/stop-twice", test_stop_twice, .unstarted = true },
    { "lifecycle/stop-object-del", test_stop_object_del,
      .unstarted = true },
    { "lifecycle/stop-hmp", test_stop_hmp, .unstarted = true },
    { "lifecycle/failed-command", test_failed_command },
    { "lifecycle/responsive-stop", test_responsive_stop,
      .unstarted = true },
    { "lifecycle/responsive-migrate", test_responsive_migrate,
      .unstarted = true },
    { "lifecycle/responsive-savevm", test_responsive_savevm,
      .unstarted = true },
    { "lifecycle/responsive-unhook", test_responsive_unhook,
      .unstarted = true },
    { "lifecycle/savevm", test_savevm },
    { "lifecycle/savevm-timeout", test_savevm_timeout,
      .object = "unhook-timeout=1" },
    { "lifecycle/savevm-paused", test_savevm_paused },
    { "lifecycle/save-unasked", test_save_unasked },
    { "lifecycle/loadvm-start-time", test_loadvm_start_time },
    { "lifecycle/loadvm-option", test_loadvm_option },
    { "lifecycle/loadvm-prelaunch", test_loadvm_prelaunch },
    { "lifecycle/snapshot-save", test_snapshot_save },
    { "lifecycle/migrate-to-file", test_migrate_to_file },
    { "lifecycle/migrate", test_migrate },
    { "lifecycle/migrate-postcopy", test_migrate_postcopy },
    { "lifecycle/migrate-timeout", test_migrate_timeout,
      .object = "unhook-timeout=1" },
    { "lifecycle/migrate-cancelled", test_migrate_cancelled },
    { "lifecycle/migrate-failed", test_migrate_failed },
    { "lifecycle/migrate-hmp-handshaking", test_migrate_hmp_handshaking,
      .unstarted = true },
    { "lifecycle/migrate-paused", test_migrate_paused },
    { "lifecycle/dump", test_dump },
    { "lifecycle/prelaunch", test_prelaunch, .unstarted = true },
    { "lifecycle/powerdown", test_powerdown },
    { "lifecycle/quit", test_quit },
    { "lifecycle/quit-while-waiting", test_quit_while_waiting,
      .unstarted = true },
    { "lifecycle/panic", test_panic, .more = "-action panic=pause" },
    { "lifecycle/object-add-del", test_object_add_del },
    { "lifecycle/hotplug", test_hotplug },
};

void introspection_add_lifecycle_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
