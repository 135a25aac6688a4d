/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: the PF event.
 */
#include "qemu/osdep.h"
#include "page-access.h"

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

        if (!has_access(vm, access)) {
            continue;
        }
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
    set_access(vm, PAGE_A, possible_access(vm, X));
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

    vm_control_events(vm, 0, 0);
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

        g_assert_cmpint(try_set_access(vm, i % VM_VCPUS, PAGE_A,
                                       possible_access(vm, W)), ==, 0);
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

static void test_retry(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    struct kvmi_event_pf_reply reply = { };
    Insn store = store64(PAGE_A, MARK);
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    rip = begin_insn(vm, &store);
    retry_pf(vm, 0, rip, PAGE_A, W);
    retry_pf(vm, 0, rip, PAGE_A, W);
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

/* Answered with the instruction moved on: it is not done. */
static void test_moved_rip(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    Insn store = store64(PAGE_A, MARK);
    struct kvmi_event_pf_reply reply = { };
    struct kvm_regs regs;
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    rip = begin_insn(vm, &store);
    event = expect_pf(vm, 0, rip, PAGE_A, W);
    regs = event->common.regs;
    regs.rip += store.size;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, 0);

    /* and nothing of the answer is left for the next */
    pass_pf(vm, 0, begin_insn(vm, &store), PAGE_A, W);
    finish_ok(vm, 0);
}

/* The instruction is done with the registers that the tool has set. */
static void test_registers_set(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    Insn store = store64(PAGE_A, MARK);
    struct kvmi_event_pf_reply reply = { };
    struct kvm_regs regs;
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    rip = begin_insn(vm, &store);
    event = expect_pf(vm, 0, rip, PAGE_A, W);
    regs = event->common.regs;
    regs.rax = OTHER_MARK;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, OTHER_MARK);
}

static void expect_bad_reply(TestVM *vm, uint32_t action,
                             const struct kvmi_event_pf_reply *reply,
                             size_t size)
{
    g_autofree ToolEvent *event = NULL;
    Insn store = store64(PAGE_A, MARK);
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    write_u64(vm, PAGE_A, 0);
    rip = begin_insn(vm, &store);
    event = expect_pf(vm, 0, rip, PAGE_A, W);
    tool_reply(vm->tool, event, action, reply, size);
    vm_expect_close_and_rehook(vm);
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, MARK);
}

static void test_bad_reply(TestVM *vm)
{
    g_autofree struct kvmi_event_pf_reply *reply =
        g_malloc0(sizeof(*reply) + 8);

    expect_bad_reply(vm, 3, reply, sizeof(*reply));
    expect_bad_reply(vm, KVMI_EVENT_ACTION_CONTINUE, reply, 0);
    expect_bad_reply(vm, KVMI_EVENT_ACTION_CONTINUE, reply, 8);
    expect_bad_reply(vm, KVMI_EVENT_ACTION_RETRY, reply, sizeof(*reply) - 1);
    expect_bad_reply(vm, KVMI_EVENT_ACTION_RETRY, reply, sizeof(*reply) + 8);
    reply->ctx_size = 257;
    expect_bad_reply(vm, KVMI_EVENT_ACTION_CONTINUE, reply, sizeof(*reply));
    reply->ctx_size = UINT32_MAX;
    expect_bad_reply(vm, KVMI_EVENT_ACTION_RETRY, reply, sizeof(*reply));
}

/* ctx_data */

