/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: INJECT_EXCEPTION and the event TRAP.
 */
#include "qemu/osdep.h"
#include "tests.h"

#define EXCEPTION_BP            3
#define EXCEPTION_UD            6
#define EXCEPTION_DF            8
#define EXCEPTION_NP            11
#define EXCEPTION_GP            13
#define EXCEPTION_PF            14

/* struct kvmi_event_trap.type */
#define TYPE_EXCEPTION          3
#define TYPE_SOFTWARE_EXCEPTION 6

#define CR4_DE                  (1 << 3)
#define CR4_RESERVED            (1ULL << 63)

#define ADDRESS                 0xffff812345678123ULL
#define ERROR_CODE              0x1238

static bool has_error(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 ||
           vector == 21 || vector == 29 || vector == 30;
}

static struct kvmi_inject_exception exception(unsigned vector)
{
    return (struct kvmi_inject_exception) {
        .nr = vector,
        .has_error = has_error(vector),
        .error_code = has_error(vector) ? ERROR_CODE : 0,
        .address = vector == EXCEPTION_PF ? ADDRESS : 0,
    };
}

static int inject(TestVM *vm, struct kvmi_inject_exception request)
{
    return tool_call(vm->tool, KVMI_INJECT_EXCEPTION, &request,
                     sizeof(request), NULL, 0);
}

static void inject_vector(TestVM *vm, unsigned vector)
{
    g_assert_cmpint(inject(vm, exception(vector)), ==, 0);
}

/* vCPU 0's operation ended with exactly this exception. */
static void expect_delivered_anywhere(TestVM *vm, unsigned vector)
{
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_EXCEPTION);
    g_assert_cmphex(vm_guest_get(vm, 0, vector), ==, vector);
    g_assert_cmphex(vm_guest_get(vm, 0, error_code), ==,
                    has_error(vector) ? ERROR_CODE : 0);
    if (vector == EXCEPTION_PF) {
        g_assert_cmphex(vm_guest_get(vm, 0, cr2), ==, ADDRESS);
    }
    tool_expect_no_event(vm->tool);
}

static void expect_delivered(TestVM *vm, unsigned vector, uint64_t rip)
{
    expect_delivered_anywhere(vm, vector);
    g_assert_cmphex(vm_guest_get(vm, 0, rip), ==, rip);
}

/* Pause all vCPUs; the event of vCPU 0 is returned, the others go on. */
static ToolEvent *pause_0(TestVM *vm)
{
    ToolEvent *event = NULL;

    tool_pause_all(vm->tool);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        ToolEvent *next = tool_receive_event(vm->tool);

        g_assert_cmpuint(next->common.event, ==, KVMI_EVENT_PAUSE_VCPU);
        if (next->common.vcpu == 0) {
            event = next;
        } else {
            tool_continue(vm->tool, next);
            g_free(next);
        }
    }
    g_assert_nonnull(event);
    return event;
}

/* Not every processor with VMX delivers these with an error code. */
static bool may_be_refused(TestVM *vm, unsigned vector)
{
    return vm->engine->in_kernel &&
           (vector == 21 || vector == 29 || vector == 30);
}

/* Every vector, delivered where the vCPU was. */
static void test_vectors(TestVM *vm)
{
    uint64_t exceptions = 0;

    for (unsigned vector = 0; vector < 32; vector++) {
        g_autofree ToolEvent *event = NULL;
        ToolRegisters regs;
        unsigned delivered = vector;
        int err;

        if (vector == 2) {
            continue;
        }
        g_test_message("vector %u", vector);
        vm_guest_begin(vm, 0, OP_COUNT, 0, 0);
        vm_guest_wait_started(vm, 0);
        vm_guest_wait_counting(vm, 0);
        event = pause_0(vm);
        err = inject(vm, exception(vector));
        if (err == -KVM_EOPNOTSUPP && may_be_refused(vm, vector)) {
            g_test_message("vector %u: not with this processor", vector);
            delivered = EXCEPTION_UD;
            err = inject(vm, exception(delivered));
        }
        g_assert_cmpint(err, ==, 0);
        /* nothing of it is to be seen yet */
        g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &regs),
                        ==, 0);
        g_assert_cmpmem(&regs.common.regs, sizeof(regs.common.regs),
                        &event->common.regs, sizeof(event->common.regs));
        g_assert_cmphex(regs.common.sregs.cr2, ==, event->common.sregs.cr2);
        tool_continue(vm->tool, event);
        expect_delivered(vm, delivered, event->common.regs.rip);
        g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, ++exceptions);
    }
}

