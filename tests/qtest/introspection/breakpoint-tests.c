/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: the events BREAKPOINT and XSETBV.
 */
#include "qemu/osdep.h"
#include "tests.h"

#define EXCEPTION_BP            3
#define EXCEPTION_GP            13

#define INT3                    0xcc
#define NOP                     0x90

#define PTE_P_W_U               7

#define XCR0_X87                1
#define XCR0_SSE                2
#define XCR0_AVX                4

/* What the code below returns. */
#define CODE_RESULT             0x5a

/* nop; mov $CODE_RESULT, %eax; ret */
static const uint8_t code[] = { NOP, 0xb8, CODE_RESULT, 0, 0, 0, 0xc3 };

static void poke(TestVM *vm, uint64_t gpa, uint8_t byte)
{
    g_assert_cmpint(tool_write_physical(vm->tool, gpa, 1, &byte), ==, 0);
}

/* Guest code at @gpa, with the tool's breakpoint on its first byte. */
static void place_code(TestVM *vm, uint64_t gpa)
{
    qtest_memwrite(vm->qts, gpa, code, sizeof(code));
    poke(vm, gpa, INT3);
}

static ToolEvent *expect_breakpoint(TestVM *vm, unsigned vcpu, uint64_t rip,
                                    uint64_t gpa)
{
    ToolEvent *event = tool_expect_event(vm->tool, vcpu,
                                         KVMI_EVENT_BREAKPOINT);

    g_assert_cmphex(event->common.regs.rip, ==, rip);
    g_assert_cmphex(event->own.breakpoint.gpa, ==, gpa);
    return event;
}

static void move_rip(TestVM *vm, const ToolEvent *event, int64_t distance)
{
    struct kvm_regs regs = event->common.regs;

    regs.rip += distance;
    g_assert_cmpint(tool_set_registers(vm->tool, event->common.vcpu, &regs),
                    ==, 0);
}

/* The code has run, and the guest never had an exception. */
static void expect_code_done(TestVM *vm, unsigned vcpu)
{
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, vcpu, result[0]), ==, CODE_RESULT);
    g_assert_cmpuint(vm_guest_get(vm, vcpu, exceptions), ==, 0);
    tool_expect_no_event(vm->tool);
}

/* The guest has got the #BP of its operation: RIP is behind INT3. */
static void expect_bp_delivered(TestVM *vm, unsigned vcpu)
{
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_EXCEPTION);
    g_assert_cmphex(vm_guest_get(vm, vcpu, vector), ==, EXCEPTION_BP);
    g_assert_cmphex(vm_guest_get(vm, vcpu, rip), ==,
                    vm_guest_get(vm, vcpu, insn_next));
    g_assert_cmpuint(vm_guest_get(vm, vcpu, exceptions), ==, 1);
    tool_expect_no_event(vm->tool);
}

static ToolEvent *begin_int3(TestVM *vm, unsigned vcpu)
{
    ToolEvent *event;
    uint64_t rip;

    vm_guest_begin(vm, vcpu, OP_INT3, 0, 0);
    event = tool_expect_event(vm->tool, vcpu, KVMI_EVENT_BREAKPOINT);
    rip = vm_guest_get(vm, vcpu, insn_rip);
    g_assert_cmphex(event->common.regs.rip, ==, rip);
    g_assert_cmphex(event->own.breakpoint.gpa, ==, rip);
    g_assert_cmpuint(event->common.mode, ==, 8);
    g_assert_false(vm_guest_is_done(vm, vcpu));
    g_assert_cmpuint(vm_guest_get(vm, vcpu, exceptions), ==, 0);
    return event;
}

/* The guest's own INT3: what a debugger in it has set. */
static void test_continue(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    event = begin_int3(vm, 0);
    tool_continue(vm->tool, event);
    expect_bp_delivered(vm, 0);
}

