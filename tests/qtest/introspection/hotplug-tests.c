/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: vCPUs that are plugged in and out, and CREATE_VCPU.
 */
#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "tests.h"

/* The vCPU that can be plugged in, and its APIC id. */
#define NEW                     VM_VCPUS

/* The guest's view of CPU hotplug: docs/specs/acpi_cpu_hotplug.rst */
#define HOTPLUG_BASE            0xaf00
#define HOTPLUG_SELECT          (HOTPLUG_BASE + 0)
#define HOTPLUG_FLAGS           (HOTPLUG_BASE + 4)
#define HOTPLUG_EJECT           (1 << 3)

static void control_vm(TestVM *vm, uint32_t events)
{
    g_assert_cmpint(tool_control_vm_events(vm->tool, events), ==, 0);
}

static void plug(TestVM *vm)
{
    qtest_qmp_assert_success(
        vm->qts, "{'execute': 'device_add', 'arguments': {'id': 'cpu2',"
        " 'driver': %s, 'socket-id': 0, 'core-id': %d, 'thread-id': 0}}",
        vm->engine->runs ? "max-x86_64-cpu" : "qemu64-x86_64-cpu", NEW);
}

/* The guest lets the vCPU go, as its ACPI would have it do. */
static void unplug(TestVM *vm)
{
    /* a write has it have the newer registers, which can unplug */
    qtest_outl(vm->qts, HOTPLUG_SELECT, 0);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'device_del',"
                             " 'arguments': {'id': 'cpu2'}}");
    qtest_outl(vm->qts, HOTPLUG_SELECT, NEW);
    qtest_outb(vm->qts, HOTPLUG_FLAGS, HOTPLUG_EJECT);
    qtest_qmp_eventwait(vm->qts, "DEVICE_DELETED");
}

static uint32_t vcpu_count(TestVM *vm)
{
    struct kvmi_get_guest_info_reply info;

    g_assert_cmpint(tool_get_guest_info(vm->tool, 0, &info), ==, 0);
    return info.vcpu_count;
}

/* In the state of a processor that has just been reset */
static ToolEvent *expect_created(TestVM *vm)
{
    ToolEvent *event = tool_expect_event(vm->tool, NEW,
                                         KVMI_EVENT_CREATE_VCPU);

    g_assert_cmphex(event->common.regs.rip, ==, 0xfff0);
    g_assert_cmphex(event->common.sregs.cs.selector, ==, 0xf000);
    g_assert_cmpuint(event->common.mode, ==, 2);
    return event;
}

static ToolEvent *plug_in(TestVM *vm)
{
    control_vm(vm, KVMI_EVENT_CREATE_VCPU_FLAG);
    plug(vm);
    return expect_created(vm);
}

static void test_create(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);
    ToolRegisters regs;

    g_assert_cmpuint(vcpu_count(vm), ==, NEW + 1);
    g_assert_cmpint(tool_get_registers(vm->tool, NEW, NULL, 0, &regs), ==, 0);
    g_assert_cmpmem(&regs.common.regs, sizeof(regs.common.regs),
                    &event->common.regs, sizeof(event->common.regs));
    g_assert_cmpmem(&regs.common.sregs, sizeof(regs.common.sregs),
                    &event->common.sregs, sizeof(event->common.sregs));
    vm_expect_waiting_vcpus(vm, 1);
    tool_continue(vm->tool, event);
    vm_expect_waiting_vcpus(vm, 0);
    tool_expect_no_event(vm->tool);
}

/* The guest may start it at once; its first instruction waits. */
static void test_first_instruction(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);
    g_autofree ToolEvent *cr = NULL;

    /* and what the tool watches then holds for the first one already */
    vm_watch_cr(vm, NEW, 0);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_START_VCPU, NEW, 0), ==, GUEST_OK);
    tool_expect_silence(vm->tool);
    g_assert_false(vm_guest_is_up(vm, NEW));
    tool_continue(vm->tool, event);
    cr = tool_expect_event(vm->tool, NEW, KVMI_EVENT_CR);
    g_assert_cmpuint(cr->common.mode, ==, 2);
    vm_control_events(vm, NEW, 0);
    tool_continue(vm->tool, cr);
    vm_guest_wait_up(vm, NEW);
}

static void test_off(TestVM *vm)
{
    ToolRegisters regs;

    control_vm(vm, KVMI_EVENT_CREATE_VCPU_FLAG);
    control_vm(vm, KVMI_EVENT_UNHOOK_FLAG);
    plug(vm);
    g_assert_cmpint(tool_get_registers(vm->tool, NEW, NULL, 0, &regs), ==, 0);
    tool_expect_no_event(vm->tool);
    g_assert_cmpuint(vcpu_count(vm), ==, NEW + 1);
}

/* It takes part in everything. */
static void test_pause(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);
    bool seen[NEW + 1] = { };

    tool_continue(vm->tool, event);
    g_assert_cmpuint(tool_pause_all(vm->tool), ==, NEW + 1);
    for (unsigned i = 0; i <= NEW; i++) {
        g_autofree ToolEvent *pause = tool_receive_event(vm->tool);

        g_assert_cmpuint(pause->common.event, ==, KVMI_EVENT_PAUSE_VCPU);
        g_assert_false(seen[pause->common.vcpu]);
        seen[pause->common.vcpu] = true;
        tool_continue(vm->tool, pause);
    }
}