static void test_ctx_sizes(TestVM *vm)
{
    uint64_t mark = MARK;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, possible_access(vm, W | X));
    write_u64(vm, PAGE_A + 8, OTHER_MARK);
    for (size_t i = 0; i < G_N_ELEMENTS(loads); i++) {
        uint64_t mask = UINT64_MAX >> (64 - (8 << i));

        for (uint32_t size = 1; size <= 8; size++) {
            uint64_t hidden = UINT64_MAX >> (64 - 8 * size);
            uint64_t seen = (OTHER_MARK & ~hidden) | (MARK & hidden);
            Insn load = loads[i];

            load.rdi = PAGE_A + 8;
            pass_pf_with(vm, 0, begin_insn(vm, &load), PAGE_A + 8, R,
                         &mark, size);
            finish_ok(vm, 0);
            g_assert_cmphex(result(vm, 0) & mask, ==, seen & mask);
            g_assert_cmphex(read_u64(vm, PAGE_A + 8), ==, OTHER_MARK);
        }
    }
}

/* movdqu (%rdi), %xmm0; movhlps %xmm0, %xmm1; movq %xmm1, %rax */
static void test_ctx_sse(TestVM *vm)
{
    static const Insn insn = {
        "movdqu", { 0xf3, 0x0f, 0x6f, 0x07, 0x0f, 0x12, 0xc8,
                    0x66, 0x48, 0x0f, 0x7e, 0xc8 }, 12, .rdi = PAGE_A + 1,
    };
    uint64_t marks[2] = { MARK, OTHER_MARK };

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    pass_pf_with(vm, 0, begin_insn(vm, &insn), PAGE_A + 1, R, marks, 12);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, OTHER_MARK & UINT32_MAX);
}

/* A read that begins in the page before: the bytes begin where it enters. */
static void test_ctx_begins_before(TestVM *vm)
{
    Insn load = load64(PAGE_B - 3);
    uint64_t mark = MARK;

    enable_pf(vm, 0);
    set_access(vm, PAGE_B, 0);
    write_u64(vm, PAGE_B - 3, OTHER_MARK);
    pass_pf_with(vm, 0, begin_insn(vm, &load), PAGE_B, R, &mark, 2);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==,
                    (OTHER_MARK & ~0xffff000000ULL) | (MARK & 0xffff) << 24);
    g_assert_cmphex(read_u64(vm, PAGE_B - 3), ==, OTHER_MARK);
}

/* A read that goes on in the next page, open or not. */
static void test_ctx_ends_behind(TestVM *vm)
{
    Insn load = load64(PAGE_B - 3), warm_up = load64(PAGE_B + 8);
    uint64_t mark = MARK, rip;

    enable_pf(vm, 0);
    begin_insn(vm, &warm_up);
    finish_ok(vm, 0);
    set_access(vm, PAGE_A, 0);
    write_u64(vm, PAGE_B - 3, OTHER_MARK);
    begin_insn(vm, &warm_up);
    finish_ok(vm, 0);
    pass_pf_with(vm, 0, begin_insn(vm, &load), PAGE_B - 3, R, &mark, 6);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==,
                    (OTHER_MARK & ~0xffffffffffffULL) | (MARK & 0xffffffffffff));
    g_assert_cmphex(read_u64(vm, PAGE_B - 3), ==, OTHER_MARK);

    /* both have an event; the later answer counts where they overlap */
    set_access(vm, PAGE_B, 0);
    rip = begin_insn(vm, &load);
    pass_pf_with(vm, 0, rip, PAGE_B - 3, R, &mark, 8);
    mark = 0;
    pass_pf_with(vm, 0, rip, PAGE_B, R, &mark, 1);
    finish_ok(vm, 0);
    g_assert_cmphex(result(vm, 0), ==, MARK & ~0xff000000ULL);
}

/* What is written is not hidden: add %rax, (%rdi), plain and atomic. */
static void expect_ctx_read_modify_write(TestVM *vm, const Insn *insn)
{
    uint64_t mark = MARK;
    uint64_t rip;

    write_u64(vm, PAGE_A, OTHER_MARK);
    rip = begin_insn(vm, insn);
    pass_pf_with(vm, 0, rip, PAGE_A, R, &mark, 8);
    if (!has_access(vm, W | X)) {
        pass_pf(vm, 0, rip, PAGE_A, W);
    }
    finish_ok(vm, 0);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, MARK + insn->rax);
}

