/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: events, their actions, and the end of the connection.
 */
#include "qemu/osdep.h"
#include <sys/socket.h>
#include "tests.h"

#define CR0_TS                  (1 << 3)
#define CR0_ET                  (1 << 4)
#define CR0_WP                  (1 << 16)
#define CR0_AM                  (1 << 18)
#define CR3_PWT                 (1 << 3)
#define CR3_NO_FLUSH            (1ULL << 63)
#define CR4_TSD                 (1 << 2)
#define CR4_DE                  (1 << 3)
#define CR4_LA57                (1 << 12)
#define CR4_PCIDE               (1 << 17)
#define CR4_RESERVED            (1ULL << 31)

#define MSR_APICBASE            0x0000001b
#define MSR_SYSENTER_ESP        0x00000175
#define MSR_SYSENTER_EIP        0x00000176
#define MSR_PAT                 0x00000277
#define MSR_PKRS                0x000006e1
#define MSR_UNIMPLEMENTED       0x00001234
#define MSR_EFER                0xc0000080
#define MSR_STAR                0xc0000081
#define MSR_LSTAR               0xc0000082
#define MSR_KERNEL_GS_BASE      0xc0000102

#define EFER_NXE                (1 << 11)

#define LSTAR_A                 0xffffffff81000000ULL
#define LSTAR_B                 0xffffffff82000000ULL
#define LSTAR_C                 0xffffffff83000000ULL

#define EXCEPTION_GP            13

/* A guest that the tool has let go must be back after this. */
#define LET_GO_LIMIT_US         G_TIME_SPAN_SECOND

static void control_msr(TestVM *vm, unsigned vcpu, uint32_t msr)
{
    g_assert_cmpint(tool_control_msr(vm->tool, vcpu, msr, true), ==, 0);
    vm_control_events(vm, vcpu, KVMI_EVENT_MSR_FLAG);
}

static uint64_t read_cr(TestVM *vm, unsigned vcpu, uint32_t cr)
{
    return vm_guest_result(vm, vcpu, OP_READ_CR, cr, 0);
}

static uint64_t read_msr(TestVM *vm, unsigned vcpu, uint32_t msr)
{
    return vm_guest_result(vm, vcpu, OP_RDMSR, msr, 0);
}

/* The guest is about to carry out its instruction, and has not. */
static void expect_before_insn(TestVM *vm, unsigned vcpu,
                               const ToolEvent *event)
{
    g_assert_cmphex(event->common.regs.rip, ==,
                    vm_guest_get(vm, vcpu, insn_rip));
    g_assert_cmpuint(event->common.mode, ==, 8);
    g_assert_false(vm_guest_is_done(vm, vcpu));
}

static ToolEvent *expect_cr_event(TestVM *vm, unsigned vcpu, uint16_t cr,
                                  uint64_t old, uint64_t new)
{
    ToolEvent *event = tool_expect_event(vm->tool, vcpu, KVMI_EVENT_CR);

    g_assert_cmpuint(event->own.cr.cr, ==, cr);
    for (size_t i = 0; i < G_N_ELEMENTS(event->own.cr.padding); i++) {
        g_assert_cmpuint(event->own.cr.padding[i], ==, 0);
    }
    g_assert_cmphex(event->own.cr.old_value, ==, old);
    g_assert_cmphex(event->own.cr.new_value, ==, new);
    return event;
}

static ToolEvent *expect_msr_event(TestVM *vm, unsigned vcpu, uint32_t msr,
                                   uint64_t old, uint64_t new)
{
    ToolEvent *event = tool_expect_event(vm->tool, vcpu, KVMI_EVENT_MSR);

    g_assert_cmphex(event->own.msr.msr, ==, msr);
    g_assert_cmpuint(event->own.msr.padding, ==, 0);
    g_assert_cmphex(event->own.msr.old_value, ==, old);
    g_assert_cmphex(event->own.msr.new_value, ==, new);
    return event;
}

/* The guest's writes. */

static void expect_no_cr_event(TestVM *vm, unsigned vcpu, uint32_t cr,
                               uint64_t value)
{
    vm_guest_result(vm, vcpu, OP_WRITE_CR, cr, value);
    tool_expect_no_event(vm->tool);
}

static void expect_no_msr_event(TestVM *vm, unsigned vcpu, uint32_t msr,
                                uint64_t value)
{
    g_assert_cmphex(vm_guest_result(vm, vcpu, OP_WRMSR, msr, value),
                    ==, value);
    tool_expect_no_event(vm->tool);
}

/* One reported write, which the tool lets through. */
static void expect_cr_reported(TestVM *vm, unsigned vcpu, uint32_t cr,
                               uint64_t old, uint64_t new)
{
    g_autofree ToolEvent *event = NULL;

    vm_guest_begin(vm, vcpu, OP_WRITE_CR, cr, new);
    event = expect_cr_event(vm, vcpu, cr, old, new);
    expect_before_insn(vm, vcpu, event);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, vcpu, result[0]), ==, new);
    tool_expect_no_event(vm->tool);
}

static void expect_msr_reported(TestVM *vm, unsigned vcpu, uint32_t msr,
                                uint64_t old, uint64_t new)
{
    g_autofree ToolEvent *event = NULL;

    vm_guest_begin(vm, vcpu, OP_WRMSR, msr, new);
    event = expect_msr_event(vm, vcpu, msr, old, new);
    expect_before_insn(vm, vcpu, event);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, vcpu, result[0]), ==, new);
    tool_expect_no_event(vm->tool);
}

/* CR */

static void expect_cr_toggled(TestVM *vm, uint32_t cr, uint64_t bits)
{
    uint64_t value = read_cr(vm, 0, cr);

    vm_watch_cr(vm, 0, cr);
    for (int i = 0; i < 4; i++) {
        expect_cr_reported(vm, 0, cr, value, value ^ bits);
        value ^= bits;
    }
}

static void test_cr0(TestVM *vm)
{
    expect_cr_toggled(vm, 0, CR0_AM);
}

static void test_cr3(TestVM *vm)
{
    expect_cr_toggled(vm, 3, GUEST_PML4_A ^ GUEST_PML4_B);
}

