/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: commands to one vCPU.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "tests.h"

#define MSR_TSC                 0x00000010
#define MSR_APICBASE            0x0000001b
#define MSR_SYSENTER_CS         0x00000174
#define MSR_SYSENTER_ESP        0x00000175
#define MSR_SYSENTER_EIP        0x00000176
#define MSR_PAT                 0x00000277
#define MSR_EFER                0xc0000080
#define MSR_STAR                0xc0000081
#define MSR_LSTAR               0xc0000082
#define MSR_CSTAR               0xc0000083
#define MSR_FMASK               0xc0000084
#define MSR_KERNEL_GS_BASE      0xc0000102
#define MSR_NONE                0x0badc0de

#define RFLAGS_FIXED            0x2ULL
#define RFLAGS_RESERVED         0xffffffffffc0802aULL

/* XSAVE's area. */
#define XSAVE_FCW               0
#define XSAVE_FSW               2
#define XSAVE_MXCSR             24
#define XSAVE_ST0               32
#define XSAVE_XMM0              160
#define XSAVE_LEGACY_SIZE       416     /* up to the last XMM register */
#define XSAVE_XSTATE_BV         512

/* An event in which vCPU 0 waits: before a write to CR3 of GUEST_PML4_B. */
static ToolEvent *wait_in_event(TestVM *vm)
{
    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    return tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
}

/* GET_REGISTERS */

static const size_t register_offsets[16] = {
    offsetof(struct kvm_regs, rax), offsetof(struct kvm_regs, rcx),
    offsetof(struct kvm_regs, rdx), offsetof(struct kvm_regs, rbx),
    offsetof(struct kvm_regs, rsp), offsetof(struct kvm_regs, rbp),
    offsetof(struct kvm_regs, rsi), offsetof(struct kvm_regs, rdi),
    offsetof(struct kvm_regs, r8), offsetof(struct kvm_regs, r9),
    offsetof(struct kvm_regs, r10), offsetof(struct kvm_regs, r11),
    offsetof(struct kvm_regs, r12), offsetof(struct kvm_regs, r13),
    offsetof(struct kvm_regs, r14), offsetof(struct kvm_regs, r15),
};

static void expect_patterns(const struct kvm_regs *regs)
{
    for (unsigned i = 0; i < 16; i++) {
        uint64_t value;

        memcpy(&value, (const char *)regs + register_offsets[i], 8);
        g_assert_cmphex(value, ==, GUEST_REG_PATTERN(i));
    }
}

static bool loaded(TestVM *vm, unsigned vcpu, ToolRegisters *registers)
{
    g_assert_cmpint(tool_get_registers(vm->tool, vcpu, NULL, 0, registers),
                    ==, 0);
    return registers->common.regs.rip >= vm_guest_get(vm, vcpu, insn_rip) &&
           registers->common.regs.rip < vm_guest_get(vm, vcpu, insn_next);
}

static void expect_known_registers(TestVM *vm, unsigned vcpu)
{
    ToolRegisters registers;

    vm_guest_begin(vm, vcpu, OP_LOAD_REGS, 0, 0);
    vm_guest_wait_started(vm, vcpu);
    VM_WAIT_UNTIL(loaded(vm, vcpu, &registers));
    for (int i = 0; i < 100; i++) {
        g_assert_true(loaded(vm, vcpu, &registers));
        expect_patterns(&registers.common.regs);
        /* ZF and PF of comparing 0 with 0 */
        g_assert_cmphex(registers.common.regs.rflags, ==, 0x46);
    }
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, vcpu, result[1]), ==,
                    GUEST_REG_PATTERN(0));
}

static void test_get_registers_running(TestVM *vm)
{
    expect_known_registers(vm, 0);
}

static void test_get_registers_vcpu1(TestVM *vm)
{
    vm_guest_start_vcpu(vm, 1);
    expect_known_registers(vm, 1);
}