static void test_ctx_read_modify_write(TestVM *vm)
{
    static const Insn add = {
        "add", { 0x48, 0x01, 0x07 }, 3, .rdi = PAGE_A, .rax = 5,
    };
    static const Insn lock_add = {
        "lock add", { 0xf0, 0x48, 0x01, 0x07 }, 4, .rdi = PAGE_A, .rax = 5,
    };

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, possible_access(vm, W | X));
    expect_ctx_read_modify_write(vm, &add);
    expect_ctx_read_modify_write(vm, &lock_add);
}

/* Other vCPUs see what is there, also while the instruction is let through. */
static void test_ctx_other_vcpu(TestVM *vm)
{
    /* 1: mov (%rdi), %rax; cmp %rdx, %rax; jne 2f; cmpl $0, GUEST_RELEASE;
       je 1b; 2: */
    static const Insn watch = {
        "watch", { 0x48, 0x8b, 0x07, 0x48, 0x39, 0xd0, 0x75, 0x0a, 0x83, 0x3c,
                   0x25, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x74, 0xee }, 18,
        .rdi = PAGE_A, .rdx = OTHER_MARK,
    };
    Insn load = load64(PAGE_A);
    uint64_t mark = MARK;

    vm_guest_start_vcpu(vm, 1);
    write_u64(vm, PAGE_A, OTHER_MARK);
    put_insn_at(vm, PAGE_C, &watch);
    begin(vm, 1, PAGE_C);
    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    for (unsigned i = 0; i < 10; i++) {
        pass_pf_with(vm, 0, begin_insn(vm, &load), PAGE_A, R, &mark, 8);
        finish_ok(vm, 0);
        g_assert_cmphex(result(vm, 0), ==, MARK);
    }
    vm_guest_release(vm);
    finish_ok(vm, 1);
    g_assert_cmphex(result(vm, 1), ==, OTHER_MARK);
}

/* vCPUs */

/* 1: mov %rcx, (%rdi); dec %rcx; jnz 1b */
static const Insn store_loop = {
    "loop", { 0x48, 0x89, 0x0f, 0x48, 0xff, 0xc9, 0x75, 0xf8 }, 8,
};

/* Each store is reported exactly once, whoever else is let through. */
static void expect_each_reported(TestVM *vm, unsigned vcpus, unsigned count)
{
    uint64_t rip[GUEST_MAX_VCPUS], left[GUEST_MAX_VCPUS];
    struct kvmi_event_pf_reply pass = { }, step = { .singlestep = 1 };

    for (unsigned i = 0; i < vcpus; i++) {
        uint64_t code = CODE + i * 0x100;
        Insn loop = store_loop;

        loop.rdi = PAGE_A + i * 8;
        loop.rcx = count;
        rip[i] = put_insn_at(vm, code, &loop);
        left[i] = count;
        enable_pf(vm, i);
    }
    set_access(vm, PAGE_A, R | X);
    for (unsigned i = 0; i < vcpus; i++) {
        begin(vm, i, CODE + i * 0x100);
    }
    for (unsigned n = 0; n < vcpus * count; n++) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);
        unsigned i = event->common.vcpu;

        g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_PF);
        g_assert_cmpuint(i, <, vcpus);
        g_assert_cmphex(event->common.regs.rip, ==, rip[i]);
        g_assert_cmpuint(event->common.regs.rcx, ==, left[i]--);
        g_assert_cmphex(event->own.pf.gpa, ==, PAGE_A + i * 8);
        g_assert_cmphex(event->own.pf.mode, ==, W);
        if (n % 3) {
            reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &pass);
        } else {
            reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &step);
        }
    }
    for (unsigned i = 0; i < vcpus; i++) {
        finish_ok(vm, i);
        g_assert_cmpuint(left[i], ==, 0);
        g_assert_cmpuint(read_u64(vm, PAGE_A + i * 8), ==, 1);
    }
}

