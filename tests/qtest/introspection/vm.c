/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine with the guest of tests/guest/, for the conformance
 * suite.
 */
#include "qemu/osdep.h"
#include <glib/gstdio.h>
#include <sys/stat.h>
#include "qapi/error.h"
#include "qemu/sockets.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "tests/qtest/libqmp.h"
#include "vm.h"

/* Life. */

TestVM *vm_new(const Engine *engine)
{
    TestVM *vm = g_new0(TestVM, 1);
    g_autoptr(GError) err = NULL;

    vm->engine = engine;
    vm->identity = VM_IDENTITY;
    vm->dir = g_dir_make_tmp("introspection-test-XXXXXX", &err);
    g_assert_no_error(err);
    vm->socket = g_build_filename(vm->dir, "vmi.sock", NULL);
    vm->log = g_build_filename(vm->dir, "stderr", NULL);
    return vm;
}

static void remove_dir(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        g_unlink(file);
    }
    if (dir) {
        g_dir_close(dir);
    }
    g_rmdir(path);
}

void vm_free(TestVM *vm)
{
    if (vm->qts) {
        qtest_quit(vm->qts);
    }
    tool_free(vm->tool);
    remove_dir(vm->dir);
    g_free(vm->log);
    g_free(vm->socket);
    g_free(vm->dir);
    g_free(vm);
}

/* The image is beside the test, or where the build says. */
char *vm_guest_image(void)
{
    const char *path = g_getenv("QTEST_INTROSPECTION_GUEST");

    if (path) {
        return g_strdup(path);
    }
    return g_test_build_filename(G_TEST_BUILT, "../guest/guest.bin", NULL);
}

/*
 * What follows the binary's name.  @chardev: of the socket, but for its id.
 * @object: more properties of the object, or NULL for no object at all.
 */
char *vm_command_line(TestVM *vm, const char *chardev, const char *object,
                      const char *more)
{
    g_autofree char *image = vm_guest_image();
    g_autofree char *introspection = NULL;

    if (object) {
        introspection = g_strdup_printf(
            "-object introspection,id=kvmi0,chardev=vmi%s%s",
            *object ? "," : "", object);
    }
    return g_strdup_printf("-M pc -nodefaults -accel %s -cpu %s "
                           "-smp %d,maxcpus=%d -m %d -bios %s "
                           "-no-reboot %s "
                           "-chardev socket,id=vmi,%s %s %s",
                           vm->engine->accel, vm->engine->cpu,
                           VM_VCPUS, VM_VCPUS + 1, VM_RAM_MIB, image,
                           vm->identity, chardev,
                           introspection ?: "", more ?: "");
}

void vm_start_with(TestVM *vm, const char *chardev, const char *object,
                   const char *more)
{
    g_autofree char *args = vm_command_line(vm, chardev, object, more);

    vm->qts = qtest_init(args);
}

/* QEMU connects to the tool, which listens. */
void vm_start(TestVM *vm, const char *object, const char *more)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,reconnect-ms=20",
                                               vm->socket);

    vm->tool = tool_listen(vm->socket);
    vm_start_with(vm, chardev, object, more);
}

/* ... until the tool has hooked it and the guest waits for requests. */
void vm_start_hooked(TestVM *vm, const char *object, const char *more)
{
    vm_start(vm, object, more);
    tool_accept(vm->tool);
    tool_hook(vm->tool);
    if (vm->engine->runs) {
        vm_guest_wait_up(vm, 0);
    }
}

/* QEMU comes again, and everything works as the first time. */
void vm_rehook(TestVM *vm)
{
    tool_accept(vm->tool);
    tool_hook(vm->tool);
    tool_expect_no_event(vm->tool);
}

void vm_expect_close_and_rehook(TestVM *vm)
{
    tool_expect_eof(vm->tool);
    vm_rehook(vm);
}

