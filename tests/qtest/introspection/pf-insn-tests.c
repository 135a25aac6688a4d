/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: the PF event of every kind of access that an instruction
 * can make, and of what touches memory without being an instruction.
 */
#include "qemu/osdep.h"
#include "page-access.h"

#define PAGE_D                  (PAGE_C + PAGE_SIZE)
#define UNMAPPED                0x200000000ULL

#define EXCEPTION_BP            3
#define EXCEPTION_UD            6
#define EXCEPTION_PF            14

/* Where the guest's exceptions push: the first thing is SS. */
#define TRAP_STACK              (GUEST_MAILBOX(0) + 0x2000)

#define PTE_ACCESSED            0x20
#define PTE_DIRTY               0x40

static void expect_exception(TestVM *vm, uint64_t rip, unsigned vector)
{
    vm_guest_expect_exception_at(vm, 0, vector, rip);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 1);
}

/* Crossing into a page. */

static void test_crossing_read(TestVM *vm)
{
    Insn load = load64(PAGE_B - 1);
    uint64_t rip;

    enable_pf(vm, 0);
    write_u64(vm, PAGE_B - 1, MARK);
    set_access(vm, PAGE_B, 0);
    pass_pf(vm, 0, begin_insn(vm, &load), PAGE_B, R);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, MARK);

    set_access(vm, PAGE_A, possible_access(vm, W));
    rip = begin_insn(vm, &load);
    pass_pf(vm, 0, rip, PAGE_B - 1, R);
    pass_pf(vm, 0, rip, PAGE_B, R);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, MARK);
    rip = begin_insn(vm, &load);
    step_pf(vm, 0, rip, PAGE_B - 1, R);
    step_pf(vm, 0, rip, PAGE_B, R);
    finish_ok(vm, 0);
}

/* Nothing is written before all of it is let through. */
static void test_crossing_write(TestVM *vm)
{
    Insn store = store64(PAGE_B - 3, MARK);
    g_autofree ToolEvent *event = NULL;
    struct kvmi_event_pf_reply reply = { };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_B, R | X);
    rip = begin_insn(vm, &store);
    event = expect_pf(vm, 0, rip, PAGE_B, W);
    g_assert_cmphex(read_u64(vm, PAGE_B - 3), ==, 0);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_B - 3), ==, MARK);

    set_access(vm, PAGE_A, R | X);
    rip = begin_insn(vm, &store);
    pass_pf(vm, 0, rip, PAGE_B - 3, W);
    retry_pf(vm, 0, rip, PAGE_B, W);
    /* the first one's answer still holds */
    pass_pf(vm, 0, rip, PAGE_B, W);
    finish_ok(vm, 0);
}

/* An instruction whose end is in a page that is not to be executed. */
static void test_crossing_fetch(TestVM *vm)
{
    static const Insn mov = {
        "mov", { 0x48, 0xb8, 0x11, 0x22, 0x33, 0x44,
                 0x55, 0x66, 0x77, 0x88 }, 10,
    };
    uint64_t rip = PAGE_B - 3, code = put_insn_before(vm, rip, &mov);

    enable_pf(vm, 0);
    begin(vm, 0, code);
    finish_ok(vm, 0);
    for (unsigned i = 0; i < 3; i++) {
        set_access(vm, PAGE_B, R | W);
        begin(vm, 0, code);
        pass_pf(vm, 0, rip, PAGE_B, X);
        pass_pf(vm, 0, PAGE_B + 7, PAGE_B + 7, X);
        finish_ok(vm, 0);
        g_assert_cmphex(result(vm, 0), ==, MARK);
        set_access(vm, PAGE_B, RWX);
        begin(vm, 0, code);
        finish_ok(vm, 0);
    }
}

/* Both operands of MOVSQ cross: four pages. */
static void test_four_pages(TestVM *vm)
{
    static const Insn movsq = {
        "movsq", { 0x48, 0xa5 }, 2, .rsi = PAGE_B - 4, .rdi = PAGE_D - 4,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, possible_access(vm, W | X));
    set_access(vm, PAGE_B, possible_access(vm, X));
    set_access(vm, PAGE_C, R);
    set_access(vm, PAGE_D, 0);
    for (unsigned i = 0; i < 3; i++) {
        write_u64(vm, PAGE_B - 4, MARK);
        write_u64(vm, PAGE_D - 4, 0);
        rip = begin_insn(vm, &movsq);
        pass_pf(vm, 0, rip, PAGE_B - 4, R);
        step_pf(vm, 0, rip, PAGE_B, R);
        pass_pf(vm, 0, rip, PAGE_D - 4, W);
        step_pf(vm, 0, rip, PAGE_D, W);
        finish_ok(vm, 0);
        g_assert_cmphex(read_u64(vm, PAGE_D - 4), ==, MARK);
    }
}

/* Reading and writing. */

/*
 * Pass what an instruction has that reads and writes a page which it may not
 * access at all.  What the processor takes for a write alone is one event.
 */
static void pass_both(TestVM *vm, uint64_t rip, uint64_t gpa)
{
    unsigned seen = 0;

    while (seen != (R | W)) {
        g_autofree ToolEvent *event =
            tool_expect_event(vm->tool, 0, KVMI_EVENT_PF);
        struct kvmi_event_pf_reply reply = { };

        g_assert_cmphex(event->common.regs.rip, ==, rip);
        g_assert_cmphex(event->own.pf.gpa, ==, gpa);
        g_assert_cmphex(event->own.pf.mode & seen, ==, 0);
        seen |= event->own.pf.mode;
        if (!has_access(vm, W) && event->own.pf.mode == W) {
            seen |= R;
        }
        reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    }
}