/* Bits of CR3 that are not the address count as well. */
static void test_cr3_pwt(TestVM *vm)
{
    expect_cr_toggled(vm, 3, CR3_PWT);
}

static void test_cr4(TestVM *vm)
{
    expect_cr_toggled(vm, 4, CR4_DE);
}

static void test_cr_all(TestVM *vm)
{
    uint64_t cr0 = read_cr(vm, 0, 0), cr4 = read_cr(vm, 0, 4);

    vm_watch_cr(vm, 0, 0);
    vm_watch_cr(vm, 0, 3);
    vm_watch_cr(vm, 0, 4);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    expect_cr_reported(vm, 0, 0, cr0, cr0 ^ CR0_AM);
    expect_cr_reported(vm, 0, 4, cr4, cr4 ^ CR4_DE);
}

static void test_cr_same_value(TestVM *vm)
{
    static const uint32_t registers[] = { 0, 3, 4 };

    for (size_t i = 0; i < G_N_ELEMENTS(registers); i++) {
        uint32_t cr = registers[i];

        vm_watch_cr(vm, 0, cr);
        expect_no_cr_event(vm, 0, cr, read_cr(vm, 0, cr));
    }
}

/* The event alone, or the register alone, reports nothing. */
static void test_cr_half_enabled(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_B);
    vm_control_events(vm, 0, 0);
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_A);
    vm_control_events(vm, 0, KVMI_EVENT_MSR_FLAG);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_B);
    /* the register stayed chosen all the while */
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_B, GUEST_PML4_A);
}

static void test_cr_other_register(TestVM *vm)
{
    vm_watch_cr(vm, 0, 3);
    expect_no_cr_event(vm, 0, 0, read_cr(vm, 0, 0) ^ CR0_AM);
    expect_no_cr_event(vm, 0, 4, read_cr(vm, 0, 4) ^ CR4_DE);
    expect_no_cr_event(vm, 0, 8, 3);
}

static void test_cr_disabled_again(TestVM *vm)
{
    vm_watch_cr(vm, 0, 3);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, false), ==, 0);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_A);
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    vm_control_events(vm, 0, 0);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_A);
}

/* Each vCPU by itself. */
/*
 * What the guest has is not changed by watching it: not the bits either that
 * it may have changed without anybody's noticing before.
 */
static void test_cr_watching_changes_nothing(TestVM *vm)
{
    uint64_t cr0 = read_cr(vm, 0, 0) ^ CR0_TS ^ CR0_WP;
    uint64_t cr4 = read_cr(vm, 0, 4) ^ CR4_TSD ^ CR4_DE;

    vm_guest_result(vm, 0, OP_WRITE_CR, 0, cr0);
    vm_guest_result(vm, 0, OP_WRITE_CR, 4, cr4);

    vm_watch_cr(vm, 0, 0);
    vm_watch_cr(vm, 0, 4);
    g_assert_cmphex(read_cr(vm, 0, 0), ==, cr0);
    g_assert_cmphex(read_cr(vm, 0, 4), ==, cr4);
    expect_cr_reported(vm, 0, 0, cr0, cr0 ^ CR0_WP);
    expect_cr_reported(vm, 0, 4, cr4, cr4 ^ CR4_DE);

    vm_control_events(vm, 0, 0);
    g_assert_cmphex(read_cr(vm, 0, 0), ==, cr0 ^ CR0_WP);
    g_assert_cmphex(read_cr(vm, 0, 4), ==, cr4 ^ CR4_DE);
}

static void test_cr_per_vcpu(TestVM *vm)
{
    vm_guest_start_vcpu(vm, 1);
    vm_watch_cr(vm, 1, 3);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_B);
    expect_cr_reported(vm, 1, 3, GUEST_PML4_A, GUEST_PML4_B);
    vm_watch_cr(vm, 0, 3);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_B, GUEST_PML4_A);
    vm_control_events(vm, 1, 0);
    expect_no_cr_event(vm, 1, 3, GUEST_PML4_A);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
}

/*
 * Set while the vCPU has not started yet, it counts from the start: the way
 * of boot.S to 64-bit mode, step by step.
 */
static void test_before_start(TestVM *vm)
{
    static const struct {
        uint8_t mode;
        uint32_t event;
        uint32_t number;
        uint64_t old_value;
        uint64_t new_value;
    } steps[] = {
        { 2, KVMI_EVENT_CR, 0, 0x60000010, CR0_ET | 0x00000023 },
        { 4, KVMI_EVENT_CR, 4, 0, 0x20 },
        { 4, KVMI_EVENT_CR, 3, 0, GUEST_PML4_A },
        { 4, KVMI_EVENT_MSR, MSR_EFER, 0, 0x101 },
        { 4, KVMI_EVENT_CR, 0, CR0_ET | 0x23, CR0_ET | 0x80010023 },
    };

    for (uint32_t cr = 0; cr <= 4; cr += cr ? 1 : 3) {
        g_assert_cmpint(tool_control_cr(vm->tool, 1, cr, true), ==, 0);
    }
    g_assert_cmpint(tool_control_msr(vm->tool, 1, MSR_EFER, true), ==, 0);
    vm_control_events(vm, 1, KVMI_EVENT_CR_FLAG | KVMI_EVENT_MSR_FLAG);
    vm_guest_begin(vm, 0, OP_START_VCPU, 1, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree ToolEvent *event = NULL;

        g_test_message("step %zu", i);
        if (steps[i].event == KVMI_EVENT_CR) {
            event = expect_cr_event(vm, 1, steps[i].number,
                                    steps[i].old_value, steps[i].new_value);
        } else {
            event = expect_msr_event(vm, 1, steps[i].number,
                                     steps[i].old_value, steps[i].new_value);
        }
        g_assert_cmpuint(event->common.mode, ==, steps[i].mode);
        tool_continue(vm->tool, event);
    }
    vm_control_events(vm, 1, 0);
}