static void test_get_registers_special(TestVM *vm)
{
    ToolRegisters registers;
    const struct kvm_sregs *sregs = &registers.common.sregs;

    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &registers),
                    ==, 0);
    g_assert_cmphex(sregs->cr0, ==, vm_guest_result(vm, 0, OP_READ_CR, 0, 0));
    g_assert_cmphex(sregs->cr2, ==, vm_guest_result(vm, 0, OP_READ_CR, 2, 0));
    g_assert_cmphex(sregs->cr3, ==, GUEST_PML4_A);
    g_assert_cmphex(sregs->cr4, ==, vm_guest_result(vm, 0, OP_READ_CR, 4, 0));
    g_assert_cmphex(sregs->cr8, ==, 0);
    g_assert_cmphex(sregs->efer, ==,
                    vm_guest_result(vm, 0, OP_RDMSR, MSR_EFER, 0));
    g_assert_cmphex(sregs->apic_base, ==,
                    vm_guest_result(vm, 0, OP_RDMSR, MSR_APICBASE, 0));

    g_assert_cmphex(sregs->cs.selector, ==, GUEST_CS64);
    g_assert_cmphex(sregs->cs.base, ==, 0);
    g_assert_cmpuint(sregs->cs.type, ==, 0xb);
    g_assert_cmpuint(sregs->cs.present, ==, 1);
    g_assert_cmpuint(sregs->cs.dpl, ==, 0);
    g_assert_cmpuint(sregs->cs.db, ==, 0);
    g_assert_cmpuint(sregs->cs.s, ==, 1);
    g_assert_cmpuint(sregs->cs.l, ==, 1);
    g_assert_cmpuint(sregs->cs.g, ==, 1);
    g_assert_cmpuint(sregs->cs.unusable, ==, 0);
    g_assert_cmphex(sregs->ds.selector, ==, GUEST_DS);
    g_assert_cmpuint(sregs->ds.type, ==, 3);
    g_assert_cmphex(sregs->ds.limit, ==, 0xffffffff);
    g_assert_cmphex(sregs->ss.selector, ==, GUEST_DS);
    g_assert_cmphex(sregs->tr.selector, ==, GUEST_TSS);
    g_assert_cmpuint(sregs->tr.type, ==, 0xb);
    g_assert_cmpuint(sregs->tr.s, ==, 0);
    g_assert_cmphex(sregs->ldt.selector, ==, 0);
    g_assert_cmpuint(sregs->gdt.limit, ==, GUEST_GDT_ENTRIES * 8 - 1);
    g_assert_cmpuint(sregs->idt.limit, ==, 256 * 16 - 1);
    g_assert_cmphex(sregs->gdt.base & 0xf, ==, 0);
    g_assert_cmphex(sregs->gdt.base, >=, GUEST_TEXT);
    g_assert_cmphex(sregs->idt.base, >=, GUEST_TEXT);
}

static void test_get_registers_mode_8(TestVM *vm)
{
    ToolRegisters registers;

    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &registers),
                    ==, 0);
    g_assert_cmpuint(registers.common.mode, ==, 8);
}

static void test_get_registers_mode_4(TestVM *vm)
{
    ToolRegisters registers;

    vm_guest_begin(vm, 0, OP_SPIN32, 0, 0);
    vm_guest_wait_started(vm, 0);
    VM_WAIT_UNTIL(loaded(vm, 0, &registers));
    g_assert_cmpuint(registers.common.mode, ==, 4);
    g_assert_cmphex(registers.common.sregs.cs.selector, ==, GUEST_CS32);
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* A vCPU that has not started yet: as it is after reset. */
static void test_get_registers_mode_2(TestVM *vm)
{
    ToolRegisters registers;
    const struct kvmi_get_registers_reply *reply = &registers.common;

    g_assert_cmpint(tool_get_registers(vm->tool, 1, NULL, 0, &registers),
                    ==, 0);
    g_assert_cmpuint(reply->mode, ==, 2);
    g_assert_cmphex(reply->regs.rip, ==, 0xfff0);
    g_assert_cmphex(reply->regs.rflags, ==, RFLAGS_FIXED);
    g_assert_cmphex(reply->sregs.cs.selector, ==, 0xf000);
    g_assert_cmphex(reply->sregs.cs.base, ==, 0xffff0000);
    g_assert_cmphex(reply->sregs.cr0, ==, 0x60000010);
    g_assert_cmphex(reply->sregs.efer, ==, 0);
}

static void test_get_registers_halted(TestVM *vm)
{
    ToolRegisters registers;

    vm_guest_begin(vm, 0, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 0);
    VM_WAIT_UNTIL(vm_guest_stands_still(vm, 0));
    for (int i = 0; i < 10; i++) {
        g_assert_true(loaded(vm, 0, &registers));
        g_assert_cmphex(registers.common.regs.rflags & 0x200, ==, 0x200);
    }
    g_assert_false(vm_guest_is_done(vm, 0));
    qtest_qmp_assert_success(vm->qts, "{'execute': 'inject-nmi'}");
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

static void test_get_registers_msrs(TestVM *vm)
{
    static const uint32_t indices[] = {
        MSR_LSTAR, MSR_EFER, MSR_PAT, MSR_SYSENTER_CS, MSR_LSTAR,
        MSR_KERNEL_GS_BASE, MSR_STAR, MSR_CSTAR, MSR_FMASK,
        MSR_SYSENTER_EIP, MSR_SYSENTER_ESP, MSR_APICBASE,
    };
    ToolRegisters registers;

    vm_guest_result(vm, 0, OP_WRMSR, MSR_LSTAR, 0xffffffff81000000);
    vm_guest_result(vm, 0, OP_WRMSR, MSR_STAR, 0x0023001000000000);
    vm_guest_result(vm, 0, OP_WRMSR, MSR_KERNEL_GS_BASE, 0x123456789000);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, indices,
                                       G_N_ELEMENTS(indices), &registers),
                    ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(indices); i++) {
        g_assert_cmphex(registers.msrs[i].index, ==, indices[i]);
        g_assert_cmpuint(registers.msrs[i].reserved, ==, 0);
        g_assert_cmphex(registers.msrs[i].data, ==,
                        vm_guest_result(vm, 0, OP_RDMSR, indices[i], 0));
    }
    g_assert_cmphex(registers.msrs[0].data, ==, 0xffffffff81000000);
}