/* Step over one that reads and writes: its first event may be either. */
static void step_either(TestVM *vm, uint64_t rip, uint64_t gpa)
{
    g_autofree ToolEvent *event = tool_expect_event(vm->tool, 0,
                                                    KVMI_EVENT_PF);
    struct kvmi_event_pf_reply reply = { .singlestep = 1 };

    g_assert_cmphex(event->common.regs.rip, ==, rip);
    g_assert_cmphex(event->own.pf.gpa, ==, gpa);
    g_assert_cmphex(event->own.pf.mode & (R | W), !=, 0);
    reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
}

static void test_read_modify_write(TestVM *vm)
{
    static const Insn add = {
        "add", { 0x48, 0x01, 0x07 }, 3, .rdi = PAGE_A, .rax = 5,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    rip = begin_insn(vm, &add);
    pass_both(vm, rip, PAGE_A);
    finish_ok(vm, 0);
    g_assert_cmpuint(read_u64(vm, PAGE_A), ==, 5);
    /* with singlestep the page is open in every way */
    step_either(vm, begin_insn(vm, &add), PAGE_A);
    finish_ok(vm, 0);
    g_assert_cmpuint(read_u64(vm, PAGE_A), ==, 10);
    set_access(vm, PAGE_A, R);
    pass_pf(vm, 0, begin_insn(vm, &add), PAGE_A, W);
    finish_ok(vm, 0);
    g_assert_cmpuint(read_u64(vm, PAGE_A), ==, 15);
    if (has_access(vm, W)) {
        set_access(vm, PAGE_A, W);
        pass_pf(vm, 0, begin_insn(vm, &add), PAGE_A, R);
        finish_ok(vm, 0);
        g_assert_cmpuint(read_u64(vm, PAGE_A), ==, 20);
    }
}

static void expect_atomic(TestVM *vm, const Insn *insn)
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t rip;

        set_access(vm, PAGE_A, R);
        pass_pf(vm, 0, begin_insn(vm, insn), PAGE_A, W);
        finish_ok(vm, 0);
        if (has_access(vm, W)) {
            set_access(vm, PAGE_A, W);
            pass_pf(vm, 0, begin_insn(vm, insn), PAGE_A, R);
        } else {
            pass_pf(vm, 0, begin_insn(vm, insn), PAGE_A, W);
        }
        finish_ok(vm, 0);
        set_access(vm, PAGE_A, 0);
        rip = begin_insn(vm, insn);
        pass_both(vm, rip, PAGE_A);
        finish_ok(vm, 0);
        set_access(vm, PAGE_A, RWX);
        begin_insn(vm, insn);
        finish_ok(vm, 0);
    }
}

static const Insn lock_xadd = {
    "lock xadd", { 0xf0, 0x48, 0x0f, 0xc1, 0x07 }, 5,
    .rdi = PAGE_A, .rax = 1,
};

static void test_atomic(TestVM *vm)
{
    /* its failure writes, too: 48 0f c7 is CMPXCHG16B, 48 0f b1 CMPXCHG */
    static const Insn atomics[] = {
        { "xchg", { 0x48, 0x87, 0x07 }, 3, .rdi = PAGE_A },
        { "lock cmpxchg", { 0xf0, 0x48, 0x0f, 0xb1, 0x0f }, 5,
          .rdi = PAGE_A, .rcx = MARK, .rax = OTHER_MARK },
        { "lock cmpxchg16b", { 0xf0, 0x48, 0x0f, 0xc7, 0x0f }, 5,
          .rdi = PAGE_A, .rcx = MARK, .rax = OTHER_MARK },
        { "lock bts", { 0xf0, 0x0f, 0xba, 0x2f, 0x03 }, 5, .rdi = PAGE_A },
        { "lock neg", { 0xf0, 0x48, 0xf7, 0x1f }, 4, .rdi = PAGE_A },
    };

    enable_pf(vm, 0);
    expect_atomic(vm, &lock_xadd);
    g_assert_cmpuint(read_u64(vm, PAGE_A), ==, 8);
    for (size_t i = 0; i < G_N_ELEMENTS(atomics); i++) {
        g_test_message("%s", atomics[i].name);
        expect_atomic(vm, &atomics[i]);
    }
}

/* TCG stops the other vCPUs for this. */
static void test_atomic_crossing(TestVM *vm)
{
    Insn xadd = lock_xadd;

    xadd.rdi = PAGE_B - 4;
    vm_guest_start_vcpu(vm, 1);
    enable_pf(vm, 0);
    for (unsigned i = 1; i <= 5; i++) {
        set_access(vm, PAGE_B, R | X);
        pass_pf(vm, 0, begin_insn(vm, &xadd), PAGE_B, W);
        finish_ok(vm, 0);
        g_assert_cmpuint(read_u64(vm, PAGE_B - 4), ==, 2 * i - 1);
        set_access(vm, PAGE_B, possible_access(vm, W | X));
        step_either(vm, begin_insn(vm, &xadd), PAGE_B);
        finish_ok(vm, 0);
        g_assert_cmpuint(read_u64(vm, PAGE_B - 4), ==, 2 * i);
    }
}

/* Repeated instructions: each repetition is an access of its own. */