static void test_running(TestVM *vm)
{
    for (int i = 0; i < 10; i++) {
        vm_guest_begin(vm, 0, OP_COUNT, 0, 0);
        vm_guest_wait_started(vm, 0);
        vm_guest_wait_counting(vm, 0);
        inject_vector(vm, EXCEPTION_GP);
        expect_delivered_anywhere(vm, EXCEPTION_GP);
        g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, i + 1);
    }
}

/* It wakes a halted vCPU, which is behind HLT then. */
static void test_halted(TestVM *vm)
{
    ToolRegisters regs;
    uint64_t behind;

    vm_guest_begin(vm, 0, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 0);
    do {
        behind = vm_guest_get(vm, 0, insn_rip) + 2;
        g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &regs),
                        ==, 0);
    } while (regs.common.regs.rip != behind);
    tool_expect_silence(vm->tool);
    g_assert_false(vm_guest_is_done(vm, 0));
    inject_vector(vm, EXCEPTION_PF);
    expect_delivered(vm, EXCEPTION_PF, behind);
}

/* The tool goes before it is delivered: the vCPU sleeps on. */
static void test_halted_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t behind;

    vm_guest_begin(vm, 0, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 0);
    do {
        g_clear_pointer(&event, g_free);
        event = pause_0(vm);
        behind = vm_guest_get(vm, 0, insn_rip) + 2;
        if (event->common.regs.rip != behind) {
            tool_continue(vm->tool, event);
        }
    } while (event->common.regs.rip != behind);
    inject_vector(vm, EXCEPTION_GP);
    tool_close(vm->tool);
    vm_rehook(vm);
    tool_expect_silence(vm->tool);
    g_assert_false(vm_guest_is_done(vm, 0));
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 0);
}

/* A vCPU that the guest starts later gets it before its first instruction. */
static void test_not_started(TestVM *vm)
{
    static const uint8_t halt[] = { 0xf4, 0xeb, 0xfd };
    struct kvmi_inject_exception request = exception(EXCEPTION_UD);
    ToolRegisters regs;

    qtest_memwrite(vm->qts, GUEST_CODE16, halt, sizeof(halt));
    qtest_writel(vm->qts, EXCEPTION_UD * 4, (GUEST_CODE16 >> 4) << 16);
    request.vcpu = 1;
    g_assert_cmpint(inject(vm, request), ==, 0);
    tool_expect_silence(vm->tool);
    g_assert_cmpint(inject(vm, request), ==, -KVM_EBUSY);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_START_VCPU, 1, 0), ==, GUEST_OK);
    do {
        g_assert_cmpint(tool_get_registers(vm->tool, 1, NULL, 0, &regs),
                        ==, 0);
    } while (regs.common.regs.rip != 1 ||
             regs.common.sregs.cs.base != GUEST_CODE16);
    /* what it came from is on the stack */
    g_assert_cmphex(vm_guest_read(vm, regs.common.regs.rsp & 0xffff, 4), ==,
                    (uint32_t)GUEST_SIPI_VECTOR << 24);
}

/* With RETRY it is delivered at the instruction of the event. */
static void test_retry(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_TRAP_FLAG);
    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_BREAKPOINT);
    inject_vector(vm, EXCEPTION_PF);
    tool_retry(vm->tool, event);
    expect_delivered(vm, EXCEPTION_PF, event->common.regs.rip);
}