/* As many as fit in a message. */
static void test_get_registers_most_msrs(TestVM *vm)
{
    enum { COUNT = (KVMI_MSG_SIZE - sizeof(struct kvmi_get_registers)) / 4 };
    const size_t header = sizeof(struct kvmi_get_registers_reply);
    const size_t size = header + COUNT * sizeof(struct kvm_msr_entry);
    g_autofree uint32_t *indices = g_new(uint32_t, COUNT);
    g_autofree uint8_t *reply = g_malloc(size);
    g_autoptr(GByteArray) request = NULL;

    for (size_t i = 0; i < COUNT; i++) {
        indices[i] = i % 2 ? MSR_PAT : MSR_LSTAR;
    }
    request = tool_get_registers_request(0, indices, COUNT);
    g_assert_cmpuint(request->len, ==, KVMI_MSG_SIZE);
    g_assert_cmpint(tool_call(vm->tool, KVMI_GET_REGISTERS, request->data,
                              request->len, reply, size), ==, 0);
    for (size_t i = 0; i < COUNT; i++) {
        const uint8_t *entry = reply + header +
            i * sizeof(struct kvm_msr_entry);

        g_assert_cmphex((uint32_t)ldl_he_p(entry), ==, indices[i]);
        g_assert_cmphex(ldq_he_p(entry + 8), ==,
                        i % 2 ? 0x0007040600070406 : 0);
    }
}

static void test_get_registers_msr_unreadable(TestVM *vm)
{
    static const uint32_t lists[][3] = {
        { MSR_NONE, MSR_LSTAR, MSR_PAT },
        { MSR_LSTAR, MSR_NONE, MSR_PAT },
        { MSR_LSTAR, MSR_PAT, MSR_NONE },
        { MSR_LSTAR, MSR_PAT, 0xffffffff },
        { 0x1fff, MSR_LSTAR, MSR_PAT },
        { 0xc0001fff, MSR_LSTAR, MSR_PAT },
    };
    ToolRegisters registers;

    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_assert_cmpint(tool_get_registers(vm->tool, 0, lists[i], 3,
                                           &registers), ==, -KVM_EINVAL);
    }
    g_assert_cmpint(tool_get_registers(vm->tool, 0, lists[0] + 1, 2,
                                       &registers), ==, 0);
}

/* GET_REGISTERS during an event says what the event said. */
static void test_get_registers_during_event(TestVM *vm)
{
    static const uint32_t indices[] = {
        MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_EFER,
        MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_PAT, MSR_KERNEL_GS_BASE,
    };
    g_autofree ToolEvent *event = NULL;
    ToolRegisters registers;

    for (size_t i = 0; i < G_N_ELEMENTS(indices); i++) {
        if (indices[i] != MSR_EFER && indices[i] != MSR_PAT) {
            vm_guest_result(vm, 0, OP_WRMSR, indices[i], 0x1230 + i);
        }
    }
    event = wait_in_event(vm);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, indices,
                                       G_N_ELEMENTS(indices), &registers),
                    ==, 0);
    g_assert_cmpuint(event->common.mode, ==, registers.common.mode);
    g_assert_cmpmem(&event->common.regs, sizeof(event->common.regs),
                    &registers.common.regs, sizeof(registers.common.regs));
    g_assert_cmpmem(&event->common.sregs, sizeof(event->common.sregs),
                    &registers.common.sregs,
                    sizeof(registers.common.sregs));
    for (size_t i = 0; i < G_N_ELEMENTS(indices); i++) {
        g_assert_cmphex(((uint64_t *)&event->common.msrs)[i], ==,
                        registers.msrs[i].data);
    }
    g_assert_cmphex(event->common.msrs.lstar, ==, 0x1235);
    g_assert_cmphex(event->common.sregs.cr3, ==, GUEST_PML4_A);
    g_assert_cmphex(event->common.regs.rip, ==,
                    vm_guest_get(vm, 0, insn_rip));
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* Without stopping: the guest does what it would have done. */
static void test_get_registers_many(TestVM *vm)
{
    ToolRegisters registers;

    for (int i = 0; i < 500; i++) {
        g_assert_cmpint(tool_get_registers(vm->tool, i % VM_VCPUS, NULL, 0,
                                           &registers), ==, 0);
    }
    vm_guest_wait_counting(vm, 0);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 0);
}