static void test_off(TestVM *vm)
{
    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    expect_bp_delivered(vm, 0);
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG | KVMI_EVENT_XSETBV_FLAG);
    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_EXCEPTION);
    tool_expect_no_event(vm->tool);
}

/* INT 3 in two bytes is no breakpoint. */
static void test_int_n(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    vm_guest_begin(vm, 0, OP_INT_N, 0, 0);
    expect_bp_delivered(vm, 0);
}

static void test_retry_restored(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    place_code(vm, GUEST_SCRATCH);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    event = expect_breakpoint(vm, 0, GUEST_SCRATCH, GUEST_SCRATCH);
    poke(vm, GUEST_SCRATCH, code[0]);
    tool_retry(vm->tool, event);
    expect_code_done(vm, 0);
}

static void test_retry_moved(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    place_code(vm, GUEST_SCRATCH);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    event = expect_breakpoint(vm, 0, GUEST_SCRATCH, GUEST_SCRATCH);
    move_rip(vm, event, 1);
    tool_retry(vm->tool, event);
    expect_code_done(vm, 0);
    g_assert_cmphex(vm_guest_read(vm, GUEST_SCRATCH, 4) & 0xff, ==, INT3);
}

/* With CONTINUE as well: what was intercepted is no longer there. */
static void test_continue_moved(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    place_code(vm, GUEST_SCRATCH);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    event = expect_breakpoint(vm, 0, GUEST_SCRATCH, GUEST_SCRATCH);
    move_rip(vm, event, 1);
    tool_continue(vm->tool, event);
    expect_code_done(vm, 0);
}

/* Nothing is changed: INT3 comes again, each time as an event. */
static void test_retry_unchanged(TestVM *vm)
{
    g_autofree ToolEvent *last = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    last = begin_int3(vm, 0);
    for (int i = 0; i < 20; i++) {
        ToolEvent *event;

        tool_retry(vm->tool, last);
        event = expect_breakpoint(vm, 0, last->common.regs.rip,
                                  last->own.breakpoint.gpa);
        g_assert_cmpuint(event->seq, !=, last->seq);
        g_assert_cmpmem(&event->common.regs, sizeof(event->common.regs),
                        &last->common.regs, sizeof(last->common.regs));
        g_free(last);
        last = event;
    }
    tool_continue(vm->tool, last);
    expect_bp_delivered(vm, 0);
}

/* The page lies elsewhere than its address says. */
static void map_page(TestVM *vm, unsigned page, unsigned to)
{
    qtest_writeq(vm->qts, GUEST_PT + page * 8,
                 (GUEST_SCRATCH + to * 0x1000) | PTE_P_W_U);
}

static void test_gpa(TestVM *vm)
{
    const uint64_t gva = GUEST_SCRATCH + 0x3123;
    const uint64_t gpa = GUEST_SCRATCH + 0x5123;
    g_autofree ToolEvent *event = NULL;

    map_page(vm, 3, 5);
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    place_code(vm, gpa);
    vm_guest_begin(vm, 0, OP_CALL, gva, 0);
    event = expect_breakpoint(vm, 0, gva, gpa);
    poke(vm, event->own.breakpoint.gpa, code[0]);
    tool_retry(vm->tool, event);
    expect_code_done(vm, 0);
}

/* The first byte counts, here a prefix in another page than INT3 itself. */
static void test_gpa_prefix(TestVM *vm)
{
    const uint64_t gva = GUEST_SCRATCH + 0x3fff;
    g_autofree ToolEvent *event = NULL;

    map_page(vm, 3, 5);
    map_page(vm, 4, 8);
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    qtest_writeb(vm->qts, GUEST_SCRATCH + 0x5fff, 0x66);
    place_code(vm, GUEST_SCRATCH + 0x8000);
    vm_guest_begin(vm, 0, OP_CALL, gva, 0);
    event = expect_breakpoint(vm, 0, gva, GUEST_SCRATCH + 0x5fff);
    move_rip(vm, event, 2);
    tool_retry(vm->tool, event);
    expect_code_done(vm, 0);
}