/* ET is always 1: it makes no difference. */
static void test_cr0_et(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t cr0 = read_cr(vm, 0, 0);

    vm_watch_cr(vm, 0, 0);
    expect_no_cr_event(vm, 0, 0, cr0 & ~CR0_ET);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 0, (cr0 & ~CR0_ET) ^ CR0_AM);
    event = expect_cr_event(vm, 0, 0, cr0, cr0 ^ CR0_AM);
    tool_continue_with(vm->tool, event, (cr0 & ~CR0_ET) ^ CR0_AM);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, cr0 ^ CR0_AM);
}

static void test_cr_lmsw(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t cr0 = read_cr(vm, 0, 0);

    vm_watch_cr(vm, 0, 0);
    vm_guest_begin(vm, 0, OP_LMSW, (cr0 & 0xf) | CR0_TS, 0);
    event = expect_cr_event(vm, 0, 0, cr0, cr0 | CR0_TS);
    expect_before_insn(vm, 0, event);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, cr0 | CR0_TS);

    /* the same again, and LMSW cannot clear PE: both change nothing */
    vm_guest_result(vm, 0, OP_LMSW, (cr0 & 0xf) | CR0_TS, 0);
    vm_guest_result(vm, 0, OP_LMSW, (cr0 & 0xe) | CR0_TS, 0);
    tool_expect_no_event(vm->tool);
}

static void test_cr_clts(TestVM *vm)
{
    uint64_t cr0 = read_cr(vm, 0, 0);

    vm_guest_result(vm, 0, OP_WRITE_CR, 0, cr0 | CR0_TS);
    vm_watch_cr(vm, 0, 0);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_CLTS, 0, 0), ==, cr0);
    tool_expect_no_event(vm->tool);
}

static void test_cr_new_value(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t cr4 = read_cr(vm, 0, 4);

    vm_watch_cr(vm, 0, 4);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 4, cr4 | CR4_DE);
    event = expect_cr_event(vm, 0, 4, cr4, cr4 | CR4_DE);
    tool_continue_with(vm->tool, event, cr4 | CR4_TSD);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, cr4 | CR4_TSD);
    tool_expect_no_event(vm->tool);
}

/* The tool's value is where the register was: the write changes nothing. */
static void test_cr_old_value(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    tool_continue_with(vm->tool, event, GUEST_PML4_A);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_A);
    /* the guest tries again: a different value once more */
    expect_cr_reported(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
}

/* Values that the processor refuses: the guest gets its #GP. */
static void expect_new_cr_refused(TestVM *vm, uint64_t bits)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t cr4 = read_cr(vm, 0, 4);

    vm_watch_cr(vm, 0, 4);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 4, cr4 | CR4_DE);
    event = expect_cr_event(vm, 0, 4, cr4, cr4 | CR4_DE);
    tool_continue_with(vm->tool, event, cr4 | bits);
    vm_guest_expect_exception(vm, 0, EXCEPTION_GP);
    g_assert_cmphex(vm_guest_get(vm, 0, error_code), ==, 0);
    tool_expect_no_event(vm->tool);
    g_assert_cmphex(read_cr(vm, 0, 4), ==, cr4);
}

static void test_cr_new_value_reserved(TestVM *vm)
{
    expect_new_cr_refused(vm, CR4_RESERVED);
}

static void test_cr_new_value_la57(TestVM *vm)
{
    expect_new_cr_refused(vm, CR4_LA57);
}

/* The guest's own refused write is its own affair. */
static void expect_own_cr_refused(TestVM *vm, uint64_t bits)
{
    uint64_t cr4 = read_cr(vm, 0, 4);

    vm_watch_cr(vm, 0, 4);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 4, cr4 | bits);
    vm_guest_expect_exception(vm, 0, EXCEPTION_GP);
    tool_expect_no_event(vm->tool);
    g_assert_cmphex(read_cr(vm, 0, 4), ==, cr4);
}

static void test_cr_refused_reserved(TestVM *vm)
{
    expect_own_cr_refused(vm, CR4_RESERVED);
}

static void test_cr_refused_la57(TestVM *vm)
{
    expect_own_cr_refused(vm, CR4_LA57);
}

/* CR3's bit 63 asks for no flush; it is no part of the value. */
static void test_cr3_no_flush(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    g_assert_cmpint(vm_guest_do(vm, 0, OP_CPUID, 1, 0), ==, GUEST_OK);
    if (!(vm_guest_get(vm, 0, result[2]) & (1 << 17))) {
        g_test_skip("this CPU has no PCID");
        return;
    }
    vm_guest_result(vm, 0, OP_WRITE_CR, 4, read_cr(vm, 0, 4) | CR4_PCIDE);
    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B | CR3_NO_FLUSH);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_B | CR3_NO_FLUSH);
}

/* MSR */

static void test_msr(TestVM *vm)
{
    static const struct {
        uint32_t msr;
        uint64_t value;
    } msrs[] = {
        { MSR_LSTAR, LSTAR_A }, { MSR_STAR, 0x0023001000000000 },
        { MSR_KERNEL_GS_BASE, 0x7fff12345678 },
        { MSR_SYSENTER_ESP, 0x300800 }, { MSR_SYSENTER_EIP, 0x300900 },
        { MSR_PAT, 0x0007040600070405 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(msrs); i++) {
        uint64_t old = read_msr(vm, 0, msrs[i].msr);

        control_msr(vm, 0, msrs[i].msr);
        expect_msr_reported(vm, 0, msrs[i].msr, old, msrs[i].value);
        expect_msr_reported(vm, 0, msrs[i].msr, msrs[i].value, old);
    }
}

static void test_msr_efer(TestVM *vm)
{
    uint64_t efer = read_msr(vm, 0, MSR_EFER);

    control_msr(vm, 0, MSR_EFER);
    expect_msr_reported(vm, 0, MSR_EFER, efer, efer ^ EFER_NXE);
    expect_no_msr_event(vm, 0, MSR_EFER, efer ^ EFER_NXE);
    expect_msr_reported(vm, 0, MSR_EFER, efer ^ EFER_NXE, efer);
}

/* The two edges of what WRMSR's operands can say. */
static void test_msr_halves(TestVM *vm)
{
    control_msr(vm, 0, MSR_STAR);
    expect_msr_reported(vm, 0, MSR_STAR, 0, 0xffffffff);
    expect_msr_reported(vm, 0, MSR_STAR, 0xffffffff, 0xffffffff00000000);
    expect_msr_reported(vm, 0, MSR_STAR, 0xffffffff00000000, 0);
}

static void test_msr_same_value(TestVM *vm)
{
    vm_guest_result(vm, 0, OP_WRMSR, MSR_LSTAR, LSTAR_A);
    control_msr(vm, 0, MSR_LSTAR);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_A);
    expect_msr_reported(vm, 0, MSR_LSTAR, LSTAR_A, LSTAR_B);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_B);
}