/* SET_REGISTERS */

static void test_set_registers_running(TestVM *vm)
{
    ToolRegisters registers;

    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        g_assert_cmpint(tool_get_registers(vm->tool, vcpu, NULL, 0,
                                           &registers), ==, 0);
        g_assert_cmpint(tool_set_registers(vm->tool, vcpu,
                                           &registers.common.regs),
                        ==, -KVM_EOPNOTSUPP);
    }
}

/* Waiting is a matter of that vCPU alone. */
static void test_set_registers_other_waits(TestVM *vm)
{
    g_autofree ToolEvent *event = wait_in_event(vm);
    ToolRegisters registers;

    g_assert_cmpint(tool_get_registers(vm->tool, 1, NULL, 0, &registers),
                    ==, 0);
    g_assert_cmpint(tool_set_registers(vm->tool, 1, &registers.common.regs),
                    ==, -KVM_EOPNOTSUPP);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

static void test_set_registers_visible(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    ToolRegisters registers;
    struct kvm_regs regs, original;

    event = wait_in_event(vm);
    original = event->common.regs;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t value = GUEST_REG_PATTERN(i);

        memcpy((char *)&regs + register_offsets[i], &value, 8);
    }
    regs.rip = 0x123456;
    regs.rflags = RFLAGS_FIXED | 0x8d5;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &registers),
                    ==, 0);
    g_assert_cmpmem(&registers.common.regs, sizeof(regs),
                    &regs, sizeof(regs));

    /* the last one counts */
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &original), ==, 0);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &registers),
                    ==, 0);
    g_assert_cmpmem(&registers.common.regs, sizeof(regs),
                    &original, sizeof(original));
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
}

/*
 * The vCPU of a PAUSE_VCPU event goes on with the registers that it was
 * given.  The event comes at any instruction of the loop in OP_LOAD_REGS,
 * which uses none of the general registers.
 */
static void test_set_registers_effect(TestVM *vm)
{
    ToolRegisters registers;
    struct kvm_regs regs;

    vm_guest_begin(vm, 0, OP_LOAD_REGS, 0, 0);
    vm_guest_wait_started(vm, 0);
    VM_WAIT_UNTIL(loaded(vm, 0, &registers));

    tool_pause_all(vm->tool);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);

        if (event->common.vcpu == 0) {
            regs = event->common.regs;
            expect_patterns(&regs);
            regs.rax = 0xdeadbeefcafef00d;
            g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
        }
        tool_continue(vm->tool, event);
    }
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[1]), ==, 0xdeadbeefcafef00d);
}

/* RIP moved on: the intercepted instruction is not carried out. */
static void test_set_registers_rip(TestVM *vm)
{
    g_autofree ToolEvent *event = wait_in_event(vm);
    struct kvm_regs regs = event->common.regs;

    regs.rip = vm_guest_get(vm, 0, insn_next);
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_A);
}

/* RIP moved to another write: that one is reported for itself. */
static void test_set_registers_rip_to_write(TestVM *vm)
{
    /*
     * mov $PML4_B, %eax; mov %rax, %cr3; mov $PML4_B | PWT, %eax;
     * mov %rax, %cr3; ret
     */
    static const uint8_t code[] = {
        0xb8, 0x00, 0x10, 0x01, 0x00, 0x0f, 0x22, 0xd8,
        0xb8, 0x08, 0x10, 0x01, 0x00, 0x0f, 0x22, 0xd8, 0xc3,
    };
    g_autofree ToolEvent *first = NULL;
    g_autofree ToolEvent *second = NULL;
    struct kvm_regs regs;

    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
    first = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    g_assert_cmphex(first->common.regs.rip, ==, GUEST_SCRATCH + 5);

    regs = first->common.regs;
    regs.rip = GUEST_SCRATCH + 13;
    regs.rax = GUEST_PML4_B | 0x10;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    tool_continue_with(vm->tool, first, GUEST_PML4_A);
    second = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    g_assert_cmphex(second->common.regs.rip, ==, GUEST_SCRATCH + 13);
    g_assert_cmphex(second->own.cr.old_value, ==, GUEST_PML4_A);
    g_assert_cmphex(second->own.cr.new_value, ==, GUEST_PML4_B | 0x10);
    tool_continue(vm->tool, second);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_READ_CR, 3, 0), ==,
                    GUEST_PML4_B | 0x10);
}