static void test_rep(TestVM *vm)
{
    static const Insn movsb = {
        "rep movsb", { 0xf3, 0xa4 }, 2,
        .rsi = PAGE_A + 1, .rdi = PAGE_B + 2, .rcx = 5,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    write_u64(vm, PAGE_A + 1, MARK);
    set_access(vm, PAGE_A, possible_access(vm, W));
    set_access(vm, PAGE_B, R);
    rip = begin_insn(vm, &movsb);
    for (unsigned i = 0; i < 5; i++) {
        g_autofree ToolEvent *event =
            expect_pf(vm, 0, rip, PAGE_A + 1 + i, R);
        struct kvmi_event_pf_reply reply = { .singlestep = i % 2 };

        g_assert_cmpuint(event->common.regs.rcx, ==, 5 - i);
        reply_pf(vm, event, i % 2 ? KVMI_EVENT_ACTION_RETRY
                                  : KVMI_EVENT_ACTION_CONTINUE, &reply);
        pass_pf(vm, 0, rip, PAGE_B + 2 + i, W);
    }
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_B + 2), ==, MARK & 0xffffffffff);
}

static void test_rep_into_page(TestVM *vm)
{
    static const Insn stosq = {
        "rep stosq", { 0xf3, 0x48, 0xab }, 3,
        .rdi = PAGE_B - 16, .rcx = 4, .rax = MARK,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_B, R);
    rip = begin_insn(vm, &stosq);
    pass_pf(vm, 0, rip, PAGE_B, W);
    pass_pf(vm, 0, rip, PAGE_B + 8, W);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_B - 16), ==, MARK);
    g_assert_cmphex(read_u64(vm, PAGE_B + 8), ==, MARK);
    g_assert_cmphex(read_u64(vm, PAGE_B + 16), ==, 0);
}

static void complete_rep(TestVM *vm, uint64_t rip, uint64_t gpa, uint32_t mode)
{
    g_autofree ToolEvent *event = expect_pf(vm, 0, rip, gpa, mode);
    struct kvmi_event_pf_reply reply = { .rep_complete = 1 };

    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
}

static void test_rep_complete(TestVM *vm)
{
    static const Insn movsb = {
        "rep movsb", { 0xf3, 0xa4 }, 2,
        .rsi = PAGE_A, .rdi = PAGE_C, .rcx = 2 * PAGE_SIZE,
    };

    enable_pf(vm, 0);
    for (unsigned i = 0; i < 4; i++) {
        set_access(vm, PAGE_A + i * PAGE_SIZE, 0);
    }
    for (unsigned i = 1; i < 3; i++) {
        write_u64(vm, PAGE_C - 8, i * MARK);
        complete_rep(vm, begin_insn(vm, &movsb), PAGE_A, R);
        finish_ok(vm, 0);
        g_assert_cmphex(read_u64(vm, PAGE_C + 2 * PAGE_SIZE - 8), ==,
                        i * MARK);
    }
}

/* More repetitions than TCG does at once, and an event in the middle. */
static void test_rep_complete_long(TestVM *vm)
{
    enum { COUNT = 200000 };
    static const Insn stosb = {
        "rep stosb", { 0xf3, 0xaa }, 2,
        .rdi = PAGE_A, .rcx = COUNT, .rax = 0x11,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    for (uint64_t gpa = PAGE_B; gpa < PAGE_A + COUNT; gpa += PAGE_SIZE) {
        set_access(vm, gpa, R);
    }
    rip = begin_insn(vm, &stosb);
    pass_pf(vm, 0, rip, PAGE_B, W);
    complete_rep(vm, rip, PAGE_B + 1, W);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_A + COUNT - 4), ==, 0x11111111);
}

/* It is CONTINUE for an instruction that is not repeated. */
static void test_rep_complete_single(TestVM *vm)
{
    static const Insn movsb = {
        "movsb", { 0xa4 }, 1, .rsi = PAGE_A, .rdi = PAGE_B,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    set_access(vm, PAGE_B, 0);
    rip = begin_insn(vm, &movsb);
    complete_rep(vm, rip, PAGE_A, R);
    complete_rep(vm, rip, PAGE_B, W);
    finish_ok(vm, 0);
}

static void test_rep_ctx(TestVM *vm)
{
    static const Insn lodsb = {
        "rep lodsb", { 0xf3, 0xac }, 2, .rsi = PAGE_A, .rcx = 3,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    rip = begin_insn(vm, &lodsb);
    for (unsigned i = 0; i < 3; i++) {
        uint8_t byte = 0x50 + i;

        pass_pf_with(vm, 0, rip, PAGE_A + i, R, &byte, 1);
    }
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0) & 0xff, ==, 0x52);
}

/* Large areas. */

static void test_xsave(TestVM *vm)
{
    static const Insn insns[] = {
        { "fxsave64", { 0x48, 0x0f, 0xae, 0x07 }, 4 },
        { "xsave64", { 0x48, 0x0f, 0xae, 0x27 }, 4, .rax = 3 },
        { "fxrstor64", { 0x48, 0x0f, 0xae, 0x0f }, 4 },
        { "xrstor64", { 0x48, 0x0f, 0xae, 0x2f }, 4, .rax = 3 },
    };

    enable_pf(vm, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(insns); i++) {
        Insn insn = insns[i];
        uint32_t kind = i < 2 ? W : R;
        uint64_t rip;

        g_test_message("%s", insn.name);
        insn.rdi = PAGE_B - 64;
        set_access(vm, PAGE_A, possible_access(vm, RWX & ~kind));
        set_access(vm, PAGE_B, possible_access(vm, RWX & ~kind));
        rip = begin_insn(vm, &insn);
        pass_pf(vm, 0, rip, PAGE_B - 64, kind);
        pass_pf(vm, 0, rip, PAGE_B, kind);
        finish_ok(vm, 0);
    }
}