/* PAUSE_VCPU comes after CREATE_VCPU has been answered. */
static void test_pause_behind(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);
    g_autofree ToolEvent *pause = NULL;

    g_assert_cmpuint(tool_pause_all(vm->tool), ==, NEW + 1);
    for (unsigned i = 0; i < NEW; i++) {
        g_autofree ToolEvent *other = tool_receive_event(vm->tool);

        g_assert_cmpuint(other->common.vcpu, !=, NEW);
        tool_continue(vm->tool, other);
    }
    tool_expect_no_event(vm->tool);
    tool_continue(vm->tool, event);
    pause = tool_expect_event(vm->tool, NEW, KVMI_EVENT_PAUSE_VCPU);
    tool_continue(vm->tool, pause);
}

static void test_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);

    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    vm_expect_panicked(vm);
}

static void test_retry(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);

    tool_retry(vm->tool, event);
    vm_expect_close_and_rehook(vm);
}

static void test_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);

    tool_close(vm->tool);
    vm_rehook(vm);
    vm_expect_waiting_vcpus(vm, 0);
    if (vm->engine->runs) {
        vm_guest_start_vcpu(vm, NEW);
    } else {
        /* off again */
        unplug(vm);
        plug(vm);
        g_assert_cmpuint(vcpu_count(vm), ==, NEW + 1);
        tool_expect_silence(vm->tool);
    }
}

static void test_disallowed(TestVM *vm)
{
    g_assert_cmpint(tool_control_vm_events(vm->tool,
                                           KVMI_EVENT_CREATE_VCPU_FLAG),
                    ==, -KVM_EPERM);
    plug(vm);
    g_assert_cmpuint(vcpu_count(vm), ==, NEW + 1);
    tool_expect_silence(vm->tool);
}

static void expect_no_vcpu(TestVM *vm)
{
    ToolRegisters regs;

    g_assert_cmpuint(vcpu_count(vm), ==, NEW);
    g_assert_cmpint(tool_get_registers(vm->tool, NEW, NULL, 0, &regs),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(tool_control_events(vm->tool, NEW, 0), ==, -KVM_EINVAL);
}

static void test_unplug(TestVM *vm)
{
    /* TCG has no place for the thread of a second one */
    int rounds = vm->engine->runs ? 1 : 5;

    control_vm(vm, KVMI_EVENT_CREATE_VCPU_FLAG);
    for (int round = 0; round < rounds; round++) {
        g_autofree ToolEvent *event = NULL;

        plug(vm);
        event = expect_created(vm);
        tool_continue(vm->tool, event);
        if (vm->engine->runs) {
            vm_control_events(vm, NEW, KVMI_EVENT_DESCRIPTOR_FLAG);
        }
        unplug(vm);
        expect_no_vcpu(vm);
        g_assert_cmpuint(tool_pause_all(vm->tool), ==, NEW);
        for (unsigned i = 0; i < NEW; i++) {
            g_autofree ToolEvent *pause = tool_receive_event(vm->tool);

            tool_continue(vm->tool, pause);
        }
    }
}

/* A reply that comes too late is no mistake of the tool's. */
static void test_unplug_waiting(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);

    unplug(vm);
    expect_no_vcpu(vm);
    vm_expect_waiting_vcpus(vm, 0);
    tool_continue(vm->tool, event);
    expect_no_vcpu(vm);
    /* once */
    tool_continue(vm->tool, event);
    vm_expect_close_and_rehook(vm);
}

/* The same in an event of an instruction. */
static void test_unplug_waiting_cr(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    plug(vm);
    vm_guest_start_vcpu(vm, NEW);
    vm_watch_cr(vm, NEW, 3);
    vm_guest_begin(vm, NEW, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, NEW, KVMI_EVENT_CR);
    unplug(vm);
    tool_continue(vm->tool, event);
    expect_no_vcpu(vm);
    vm_guest_wait_counting(vm, 0);
}

/* It still has to fit. */
static void test_unplug_wrong_reply(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);

    unplug(vm);
    tool_retry(vm->tool, event);
    vm_expect_close_and_rehook(vm);
}

static void test_unplug_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);

    unplug(vm);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    vm_expect_panicked(vm);
}

/* The tool never answers, and goes: as if nothing had been. */
static void test_unplug_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = plug_in(vm);

    unplug(vm);
    tool_close(vm->tool);
    vm_rehook(vm);
    expect_no_vcpu(vm);
}

static const TestCase cases[] = {
    { "hotplug/create", test_create },
    { "hotplug/first-instruction", test_first_instruction,
      NEEDS_RUNNING_GUEST },
    { "hotplug/off", test_off },
    { "hotplug/pause", test_pause },
    { "hotplug/pause-behind", test_pause_behind },
    { "hotplug/crash", test_crash, .more = "-action panic=pause" },
    { "hotplug/retry", test_retry },
    { "hotplug/disconnect", test_disconnect },
    { "hotplug/disallowed", test_disallowed, .object = "events.0=unhook" },
    { "hotplug/unplug", test_unplug, NEEDS_UNPLUG },
    { "hotplug/unplug-waiting", test_unplug_waiting, NEEDS_UNPLUG },
    { "hotplug/unplug-waiting-cr", test_unplug_waiting_cr,
      NEEDS_RUNNING_GUEST | NEEDS_UNPLUG },
    { "hotplug/unplug-wrong-reply", test_unplug_wrong_reply, NEEDS_UNPLUG },
    { "hotplug/unplug-crash", test_unplug_crash, NEEDS_UNPLUG,
      .more = "-action panic=pause" },
    { "hotplug/unplug-disconnect", test_unplug_disconnect, NEEDS_UNPLUG },
};

void introspection_add_hotplug_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