/* What the vCPU reports; that must succeed. */
void vm_control_events(TestVM *vm, unsigned vcpu, uint32_t events)
{
    g_assert_cmpint(tool_control_events(vm->tool, vcpu, events), ==, 0);
}

/* Nothing but writes to this control register */
void vm_watch_cr(TestVM *vm, unsigned vcpu, uint32_t cr)
{
    g_assert_cmpint(tool_control_cr(vm->tool, vcpu, cr, true), ==, 0);
    vm_control_events(vm, vcpu, KVMI_EVENT_CR_FLAG);
}

char *vm_read_log(TestVM *vm)
{
    g_autoptr(GError) err = NULL;
    char *text;

    g_file_get_contents(vm->log, &text, NULL, &err);
    g_assert_no_error(err);
    return text;
}

/* The guest. */

uint64_t vm_guest_read(TestVM *vm, uint64_t gpa, size_t size)
{
    switch (size) {
    case 4:
        return qtest_readl(vm->qts, gpa);
    case 8:
        return qtest_readq(vm->qts, gpa);
    default:
        g_assert_not_reached();
    }
}

bool vm_guest_is_up(TestVM *vm, unsigned vcpu)
{
    return vm_guest_get(vm, vcpu, magic) == GUEST_MAGIC;
}

void vm_guest_wait_up(TestVM *vm, unsigned vcpu)
{
    VM_WAIT_UNTIL(vm_guest_is_up(vm, vcpu));
}

/* Have vCPU 0 start another one. */
void vm_guest_start_vcpu(TestVM *vm, unsigned vcpu)
{
    g_assert_cmpint(vm_guest_do(vm, 0, OP_START_VCPU, vcpu, 0), ==, GUEST_OK);
    vm_guest_wait_up(vm, vcpu);
}

void vm_guest_begin(TestVM *vm, unsigned vcpu, enum GuestOp op,
                    uint64_t arg0, uint64_t arg1)
{
    qtest_writel(vm->qts, VM_MAILBOX(vcpu, op), op);
    qtest_writeq(vm->qts, VM_MAILBOX(vcpu, arg[0]), arg0);
    qtest_writeq(vm->qts, VM_MAILBOX(vcpu, arg[1]), arg1);
    qtest_writeq(vm->qts, VM_MAILBOX(vcpu, request), ++vm->request[vcpu]);
}

const char *vm_guest_mode_name(unsigned mode)
{
    static const char *const names[] = {
        [GUEST_MODE_USER64] = "user mode, 64 bits",
        [GUEST_MODE_USER32] = "user mode, 32 bits",
        [GUEST_MODE_COMPAT32] = "compatibility mode, 32 bits",
        [GUEST_MODE_COMPAT16] = "compatibility mode, 16 bits",
        [GUEST_MODE_PROT32] = "protected mode, 32 bits",
        [GUEST_MODE_PAGED32] = "protected mode with paging",
        [GUEST_MODE_PROT16] = "protected mode, 16 bits",
        [GUEST_MODE_V86] = "virtual-8086 mode",
        [GUEST_MODE_REAL] = "real mode",
    };

    return names[mode];
}

static bool mode_has_16_bits(unsigned mode)
{
    return mode == GUEST_MODE_COMPAT16 || mode >= GUEST_MODE_PROT16;
}

/* Where OP_RUN's code lies in @mode... */
uint64_t vm_guest_code_gpa(unsigned mode)
{
    return mode_has_16_bits(mode) ? GUEST_CODE16 : GUEST_SCRATCH;
}

/* ... and RIP at its first byte */
uint64_t vm_guest_code_rip(unsigned mode)
{
    return mode == GUEST_MODE_V86 || mode == GUEST_MODE_REAL
           ? 0 : vm_guest_code_gpa(mode);
}

