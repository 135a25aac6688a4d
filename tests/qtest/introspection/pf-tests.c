/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: the PF event.
 */
#include "qemu/osdep.h"
#include "page-access.h"

#define MARK                    0x8877665544332211ULL
#define OTHER_MARK              0x00ffeeddccbbaa99ULL

/* mov (%rdi), %rax; mov %rax, (%rdi), of every size */
static const Insn loads[] = {
    { "8", { 0x8a, 0x07 }, 2 },
    { "16", { 0x66, 0x8b, 0x07 }, 3 },
    { "32", { 0x8b, 0x07 }, 2 },
    { "64", { 0x48, 0x8b, 0x07 }, 3 },
};
static const Insn stores[] = {
    { "8", { 0x88, 0x07 }, 2 },
    { "16", { 0x66, 0x89, 0x07 }, 3 },
    { "32", { 0x89, 0x07 }, 2 },
    { "64", { 0x48, 0x89, 0x07 }, 3 },
};
static const Insn nop = { "nop", { 0x90 }, 1, .rax = 0x1234 };

static Insn load64(uint64_t address)
{
    Insn insn = loads[3];

    insn.rdi = address;
    return insn;
}

static Insn store64(uint64_t address, uint64_t value)
{
    Insn insn = stores[3];

    insn.rdi = address;
    insn.rax = value;
    return insn;
}

static void begin(TestVM *vm, unsigned vcpu, uint64_t code)
{
    vm_guest_begin(vm, vcpu, OP_CALL, code, 0);
}

/* Returns the address of the instruction, which the guest is about to do. */
static uint64_t begin_insn(TestVM *vm, const Insn *insn)
{
    uint64_t rip = put_insn_at(vm, CODE, insn);

    begin(vm, 0, CODE);
    return rip;
}

static uint64_t result(TestVM *vm, unsigned vcpu)
{
    return vm_guest_get(vm, vcpu, result[0]);
}

static uint64_t read_u64(TestVM *vm, uint64_t gpa)
{
    uint64_t value;

    qtest_memread(vm->qts, gpa, &value, sizeof(value));
    return value;
}

static void write_u64(TestVM *vm, uint64_t gpa, uint64_t value)
{
    qtest_memwrite(vm->qts, gpa, &value, sizeof(value));
}

/* Each kind of access under each combination: an event iff it is forbidden. */

static void expect_if_forbidden(TestVM *vm, uint64_t rip, uint64_t gpa,
                                uint8_t access, uint32_t kind)
{
    if (!(access & kind)) {
        pass_pf(vm, 0, rip, gpa, kind);
    }
    finish_ok(vm, 0);
}

static void test_combinations(TestVM *vm)
{
    Insn load = load64(PAGE_A + 8);
    Insn store = store64(PAGE_A + 16, MARK);

    enable_pf(vm, 0);
    for (uint8_t access = 0; access <= RWX; access++) {
        uint64_t rip;

        set_access(vm, PAGE_A, access);
        write_u64(vm, PAGE_A + 8, OTHER_MARK);
        rip = begin_insn(vm, &load);
        expect_if_forbidden(vm, rip, PAGE_A + 8, access, R);
        g_assert_cmphex(result(vm, 0), ==, OTHER_MARK);

        write_u64(vm, PAGE_A + 16, 0);
        rip = begin_insn(vm, &store);
        expect_if_forbidden(vm, rip, PAGE_A + 16, access, W);
        g_assert_cmphex(read_u64(vm, PAGE_A + 16), ==, MARK);

        set_access(vm, PAGE_A, RWX);
        rip = put_insn_at(vm, PAGE_B, &nop);
        set_access(vm, PAGE_B, access);
        begin(vm, 0, PAGE_B);
        if (!(access & X)) {
            /* each of its instructions */
            for (unsigned i = 0; i < 5; i++) {
                pass_pf(vm, 0, PAGE_B + i * 10, PAGE_B + i * 10, X);
            }
            pass_pf(vm, 0, rip, rip, X);
            pass_pf(vm, 0, rip + 1, rip + 1, X);
        }
        finish_ok(vm, 0);
        g_assert_cmphex(result(vm, 0), ==, nop.rax);
        set_access(vm, PAGE_B, RWX);
    }
}