/* The tool's #BP is not of an instruction; that of the guest's next INT3 is. */
static void test_then_int3(TestVM *vm)
{
    static const uint8_t code[] = {
        0x48, 0x89, 0xe1,                   /* mov %rsp, %rcx */
        0xbc, 0x00, 0x00, 0x00, 0x02,       /* mov $0x2000000, %esp */
        0xcc,                               /* int3 */
    };
    static const uint8_t handler[] = {
        0x48, 0x8b, 0x04, 0x24,             /* mov (%rsp), %rax */
        0x48, 0x89, 0xcc,                   /* mov %rcx, %rsp */
        0xc3,                               /* ret, out of code */
    };
    const uint64_t behind = GUEST_SCRATCH + sizeof(code);
    ToolRegisters regs;
    uint64_t gate;

    vm_guest_begin(vm, 0, OP_COUNT, 0, 0);
    vm_guest_wait_started(vm, 0);
    vm_guest_wait_counting(vm, 0);
    inject_vector(vm, EXCEPTION_BP);
    expect_delivered_anywhere(vm, EXCEPTION_BP);

    /* On a stack that nothing has used yet, KVM delivers it in two goes. */
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &regs), ==, 0);
    gate = regs.common.sregs.idt.base + EXCEPTION_BP * 16;
    qtest_writew(vm->qts, gate, behind & 0xffff);
    qtest_writeb(vm->qts, gate + 4, 0);
    qtest_writew(vm->qts, gate + 6, behind >> 16);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    qtest_memwrite(vm->qts, behind, handler, sizeof(handler));
    g_assert_cmphex(vm_guest_result(vm, 0, OP_CALL, GUEST_SCRATCH, 0), ==,
                    behind);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 1);
}

/* With CONTINUE it is delivered behind it. */
static void test_continue(TestVM *vm)
{
    uint64_t cr4 = vm_guest_result(vm, 0, OP_READ_CR, 4, 0);
    g_autofree ToolEvent *event = NULL;

    g_assert_cmpint(tool_control_cr(vm->tool, 0, 4, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG | KVMI_EVENT_TRAP_FLAG);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 4, cr4 ^ CR4_DE);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    inject_vector(vm, EXCEPTION_GP);
    tool_continue(vm->tool, event);
    expect_delivered(vm, EXCEPTION_GP, vm_guest_get(vm, 0, insn_next));
    g_assert_cmphex(vm_guest_result(vm, 0, OP_READ_CR, 4, 0), ==,
                    cr4 ^ CR4_DE);
}

/* The tool has moved RIP: it is delivered there. */
static void test_moved(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    struct kvm_regs regs;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_TRAP_FLAG);
    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_BREAKPOINT);
    regs = event->common.regs;
    regs.rip += 1;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    inject_vector(vm, EXCEPTION_GP);
    tool_continue(vm->tool, event);
    expect_delivered(vm, EXCEPTION_GP, regs.rip);
}

/* From every mode; real mode has no error codes. */
static void test_modes(TestVM *vm)
{
    static const uint8_t int3[] = { 0xcc };

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_TRAP_FLAG);
    for (unsigned mode = 0; mode <= GUEST_MODE_REAL; mode++) {
        g_autofree ToolEvent *event = NULL;

        g_test_message("%s", vm_guest_mode_name(mode));
        vm_guest_begin_code(vm, 0, mode, int3, sizeof(int3));
        event = tool_expect_event(vm->tool, 0, KVMI_EVENT_BREAKPOINT);
        inject_vector(vm, EXCEPTION_GP);
        tool_retry(vm->tool, event);
        vm_guest_expect_exception_at(vm, 0, EXCEPTION_GP,
                                     vm_guest_code_rip(mode));
        g_assert_cmphex(vm_guest_get(vm, 0, error_code), ==,
                        mode == GUEST_MODE_REAL ? 0 : ERROR_CODE);
        tool_expect_no_event(vm->tool);
    }
}