/* The stack: push, call, enter, leave. */
static void test_stack(TestVM *vm)
{
    /* mov %rsp, %rdx; mov %rdi, %rsp; ...; mov %rdx, %rsp */
    static const Insn push = {
        "push", { 0x48, 0x89, 0xe2, 0x48, 0x89, 0xfc, 0x50,
                  0x48, 0x89, 0xd4 }, 10, .rdi = PAGE_B + 8, .rax = MARK,
    };
    static const Insn call = {
        "call", { 0x48, 0x89, 0xe2, 0x48, 0x89, 0xfc,
                  0xe8, 0x00, 0x00, 0x00, 0x00,
                  0x48, 0x89, 0xd4 }, 14, .rdi = PAGE_B + 8,
    };
    static const Insn pop = {
        "pop", { 0x48, 0x89, 0xe2, 0x48, 0x89, 0xfc, 0x58,
                 0x48, 0x89, 0xd4 }, 10, .rdi = PAGE_B,
    };

    enable_pf(vm, 0);
    set_access(vm, PAGE_B, 0);
    pass_pf(vm, 0, begin_insn(vm, &push) + 6, PAGE_B, W);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_B), ==, MARK);
    pass_pf(vm, 0, begin_insn(vm, &pop) + 6, PAGE_B, R);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, MARK);
    pass_pf(vm, 0, begin_insn(vm, &call) + 6, PAGE_B, W);
    finish_ok(vm, 0);
}

/* A descriptor that an instruction loads, and one that it stores. */
static void test_descriptor(TestVM *vm)
{
    /* lgdt (%rsi); mov %eax, %es; lgdt (%rdx) */
    static const Insn mov = {
        "mov", { 0x0f, 0x01, 0x16, 0x8e, 0xc0, 0x0f, 0x01, 0x12 }, 8,
        .rsi = PAGE_C, .rdx = PAGE_C + 0x10, .rax = GUEST_DS,
    };
    /* sgdt (%rdi) */
    static const Insn sgdt = {
        "sgdt", { 0x0f, 0x01, 0x07 }, 3, .rdi = PAGE_B - 2,
    };
    uint8_t table[GUEST_GDT_ENTRIES * 8];
    struct {
        uint16_t limit;
        uint64_t base;
    } QEMU_PACKED pointer = { sizeof(table) - 1 };
    ToolRegisters registers;

    enable_pf(vm, 0);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &registers),
                    ==, 0);
    pointer.base = registers.common.sregs.gdt.base;
    qtest_memwrite(vm->qts, PAGE_C + 0x10, &pointer, sizeof(pointer));
    qtest_memread(vm->qts, pointer.base, table, sizeof(table));
    pointer.base = PAGE_A;
    qtest_memwrite(vm->qts, PAGE_C, &pointer, sizeof(pointer));
    qtest_memwrite(vm->qts, PAGE_A, table, sizeof(table));
    set_access(vm, PAGE_A, possible_access(vm, W | X));
    pass_pf(vm, 0, begin_insn(vm, &mov) + 3, PAGE_A + GUEST_DS, R);
    finish_ok(vm, 0);

    set_access(vm, PAGE_A, RWX);
    set_access(vm, PAGE_B, 0);
    pass_pf(vm, 0, begin_insn(vm, &sgdt), PAGE_B, W);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_B), ==,
                    registers.common.sregs.gdt.base);
}

/* Code. */

static void test_self_modifying(TestVM *vm)
{
    /* movb $0x90, 0(%rip); hlt, which is a nop by then */
    static const Insn insn = {
        "mov", { 0xc6, 0x05, 0x00, 0x00, 0x00, 0x00, 0x90, 0xf4 }, 8,
    };

    enable_pf(vm, 0);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t rip;

        set_access(vm, CODE, R | X);
        rip = begin_insn(vm, &insn);
        if (i & 1) {
            step_pf(vm, 0, rip, rip + 7, W);
        } else {
            pass_pf(vm, 0, rip, rip + 7, W);
        }
        finish_ok(vm, 0);
    }
}

/* Code that only can be executed, and reads and writes itself. */
static void test_execute_only(TestVM *vm)
{
    /* mov 0(%rip), %eax; mov %eax, -6(%rip) */
    static const Insn insn = {
        "mov", { 0x8b, 0x05, 0x00, 0x00, 0x00, 0x00,
                 0x89, 0x05, 0xfa, 0xff, 0xff, 0xff }, 12,
    };

    if (!has_access(vm, X)) {
        g_test_skip("KVM's processor has no execute-only pages");
        return;
    }
    enable_pf(vm, 0);
    set_access(vm, CODE, X);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t rip = begin_insn(vm, &insn);

        pass_pf(vm, 0, rip, rip + 6, R);
        pass_pf(vm, 0, rip + 6, rip + 6, W);
        finish_ok(vm, 0);
    }
}