static void test_msr_half_enabled(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_MSR_FLAG);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_A);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG);
    g_assert_cmpint(tool_control_msr(vm->tool, 0, MSR_LSTAR, true), ==, 0);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_B);
    vm_control_events(vm, 0, KVMI_EVENT_MSR_FLAG);
    expect_msr_reported(vm, 0, MSR_LSTAR, LSTAR_B, LSTAR_A);
}

static void test_msr_other(TestVM *vm)
{
    control_msr(vm, 0, MSR_LSTAR);
    /* its neighbours, and its number in the other range */
    expect_no_msr_event(vm, 0, MSR_STAR, 0x1234);
    expect_no_msr_event(vm, 0, MSR_LSTAR + 1, LSTAR_A);
    expect_no_msr_event(vm, 0, MSR_SYSENTER_EIP, LSTAR_A);
    control_msr(vm, 0, 0x82);
    g_assert_cmpint(tool_control_msr(vm->tool, 0, MSR_LSTAR, false), ==, 0);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_A);
}

static void test_msr_disabled_again(TestVM *vm)
{
    control_msr(vm, 0, MSR_LSTAR);
    expect_msr_reported(vm, 0, MSR_LSTAR, 0, LSTAR_A);
    g_assert_cmpint(tool_control_msr(vm->tool, 0, MSR_LSTAR, false), ==, 0);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_B);
    g_assert_cmpint(tool_control_msr(vm->tool, 0, MSR_LSTAR, true), ==, 0);
    expect_msr_reported(vm, 0, MSR_LSTAR, LSTAR_B, LSTAR_C);
}

static void test_msr_per_vcpu(TestVM *vm)
{
    vm_guest_start_vcpu(vm, 1);
    control_msr(vm, 1, MSR_LSTAR);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_A);
    expect_msr_reported(vm, 1, MSR_LSTAR, 0, LSTAR_B);
}

static void test_msr_read(TestVM *vm)
{
    control_msr(vm, 0, MSR_LSTAR);
    g_assert_cmphex(read_msr(vm, 0, MSR_LSTAR), ==, 0);
    tool_expect_no_event(vm->tool);
}

/* What changes an MSR's value and is no WRMSR */
static void test_msr_swapgs(TestVM *vm)
{
    static const uint8_t code[] = { 0x0f, 0x01, 0xf8, 0xc3 };

    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    g_assert_cmpint(vm_guest_do(vm, 0, OP_WRMSR, MSR_KERNEL_GS_BASE, LSTAR_A),
                    ==, GUEST_OK);
    control_msr(vm, 0, MSR_KERNEL_GS_BASE);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_CALL, GUEST_SCRATCH, 0), ==,
                    GUEST_OK);
    tool_expect_no_event(vm->tool);
    g_assert_cmphex(read_msr(vm, 0, MSR_KERNEL_GS_BASE), ==, 0);
    /* what WRMSR stores differs from what is there now */
    expect_msr_reported(vm, 0, MSR_KERNEL_GS_BASE, 0, LSTAR_B);
}

static void test_msr_new_value(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    control_msr(vm, 0, MSR_LSTAR);
    vm_guest_begin(vm, 0, OP_WRMSR, MSR_LSTAR, LSTAR_A);
    event = expect_msr_event(vm, 0, MSR_LSTAR, 0, LSTAR_A);
    tool_continue_with(vm->tool, event, LSTAR_B);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, LSTAR_B);
    tool_expect_no_event(vm->tool);
}

/* WRMSR's own operands stay what the guest put there. */
static void test_msr_operands_kept(TestVM *vm)
{
    /* mov $MSR_LSTAR, %ecx; mov $0x1000, %eax; xor %edx, %edx; wrmsr; ret */
    static const uint8_t code[] = {
        0xb9, 0x82, 0x00, 0x00, 0xc0, 0xb8, 0x00, 0x10, 0x00, 0x00,
        0x31, 0xd2, 0x0f, 0x30, 0xc3,
    };
    g_autofree ToolEvent *event = NULL;

    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    control_msr(vm, 0, MSR_LSTAR);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    event = expect_msr_event(vm, 0, MSR_LSTAR, 0, 0x1000);
    g_assert_cmphex(event->common.regs.rip, ==, GUEST_SCRATCH + 12);
    g_assert_cmphex(event->common.regs.rax, ==, 0x1000);
    g_assert_cmphex(event->common.regs.rcx, ==, MSR_LSTAR);
    tool_continue_with(vm->tool, event, LSTAR_B);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, 0x1000);
    g_assert_cmphex(read_msr(vm, 0, MSR_LSTAR), ==, LSTAR_B);
}

static bool has_pks(TestVM *vm)
{
    g_assert_cmpint(vm_guest_do(vm, 0, OP_CPUID, 7, 0), ==, GUEST_OK);
    return vm_guest_get(vm, 0, result[2]) & (1u << 31);
}

/* PKRS has 32 bits: a value that has more is refused. */
static void test_msr_new_value_refused(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    if (!has_pks(vm)) {
        g_test_skip("this CPU has no PKRS");
        return;
    }
    control_msr(vm, 0, MSR_PKRS);
    vm_guest_begin(vm, 0, OP_WRMSR, MSR_PKRS, 4);
    event = expect_msr_event(vm, 0, MSR_PKRS, 0, 4);
    tool_continue_with(vm->tool, event, 1ULL << 32);
    vm_guest_expect_exception(vm, 0, EXCEPTION_GP);
    tool_expect_no_event(vm->tool);
    g_assert_cmphex(read_msr(vm, 0, MSR_PKRS), ==, 0);
}