static void test_set_registers_reserved_rflags(TestVM *vm)
{
    static const uint64_t values[] = {
        0, RFLAGS_RESERVED, 0x8d5, 0x8d5 | RFLAGS_RESERVED,
    };
    g_autofree ToolEvent *event = wait_in_event(vm);
    struct kvm_regs regs = event->common.regs;
    ToolRegisters registers;

    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        regs.rflags = values[i];
        g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
        g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0,
                                           &registers), ==, 0);
        g_assert_cmphex(registers.common.regs.rflags, ==,
                        (values[i] & ~RFLAGS_RESERVED) | RFLAGS_FIXED);
    }
    regs.rflags = event->common.regs.rflags;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* What a tool changed stays, when it is gone before it has answered. */
static void test_set_registers_disconnect(TestVM *vm)
{
    ToolRegisters registers;
    struct kvm_regs regs;

    vm_guest_begin(vm, 0, OP_LOAD_REGS, 0, 0);
    vm_guest_wait_started(vm, 0);
    VM_WAIT_UNTIL(loaded(vm, 0, &registers));
    tool_pause_all(vm->tool);
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);

        if (event->common.vcpu == 0) {
            regs = event->common.regs;
        }
    }
    regs.rax = 0x5555aaaa5555aaaa;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    tool_close(vm->tool);
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[1]), ==, 0x5555aaaa5555aaaa);
}

/* GET_CPUID */

static void expect_same_leaf(TestVM *vm, unsigned vcpu,
                             uint32_t function, uint32_t index)
{
    struct kvmi_get_cpuid_reply cpuid;

    g_test_message("leaf 0x%x, index %u", function, index);
    g_assert_cmpint(vm_guest_do(vm, vcpu, OP_CPUID, function, index),
                    ==, GUEST_OK);
    g_assert_cmpint(tool_get_cpuid(vm->tool, vcpu, function, index, &cpuid),
                    ==, 0);
    g_assert_cmphex(cpuid.eax, ==, vm_guest_get(vm, vcpu, result[0]));
    g_assert_cmphex(cpuid.ebx, ==, vm_guest_get(vm, vcpu, result[1]));
    g_assert_cmphex(cpuid.ecx, ==, vm_guest_get(vm, vcpu, result[2]));
    g_assert_cmphex(cpuid.edx, ==, vm_guest_get(vm, vcpu, result[3]));
}

static void test_get_cpuid(TestVM *vm)
{
    static const uint32_t leaves[][2] = {
        { 0, 0 }, { 1, 0 }, { 2, 0 }, { 4, 0 }, { 7, 0 }, { 0xb, 0 },
        { 0xb, 1 }, { 0xd, 0 }, { 0xd, 1 }, { 0xd, 2 }, { 0x80000000, 0 },
        { 0x80000001, 0 }, { 0x80000002, 0 }, { 0x80000008, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(leaves); i++) {
        expect_same_leaf(vm, 0, leaves[i][0], leaves[i][1]);
    }
}

/* Leaf 1 differs from vCPU to vCPU. */
static void test_get_cpuid_vcpu1(TestVM *vm)
{
    vm_guest_start_vcpu(vm, 1);
    expect_same_leaf(vm, 1, 1, 0);
}

static void test_get_cpuid_no_leaf(TestVM *vm)
{
    struct kvmi_get_cpuid_reply basic, extended, cpuid;

    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, 0, 0, &basic), ==, 0);
    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, 0x80000000, 0, &extended),
                    ==, 0);
    g_assert_cmpuint(basic.eax, >=, 1);
    g_assert_cmphex(extended.eax, >=, 0x80000000);

    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, basic.eax, 0, &cpuid),
                    ==, 0);
    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, basic.eax + 1, 0, &cpuid),
                    ==, -KVM_ENOENT);
    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, extended.eax, 0, &cpuid),
                    ==, 0);
    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, extended.eax + 1, 0, &cpuid),
                    ==, -KVM_ENOENT);
    /* a part of a leaf: the state component 61 is nobody's */
    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, 0xd, 61, &cpuid),
                    ==, -KVM_ENOENT);
    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, 0x20000000, 0, &cpuid),
                    ==, -KVM_ENOENT);
    g_assert_cmpint(tool_get_cpuid(vm->tool, 0, 0xffffffff, 0, &cpuid),
                    ==, -KVM_ENOENT);
}

