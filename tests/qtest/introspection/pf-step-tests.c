/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: instructions that are executed one by one, by RETRY with
 * singlestep, without the guest noticing.
 */
#include "qemu/osdep.h"
#include "page-access.h"

#define EXCEPTION_DE            0
#define EXCEPTION_DB            1
#define EXCEPTION_UD            6

#define RFLAGS_TF               0x100

#define MSR_EFER                0xc0000080
#define MSR_STAR                0xc0000081
#define MSR_LSTAR               0xc0000082
#define MSR_SFMASK              0xc0000084
#define MSR_DEBUGCTL            0x1d9
#define EFER_SCE                1
#define DEBUGCTL_BTF            2

/* From these SYSRET makes GUEST_USER_CS64, and SYSCALL GUEST_CS64. */
#define STAR                    ((GUEST_USER_CS64 - 16ULL) << 48 | \
                                 (uint64_t)GUEST_CS64 << 32)

/* Code, and where its instructions begin, in the order of execution. */
typedef struct Steps {
    uint8_t bytes[32];
    uint8_t rips[12];
    unsigned n;
} Steps;

/* Have vCPU 0 call code that is in a page which is not to be executed. */
static void begin_steps(TestVM *vm, const Steps *steps)
{
    qtest_memwrite(vm->qts, CODE, steps->bytes, sizeof(steps->bytes));
    enable_pf(vm, 0);
    set_access(vm, CODE, R | W);
    begin(vm, 0, CODE);
}

static ToolEvent *expect_step(TestVM *vm, uint64_t offset, uint64_t tf)
{
    ToolEvent *event = expect_pf(vm, 0, CODE + offset, CODE + offset, X);

    g_assert_cmphex(event->common.regs.rflags & RFLAGS_TF, ==, tf);
    return event;
}

static void step(TestVM *vm, const ToolEvent *event)
{
    struct kvmi_event_pf_reply reply = { .singlestep = 1 };

    reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
}

/* Each instruction is reported, so none was executed with the one before it. */
static void step_range(TestVM *vm, const Steps *steps, unsigned first,
                       unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        g_autofree ToolEvent *event = expect_step(vm, steps->rips[i], 0);

        step(vm, event);
    }
}

static void step_all(TestVM *vm, const Steps *steps)
{
    begin_steps(vm, steps);
    step_range(vm, steps, 0, steps->n);
}

/* pushf; pop %rax; ret */
static void test_pushf(TestVM *vm)
{
    static const Steps steps = { { 0x9c, 0x58, 0xc3 }, { 0, 1, 2 }, 3 };

    step_all(vm, &steps);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0) & RFLAGS_TF, ==, 0);
}

/* stc; pushf; clc; popf; setc %al; movzbl %al, %eax; ret */
static void test_popf(TestVM *vm)
{
    static const Steps steps = {
        { 0xf9, 0x9c, 0xf8, 0x9d, 0x0f, 0x92, 0xc0, 0x0f, 0xb6, 0xc0, 0xc3 },
        { 0, 1, 2, 3, 4, 7, 10 }, 7,
    };

    step_all(vm, &steps);
    finish_ok(vm, 0);
    g_assert_cmpuint(result(vm, 0), ==, 1);
}

/* pushf; orl $TF, (%rsp); popf; nop; ret: the guest steps over the nop itself */
static void test_own_tf(TestVM *vm)
{
    static const Steps steps = {
        { 0x9c, 0x81, 0x0c, 0x24, 0x00, 0x01, 0x00, 0x00, 0x9d, 0x90, 0xc3 },
        { 0, 1, 8 }, 3,
    };
    g_autofree ToolEvent *event = NULL;

    step_all(vm, &steps);
    event = expect_step(vm, 9, RFLAGS_TF);
    step(vm, event);
    vm_guest_expect_exception_at(vm, 0, EXCEPTION_DB, CODE + 10);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 1);
}

/*
 * mov %rsp, %rax; mov %ss, %ecx; push %rcx; push %rax; pushf; mov %cs, %ecx;
 * push %rcx; lea behind it, %rcx; push %rcx; iretq; mov $0x77, %al; ret
 */