static void expect_own_msr_refused(TestVM *vm, uint32_t msr, uint64_t value)
{
    uint64_t old = read_msr(vm, 0, msr);

    control_msr(vm, 0, msr);
    vm_guest_begin(vm, 0, OP_WRMSR, msr, value);
    vm_guest_expect_exception(vm, 0, EXCEPTION_GP);
    tool_expect_no_event(vm->tool);
    g_assert_cmphex(read_msr(vm, 0, msr), ==, old);
}

static void test_msr_refused_reserved(TestVM *vm)
{
    expect_own_msr_refused(vm, MSR_APICBASE, UINT64_MAX);
}

static void test_msr_refused_pkrs(TestVM *vm)
{
    if (!has_pks(vm)) {
        g_test_skip("this CPU has no PKRS");
        return;
    }
    expect_own_msr_refused(vm, MSR_PKRS, 1ULL << 32);
}

/* Whether the processor refuses or ignores it, nothing is stored. */
static void test_msr_unimplemented(TestVM *vm)
{
    control_msr(vm, 0, MSR_UNIMPLEMENTED);
    vm_guest_do(vm, 0, OP_WRMSR_ONLY, MSR_UNIMPLEMENTED, 0x1234);
    tool_expect_no_event(vm->tool);
}

/* Both kinds at once, each on its own. */
static void test_cr_and_msr(TestVM *vm)
{
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    g_assert_cmpint(tool_control_msr(vm->tool, 0, MSR_LSTAR, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG | KVMI_EVENT_MSR_FLAG);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    expect_msr_reported(vm, 0, MSR_LSTAR, 0, LSTAR_A);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_B, GUEST_PML4_A);
}

/* Waiting. */

/* mov $PML4_B, %eax; mov %rax, %cr3; mov $PML4_A, %eax; the same; ret */
static const uint8_t cr3_loop[] = {
    0xb8, 0x00, 0x10, 0x01, 0x00, 0x0f, 0x22, 0xd8,
    0xb8, 0x00, 0x00, 0x01, 0x00, 0x0f, 0x22, 0xd8, 0xc3,
};

/* A guest that writes CR3 in a loop: everything is reported, once. */
static void test_many(TestVM *vm)
{
    uint64_t before = 0;
    uint32_t last_seq = 0;

    qtest_memwrite(vm->qts, GUEST_SCRATCH, cr3_loop, sizeof(cr3_loop));
    vm_guest_begin(vm, 0, OP_CALL_LOOP, GUEST_SCRATCH, 0);
    vm_guest_wait_counting(vm, 0);
    vm_watch_cr(vm, 0, 3);
    for (int i = 0; i < 500; i++) {
        g_autofree ToolEvent *event = tool_expect_event(vm->tool, 0,
                                                        KVMI_EVENT_CR);
        bool to_b = event->own.cr.new_value == GUEST_PML4_B;

        if (i == 0) {
            before = event->own.cr.old_value;
        } else {
            g_assert_cmpuint(event->seq, !=, last_seq);
        }
        g_assert_cmphex(event->own.cr.old_value, ==, before);
        g_assert_cmphex(event->common.sregs.cr3, ==, before);
        g_assert_cmphex(event->common.regs.rip, ==,
                        GUEST_SCRATCH + (to_b ? 5 : 13));
        before = event->own.cr.new_value;
        last_seq = event->seq;
        tool_continue(vm->tool, event);
    }
    vm_guest_release(vm);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* Both vCPUs at it, in whatever order. */
static void test_many_both(TestVM *vm)
{
    uint64_t before[VM_VCPUS] = { 0 };
    unsigned count[VM_VCPUS] = { 0 };

    vm_guest_start_vcpu(vm, 1);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, cr3_loop, sizeof(cr3_loop));
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        vm_guest_begin(vm, vcpu, OP_CALL_LOOP, GUEST_SCRATCH, 0);
        vm_watch_cr(vm, vcpu, 3);
    }
    while (count[0] < 250 || count[1] < 250) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);
        unsigned vcpu = event->common.vcpu;

        g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_CR);
        g_assert_cmpuint(vcpu, <, VM_VCPUS);
        if (count[vcpu]++) {
            g_assert_cmphex(event->own.cr.old_value, ==, before[vcpu]);
        }
        before[vcpu] = event->own.cr.new_value;
        tool_continue(vm->tool, event);
    }
    vm_guest_release(vm);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmpint(vm_guest_finish(vm, 1), ==, GUEST_OK);
}

/* Everything but SET_REGISTERS' vCPU goes on while one waits. */
static void test_commands_while_waiting(TestVM *vm)
{
    g_autofree uint8_t *xsave = g_malloc(4096);
    g_autofree ToolEvent *event = NULL;
    struct kvmi_get_guest_info_reply info;
    struct kvmi_get_cpuid_reply cpuid;
    ToolRegisters registers;
    uint64_t data = 0x0123456789abcdef;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    for (int i = 0; i < 20; i++) {
        g_assert_cmpint(tool_get_guest_info(vm->tool, 0, &info), ==, 0);
        g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH, 8,
                                            &data), ==, 0);
        g_assert_cmphex(tool_read_u64(vm->tool, GUEST_SCRATCH), ==, data);
        for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
            g_assert_cmpint(tool_get_registers(vm->tool, vcpu, NULL, 0,
                                               &registers), ==, 0);
            g_assert_cmpint(tool_get_cpuid(vm->tool, vcpu, 0, 0, &cpuid),
                            ==, 0);
            g_assert_cmpint(tool_get_xsave(vm->tool, vcpu, xsave), ==, 0);
            g_assert_cmpint(tool_control_msr(vm->tool, vcpu, MSR_LSTAR,
                                             i & 1), ==, 0);
        }
    }
    g_assert_false(vm_guest_is_done(vm, 0));
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* What the tool sets during an event holds for the next instruction. */
static void test_control_while_waiting(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    control_msr(vm, 0, MSR_LSTAR);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_A);
    expect_msr_reported(vm, 0, MSR_LSTAR, 0, LSTAR_A);
}