/* GET_XSAVE */

static void test_get_xsave_size(TestVM *vm)
{
    g_autofree uint8_t *xsave = g_malloc(4096);

    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        g_assert_cmpint(tool_get_xsave(vm->tool, vcpu, xsave), ==, 0);
        if (vcpu == 0 && vm->engine->runs) {
            g_assert_cmphex(lduw_he_p(xsave + XSAVE_FCW), ==, 0x037f);
        }
        g_assert_cmphex(ldl_he_p(xsave + XSAVE_MXCSR), ==, 0x1f80);
    }
}

/* An FXSAVE image with a known value in each register. */
static void make_fpu_image(uint8_t image[512])
{
    memset(image, 0, 512);
    stw_he_p(image + XSAVE_FCW, 0x037f);
    image[4] = 0xff;            /* abridged tag word: all valid */
    stl_he_p(image + XSAVE_MXCSR, 0x1f80);
    stl_he_p(image + XSAVE_MXCSR + 4, 0xffff);
    for (unsigned i = 0; i < 8; i++) {
        /* 1.0 + i/16, as an 80-bit number */
        stq_he_p(image + XSAVE_ST0 + 16 * i,
                 0x8000000000000000 | (uint64_t)i << 59);
        stw_he_p(image + XSAVE_ST0 + 16 * i + 8, 0x3fff);
    }
    for (unsigned i = 0; i < 256; i++) {
        image[XSAVE_XMM0 + i] = i ^ 0x5a;
    }
}

static void test_get_xsave_fpu(TestVM *vm)
{
    g_autofree uint8_t *xsave = g_malloc(4096);
    uint8_t image[512];

    make_fpu_image(image);
    qtest_memwrite(vm->qts, GUEST_MAILBOX(0) + GUEST_MB_DATA, image, 512);
    vm_guest_begin(vm, 0, OP_LOAD_FPU, 0, 0);
    vm_guest_wait_started(vm, 0);
    vm_guest_wait_counting(vm, 0);

    g_assert_cmpint(tool_get_xsave(vm->tool, 0, xsave), ==, 0);
    g_assert_cmphex(lduw_he_p(xsave + XSAVE_FCW), ==, 0x037f);
    g_assert_cmphex(xsave[4], ==, 0xff);
    g_assert_cmphex(ldl_he_p(xsave + XSAVE_MXCSR), ==, 0x1f80);
    for (unsigned i = 0; i < 8; i++) {
        g_assert_cmpmem(xsave + XSAVE_ST0 + 16 * i, 10,
                        image + XSAVE_ST0 + 16 * i, 10);
    }
    g_assert_cmpmem(xsave + XSAVE_XMM0, 256, image + XSAVE_XMM0, 256);
    /* x87 and SSE are in use */
    g_assert_cmphex(ldq_he_p(xsave + XSAVE_XSTATE_BV) & 3, ==, 3);

    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* What the guest's own XSAVE says. */
static void test_get_xsave_same(TestVM *vm)
{
    g_autofree uint8_t *xsave = g_malloc(4096);
    uint8_t own[GUEST_MB_DATA_SIZE], image[512];

    make_fpu_image(image);
    qtest_memwrite(vm->qts, GUEST_MAILBOX(0) + GUEST_MB_DATA, image, 512);
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_LOAD_FPU, 0, 0), ==, GUEST_OK);
    qtest_memset(vm->qts, GUEST_MAILBOX(0) + GUEST_MB_DATA, 0,
                 GUEST_MB_DATA_SIZE);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_XSAVE, 0, 0), ==, GUEST_OK);
    qtest_memread(vm->qts, GUEST_MAILBOX(0) + GUEST_MB_DATA, own,
                  sizeof(own));

    g_assert_cmpint(tool_get_xsave(vm->tool, 0, xsave), ==, 0);
    g_assert_cmpmem(xsave + XSAVE_XMM0, 256, own + XSAVE_XMM0, 256);
    for (unsigned i = 0; i < 8; i++) {
        g_assert_cmpmem(xsave + XSAVE_ST0 + 16 * i, 10,
                        own + XSAVE_ST0 + 16 * i, 10);
    }
    g_assert_cmpmem(xsave, 6, own, 6);
}

/* CONTROL_EVENTS */