/* A loop that never leaves its page. */
static void test_loop_in_page(TestVM *vm)
{
    /* 1: incl (%rdi); cmpl $0, GUEST_RELEASE; je 1b */
    static const Insn loop = {
        "loop", { 0xff, 0x07, 0x83, 0x3c, 0x25, 0x00, 0x00, 0x3f, 0x00, 0x00,
                  0x74, 0xf4 }, 12, .rdi = PAGE_A,
    };
    uint64_t rip = put_insn_at(vm, CODE, &loop);

    enable_pf(vm, 0);
    begin(vm, 0, CODE);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t before = read_u64(vm, PAGE_A), count;
        ToolEvent *event;
        struct kvmi_event_pf_reply reply = { };

        VM_WAIT_UNTIL(read_u64(vm, PAGE_A) != before);
        set_access(vm, CODE, R | W);
        count = read_u64(vm, PAGE_A);
        for (unsigned j = 0; j < 6; j++) {
            event = tool_expect_event(vm->tool, 0, KVMI_EVENT_PF);
            g_assert_cmphex(event->own.pf.mode, ==, X);
            g_assert_cmphex(event->own.pf.gva, ==, event->common.regs.rip);
            g_assert_cmphex(event->own.pf.gpa, >=, rip);
            g_assert_cmphex(event->own.pf.gpa, <, rip + loop.size);
            reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
            g_free(event);
        }
        event = tool_expect_event(vm->tool, 0, KVMI_EVENT_PF);
        /* six instructions are the loop, twice */
        g_assert_cmpuint(read_u64(vm, PAGE_A), ==, count + 2);
        set_access(vm, CODE, RWX);
        reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
        g_free(event);
    }
    vm_guest_release(vm);
    finish_ok(vm, 0);
}

/* What is executed once is not kept: the code is another one next time. */
static void test_code_changes(TestVM *vm)
{
    /* mov $imm32, %eax */
    Insn mov = { "mov", { 0xb8, 1, 0, 0, 0 }, 5 };

    enable_pf(vm, 0);
    set_access(vm, CODE, 0);
    for (uint8_t i = 1; i < 5; i++) {
        uint64_t rip;

        mov.bytes[1] = i;
        rip = begin_insn(vm, &mov);
        for (unsigned j = 0; j < 5; j++) {
            pass_pf(vm, 0, CODE + 10 * j, CODE + 10 * j, X);
        }
        pass_pf(vm, 0, rip, rip, X);
        pass_pf(vm, 0, rip + 5, rip + 5, X);
        finish_ok(vm, 0);
        g_assert_cmpuint(result(vm, 0), ==, i);
    }
}

/* Page tables. */

/* Walks and what they set are not the guest's accesses; its own are. */
static void test_page_walks(TestVM *vm)
{
    static const uint64_t tables[] = {
        GUEST_PML4_A, GUEST_PML4_B, GUEST_PDPT, GUEST_PD, GUEST_PT,
    };
    uint64_t pte = GUEST_PT + (PAGE_C - GUEST_SCRATCH) / PAGE_SIZE * 8;
    Insn load = load64(PAGE_C), store = store64(PAGE_C, MARK);
    Insn load_pte = load64(pte);

    enable_pf(vm, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        set_access(vm, tables[i], 0);
    }
    vm_guest_result(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    g_assert_cmphex(read_u64(vm, pte) & (PTE_ACCESSED | PTE_DIRTY), ==, 0);
    begin_insn(vm, &load);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, pte) & (PTE_ACCESSED | PTE_DIRTY),
                    ==, PTE_ACCESSED);
    begin_insn(vm, &store);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, pte) & (PTE_ACCESSED | PTE_DIRTY),
                    ==, PTE_ACCESSED | PTE_DIRTY);
    pass_pf(vm, 0, begin_insn(vm, &load_pte), pte, R);
    finish_ok(vm, 0);
}

/* One page of 4 KiB, of the 2 MiB that the guest's entry maps. */
static void test_huge_page(TestVM *vm)
{
    uint64_t page = GUEST_RELEASE + PAGE_SIZE;
    Insn store = store64(page + 8, MARK), before = store64(page - 8, MARK);

    enable_pf(vm, 0);
    set_access(vm, page, R);
    begin_insn(vm, &before);
    finish_ok(vm, 0);
    pass_pf(vm, 0, begin_insn(vm, &store), page + 8, W);
    finish_ok(vm, 0);
    set_access(vm, page, RWX);
    begin_insn(vm, &store);
    finish_ok(vm, 0);
}

/* The guest's own page tables come first. */
static void test_guest_fault_first(TestVM *vm)
{
    uint64_t pte = GUEST_PT + (PAGE_A - GUEST_SCRATCH) / PAGE_SIZE * 8;
    Insn store = store64(PAGE_A + 0x10, MARK);
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    write_u64(vm, pte, 0);
    vm_guest_result(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    rip = begin_insn(vm, &store);
    expect_exception(vm, rip, EXCEPTION_PF);
    g_assert_cmphex(vm_guest_get(vm, 0, cr2), ==, PAGE_A + 0x10);
    tool_expect_no_event(vm->tool);
}

/* Other events of the same instruction: each is reported once. */

static void test_with_cr(TestVM *vm)
{
    static const Insn mov = {
        "mov", { 0x0f, 0x22, 0xd8 }, 3, .rax = GUEST_PML4_B,
    };
    g_autofree ToolEvent *event = NULL;
    uint64_t rip;

    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_PF_FLAG | KVMI_EVENT_CR_FLAG);
    set_access(vm, CODE, R | W);
    rip = begin_insn(vm, &mov);
    for (unsigned i = 0; i < 5; i++) {
        pass_pf(vm, 0, CODE + i * 10, CODE + i * 10, X);
    }
    pass_pf(vm, 0, rip, rip, X);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    g_assert_cmphex(event->common.regs.rip, ==, rip);
    tool_continue_with(vm->tool, event, GUEST_PML4_A);
    pass_pf(vm, 0, rip + 3, rip + 3, X);
    finish_ok(vm, 0);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_READ_CR, 3, 0), ==,
                    GUEST_PML4_A);
}