/* The instruction is another one when the tool answers. */
static void test_code_patched(TestVM *vm)
{
    static const uint8_t nops[] = { 0x90, 0x90, 0x90 };
    g_autofree ToolEvent *first = NULL;
    g_autofree ToolEvent *second = NULL;

    qtest_memwrite(vm->qts, GUEST_SCRATCH, cr3_loop, sizeof(cr3_loop));
    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    first = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH + 5, 3, nops),
                    ==, 0);
    tool_continue(vm->tool, first);
    /* the second write is where CR3 is already */
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    tool_expect_no_event(vm->tool);
    g_assert_cmphex(read_cr(vm, 0, 3), ==, GUEST_PML4_A);

    g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH + 5, 3,
                                        cr3_loop + 5), ==, 0);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    second = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* Two vCPUs wait at once; the answers come in the other order. */
static void test_both_wait(TestVM *vm)
{
    ToolEvent *events[VM_VCPUS];

    vm_guest_start_vcpu(vm, 1);
    vm_watch_cr(vm, 0, 3);
    control_msr(vm, 1, MSR_LSTAR);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    events[0] = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    vm_guest_begin(vm, 1, OP_WRMSR, MSR_LSTAR, LSTAR_A);
    events[1] = expect_msr_event(vm, 1, MSR_LSTAR, 0, LSTAR_A);
    g_assert_cmpuint(events[0]->seq, !=, events[1]->seq);

    tool_continue(vm->tool, events[1]);
    g_assert_cmpint(vm_guest_finish(vm, 1), ==, GUEST_OK);
    g_assert_false(vm_guest_is_done(vm, 0));
    tool_continue(vm->tool, events[0]);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_free(events[0]);
    g_free(events[1]);
}

static void test_other_vcpu_runs(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_guest_start_vcpu(vm, 1);
    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    for (int i = 0; i < 20; i++) {
        vm_guest_wait_counting(vm, 1);
    }
    g_assert_true(vm_guest_stands_still(vm, 0));
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* CRASH */

static void test_crash_cr(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t new_val = GUEST_PML4_B;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH,
               &new_val, sizeof(new_val));
    vm_expect_panicked(vm);
    g_assert_false(vm_guest_is_done(vm, 0));
}

static void test_crash_msr(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t new_val = LSTAR_A;

    control_msr(vm, 0, MSR_LSTAR);
    vm_guest_begin(vm, 0, OP_WRMSR, MSR_LSTAR, LSTAR_A);
    event = expect_msr_event(vm, 0, MSR_LSTAR, 0, LSTAR_A);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH,
               &new_val, sizeof(new_val));
    vm_expect_panicked(vm);
    g_assert_false(vm_guest_is_done(vm, 0));
}

/* The vCPU does not go on even where the manager has the VM do so. */
static void test_crash_panic_none(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t new_val = GUEST_PML4_B;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH,
               &new_val, sizeof(new_val));
    qtest_qmp_eventwait(vm->qts, "GUEST_PANICKED");
    g_assert_true(vm_guest_stands_still(vm, 0));
    g_assert_false(vm_guest_is_done(vm, 0));
    tool_expect_no_event(vm->tool);
}

static void test_crash_pause(TestVM *vm)
{
    tool_pause_all(vm->tool);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);

        if (event->common.vcpu == 0) {
            tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
        } else {
            tool_continue(vm->tool, event);
        }
    }
    vm_expect_panicked(vm);
}

/* The end of the connection. */

static void expect_let_go(TestVM *vm, unsigned vcpu, int64_t since)
{
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
    g_assert_cmpint(g_get_monotonic_time() - since, <, LET_GO_LIMIT_US);
}

static void test_disconnect_cr(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    int64_t now;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    now = g_get_monotonic_time();
    tool_close(vm->tool);
    expect_let_go(vm, 0, now);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);

    /* and nothing is reported any more, connected or not */
    vm_guest_result(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_A);
    vm_rehook(vm);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_B);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG);
    expect_no_cr_event(vm, 0, 3, GUEST_PML4_A);
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    expect_cr_reported(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
}

static void test_disconnect_msr(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    int64_t now;

    control_msr(vm, 0, MSR_LSTAR);
    vm_guest_begin(vm, 0, OP_WRMSR, MSR_LSTAR, LSTAR_A);
    event = expect_msr_event(vm, 0, MSR_LSTAR, 0, LSTAR_A);
    now = g_get_monotonic_time();
    tool_close(vm->tool);
    expect_let_go(vm, 0, now);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, LSTAR_A);

    vm_guest_result(vm, 0, OP_WRMSR, MSR_LSTAR, LSTAR_B);
    vm_rehook(vm);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_A);
    vm_control_events(vm, 0, KVMI_EVENT_MSR_FLAG);
    expect_no_msr_event(vm, 0, MSR_LSTAR, LSTAR_B);
    g_assert_cmpint(tool_control_msr(vm->tool, 0, MSR_LSTAR, true), ==, 0);
    expect_msr_reported(vm, 0, MSR_LSTAR, LSTAR_B, LSTAR_C);
}

static void test_disconnect_both_wait(TestVM *vm)
{
    g_autofree ToolEvent *cr = NULL;
    g_autofree ToolEvent *msr = NULL;
    int64_t now;

    vm_guest_start_vcpu(vm, 1);
    vm_watch_cr(vm, 0, 3);
    control_msr(vm, 1, MSR_LSTAR);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    cr = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    vm_guest_begin(vm, 1, OP_WRMSR, MSR_LSTAR, LSTAR_A);
    msr = expect_msr_event(vm, 1, MSR_LSTAR, 0, LSTAR_A);
    now = g_get_monotonic_time();
    tool_close(vm->tool);
    expect_let_go(vm, 0, now);
    expect_let_go(vm, 1, now);
    vm_rehook(vm);
}