static const uint32_t implemented_events =
    KVMI_EVENT_CR_FLAG |
    KVMI_EVENT_MSR_FLAG |
    KVMI_EVENT_XSETBV_FLAG |
    KVMI_EVENT_BREAKPOINT_FLAG |
    KVMI_EVENT_HYPERCALL_FLAG |
    KVMI_EVENT_PF_FLAG |
    KVMI_EVENT_TRAP_FLAG |
    KVMI_EVENT_DESCRIPTOR_FLAG |
    KVMI_EVENT_PAUSE_VCPU_FLAG;

static void test_control_events_sets(TestVM *vm)
{
    static const uint32_t sets[] = {
        0, KVMI_EVENT_CR_FLAG, KVMI_EVENT_MSR_FLAG,
        KVMI_EVENT_PAUSE_VCPU_FLAG, KVMI_EVENT_CR_FLAG | KVMI_EVENT_MSR_FLAG,
        KVMI_EVENT_CR_FLAG | KVMI_EVENT_MSR_FLAG |
        KVMI_EVENT_PAUSE_VCPU_FLAG, 0,
    };

    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        for (size_t i = 0; i < G_N_ELEMENTS(sets); i++) {
            g_assert_cmpint(tool_control_events(vm->tool, vcpu, sets[i]),
                            ==, 0);
        }
    }
}

static void test_control_events_unknown(TestVM *vm)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        if (!(KVMI_KNOWN_VCPU_EVENTS & (1u << bit))) {
            g_test_message("bit %u", bit);
            g_assert_cmpint(tool_control_events(vm->tool, 0, 1u << bit),
                            ==, -KVM_EINVAL);
            g_assert_cmpint(tool_control_events(vm->tool, 0, 1u << bit |
                                                KVMI_EVENT_CR_FLAG),
                            ==, -KVM_EINVAL);
        }
    }
}

/* Events that the engine doesn't implement are not in its mask. */
static void test_control_events_not_implemented(TestVM *vm)
{
    for (unsigned bit = 0; bit < KVMI_NUM_EVENTS; bit++) {
        uint32_t flag = 1u << bit;

        if (flag & KVMI_KNOWN_VCPU_EVENTS & ~implemented_events) {
            g_test_message("event %u", bit);
            g_assert_cmpint(tool_control_events(vm->tool, 0, flag),
                            ==, -KVM_EPERM);
        }
    }
}

static void test_control_events_disallowed(TestVM *vm)
{
    g_assert_cmpint(tool_control_events(vm->tool, 0, KVMI_EVENT_MSR_FLAG),
                    ==, -KVM_EPERM);
    g_assert_cmpint(tool_control_events(vm->tool, 0, KVMI_EVENT_MSR_FLAG |
                                        KVMI_EVENT_CR_FLAG),
                    ==, -KVM_EPERM);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG);
    /* always on: nothing to disallow */
    vm_control_events(vm, 0, KVMI_EVENT_PAUSE_VCPU_FLAG);
}

/* A wrong set changes nothing: what was on is on. */
static void test_control_events_unchanged(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    g_assert_cmpint(tool_control_events(vm->tool, 0, 1u << 31),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(tool_control_events(vm->tool, 0,
                                        KVMI_EVENT_UNHOOK_FLAG),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(tool_control_events(vm->tool, 0, KVMI_EVENT_MSR_FLAG),
                    ==, -KVM_EPERM);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    tool_continue(vm->tool, event);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* CONTROL_CR, CONTROL_MSR */

static void test_control_cr_registers(TestVM *vm)
{
    for (uint32_t cr = 0; cr < 20; cr++) {
        int expected = cr == 0 || cr == 3 || cr == 4 ? 0 : -KVM_EINVAL;

        g_assert_cmpint(tool_control_cr(vm->tool, 0, cr, true),
                        ==, expected);
        g_assert_cmpint(tool_control_cr(vm->tool, 1, cr, false),
                        ==, expected);
    }
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 0x103, true),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 0xffffffff, true),
                    ==, -KVM_EINVAL);
}

static void test_control_cr_enable(TestVM *vm)
{
    static const uint8_t wrong[] = { 2, 3, 0x80, 0xff };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct kvmi_control_cr request = { .enable = wrong[i], .cr = 3 };

        g_assert_cmpint(tool_call(vm->tool, KVMI_CONTROL_CR, &request,
                                  sizeof(request), NULL, 0),
                        ==, -KVM_EINVAL);
    }
}