static void test_busy(TestVM *vm)
{
    g_autofree ToolEvent *event = pause_0(vm);
    struct kvmi_inject_exception other = exception(EXCEPTION_UD);

    inject_vector(vm, EXCEPTION_GP);
    g_assert_cmpint(inject(vm, exception(EXCEPTION_GP)), ==, -KVM_EBUSY);
    g_assert_cmpint(inject(vm, exception(EXCEPTION_PF)), ==, -KVM_EBUSY);
    /* the other vCPU has its own */
    other.vcpu = 1;
    g_assert_cmpint(inject(vm, other), ==, 0);
    g_assert_cmpint(inject(vm, other), ==, -KVM_EBUSY);
    /* what is wrong with it comes first */
    other.has_error = 1;
    g_assert_cmpint(inject(vm, other), ==, -KVM_EINVAL);
}

/* Neither of these does anything. */
static void expect_invalid(TestVM *vm, struct kvmi_inject_exception request)
{
    g_assert_cmpint(inject(vm, request), ==, -KVM_EINVAL);
}

static void test_bad_vector(TestVM *vm)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        if (vector == 2 || vector > 31) {
            expect_invalid(vm, exception(vector));
        }
    }
    tool_expect_no_event(vm->tool);
}

static void test_bad_has_error(TestVM *vm)
{
    for (unsigned vector = 0; vector < 32; vector++) {
        struct kvmi_inject_exception request = exception(vector);

        request.has_error = !request.has_error;
        expect_invalid(vm, request);
        request.has_error = 2;
        expect_invalid(vm, request);
        request.has_error = 0xff;
        expect_invalid(vm, request);
    }
}

static void test_bad_address(TestVM *vm)
{
    static const uint64_t addresses[] = {
        0x0000800000000000, 0xffff7fffffffffff, 1ULL << 63, 1ULL << 56,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        struct kvmi_inject_exception request = exception(EXCEPTION_PF);

        request.address = addresses[i];
        expect_invalid(vm, request);
    }
}

static void test_bad_padding(TestVM *vm)
{
    struct kvmi_inject_exception request = exception(EXCEPTION_GP);

    request.padding = 1;
    expect_invalid(vm, request);
    request.padding = 0x8000;
    expect_invalid(vm, request);
}

static void test_bad_vcpu(TestVM *vm)
{
    struct kvmi_inject_exception request = exception(EXCEPTION_GP);

    request.vcpu = VM_VCPUS;
    expect_invalid(vm, request);
    request.vcpu = UINT16_MAX;
    expect_invalid(vm, request);
}

static void test_disallowed(TestVM *vm)
{
    g_assert_cmpint(inject(vm, exception(EXCEPTION_GP)), ==, -KVM_EACCES);
}

/* Ends of the canonical halves. */
static void test_addresses(TestVM *vm)
{
    static const uint64_t addresses[] = {
        0, 0x00007fffffffffff, 0xffff800000000000, UINT64_MAX,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        struct kvmi_inject_exception request = exception(EXCEPTION_PF);

        request.address = addresses[i];
        vm_guest_begin(vm, 0, OP_COUNT, 0, 0);
        vm_guest_wait_started(vm, 0);
        vm_guest_wait_counting(vm, 0);
        g_assert_cmpint(inject(vm, request), ==, 0);
        g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_EXCEPTION);
        g_assert_cmphex(vm_guest_get(vm, 0, vector), ==, EXCEPTION_PF);
        g_assert_cmphex(vm_guest_get(vm, 0, cr2), ==, addresses[i]);
    }
}

/* The guest's gate for @vector is no longer there: #NP. */
static void remove_gate(TestVM *vm, const ToolEvent *event, unsigned vector)
{
    const uint8_t not_present = 0x0e;

    qtest_writeb(vm->qts, event->common.sregs.idt.base + vector * 16 + 5,
                 not_present);
}