static void test_disconnect_paused(TestVM *vm)
{
    int64_t now;

    for (int round = 0; round < 5; round++) {
        tool_pause_all(vm->tool);
        tool_pause_all(vm->tool);
        for (unsigned i = 0; i < VM_VCPUS; i++) {
            g_free(tool_receive_event(vm->tool));
        }
        now = g_get_monotonic_time();
        tool_close(vm->tool);
        if (vm->engine->runs) {
            vm_guest_wait_counting(vm, 0);
            g_assert_cmpint(g_get_monotonic_time() - now, <,
                            LET_GO_LIMIT_US);
        }
        /* the pauses that were still to come are forgotten */
        vm_rehook(vm);
        tool_expect_silence(vm->tool);
    }
}

/* The tool may be gone before the event is even there. */
static void test_disconnect_before_event(TestVM *vm)
{
    for (int round = 0; round < 10; round++) {
        uint64_t value = round % 2 ? GUEST_PML4_A : GUEST_PML4_B;

        vm_watch_cr(vm, 0, 3);
        vm_guest_begin(vm, 0, OP_WRITE_CR, 3, value);
        tool_close(vm->tool);
        g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
        g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, value);
        vm_rehook(vm);
    }
}

/* The end comes as a wrong message, and as one half sent. */
static void test_disconnect_by_mistake(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    struct kvmi_msg_hdr wrong = { .id = 1, .size = 0xffff };
    int64_t now;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    now = g_get_monotonic_time();
    tool_send_bytes(vm->tool, &wrong, sizeof(wrong));
    expect_let_go(vm, 0, now);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    vm_expect_close_and_rehook(vm);
}

/* Intercepts of a vCPU that did nothing meanwhile are undone too. */
static void test_disconnect_undoes(TestVM *vm)
{
    vm_guest_start_vcpu(vm, 1);
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        g_assert_cmpint(tool_control_cr(vm->tool, vcpu, 0, true), ==, 0);
        g_assert_cmpint(tool_control_cr(vm->tool, vcpu, 3, true), ==, 0);
        g_assert_cmpint(tool_control_cr(vm->tool, vcpu, 4, true), ==, 0);
        g_assert_cmpint(tool_control_msr(vm->tool, vcpu, MSR_LSTAR, true),
                        ==, 0);
        vm_control_events(vm, vcpu, KVMI_EVENT_CR_FLAG | KVMI_EVENT_MSR_FLAG);
    }
    tool_close(vm->tool);
    vm_rehook(vm);
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        vm_control_events(vm, vcpu, KVMI_EVENT_CR_FLAG | KVMI_EVENT_MSR_FLAG);
        expect_no_cr_event(vm, vcpu, 0, read_cr(vm, vcpu, 0) ^ CR0_AM);
        expect_no_cr_event(vm, vcpu, 3, GUEST_PML4_B);
        expect_no_cr_event(vm, vcpu, 4, read_cr(vm, vcpu, 4) ^ CR4_DE);
        expect_no_msr_event(vm, vcpu, MSR_LSTAR, LSTAR_A);
    }
}

/* The tool says that it is done, and still listens. */
static void test_disconnect_half(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    int64_t now;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = expect_cr_event(vm, 0, 3, GUEST_PML4_A, GUEST_PML4_B);
    now = g_get_monotonic_time();
    g_assert_cmpint(shutdown(tool_fd(vm->tool), SHUT_WR), ==, 0);
    expect_let_go(vm, 0, now);
    vm_expect_close_and_rehook(vm);
}

/* A tool that reads nothing, and then dies, holds nobody up either. */
static void test_disconnect_unread(TestVM *vm)
{
    struct kvmi_read_physical read = { .gpa = GUEST_SCRATCH, .size = 4096 };
    g_autoptr(GByteArray) rest = g_byte_array_new();
    int64_t now;

    vm_watch_cr(vm, 0, 3);
    tool_flood(vm->tool, KVMI_READ_PHYSICAL, &read, sizeof(read), rest);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    vm_guest_wait_started(vm, 0);
    vm_expect_waiting_vcpus(vm, 1);
    g_assert_false(vm_guest_is_done(vm, 0));
    now = g_get_monotonic_time();
    tool_close(vm->tool);
    expect_let_go(vm, 0, now);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
    vm_rehook(vm);
}

static unsigned count_entries(TestVM *vm, const char *what)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s",
                                            qtest_pid(vm->qts), what);
    GDir *dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        n++;
    }
    g_dir_close(dir);
    return n;
}

/* Tools that come and die leave neither threads nor file descriptors. */
static void test_disconnect_leaks(TestVM *vm)
{
    unsigned fds = 0, threads = 0;

    for (int round = 0; round < 30; round++) {
        tool_pause_all(vm->tool);
        g_free(tool_receive_event(vm->tool));
        tool_close(vm->tool);
        vm_rehook(vm);
        if (round == 4) {
            fds = count_entries(vm, "fd");
            threads = count_entries(vm, "task");
        }
    }
    VM_WAIT_UNTIL(count_entries(vm, "fd") <= fds);
    VM_WAIT_UNTIL(count_entries(vm, "task") <= threads);
}

/* The tool is gone right behind its answer; the answer holds. */
static void test_disconnect_answered(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t cr4 = read_cr(vm, 0, 4);

    vm_watch_cr(vm, 0, 4);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 4, cr4 | CR4_DE);
    event = expect_cr_event(vm, 0, 4, cr4, cr4 | CR4_DE);
    tool_continue_with(vm->tool, event, cr4);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, cr4);
}

/* What was answered is carried out before the vCPU reports the pause. */
static void test_pause_behind_event(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t cr4 = read_cr(vm, 0, 4);

    vm_watch_cr(vm, 0, 4);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 4, cr4 | CR4_DE);
    event = expect_cr_event(vm, 0, 4, cr4, cr4 | CR4_DE);
    tool_pause_all(vm->tool);
    tool_continue_with(vm->tool, event, cr4 | CR4_TSD);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        g_autofree ToolEvent *pause = tool_receive_event(vm->tool);

        g_assert_cmpuint(pause->common.event, ==, KVMI_EVENT_PAUSE_VCPU);
        if (pause->common.vcpu == 0) {
            g_assert_cmphex(pause->common.sregs.cr4, ==, cr4 | CR4_TSD);
            g_assert_cmphex(pause->common.regs.rip, !=,
                            event->common.regs.rip);
        }
        tool_continue(vm->tool, pause);
    }
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, cr4 | CR4_TSD);
}