static void test_control_msr_range(TestVM *vm)
{
    static const struct {
        uint32_t msr;
        int expected;
    } msrs[] = {
        { 0, 0 }, { 0x10, 0 }, { 0x1ffe, 0 }, { 0x1fff, 0 },
        { 0x2000, -KVM_EINVAL }, { 0x40000000, -KVM_EINVAL },
        { 0xbfffffff, -KVM_EINVAL }, { 0xc0000000, 0 },
        { 0xc0000082, 0 }, { 0xc0001fff, 0 }, { 0xc0002000, -KVM_EINVAL },
        { 0xc0010000, -KVM_EINVAL }, { 0xffffffff, -KVM_EINVAL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(msrs); i++) {
        g_test_message("0x%x", msrs[i].msr);
        g_assert_cmpint(tool_control_msr(vm->tool, 0, msrs[i].msr, true),
                        ==, msrs[i].expected);
        g_assert_cmpint(tool_control_msr(vm->tool, 1, msrs[i].msr, false),
                        ==, msrs[i].expected);
    }
}

static void test_control_msr_enable(TestVM *vm)
{
    static const uint8_t wrong[] = { 2, 3, 0x80, 0xff };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct kvmi_control_msr request = {
            .enable = wrong[i], .msr = MSR_LSTAR,
        };

        g_assert_cmpint(tool_call(vm->tool, KVMI_CONTROL_MSR, &request,
                                  sizeof(request), NULL, 0),
                        ==, -KVM_EINVAL);
    }
}

static const TestCase cases[] = {
    { "get-registers/running", test_get_registers_running,
      NEEDS_RUNNING_GUEST },
    { "get-registers/vcpu1", test_get_registers_vcpu1,
      NEEDS_RUNNING_GUEST },
    { "get-registers/special", test_get_registers_special,
      NEEDS_RUNNING_GUEST },
    { "get-registers/mode-8", test_get_registers_mode_8,
      NEEDS_RUNNING_GUEST },
    { "get-registers/mode-4", test_get_registers_mode_4,
      NEEDS_RUNNING_GUEST },
    { "get-registers/mode-2-not-started", test_get_registers_mode_2 },
    { "get-registers/halted", test_get_registers_halted,
      NEEDS_RUNNING_GUEST },
    { "get-registers/msrs", test_get_registers_msrs, NEEDS_RUNNING_GUEST },
    { "get-registers/most-msrs", test_get_registers_most_msrs },
    { "get-registers/msr-unreadable", test_get_registers_msr_unreadable },
    { "get-registers/during-event", test_get_registers_during_event,
      NEEDS_RUNNING_GUEST },
    { "get-registers/many", test_get_registers_many, NEEDS_RUNNING_GUEST },
    { "set-registers/not-waiting", test_set_registers_running },
    { "set-registers/other-waits", test_set_registers_other_waits,
      NEEDS_RUNNING_GUEST },
    { "set-registers/visible", test_set_registers_visible,
      NEEDS_RUNNING_GUEST },
    { "set-registers/effect", test_set_registers_effect,
      NEEDS_RUNNING_GUEST },
    { "set-registers/rip", test_set_registers_rip, NEEDS_RUNNING_GUEST },
    { "set-registers/rip-to-write", test_set_registers_rip_to_write,
      NEEDS_RUNNING_GUEST },
    { "set-registers/reserved-rflags", test_set_registers_reserved_rflags,
      NEEDS_RUNNING_GUEST },
    { "set-registers/disconnect", test_set_registers_disconnect,
      NEEDS_RUNNING_GUEST },
    { "get-cpuid/values", test_get_cpuid, NEEDS_RUNNING_GUEST },
    { "get-cpuid/vcpu1", test_get_cpuid_vcpu1, NEEDS_RUNNING_GUEST },
    { "get-cpuid/no-such-leaf", test_get_cpuid_no_leaf },
    { "get-xsave/size", test_get_xsave_size },
    { "get-xsave/fpu", test_get_xsave_fpu, NEEDS_RUNNING_GUEST },
    { "get-xsave/same-as-guest", test_get_xsave_same,
      NEEDS_RUNNING_GUEST },
    { "control-events/sets", test_control_events_sets },
    { "control-events/unknown", test_control_events_unknown },
    { "control-events/not-implemented",
      test_control_events_not_implemented },
    { "control-events/disallowed", test_control_events_disallowed,
      .object = "events.0=cr" },
    { "control-events/unchanged-after-error", test_control_events_unchanged,
      NEEDS_RUNNING_GUEST, .object = "events.0=cr" },
    { "control-cr/registers", test_control_cr_registers },
    { "control-cr/enable", test_control_cr_enable },
    { "control-msr/range", test_control_msr_range },
    { "control-msr/enable", test_control_msr_enable },
};

void introspection_add_vcpu_command_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