static void test_sizes(TestVM *vm)
{
    enable_pf(vm, 0);
    set_access(vm, PAGE_A, X);
    for (size_t i = 0; i < G_N_ELEMENTS(loads); i++) {
        Insn load = loads[i], store = stores[i];
        uint64_t mask = UINT64_MAX >> (64 - (8 << i));

        load.rdi = store.rdi = PAGE_A + 0x123;
        store.rax = MARK;
        write_u64(vm, PAGE_A + 0x123, OTHER_MARK);
        pass_pf(vm, 0, begin_insn(vm, &load), PAGE_A + 0x123, R);
        finish_ok(vm, 0);
        g_assert_cmphex(result(vm, 0) & mask, ==, OTHER_MARK & mask);
        pass_pf(vm, 0, begin_insn(vm, &store), PAGE_A + 0x123, W);
        finish_ok(vm, 0);
        g_assert_cmphex(read_u64(vm, PAGE_A + 0x123), ==,
                        (OTHER_MARK & ~mask) | (MARK & mask));
    }
}

static void test_not_enabled(TestVM *vm)
{
    Insn load = load64(PAGE_A);

    write_u64(vm, PAGE_A, MARK);
    set_access(vm, PAGE_A, 0);
    begin_insn(vm, &load);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, MARK);

    /* the vCPU has had the page in its TLB */
    enable_pf(vm, 0);
    pass_pf(vm, 0, begin_insn(vm, &load), PAGE_A, R);
    finish_ok(vm, 0);

    g_assert_cmpint(tool_control_events(vm->tool, 0, 0), ==, 0);
    begin_insn(vm, &load);
    finish_ok(vm, 0);
}

/* What the guest has used before, on every vCPU, and is using now. */
static void test_set_while_running(TestVM *vm)
{
    /* mov (%rdi), %rax; inc %rcx; cmpl $0, GUEST_RELEASE; je -17 */
    static const Insn loop = {
        "loop", { 0x48, 0x8b, 0x07, 0x83, 0x3c, 0x25, 0x00, 0x00, 0x3f, 0x00,
                  0x00, 0x74, 0xf3 }, 13, .rdi = PAGE_A,
    };
    uint64_t rip = put_insn_at(vm, CODE, &loop);

    vm_guest_start_vcpu(vm, 1);
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        enable_pf(vm, vcpu);
        begin(vm, vcpu, CODE);
        vm_guest_wait_started(vm, vcpu);
    }
    for (unsigned i = 0; i < 20; i++) {
        ToolEvent *events[VM_VCPUS];
        struct kvmi_event_pf_reply reply = { };
        unsigned seen = 0;

        g_assert_cmpint(try_set_access(vm, i % VM_VCPUS, PAGE_A, W),
                        ==, 0);
        for (unsigned n = 0; n < VM_VCPUS; n++) {
            events[n] = tool_receive_event(vm->tool);
            g_assert_cmphex(events[n]->common.regs.rip, ==, rip);
            g_assert_cmphex(events[n]->own.pf.gpa, ==, PAGE_A);
            seen |= 1u << events[n]->common.vcpu;
        }
        g_assert_cmphex(seen, ==, 3);
        set_access(vm, PAGE_A, RWX);
        for (unsigned n = 0; n < VM_VCPUS; n++) {
            reply_pf(vm, events[n], KVMI_EVENT_ACTION_RETRY, &reply);
            g_free(events[n]);
        }
    }
    vm_guest_release(vm);
    finish_ok(vm, 0);
    finish_ok(vm, 1);
}

/* Actions. */

static void test_continue_once(TestVM *vm)
{
    Insn store = store64(PAGE_A, MARK);

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R | X);
    for (unsigned i = 0; i < 20; i++) {
        pass_pf(vm, 0, begin_insn(vm, &store), PAGE_A, W);
        finish_ok(vm, 0);
    }
}