/* @vector cannot be delivered; what does the guest get? */
static void expect_instead(TestVM *vm, unsigned vector, unsigned instead)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_TRAP_FLAG);
    vm_guest_begin(vm, 0, OP_COUNT, 0, 0);
    vm_guest_wait_started(vm, 0);
    vm_guest_wait_counting(vm, 0);
    event = pause_0(vm);
    remove_gate(vm, event, vector);
    inject_vector(vm, vector);
    tool_continue(vm->tool, event);
    vm_guest_expect_exception_at(vm, 0, instead, event->common.regs.rip);
    if (instead == EXCEPTION_DF) {
        g_assert_cmphex(vm_guest_get(vm, 0, error_code), ==, 0);
    }
    tool_expect_no_event(vm->tool);
}

static void test_double_fault(TestVM *vm)
{
    expect_instead(vm, EXCEPTION_GP, EXCEPTION_DF);
}

static void test_double_fault_pf(TestVM *vm)
{
    expect_instead(vm, EXCEPTION_PF, EXCEPTION_DF);
}

/* Not with one that is benign: the second exception is delivered. */
static void test_benign(TestVM *vm)
{
    expect_instead(vm, EXCEPTION_UD, EXCEPTION_NP);
}

static void test_triple_fault(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_guest_begin(vm, 0, OP_COUNT, 0, 0);
    vm_guest_wait_started(vm, 0);
    event = pause_0(vm);
    remove_gate(vm, event, EXCEPTION_GP);
    remove_gate(vm, event, EXCEPTION_DF);
    inject_vector(vm, EXCEPTION_GP);
    tool_continue(vm->tool, event);
    qtest_qmp_eventwait(vm->qts, "SHUTDOWN");
}

/* TRAP */

static ToolEvent *expect_trap(TestVM *vm, uint32_t vector, uint32_t type,
                              uint32_t error_code, uint64_t cr2)
{
    ToolEvent *event = tool_expect_event(vm->tool, 0, KVMI_EVENT_TRAP);

    g_assert_cmpuint(event->own.trap.vector, ==, vector);
    g_assert_cmpuint(event->own.trap.type, ==, type);
    g_assert_cmphex(event->own.trap.error_code, ==, error_code);
    g_assert_cmpuint(event->own.trap.padding, ==, 0);
    g_assert_cmphex(event->own.trap.cr2, ==, cr2);
    g_assert_false(vm_guest_is_done(vm, 0));
    return event;
}

/* vCPU 0's operation ended with @vector, and with no other exception. */
static void expect_only(TestVM *vm, unsigned vector)
{
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_EXCEPTION);
    g_assert_cmphex(vm_guest_get(vm, 0, vector), ==, vector);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 1);
    tool_expect_no_event(vm->tool);
}

/* At the event the guest is at the handler of what it has got. */
static void expect_at_handler(TestVM *vm, const ToolEvent *event,
                              unsigned vector)
{
    uint64_t gate = event->common.sregs.idt.base + vector * 16;
    uint64_t handler = (vm_guest_read(vm, gate, 4) & 0xffff) |
                       (vm_guest_read(vm, gate + 4, 4) & 0xffff0000);

    g_assert_cmphex(event->common.regs.rip, ==, handler);
}

static ToolEvent *lose_to_breakpoint(TestVM *vm)
{
    ToolEvent *event;

    vm_guest_begin(vm, 0, OP_INT3, 0, 0);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_BREAKPOINT);
    inject_vector(vm, EXCEPTION_GP);
    tool_continue(vm->tool, event);
    return event;
}

/* The tool wants both: its exception, and CONTINUE with #BP. */
static void test_lost_breakpoint(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    g_autofree ToolEvent *trap = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_TRAP_FLAG);
    event = lose_to_breakpoint(vm);
    trap = expect_trap(vm, EXCEPTION_BP, TYPE_SOFTWARE_EXCEPTION, 0, 0);
    expect_at_handler(vm, trap, EXCEPTION_BP);
    tool_continue(vm->tool, trap);
    expect_only(vm, EXCEPTION_BP);
}