/* Have the vCPU execute @code in @mode. */
void vm_guest_begin_code(TestVM *vm, unsigned vcpu, unsigned mode,
                         const void *code, size_t size)
{
    static const uint8_t end[] = { 0xcd, GUEST_VECTOR_RETURN };
    uint64_t gpa = vm_guest_code_gpa(mode);

    qtest_memwrite(vm->qts, gpa, code, size);
    qtest_memwrite(vm->qts, gpa + size, end, sizeof(end));
    vm_guest_begin(vm, vcpu, OP_RUN, mode, gpa);
}

bool vm_guest_is_done(TestVM *vm, unsigned vcpu)
{
    return vm_guest_get(vm, vcpu, done) == vm->request[vcpu];
}

void vm_guest_wait_started(TestVM *vm, unsigned vcpu)
{
    VM_WAIT_UNTIL(vm_guest_get(vm, vcpu, started) == vm->request[vcpu]);
}

enum GuestStatus vm_guest_finish(TestVM *vm, unsigned vcpu)
{
    VM_WAIT_UNTIL(vm_guest_is_done(vm, vcpu));
    return vm_guest_get(vm, vcpu, status);
}

enum GuestStatus vm_guest_do(TestVM *vm, unsigned vcpu, enum GuestOp op,
                             uint64_t arg0, uint64_t arg1)
{
    vm_guest_begin(vm, vcpu, op, arg0, arg1);
    return vm_guest_finish(vm, vcpu);
}

/* An operation that must succeed: its first result. */
uint64_t vm_guest_result(TestVM *vm, unsigned vcpu, enum GuestOp op,
                         uint64_t arg0, uint64_t arg1)
{
    g_assert_cmpint(vm_guest_do(vm, vcpu, op, arg0, arg1), ==, GUEST_OK);
    return vm_guest_get(vm, vcpu, result[0]);
}

/* End what goes on "until released". */
void vm_guest_release(TestVM *vm)
{
    qtest_writel(vm->qts, GUEST_RELEASE, 1);
}

/* The vCPU executes guest code. */
void vm_guest_wait_counting(TestVM *vm, unsigned vcpu)
{
    uint64_t before = vm_guest_get(vm, vcpu, counter);

    VM_WAIT_UNTIL(vm_guest_get(vm, vcpu, counter) != before);
}

bool vm_guest_stands_still(TestVM *vm, unsigned vcpu)
{
    uint64_t before = vm_guest_get(vm, vcpu, counter);

    g_usleep(TOOL_WATCH_MS * 1000);
    return vm_guest_get(vm, vcpu, counter) == before;
}

/* The operation that is under way ends with @vector at @rip... */
void vm_guest_expect_exception_at(TestVM *vm, unsigned vcpu, unsigned vector,
                                  uint64_t rip)
{
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_EXCEPTION);
    g_assert_cmphex(vm_guest_get(vm, vcpu, vector), ==, vector);
    g_assert_cmphex(vm_guest_get(vm, vcpu, rip), ==, rip);
}

/* ... at its instruction */
void vm_guest_expect_exception(TestVM *vm, unsigned vcpu, unsigned vector)
{
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_EXCEPTION);
    vm_guest_expect_exception_at(vm, vcpu, vector,
                                 vm_guest_get(vm, vcpu, insn_rip));
}

/* The tool has had the guest stop for good. */
void vm_expect_panicked(TestVM *vm)
{
    QDict *response, *status;

    qtest_qmp_eventwait(vm->qts, "GUEST_PANICKED");
    response = qtest_qmp(vm->qts, "{'execute': 'query-status'}");
    status = qdict_get_qdict(response, "return");
    g_assert_cmpstr(qdict_get_str(status, "status"), ==, "guest-panicked");
    qobject_unref(response);
    if (vm->engine->runs) {
        g_assert_true(vm_guest_stands_still(vm, 0));
    }
}

/*
 * pmemsave opens its file in the main loop, with the BQL held, and opening
 * a FIFO for writing waits for its reader.
 */