/* Every mode and privilege level; RIP counts from the segment's base. */
static void expect_in_mode(TestVM *vm, unsigned mode, uint32_t action)
{
    /* int3; mov $CODE_RESULT, %al */
    static const uint8_t insns[] = { INT3, 0xb0, CODE_RESULT };
    uint64_t rip = vm_guest_code_rip(mode);
    bool is_64 = mode == GUEST_MODE_USER64;
    bool is_32 = mode == GUEST_MODE_USER32 || mode == GUEST_MODE_COMPAT32 ||
                 mode == GUEST_MODE_PROT32 || mode == GUEST_MODE_PAGED32;
    g_autofree ToolEvent *event = NULL;

    g_test_message("%s", vm_guest_mode_name(mode));
    vm_guest_begin_code(vm, 0, mode, insns, sizeof(insns));
    event = expect_breakpoint(vm, 0, rip, vm_guest_code_gpa(mode));
    g_assert_cmpuint(event->common.mode, ==, is_64 ? 8 : is_32 ? 4 : 2);
    if (action == KVMI_EVENT_ACTION_RETRY) {
        move_rip(vm, event, 1);
        tool_retry(vm->tool, event);
        g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
        g_assert_cmphex(vm_guest_get(vm, 0, result[0]) & 0xff, ==,
                        CODE_RESULT);
    } else {
        tool_continue(vm->tool, event);
        vm_guest_expect_exception_at(vm, 0, EXCEPTION_BP, rip + 1);
    }
    tool_expect_no_event(vm->tool);
}

static void test_modes_retry(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    for (unsigned mode = 0; mode <= GUEST_MODE_REAL; mode++) {
        expect_in_mode(vm, mode, KVMI_EVENT_ACTION_RETRY);
    }
}

static void test_modes_continue(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    for (unsigned mode = 0; mode <= GUEST_MODE_REAL; mode++) {
        expect_in_mode(vm, mode, KVMI_EVENT_ACTION_CONTINUE);
    }
}

static void test_per_vcpu(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_guest_start_vcpu(vm, 1);
    vm_control_events(vm, 1, KVMI_EVENT_BREAKPOINT_FLAG);
    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    expect_bp_delivered(vm, 0);
    event = begin_int3(vm, 1);
    tool_continue(vm->tool, event);
    expect_bp_delivered(vm, 1);
}

/* Both vCPUs run into the same one, over and over; each hit is reported. */
static void test_many(TestVM *vm)
{
    unsigned count[VM_VCPUS] = { 0 };

    vm_guest_start_vcpu(vm, 1);
    place_code(vm, GUEST_SCRATCH);
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        vm_control_events(vm, vcpu, KVMI_EVENT_BREAKPOINT_FLAG);
        vm_guest_begin(vm, vcpu, OP_CALL_LOOP, GUEST_SCRATCH, 0);
    }
    while (count[0] < 250 || count[1] < 250) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);
        unsigned vcpu = event->common.vcpu;

        g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_BREAKPOINT);
        g_assert_cmphex(event->common.regs.rip, ==, GUEST_SCRATCH);
        g_assert_cmpuint(vcpu, <, VM_VCPUS);
        count[vcpu]++;
        move_rip(vm, event, 1);
        tool_retry(vm->tool, event);
    }
    poke(vm, GUEST_SCRATCH, code[0]);
    vm_guest_release(vm);
    tool_close(vm->tool);
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
        g_assert_cmpuint(vm_guest_get(vm, vcpu, exceptions), ==, 0);
    }
}

static void test_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    event = begin_int3(vm, 0);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    vm_expect_panicked(vm);
    g_assert_false(vm_guest_is_done(vm, 0));
}

/* The tool dies: the guest's own breakpoint is the guest's again. */
static void test_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    event = begin_int3(vm, 0);
    tool_close(vm->tool);
    vm_rehook(vm);
    expect_bp_delivered(vm, 0);
    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_EXCEPTION);
    tool_expect_no_event(vm->tool);
}