static void test_lost_off(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    event = lose_to_breakpoint(vm);
    expect_only(vm, EXCEPTION_BP);
    /* and it is over: another one can be injected */
    vm_guest_begin(vm, 0, OP_COUNT, 0, 0);
    vm_guest_wait_started(vm, 0);
    inject_vector(vm, EXCEPTION_PF);
    expect_delivered_anywhere(vm, EXCEPTION_PF);
}

/* A new_val that the processor refuses: #GP. */
static void test_lost_refused(TestVM *vm)
{
    uint64_t cr4 = vm_guest_result(vm, 0, OP_READ_CR, 4, 0);
    g_autofree ToolEvent *event = NULL;
    g_autofree ToolEvent *trap = NULL;

    g_assert_cmpint(tool_control_cr(vm->tool, 0, 4, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG | KVMI_EVENT_TRAP_FLAG);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 4, cr4 ^ CR4_DE);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    inject_vector(vm, EXCEPTION_UD);
    tool_continue_with(vm->tool, event, cr4 | CR4_RESERVED);
    trap = expect_trap(vm, EXCEPTION_GP, TYPE_EXCEPTION, 0, 0);
    expect_at_handler(vm, trap, EXCEPTION_GP);
    tool_continue(vm->tool, trap);
    expect_only(vm, EXCEPTION_GP);
}

/* The instruction's operand is not there: #PF. */
static void test_lost_page_fault(TestVM *vm)
{
    /* sgdt GUEST_SCRATCH + 0x2000; ret */
    static const uint8_t code[] = {
        0x0f, 0x01, 0x04, 0x25, 0x00, 0x20, 0x40, 0x00, 0xc3,
    };
    const uint32_t not_present_write = 2;
    g_autofree ToolEvent *event = NULL;
    g_autofree ToolEvent *trap = NULL;

    qtest_writeq(vm->qts, GUEST_PT + 2 * 8, 0);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG | KVMI_EVENT_TRAP_FLAG);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_DESCRIPTOR);
    inject_vector(vm, EXCEPTION_GP);
    tool_continue(vm->tool, event);
    trap = expect_trap(vm, EXCEPTION_PF, TYPE_EXCEPTION, not_present_write,
                       GUEST_SCRATCH + 0x2000);
    expect_at_handler(vm, trap, EXCEPTION_PF);
    tool_continue(vm->tool, trap);
    expect_only(vm, EXCEPTION_PF);
}

/* An interrupt that is pending as well comes after it. */
static void test_before_interrupt(TestVM *vm)
{
    /* sti; nop; mov $PML4_B, %eax; mov %rax, %cr3; nop; cli; ret */
    static const uint8_t code[] = {
        0xfb, 0x90, 0xb8, 0x00, 0x10, 0x01, 0x00, 0x0f, 0x22, 0xd8,
        0x90, 0xfa, 0xc3,
    };
    g_autofree ToolEvent *event = NULL;

    vm_guest_start_vcpu(vm, 1);
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG | KVMI_EVENT_TRAP_FLAG);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    g_assert_cmpint(vm_guest_do(vm, 1, OP_SEND_IPI, 0, GUEST_VECTOR_WAKE),
                    ==, GUEST_OK);
    inject_vector(vm, EXCEPTION_UD);
    tool_continue(vm->tool, event);
    expect_delivered(vm, EXCEPTION_UD, GUEST_SCRATCH + 10);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 0);
    /* and it does come */
    g_assert_cmpint(vm_guest_do(vm, 0, OP_HALT, 0, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_VECTOR_WAKE);
}