static void test_iret(TestVM *vm)
{
    static const Steps steps = {
        { 0x48, 0x89, 0xe0, 0x8c, 0xd1, 0x51, 0x50, 0x9c, 0x8c, 0xc9, 0x51,
          0x48, 0x8d, 0x0d, 3, 0, 0, 0, 0x51, 0x48, 0xcf, 0xb0, 0x77, 0xc3 },
        { 0, 3, 5, 6, 7, 8, 10, 11, 18, 19, 21, 23 }, 12,
    };

    step_all(vm, &steps);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0) & 0xff, ==, 0x77);
}

/* mov %ss, %eax; mov %eax, %ss; mov $0x77, %eax; ret */
static void test_mov_ss(TestVM *vm)
{
    static const Steps steps = {
        { 0x8c, 0xd0, 0x8e, 0xd0, 0xb8, 0x77, 0, 0, 0, 0xc3 },
        { 0, 2, 4, 9 }, 4,
    };

    step_all(vm, &steps);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, 0x77);
}

/* int $GUEST_VECTOR_WAKE; mov $0x77, %eax; ret */
static void test_int_n(TestVM *vm)
{
    static const Steps steps = {
        { 0xcd, GUEST_VECTOR_WAKE, 0xb8, 0x77, 0, 0, 0, 0xc3 },
        { 0, 2, 7 }, 3,
    };

    step_all(vm, &steps);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, 0x77);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 1);
}

static void send_interrupt(TestVM *vm)
{
    g_assert_cmpint(vm_guest_do(vm, 1, OP_SEND_IPI, 0, GUEST_VECTOR_WAKE),
                    ==, GUEST_OK);
}

/* sti; hlt; cli; mov $0x77, %eax; ret */
static void test_hlt(TestVM *vm)
{
    static const Steps steps = {
        { 0xfb, 0xf4, 0xfa, 0xb8, 0x77, 0, 0, 0, 0xc3 },
        { 0, 1, 2, 3, 8 }, 5,
    };

    vm_guest_start_vcpu(vm, 1);
    begin_steps(vm, &steps);
    step_range(vm, &steps, 0, 2);
    send_interrupt(vm);
    step_range(vm, &steps, 2, 5);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, 0x77);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 1);
}

/*
 * sti; nop; nop; cli; mov $0x77, %eax; ret: one that comes while the tool is asked
 * is delivered behind the instruction.
 */
static void test_interrupt(TestVM *vm)
{
    static const Steps steps = {
        { 0xfb, 0x90, 0x90, 0xfa, 0xb8, 0x77, 0, 0, 0, 0xc3 },
        { 0, 1, 2, 3, 4, 9 }, 6,
    };
    g_autofree ToolEvent *event = NULL;

    vm_guest_start_vcpu(vm, 1);
    begin_steps(vm, &steps);
    step_range(vm, &steps, 0, 1);
    event = expect_step(vm, 1, 0);
    send_interrupt(vm);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 0);
    step(vm, event);
    step_range(vm, &steps, 2, 3);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 1);
    step_range(vm, &steps, 3, 6);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, 0x77);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 1);
}

/* xor %ecx, %ecx; div %ecx: the fault is the guest's, and no step is left */
static void test_fault(TestVM *vm)
{
    static const Steps steps = { { 0x31, 0xc9, 0xf7, 0xf1 }, { 0, 2 }, 2 };

    for (unsigned i = 1; i < 4; i++) {
        step_all(vm, &steps);
        vm_guest_expect_exception_at(vm, 0, EXCEPTION_DE, CODE + 2);
        g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, i);
    }
}

static void enable_syscall(TestVM *vm)
{
    uint64_t efer = vm_guest_result(vm, 0, OP_RDMSR, MSR_EFER, 0);

    vm_guest_result(vm, 0, OP_WRMSR, MSR_EFER, efer | EFER_SCE);
    vm_guest_result(vm, 0, OP_WRMSR, MSR_STAR, STAR);
    vm_guest_result(vm, 0, OP_WRMSR, MSR_LSTAR, CODE + 4);
    vm_guest_result(vm, 0, OP_WRMSR, MSR_SFMASK, RFLAGS_TF);
}