static void test_disallowed(TestVM *vm)
{
    g_assert_cmpint(tool_control_events(vm->tool, 0,
                                        KVMI_EVENT_BREAKPOINT_FLAG),
                    ==, -KVM_EPERM);
    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    expect_bp_delivered(vm, 0);
}

/* The pause event comes once #BP has been delivered. */
static void test_pause_behind(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    event = begin_int3(vm, 0);
    tool_pause_all(vm->tool);
    tool_continue(vm->tool, event);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        g_autofree ToolEvent *pause = tool_receive_event(vm->tool);

        g_assert_cmpuint(pause->common.event, ==, KVMI_EVENT_PAUSE_VCPU);
        if (pause->common.vcpu == 0) {
            g_assert_cmphex(pause->common.regs.rip, !=,
                            event->common.regs.rip);
            g_assert_cmphex(pause->common.regs.rip, !=,
                            vm_guest_get(vm, 0, insn_next));
        }
        tool_continue(vm->tool, pause);
    }
    expect_bp_delivered(vm, 0);
}

/* XSETBV */

static uint64_t read_xcr0(TestVM *vm)
{
    return vm_guest_result(vm, 0, OP_XGETBV, 0, 0);
}

static ToolEvent *begin_xsetbv(TestVM *vm, uint64_t value)
{
    ToolEvent *event;

    vm_guest_begin(vm, 0, OP_XSETBV, 0, value);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_XSETBV);
    g_assert_cmphex(event->common.regs.rip, ==, vm_guest_get(vm, 0, insn_rip));
    g_assert_cmphex(event->common.regs.rcx, ==, 0);
    g_assert_cmphex(event->common.regs.rax, ==, value);
    g_assert_false(vm_guest_is_done(vm, 0));
    return event;
}

static void test_xsetbv(TestVM *vm)
{
    uint64_t xcr0 = read_xcr0(vm);

    g_assert_cmphex(xcr0 & (XCR0_X87 | XCR0_SSE), ==, XCR0_X87 | XCR0_SSE);
    vm_control_events(vm, 0, KVMI_EVENT_XSETBV_FLAG);
    for (int i = 0; i < 4; i++) {
        uint64_t value = i & 1 ? xcr0 : XCR0_X87;
        g_autofree ToolEvent *event = begin_xsetbv(vm, value);

        tool_continue(vm->tool, event);
        g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
        g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, value);
        tool_expect_no_event(vm->tool);
    }
}

/* The tool has the guest go on behind it: XCR0 stays. */
static void test_xsetbv_moved(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t xcr0 = read_xcr0(vm);

    vm_control_events(vm, 0, KVMI_EVENT_XSETBV_FLAG);
    event = begin_xsetbv(vm, XCR0_X87);
    move_rip(vm, event, 3);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, xcr0);
}

static void test_xsetbv_same(TestVM *vm)
{
    uint64_t xcr0 = read_xcr0(vm);

    vm_control_events(vm, 0, KVMI_EVENT_XSETBV_FLAG);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_XSETBV, 0, xcr0), ==, xcr0);
    tool_expect_no_event(vm->tool);
}

static void test_xsetbv_off(TestVM *vm)
{
    g_assert_cmphex(vm_guest_result(vm, 0, OP_XSETBV, 0, XCR0_X87), ==,
                    XCR0_X87);
    tool_expect_no_event(vm->tool);
}