static void test_two_vcpus(TestVM *vm)
{
    vm_guest_start_vcpu(vm, 1);
    expect_each_reported(vm, 2, 100);
}

static void test_eight_vcpus(TestVM *vm)
{
    for (unsigned i = 1; i < 8; i++) {
        vm_guest_start_vcpu(vm, i);
    }
    expect_each_reported(vm, 8, 10);
}

/* While one vCPU waits, another has an event of its own. */
static void test_both_wait(TestVM *vm)
{
    Insn store = store64(PAGE_A, MARK);
    uint64_t rip = put_insn_at(vm, CODE, &store);
    g_autofree ToolEvent *first = NULL;
    struct kvmi_event_pf_reply reply = { };

    vm_guest_start_vcpu(vm, 1);
    enable_pf(vm, 0);
    enable_pf(vm, 1);
    set_access(vm, PAGE_A, R);
    begin(vm, 0, CODE);
    first = expect_pf(vm, 0, rip, PAGE_A, W);
    begin(vm, 1, CODE);
    pass_pf(vm, 1, rip, PAGE_A, W);
    finish_ok(vm, 1);
    begin(vm, 1, CODE);
    pass_pf(vm, 1, rip, PAGE_A, W);
    finish_ok(vm, 1);
    g_assert_false(vm_guest_is_done(vm, 0));
    reply_pf(vm, first, KVMI_EVENT_ACTION_CONTINUE, &reply);
    finish_ok(vm, 0);
}

static bool is_measuring_dirty_rate(TestVM *vm)
{
    QDict *response = qtest_qmp(vm->qts, "{ 'execute': 'query-dirty-rate' }");
    const char *status = qdict_get_str(qdict_get_qdict(response, "return"),
                                       "status");
    bool measuring = g_str_equal(status, "measuring");

    qobject_unref(response);
    return measuring;
}

/* QEMU has all memory write-protected meanwhile, and open again behind it. */
static void test_dirty_logging(TestVM *vm)
{
    Insn store = store64(PAGE_A, MARK), load = load64(PAGE_A);
    Insn other = store64(PAGE_B, MARK);
    uint64_t n = 0;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    qtest_qmp_assert_success(vm->qts, "{ 'execute': 'calc-dirty-rate',"
                             " 'arguments': { 'calc-time': 1,"
                             " 'mode': 'dirty-bitmap' } }");
    while (is_measuring_dirty_rate(vm) || !n) {
        store.rax = ++n;
        pass_pf(vm, 0, begin_insn(vm, &store), PAGE_A, W);
        finish_ok(vm, 0);
        begin_insn(vm, &load);
        finish_ok(vm, 0);
        g_assert_cmphex(result(vm, 0), ==, n);
        begin_insn(vm, &other);
        finish_ok(vm, 0);
    }
    pass_pf(vm, 0, begin_insn(vm, &store), PAGE_A, W);
    finish_ok(vm, 0);
    set_access(vm, PAGE_A, RWX);
    begin_insn(vm, &store);
    finish_ok(vm, 0);
}

/* Others and ends. */

static void test_not_the_guest(TestVM *vm)
{
    uint64_t value = MARK;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, PAGE_A, 8, &value), ==, 0);
    g_assert_cmphex(tool_read_u64(vm->tool, PAGE_A), ==, MARK);
    write_u64(vm, PAGE_A, OTHER_MARK);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, OTHER_MARK);
    tool_expect_no_event(vm->tool);
}

static void test_disconnect(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    Insn store = store64(PAGE_A, MARK);
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, R);
    rip = begin_insn(vm, &store);
    event = expect_pf(vm, 0, rip, PAGE_A, W);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(read_u64(vm, PAGE_A), ==, MARK);
    vm_rehook(vm);
    enable_pf(vm, 0);
    begin_insn(vm, &store);
    finish_ok(vm, 0);
}