static char *main_loop_fifo(TestVM *vm)
{
    return g_build_filename(vm->dir, "fifo", NULL);
}

void vm_block_main_loop(TestVM *vm)
{
    g_autofree char *fifo = main_loop_fifo(vm);

    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    qtest_qmp_send(vm->qts, "{'execute': 'pmemsave', 'arguments':"
                   " {'val': 0, 'size': 16, 'filename': %s}}", fifo);
}

void vm_unblock_main_loop(TestVM *vm)
{
    g_autofree char *fifo = main_loop_fifo(vm);
    int fd = open(fifo, O_RDONLY | O_CLOEXEC);
    QDict *response;

    g_assert_cmpint(fd, >=, 0);
    response = qtest_qmp_receive(vm->qts);
    g_assert_true(qdict_haskey(response, "return"));
    qobject_unref(response);
    close(fd);
    g_unlink(fifo);
}

/* QMP. */

QDict *vm_query_introspection(TestVM *vm)
{
    return qtest_qmp_assert_success_ref(
        vm->qts, "{'execute': 'query-introspection'}");
}

static bool has_state(TestVM *vm, const char *state)
{
    QDict *info = vm_query_introspection(vm);
    bool match = g_str_equal(qdict_get_str(info, "state"), state);

    qobject_unref(info);
    return match;
}

void vm_wait_state(TestVM *vm, const char *state)
{
    VM_WAIT_UNTIL(has_state(vm, state));
}

/* The same while the monitor is busy with another command. */
void vm_wait_state_event(TestVM *vm, const char *state)
{
    for (;;) {
        QDict *event = qtest_qmp_eventwait_ref(vm->qts,
                                               "INTROSPECTION_STATE_CHANGE");
        const char *now = qdict_get_str(qdict_get_qdict(event, "data"),
                                        "state");
        bool match = g_str_equal(now, state);

        qobject_unref(event);
        if (match) {
            break;
        }
    }
}

/* How many vCPUs wait for the tool; not where only the kernel knows it. */
unsigned vm_waiting_vcpus(TestVM *vm)
{
    QDict *info = vm_query_introspection(vm);
    unsigned n = qlist_size(qdict_get_qlist(info, "waiting-vcpus"));

    qobject_unref(info);
    return n;
}

/* ... where QEMU can know it. */
void vm_expect_waiting_vcpus(TestVM *vm, unsigned n)
{
    if (!vm->engine->in_kernel) {
        VM_WAIT_UNTIL(vm_waiting_vcpus(vm) == n);
    }
}

/* A second QMP monitor. */

/* What to add to the command line for it. */
char *vm_second_monitor(TestVM *vm, char **path)
{
    *path = g_strdup_printf("%s.qmp", vm->socket);
    return g_strdup_printf("-chardev socket,id=mon2,path=%s,server=on,wait=off "
                           "-mon chardev=mon2,mode=control", *path);
}

int vm_monitor_connect(const char *path)
{
    int fd = unix_connect(path, &error_abort);
    bool greeted;

    /* An event that comes at this moment is sent even before the greeting. */
    do {
        QDict *message = qmp_fd_receive(fd);

        greeted = qdict_haskey(message, "QMP");
        g_assert_true(greeted || qdict_haskey(message, "event"));
        qobject_unref(message);
    } while (!greeted);
    vm_monitor_command(fd, "{'execute': 'qmp_capabilities'}");
    return fd;
}

/* That a command went well; events that come before are dropped. */
void vm_monitor_receive(int fd)
{
    QDict *response;

    for (;;) {
        response = qmp_fd_receive(fd);
        if (!qdict_haskey(response, "event")) {
            break;
        }
        qobject_unref(response);
    }
    g_assert_true(qdict_haskey(response, "return"));
    qobject_unref(response);
}

void vm_monitor_command(int fd, const char *command)
{
    qmp_fd_send_raw(fd, "%s", command);
    vm_monitor_receive(fd);
}