/* What the processor refuses is the guest's own affair. */
static void test_xsetbv_refused(TestVM *vm)
{
    static const uint64_t refused[][2] = {
        { 0, 0 },                       /* without x87 */
        { 0, XCR0_X87 | XCR0_AVX },     /* AVX without SSE */
        { 0, UINT64_MAX },              /* reserved */
        { 1, XCR0_X87 },                /* no such register */
    };
    uint64_t xcr0 = read_xcr0(vm);

    vm_control_events(vm, 0, KVMI_EVENT_XSETBV_FLAG);
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        vm_guest_begin(vm, 0, OP_XSETBV, refused[i][0], refused[i][1]);
        vm_guest_expect_exception(vm, 0, EXCEPTION_GP);
        tool_expect_no_event(vm->tool);
        g_assert_cmphex(read_xcr0(vm), ==, xcr0);
    }
}

static void test_xsetbv_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_XSETBV_FLAG);
    event = begin_xsetbv(vm, XCR0_X87);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    vm_expect_panicked(vm);
    g_assert_false(vm_guest_is_done(vm, 0));
}

static void test_xsetbv_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_XSETBV_FLAG);
    event = begin_xsetbv(vm, XCR0_X87);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, XCR0_X87);
    vm_rehook(vm);
    vm_guest_result(vm, 0, OP_XSETBV, 0, XCR0_X87 | XCR0_SSE);
    tool_expect_no_event(vm->tool);
}

/* XSETBV has no RETRY: the connection ends, the guest goes on. */
static void test_xsetbv_retry(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_XSETBV_FLAG);
    event = begin_xsetbv(vm, XCR0_X87);
    tool_retry(vm->tool, event);
    vm_expect_close_and_rehook(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, XCR0_X87);
}

static const TestCase cases[] = {
    { "breakpoint/continue", test_continue, NEEDS_RUNNING_GUEST },
    { "breakpoint/off", test_off, NEEDS_RUNNING_GUEST },
    { "breakpoint/int-n", test_int_n, NEEDS_RUNNING_GUEST },
    { "breakpoint/retry-restored", test_retry_restored,
      NEEDS_RUNNING_GUEST },
    { "breakpoint/retry-moved", test_retry_moved, NEEDS_RUNNING_GUEST },
    { "breakpoint/retry-unchanged", test_retry_unchanged,
      NEEDS_RUNNING_GUEST },
    { "breakpoint/continue-moved", test_continue_moved,
      NEEDS_RUNNING_GUEST },
    { "breakpoint/gpa", test_gpa, NEEDS_RUNNING_GUEST },
    { "breakpoint/gpa-prefix", test_gpa_prefix, NEEDS_RUNNING_GUEST },
    { "breakpoint/modes-retry", test_modes_retry, NEEDS_RUNNING_GUEST },
    { "breakpoint/modes-continue", test_modes_continue,
      NEEDS_RUNNING_GUEST },
    { "breakpoint/per-vcpu", test_per_vcpu, NEEDS_RUNNING_GUEST },
    { "breakpoint/many", test_many, NEEDS_RUNNING_GUEST },
    { "breakpoint/crash", test_crash, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "breakpoint/disconnect", test_disconnect, NEEDS_RUNNING_GUEST },
    { "breakpoint/disallowed", test_disallowed, NEEDS_RUNNING_GUEST,
      .object = "events.0=cr" },
    { "breakpoint/pause-behind", test_pause_behind, NEEDS_RUNNING_GUEST },
    { "xsetbv/continue", test_xsetbv, NEEDS_RUNNING_GUEST },
    { "xsetbv/moved", test_xsetbv_moved, NEEDS_RUNNING_GUEST },
    { "xsetbv/same-value", test_xsetbv_same, NEEDS_RUNNING_GUEST },
    { "xsetbv/off", test_xsetbv_off, NEEDS_RUNNING_GUEST },
    { "xsetbv/refused", test_xsetbv_refused, NEEDS_RUNNING_GUEST },
    { "xsetbv/crash", test_xsetbv_crash, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "xsetbv/disconnect", test_xsetbv_disconnect, NEEDS_RUNNING_GUEST },
    { "xsetbv/retry", test_xsetbv_retry, NEEDS_RUNNING_GUEST },
};

void introspection_add_breakpoint_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