static void test_trap_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    g_autofree ToolEvent *trap = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_TRAP_FLAG);
    event = lose_to_breakpoint(vm);
    trap = expect_trap(vm, EXCEPTION_BP, TYPE_SOFTWARE_EXCEPTION, 0, 0);
    tool_reply(vm->tool, trap, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    vm_expect_panicked(vm);
    g_assert_false(vm_guest_is_done(vm, 0));
}

static void test_trap_retry(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    g_autofree ToolEvent *trap = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_TRAP_FLAG);
    event = lose_to_breakpoint(vm);
    trap = expect_trap(vm, EXCEPTION_BP, TYPE_SOFTWARE_EXCEPTION, 0, 0);
    tool_retry(vm->tool, trap);
    vm_expect_close_and_rehook(vm);
    expect_only(vm, EXCEPTION_BP);
}

static void test_trap_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    g_autofree ToolEvent *trap = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_TRAP_FLAG);
    event = lose_to_breakpoint(vm);
    trap = expect_trap(vm, EXCEPTION_BP, TYPE_SOFTWARE_EXCEPTION, 0, 0);
    tool_close(vm->tool);
    vm_rehook(vm);
    expect_only(vm, EXCEPTION_BP);
}

/* The tool goes: an exception that is pending goes with it. */
static void test_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    inject_vector(vm, EXCEPTION_GP);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 0);
    vm_rehook(vm);
}

static const TestCase cases[] = {
    { "inject/vectors", test_vectors, NEEDS_RUNNING_GUEST },
    { "inject/running", test_running, NEEDS_RUNNING_GUEST },
    { "inject/halted", test_halted, NEEDS_RUNNING_GUEST },
    { "inject/halted-disconnect", test_halted_disconnect,
      NEEDS_RUNNING_GUEST },
    { "inject/not-started", test_not_started, NEEDS_RUNNING_GUEST },
    { "inject/retry", test_retry, NEEDS_RUNNING_GUEST },
    { "inject/then-int3", test_then_int3, NEEDS_RUNNING_GUEST },
    { "inject/continue", test_continue, NEEDS_RUNNING_GUEST },
    { "inject/moved", test_moved, NEEDS_RUNNING_GUEST },
    { "inject/modes", test_modes, NEEDS_RUNNING_GUEST },
    { "inject/addresses", test_addresses, NEEDS_RUNNING_GUEST },
    { "inject/double-fault", test_double_fault, NEEDS_RUNNING_GUEST },
    { "inject/double-fault-pf", test_double_fault_pf, NEEDS_RUNNING_GUEST },
    { "inject/benign", test_benign, NEEDS_RUNNING_GUEST },
    { "inject/triple-fault", test_triple_fault, NEEDS_RUNNING_GUEST,
      .more = "-no-shutdown" },
    { "inject/before-interrupt", test_before_interrupt,
      NEEDS_RUNNING_GUEST },
    { "inject/disconnect", test_disconnect, NEEDS_RUNNING_GUEST },
    { "inject/busy", test_busy },
    { "inject/bad-vector", test_bad_vector },
    { "inject/bad-has-error", test_bad_has_error },
    { "inject/bad-address", test_bad_address },
    { "inject/bad-padding", test_bad_padding },
    { "inject/bad-vcpu", test_bad_vcpu },
    { "inject/disallowed", test_disallowed,
      .object = "commands.0=get-registers" },
    { "trap/breakpoint", test_lost_breakpoint, NEEDS_RUNNING_GUEST },
    { "trap/refused", test_lost_refused, NEEDS_RUNNING_GUEST },
    { "trap/page-fault", test_lost_page_fault, NEEDS_RUNNING_GUEST },
    { "trap/off", test_lost_off, NEEDS_RUNNING_GUEST },
    { "trap/crash", test_trap_crash, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "trap/retry", test_trap_retry, NEEDS_RUNNING_GUEST },
    { "trap/disconnect", test_trap_disconnect, NEEDS_RUNNING_GUEST },
};

void introspection_add_inject_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