/* SGDT: the descriptor's event comes first, and is not reported again. */
static void test_with_descriptor(TestVM *vm)
{
    static const Insn sgdt = {
        "sgdt", { 0x0f, 0x01, 0x07 }, 3, .rdi = PAGE_A,
    };
    g_autofree ToolEvent *event = NULL;
    uint64_t rip;

    vm_control_events(vm, 0, KVMI_EVENT_PF_FLAG | KVMI_EVENT_DESCRIPTOR_FLAG);
    set_access(vm, PAGE_A, R);
    rip = begin_insn(vm, &sgdt);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_DESCRIPTOR);
    g_assert_cmphex(event->common.regs.rip, ==, rip);
    tool_continue(vm->tool, event);
    pass_pf(vm, 0, rip, PAGE_A, W);
    finish_ok(vm, 0);
}

/* Delivery of exceptions and interrupts: pushes are accesses. */

/* The handler runs on the same stack: open it once it is there. */
static void open_in_handler(TestVM *vm, uint64_t before)
{
    g_autofree ToolEvent *event = tool_expect_event(vm->tool, 0,
                                                    KVMI_EVENT_PF);
    struct kvmi_event_pf_reply reply = { };

    g_assert_cmphex(event->common.regs.rip, !=, before);
    set_access(vm, TRAP_STACK - 1, RWX);
    reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
}

static void restrict_trap_stack(TestVM *vm)
{
    enable_pf(vm, 0);
    set_access(vm, TRAP_STACK - 1, R | X);
}

static void test_exception(TestVM *vm)
{
    static const Insn ud2 = { "ud2", { 0x0f, 0x0b }, 2 };
    uint64_t rip;

    restrict_trap_stack(vm);
    rip = begin_insn(vm, &ud2);
    retry_pf(vm, 0, rip, TRAP_STACK - 8, W);
    pass_pf(vm, 0, rip, TRAP_STACK - 8, W);
    open_in_handler(vm, rip);
    expect_exception(vm, rip, EXCEPTION_UD);
}

static void test_exception_step(TestVM *vm)
{
    static const Insn ud2 = { "ud2", { 0x0f, 0x0b }, 2 };
    uint64_t rip;

    restrict_trap_stack(vm);
    rip = begin_insn(vm, &ud2);
    step_pf(vm, 0, rip, TRAP_STACK - 8, W);
    open_in_handler(vm, rip);
    expect_exception(vm, rip, EXCEPTION_UD);
}

/* With an error code and CR2. */
static void test_exception_fault(TestVM *vm)
{
    Insn store = store64(UNMAPPED, MARK);
    uint64_t rip;

    restrict_trap_stack(vm);
    rip = begin_insn(vm, &store);
    pass_pf(vm, 0, rip, TRAP_STACK - 8, W);
    open_in_handler(vm, rip);
    expect_exception(vm, rip, EXCEPTION_PF);
    g_assert_cmphex(vm_guest_get(vm, 0, cr2), ==, UNMAPPED);
    g_assert_cmphex(vm_guest_get(vm, 0, error_code), ==, 2);
}

/* INT3's own event is not reported again; what is pushed is behind it. */
static void test_exception_int3(TestVM *vm)
{
    static const Insn int3 = { "int3", { 0xcc }, 1 };
    g_autofree ToolEvent *event = NULL;
    uint64_t rip;

    restrict_trap_stack(vm);
    vm_control_events(vm, 0, KVMI_EVENT_PF_FLAG | KVMI_EVENT_BREAKPOINT_FLAG);
    rip = begin_insn(vm, &int3);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_BREAKPOINT);
    tool_continue(vm->tool, event);
    pass_pf(vm, 0, rip, TRAP_STACK - 8, W);
    open_in_handler(vm, rip);
    expect_exception(vm, rip + 1, EXCEPTION_BP);
}

/* The instruction was let through, its exception is another matter. */
static void test_exception_of_answered(TestVM *vm)
{
    static const Insn ud2 = { "ud2", { 0x0f, 0x0b }, 2 };
    uint64_t rip;

    restrict_trap_stack(vm);
    set_access(vm, CODE, R | W);
    rip = begin_insn(vm, &ud2);
    for (unsigned i = 0; i < 5; i++) {
        pass_pf(vm, 0, CODE + i * 10, CODE + i * 10, X);
    }
    pass_pf(vm, 0, rip, rip, X);
    pass_pf(vm, 0, rip, TRAP_STACK - 8, W);
    open_in_handler(vm, rip);
    expect_exception(vm, rip, EXCEPTION_UD);
}

/* With RIP moved, the exception does not come. */
static void test_exception_moved_rip(TestVM *vm)
{
    static const Insn ud2 = { "ud2", { 0x0f, 0x0b }, 2 };
    g_autofree ToolEvent *event = NULL;
    struct kvmi_event_pf_reply reply = { };
    struct kvm_regs regs;
    uint64_t rip;

    restrict_trap_stack(vm);
    rip = begin_insn(vm, &ud2);
    event = expect_pf(vm, 0, rip, TRAP_STACK - 8, W);
    regs = event->common.regs;
    regs.rip += ud2.size;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    finish_ok(vm, 0);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 0);
}