static const TestCase cases[] = {
    { "cr/cr0", test_cr0, NEEDS_RUNNING_GUEST },
    { "cr/cr3", test_cr3, NEEDS_RUNNING_GUEST },
    { "cr/cr3-pwt", test_cr3_pwt, NEEDS_RUNNING_GUEST },
    { "cr/cr4", test_cr4, NEEDS_RUNNING_GUEST },
    { "cr/all", test_cr_all, NEEDS_RUNNING_GUEST },
    { "cr/same-value", test_cr_same_value, NEEDS_RUNNING_GUEST },
    { "cr/half-enabled", test_cr_half_enabled, NEEDS_RUNNING_GUEST },
    { "cr/other-register", test_cr_other_register, NEEDS_RUNNING_GUEST },
    { "cr/disabled-again", test_cr_disabled_again, NEEDS_RUNNING_GUEST },
    { "cr/watching-changes-nothing", test_cr_watching_changes_nothing,
      NEEDS_RUNNING_GUEST },
    { "cr/per-vcpu", test_cr_per_vcpu, NEEDS_RUNNING_GUEST },
    { "cr/cr0-et", test_cr0_et, NEEDS_RUNNING_GUEST },
    { "cr/lmsw", test_cr_lmsw, NEEDS_RUNNING_GUEST },
    { "cr/clts", test_cr_clts, NEEDS_RUNNING_GUEST },
    { "cr/new-value", test_cr_new_value, NEEDS_RUNNING_GUEST },
    { "cr/old-value", test_cr_old_value, NEEDS_RUNNING_GUEST },
    { "cr/new-value-reserved", test_cr_new_value_reserved,
      NEEDS_RUNNING_GUEST },
    { "cr/new-value-la57", test_cr_new_value_la57, NEEDS_RUNNING_GUEST },
    { "cr/refused-reserved", test_cr_refused_reserved,
      NEEDS_RUNNING_GUEST },
    { "cr/refused-la57", test_cr_refused_la57, NEEDS_RUNNING_GUEST },
    { "cr/cr3-no-flush", test_cr3_no_flush, NEEDS_RUNNING_GUEST },
    { "msr/values", test_msr, NEEDS_RUNNING_GUEST },
    { "msr/efer", test_msr_efer, NEEDS_RUNNING_GUEST },
    { "msr/halves", test_msr_halves, NEEDS_RUNNING_GUEST },
    { "msr/same-value", test_msr_same_value, NEEDS_RUNNING_GUEST },
    { "msr/half-enabled", test_msr_half_enabled, NEEDS_RUNNING_GUEST },
    { "msr/other", test_msr_other, NEEDS_RUNNING_GUEST },
    { "msr/disabled-again", test_msr_disabled_again, NEEDS_RUNNING_GUEST },
    { "msr/per-vcpu", test_msr_per_vcpu, NEEDS_RUNNING_GUEST },
    { "msr/read", test_msr_read, NEEDS_RUNNING_GUEST },
    { "msr/swapgs", test_msr_swapgs, NEEDS_RUNNING_GUEST },
    { "msr/new-value", test_msr_new_value, NEEDS_RUNNING_GUEST },
    { "msr/operands-kept", test_msr_operands_kept, NEEDS_RUNNING_GUEST },
    { "msr/new-value-refused", test_msr_new_value_refused,
      NEEDS_RUNNING_GUEST },
    { "msr/refused-reserved", test_msr_refused_reserved,
      NEEDS_RUNNING_GUEST },
    { "msr/refused-pkrs", test_msr_refused_pkrs, NEEDS_RUNNING_GUEST },
    { "msr/unimplemented", test_msr_unimplemented, NEEDS_RUNNING_GUEST },
    { "event/cr-and-msr", test_cr_and_msr, NEEDS_RUNNING_GUEST },
    { "event/many", test_many, NEEDS_RUNNING_GUEST },
    { "event/many-both", test_many_both, NEEDS_RUNNING_GUEST },
    { "event/commands-while-waiting", test_commands_while_waiting,
      NEEDS_RUNNING_GUEST },
    { "event/control-while-waiting", test_control_while_waiting,
      NEEDS_RUNNING_GUEST },
    { "event/before-start", test_before_start, NEEDS_RUNNING_GUEST },
    { "event/code-patched", test_code_patched, NEEDS_RUNNING_GUEST },
    { "event/both-wait", test_both_wait, NEEDS_RUNNING_GUEST },
    { "event/other-vcpu-runs", test_other_vcpu_runs, NEEDS_RUNNING_GUEST },
    { "crash/cr", test_crash_cr, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "crash/msr", test_crash_msr, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "crash/panic-none", test_crash_panic_none, NEEDS_RUNNING_GUEST,
      .more = "-action panic=none" },
    { "crash/pause-vcpu", test_crash_pause, .more = "-action panic=pause" },
    { "disconnect/cr", test_disconnect_cr, NEEDS_RUNNING_GUEST },
    { "disconnect/msr", test_disconnect_msr, NEEDS_RUNNING_GUEST },
    { "disconnect/answered", test_disconnect_answered, NEEDS_RUNNING_GUEST },
    { "event/pause-behind", test_pause_behind_event, NEEDS_RUNNING_GUEST },
    { "disconnect/both-wait", test_disconnect_both_wait, NEEDS_RUNNING_GUEST },
    { "disconnect/paused", test_disconnect_paused },
    { "disconnect/before-event", test_disconnect_before_event,
      NEEDS_RUNNING_GUEST },
    { "disconnect/by-mistake", test_disconnect_by_mistake,
      NEEDS_RUNNING_GUEST },
    { "disconnect/half-closed", test_disconnect_half, NEEDS_RUNNING_GUEST },
    { "disconnect/unread", test_disconnect_unread, NEEDS_RUNNING_GUEST },
    { "disconnect/leaks", test_disconnect_leaks },
    { "disconnect/undoes", test_disconnect_undoes, NEEDS_RUNNING_GUEST },
};

void introspection_add_event_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