/* syscall; ud2; mov %r11, %rax; push %rcx; ret */
static void test_syscall(TestVM *vm)
{
    static const Steps steps = {
        { 0x0f, 0x05, 0x0f, 0x0b, 0x4c, 0x89, 0xd8, 0x51, 0xc3 },
        { 0, 4, 7, 8, 2 }, 5,
    };
    g_autofree ToolEvent *event = NULL;

    enable_syscall(vm);
    begin_steps(vm, &steps);
    step_range(vm, &steps, 0, 2);
    event = expect_step(vm, 7, 0);
    g_assert_cmphex(event->common.regs.r11 & RFLAGS_TF, ==, 0);
    g_assert_cmphex(event->common.regs.rcx, ==, CODE + 2);
    step(vm, event);
    step_range(vm, &steps, 3, 5);
    vm_guest_expect_exception_at(vm, 0, EXCEPTION_UD, CODE + 2);
}

/* mov $flags, %r11d; lea behind it, %rcx; sysretq; nop; ud2 */
static const Steps sysret = {
    { 0x41, 0xbb, 2, 0, 0, 0, 0x48, 0x8d, 0x0d, 3, 0, 0, 0,
      0x48, 0x0f, 0x07, 0x90, 0x0f, 0x0b },
    { 0, 6, 13, 16, 17 }, 5,
};

static void test_sysret(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    enable_syscall(vm);
    begin_steps(vm, &sysret);
    step_range(vm, &sysret, 0, 3);
    event = expect_step(vm, 16, 0);
    g_assert_cmphex(event->common.regs.r11, ==, 2);
    g_assert_cmphex(event->common.sregs.cs.selector, ==, GUEST_USER_CS64);
    step(vm, event);
    step_range(vm, &sysret, 4, 5);
    vm_guest_expect_exception_at(vm, 0, EXCEPTION_UD, CODE + 17);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 1);
}

/* It loads the guest's own TF, which traps at once. */
static void test_sysret_tf(TestVM *vm)
{
    Steps steps = sysret;

    steps.bytes[3] = RFLAGS_TF >> 8;
    enable_syscall(vm);
    begin_steps(vm, &steps);
    step_range(vm, &steps, 0, 3);
    vm_guest_expect_exception_at(vm, 0, EXCEPTION_DB, CODE + 16);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 1);
}

/* nop; nop; mov $0x77, %eax; ret: it has TF trap behind branches alone */
static void test_debugctl_btf(TestVM *vm)
{
    static const Steps steps = {
        { 0x90, 0x90, 0xb8, 0x77, 0, 0, 0, 0xc3 }, { 0, 1, 2, 7 }, 4,
    };

    vm_guest_do(vm, 0, OP_WRMSR_ONLY, MSR_DEBUGCTL, DEBUGCTL_BTF);
    step_all(vm, &steps);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, 0x77);
}

static const TestCase cases[] = {
    { "pf/step-pushf", test_pushf, NEEDS_RUNNING_GUEST },
    { "pf/step-popf", test_popf, NEEDS_RUNNING_GUEST },
    { "pf/step-own-tf", test_own_tf, NEEDS_RUNNING_GUEST },
    { "pf/step-iret", test_iret, NEEDS_RUNNING_GUEST },
    { "pf/step-mov-ss", test_mov_ss, NEEDS_RUNNING_GUEST },
    { "pf/step-int-n", test_int_n, NEEDS_RUNNING_GUEST },
    { "pf/step-hlt", test_hlt, NEEDS_RUNNING_GUEST },
    { "pf/step-interrupt", test_interrupt, NEEDS_RUNNING_GUEST },
    { "pf/step-fault", test_fault, NEEDS_RUNNING_GUEST },
    { "pf/step-syscall", test_syscall, NEEDS_RUNNING_GUEST },
    { "pf/step-sysret", test_sysret, NEEDS_RUNNING_GUEST },
    { "pf/step-sysret-tf", test_sysret_tf, NEEDS_RUNNING_GUEST },
    { "pf/step-debugctl-btf", test_debugctl_btf, NEEDS_RUNNING_GUEST },
};

void introspection_add_pf_step_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