static void test_exception_disconnect(TestVM *vm)
{
    static const Insn ud2 = { "ud2", { 0x0f, 0x0b }, 2 };
    g_autofree ToolEvent *event = NULL;
    uint64_t rip;

    restrict_trap_stack(vm);
    rip = begin_insn(vm, &ud2);
    event = expect_pf(vm, 0, rip, TRAP_STACK - 8, W);
    tool_close(vm->tool);
    expect_exception(vm, rip, EXCEPTION_UD);
}

/* Comes once: is not lost and not taken twice. */
static void test_interrupt(TestVM *vm)
{
    uint64_t rip;

    vm_guest_start_vcpu(vm, 1);
    restrict_trap_stack(vm);
    vm_guest_begin(vm, 0, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 0);
    g_assert_cmpint(vm_guest_do(vm, 1, OP_SEND_IPI, 0, GUEST_VECTOR_WAKE),
                    ==, GUEST_OK);
    rip = vm_guest_get(vm, 0, insn_rip) + 2;
    retry_pf(vm, 0, rip, TRAP_STACK - 8, W);
    pass_pf(vm, 0, rip, TRAP_STACK - 8, W);
    open_in_handler(vm, rip);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, GUEST_VECTOR_WAKE);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 1);
}

static void test_interrupt_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t rip;

    vm_guest_start_vcpu(vm, 1);
    restrict_trap_stack(vm);
    vm_guest_begin(vm, 0, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 0);
    g_assert_cmpint(vm_guest_do(vm, 1, OP_SEND_IPI, 0, GUEST_VECTOR_WAKE),
                    ==, GUEST_OK);
    rip = vm_guest_get(vm, 0, insn_rip) + 2;
    event = expect_pf(vm, 0, rip, TRAP_STACK - 8, W);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(result(vm, 0), ==, GUEST_VECTOR_WAKE);
    g_assert_cmpuint(vm_guest_get(vm, 0, interrupts), ==, 1);
}

/* Other modes of the processor. */

static void expect_modes(TestVM *vm, unsigned mode, uint64_t code,
                         uint64_t rip, uint64_t page)
{
    g_autofree ToolEvent *event = NULL;
    struct kvmi_event_pf_reply reply = { };

    enable_pf(vm, 0);
    set_access(vm, page, R | X);
    vm_guest_begin(vm, 0, OP_RUN, mode, code);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_PF);
    g_assert_cmphex(event->common.regs.rip, ==, rip);
    g_assert_cmphex(event->own.pf.gpa, ==, page + 0x12);
    g_assert_cmphex(event->own.pf.gva, ==, page + 0x12);
    g_assert_cmphex(event->own.pf.mode, ==, W);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, page + 0x12) & 0xffff, ==, 0x1234);
}

/* movw $0x1234, PAGE_A + 0x12; int $GUEST_VECTOR_RETURN */
static const uint8_t code32[] = {
    0x66, 0xc7, 0x05, 0x12, 0x00, 0x41, 0x00, 0x34, 0x12,
    0xcd, GUEST_VECTOR_RETURN,
};
static void expect_mode32(TestVM *vm, unsigned mode)
{
    qtest_memwrite(vm->qts, CODE, code32, sizeof(code32));
    expect_modes(vm, mode, CODE, CODE, PAGE_A);
}

static void test_mode_user32(TestVM *vm)
{
    expect_mode32(vm, GUEST_MODE_USER32);
}

static void test_mode_protected32(TestVM *vm)
{
    expect_mode32(vm, GUEST_MODE_PROT32);
}

static void test_mode_paged32(TestVM *vm)
{
    expect_mode32(vm, GUEST_MODE_PAGED32);
}

/* movw $0x1234, 0x5012; int $GUEST_VECTOR_RETURN */
static void expect_mode16(TestVM *vm, unsigned mode, uint64_t rip)
{
    static const uint8_t code[] = {
        0xc7, 0x06, 0x12, 0x50, 0x34, 0x12, 0xcd, GUEST_VECTOR_RETURN,
    };

    qtest_memwrite(vm->qts, GUEST_CODE16, code, sizeof(code));
    expect_modes(vm, mode, GUEST_CODE16, rip, 0x5000);
}

static void test_mode_real(TestVM *vm)
{
    expect_mode16(vm, GUEST_MODE_REAL, 0);
}

static void test_mode_v86(TestVM *vm)
{
    expect_mode16(vm, GUEST_MODE_V86, 0);
}

static void test_mode_protected16(TestVM *vm)
{
    expect_mode16(vm, GUEST_MODE_PROT16, GUEST_CODE16);
}