/* The answer is acted on although the tool leaves right behind it. */
static void test_disconnect_answered(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    Insn load = load64(PAGE_A);
    struct kvmi_event_pf_reply reply = { .ctx_size = 8 };
    uint64_t mark = MARK, rip;

    memcpy(reply.ctx_data, &mark, sizeof(mark));
    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    rip = begin_insn(vm, &load);
    event = expect_pf(vm, 0, rip, PAGE_A, R);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(result(vm, 0), ==, MARK);
}

/* A pause that comes meanwhile waits for the instruction. */
static void test_pause_behind(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL, *pause = NULL;
    static const Insn movsq = {
        "movsq", { 0x48, 0xa5 }, 2, .rsi = PAGE_A, .rdi = PAGE_B,
    };
    struct kvmi_event_pf_reply reply = { };
    uint64_t rip;

    enable_pf(vm, 0);
    set_access(vm, PAGE_A, 0);
    set_access(vm, PAGE_B, 0);
    write_u64(vm, PAGE_A, MARK);
    rip = begin_insn(vm, &movsq);
    event = expect_pf(vm, 0, rip, PAGE_A, R);
    tool_pause_all(vm->tool);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        g_autofree ToolEvent *next = tool_receive_event(vm->tool);

        if (next->common.vcpu == 1) {
            g_assert_cmpuint(next->common.event, ==, KVMI_EVENT_PAUSE_VCPU);
            tool_continue(vm->tool, next);
        } else {
            g_assert_cmpuint(next->common.event, ==, KVMI_EVENT_PF);
            g_assert_cmphex(next->own.pf.gpa, ==, PAGE_B);
            reply_pf(vm, next, KVMI_EVENT_ACTION_CONTINUE, &reply);
        }
    }
    pause = tool_expect_event(vm->tool, 0, KVMI_EVENT_PAUSE_VCPU);
    g_assert_cmphex(pause->common.regs.rip, ==, rip + movsq.size);
    g_assert_cmphex(read_u64(vm, PAGE_B), ==, MARK);
    tool_continue(vm->tool, pause);
    finish_ok(vm, 0);
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
    { "pf/moved-rip", test_moved_rip, NEEDS_RUNNING_GUEST },
    { "pf/registers-set", test_registers_set, NEEDS_RUNNING_GUEST },
    { "pf/bad-reply", test_bad_reply, NEEDS_RUNNING_GUEST },
    { "pf/ctx-sizes", test_ctx_sizes, NEEDS_RUNNING_GUEST },
    { "pf/ctx-sse", test_ctx_sse, NEEDS_RUNNING_GUEST },
    { "pf/ctx-begins-before", test_ctx_begins_before, NEEDS_RUNNING_GUEST },
    { "pf/ctx-ends-behind", test_ctx_ends_behind, NEEDS_RUNNING_GUEST },
    { "pf/ctx-read-modify-write", test_ctx_read_modify_write,
      NEEDS_RUNNING_GUEST },
    { "pf/ctx-other-vcpu", test_ctx_other_vcpu, NEEDS_RUNNING_GUEST },
    { "pf/two-vcpus", test_two_vcpus, NEEDS_RUNNING_GUEST },
    { "pf/eight-vcpus", test_eight_vcpus, NEEDS_RUNNING_GUEST,
      .more = "-smp 8,maxcpus=8" },
    { "pf/both-wait", test_both_wait, NEEDS_RUNNING_GUEST },
    { "pf/dirty-logging", test_dirty_logging, NEEDS_RUNNING_GUEST },
    { "pf/not-the-guest", test_not_the_guest },
    { "pf/disconnect", test_disconnect, NEEDS_RUNNING_GUEST },
    { "pf/disconnect-answered", test_disconnect_answered,
      NEEDS_RUNNING_GUEST },
    { "pf/pause-behind", test_pause_behind, NEEDS_RUNNING_GUEST },
};

void introspection_add_pf_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