/* The next instruction touches the page, too. */
static void test_continue_next(TestVM *vm)
{
    /* mov %rax, (%rdi); mov %rax, (%rdi); mov (%rdi), %rax */
    static const Insn insn = {
        "three", { 0x48, 0x89, 0x07, 0x48, 0x89, 0x07, 0x48, 0x8b, 0x07 }, 9,
        .rdi = PAGE_A, .rax = MARK,
    };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    rip = begin_insn(vm, &insn);
    pass_pf(vm, 0, rip, PAGE_A, W);
    pass_pf(vm, 0, rip + 3, PAGE_A, W);
    pass_pf(vm, 0, rip + 6, PAGE_A, R);
    finish_ok(vm, 0);
    rip = begin_insn(vm, &insn);
    step_pf(vm, 0, rip, PAGE_A, W);
    step_pf(vm, 0, rip + 3, PAGE_A, W);
    step_pf(vm, 0, rip + 6, PAGE_A, R);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, MARK);
}

static void retry(TestVM *vm, uint64_t rip, uint64_t gpa, uint32_t mode)
{
    g_autofree ToolEvent *event = expect_pf(vm, 0, rip, gpa, mode);
    struct kvmi_event_pf_reply reply = { };

    reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
}

static void test_retry(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    struct kvmi_event_pf_reply reply = { };
    Insn store = store64(PAGE_A, MARK);
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    rip = begin_insn(vm, &store);
    retry(vm, rip, PAGE_A, W);
    retry(vm, rip, PAGE_A, W);
    event = expect_pf(vm, 0, rip, PAGE_A, W);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, 0);
    set_access(vm, PAGE_A, R | W);
    reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, MARK);
}

static void test_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    Insn store = store64(PAGE_A, MARK);
    struct kvmi_event_pf_reply reply = { };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    rip = begin_insn(vm, &store);
    event = expect_pf(vm, 0, rip, PAGE_A, W);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CRASH, &reply);
    qtest_qmp_eventwait(vm->qts, "GUEST_PANICKED");
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, 0);
}

/* ctx_data */

static void test_ctx_sizes(TestVM *vm)
{
    enable_pf(vm, 0);
    set_access(vm, PAGE_A, W | X);
    write_u64(vm, PAGE_A + 8, OTHER_MARK);
    for (size_t i = 0; i < G_N_ELEMENTS(loads); i++) {
        uint64_t mask = UINT64_MAX >> (64 - (8 << i));

        for (uint32_t size = 1; size <= 8; size++) {
            g_autofree ToolEvent *event = NULL;
            struct kvmi_event_pf_reply reply = { .ctx_size = size };
            uint64_t hidden = UINT64_MAX >> (64 - 8 * size);
            uint64_t seen = (OTHER_MARK & ~hidden) | (MARK & hidden);
            uint64_t mark = MARK, rip;
            Insn load = loads[i];

            load.rdi = PAGE_A + 8;
            memcpy(reply.ctx_data, &mark, sizeof(mark));
            rip = begin_insn(vm, &load);
            event = expect_pf(vm, 0, rip, PAGE_A + 8, R);
            reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
            finish_ok(vm, 0);
            g_assert_cmphex(result(vm, 0) & mask, ==, seen & mask);
            g_assert_cmphex(read_u64(vm, PAGE_A + 8), ==, OTHER_MARK);
        }
    }
}

static const TestCase cases[] = {
    { "pf/combinations", test_combinations, NEEDS_RUNNING_GUEST },
    { "pf/sizes", test_sizes, NEEDS_RUNNING_GUEST },
    { "pf/not-enabled", test_not_enabled, NEEDS_RUNNING_GUEST },
    { "pf/set-while-running", test_set_while_running, NEEDS_RUNNING_GUEST },
    { "pf/continue-once", test_continue_once, NEEDS_RUNNING_GUEST },
    { "pf/continue-next", test_continue_next, NEEDS_RUNNING_GUEST },
    { "pf/retry", test_retry, NEEDS_RUNNING_GUEST },
    { "pf/crash", test_crash, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "pf/ctx-sizes", test_ctx_sizes, NEEDS_RUNNING_GUEST },
};

void introspection_add_pf_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