/* A task switch saves the old task, and reads the new one. */
static void test_task_switch(TestVM *vm)
{
    /* nop; ljmpl $GUEST_TSS32_B, $0 */
    static const uint8_t code[] = {
        0x90, 0xea, 0, 0, 0, 0, GUEST_TSS32_B, 0,
    };
    static const uint8_t other[] = { 0xcd, GUEST_VECTOR_RETURN };
    g_autofree ToolEvent *first = NULL;
    struct kvmi_event_pf_reply reply = { };
    uint64_t task = CODE + 0x100, seen[16], tss;
    unsigned n = 0, written = 0;

    qtest_memwrite(vm->qts, CODE, code, sizeof(code));
    qtest_memwrite(vm->qts, task, other, sizeof(other));
    write_u64(vm, VM_MAILBOX(0, arg[2]), task);
    enable_pf(vm, 0);
    set_access(vm, CODE, R | W);
    vm_guest_begin(vm, 0, OP_RUN, GUEST_MODE_PROT32, CODE);
    first = expect_pf(vm, 0, CODE, CODE, X);
    tss = first->common.sregs.tr.base;
    set_access(vm, CODE, RWX);
    set_access(vm, tss, 0);
    reply_pf(vm, first, KVMI_EVENT_ACTION_RETRY, &reply);
    for (;;) {
        g_autofree ToolEvent *event = tool_expect_event(vm->tool, 0,
                                                        KVMI_EVENT_PF);
        uint64_t what = event->own.pf.gpa | (uint64_t)event->own.pf.mode << 48;

        if (event->common.regs.rip != CODE + 1) {
            set_access(vm, tss, RWX);
            reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
            break;
        }
        for (unsigned i = 0; i < n; i++) {
            g_assert_cmphex(what, !=, seen[i]);
        }
        g_assert_cmpuint(n, <, G_N_ELEMENTS(seen));
        seen[n++] = what;
        written += event->own.pf.mode == W;
        reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    }
    finish_ok(vm, 0);
    g_assert_cmpuint(n, >=, 2);
    g_assert_cmpuint(written, >=, 1);
    /* EIP in the task that was left */
    g_assert_cmphex(read_u64(vm, tss + 32) & UINT32_MAX, ==, CODE + 8);
}

static const TestCase cases[] = {
    { "pf/crossing-read", test_crossing_read, NEEDS_RUNNING_GUEST },
    { "pf/crossing-write", test_crossing_write, NEEDS_RUNNING_GUEST },
    { "pf/crossing-fetch", test_crossing_fetch, NEEDS_RUNNING_GUEST },
    { "pf/four-pages", test_four_pages, NEEDS_RUNNING_GUEST },
    { "pf/read-modify-write", test_read_modify_write, NEEDS_RUNNING_GUEST },
    { "pf/atomic", test_atomic, NEEDS_RUNNING_GUEST },
    { "pf/atomic-crossing", test_atomic_crossing, NEEDS_RUNNING_GUEST },
    { "pf/rep", test_rep, NEEDS_RUNNING_GUEST },
    { "pf/rep-into-page", test_rep_into_page, NEEDS_RUNNING_GUEST },
    { "pf/rep-complete", test_rep_complete, NEEDS_RUNNING_GUEST },
    { "pf/rep-complete-long", test_rep_complete_long, NEEDS_RUNNING_GUEST },
    { "pf/rep-complete-single", test_rep_complete_single,
      NEEDS_RUNNING_GUEST },
    { "pf/rep-ctx", test_rep_ctx, NEEDS_RUNNING_GUEST },
    { "pf/xsave", test_xsave, NEEDS_RUNNING_GUEST },
    { "pf/stack", test_stack, NEEDS_RUNNING_GUEST },
    { "pf/descriptor", test_descriptor, NEEDS_RUNNING_GUEST },
    { "pf/self-modifying", test_self_modifying, NEEDS_RUNNING_GUEST },
    { "pf/execute-only", test_execute_only, NEEDS_RUNNING_GUEST },
    { "pf/loop-in-page", test_loop_in_page, NEEDS_RUNNING_GUEST },
    { "pf/code-changes", test_code_changes, NEEDS_RUNNING_GUEST },
    { "pf/page-walks", test_page_walks, NEEDS_RUNNING_GUEST },
    { "pf/huge-page", test_huge_page, NEEDS_RUNNING_GUEST },
    { "pf/guest-fault-first", test_guest_fault_first, NEEDS_RUNNING_GUEST },
    { "pf/with-cr", test_with_cr, NEEDS_RUNNING_GUEST },
    { "pf/with-descriptor", test_with_descriptor, NEEDS_RUNNING_GUEST },
    { "pf/exception", test_exception, NEEDS_RUNNING_GUEST },
    { "pf/exception-step", test_exception_step, NEEDS_RUNNING_GUEST },
    { "pf/exception-fault", test_exception_fault, NEEDS_RUNNING_GUEST },
    { "pf/exception-int3", test_exception_int3, NEEDS_RUNNING_GUEST },
    { "pf/exception-of-answered", test_exception_of_answered,
      NEEDS_RUNNING_GUEST },
    { "pf/exception-moved-rip", test_exception_moved_rip,
      NEEDS_RUNNING_GUEST },
    { "pf/exception-disconnect", test_exception_disconnect,
      NEEDS_RUNNING_GUEST },
    { "pf/interrupt", test_interrupt, NEEDS_RUNNING_GUEST },
    { "pf/interrupt-disconnect", test_interrupt_disconnect,
      NEEDS_RUNNING_GUEST },
    { "pf/mode-user32", test_mode_user32, NEEDS_RUNNING_GUEST },
    { "pf/mode-protected32", test_mode_protected32, NEEDS_RUNNING_GUEST },
    { "pf/mode-paged32", test_mode_paged32, NEEDS_RUNNING_GUEST },
    { "pf/mode-real", test_mode_real, NEEDS_RUNNING_GUEST },
    { "pf/mode-v86", test_mode_v86, NEEDS_RUNNING_GUEST },
    { "pf/mode-protected16", test_mode_protected16, NEEDS_RUNNING_GUEST },
    { "pf/task-switch", test_task_switch, NEEDS_RUNNING_GUEST },
};

void introspection_add_pf_insn_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
