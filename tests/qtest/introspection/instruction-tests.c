/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: the events HYPERCALL and DESCRIPTOR, and control
 * registers that a task switch writes.
 */
#include "qemu/osdep.h"
#include "tests.h"

#define EXCEPTION_UD            6
#define EXCEPTION_GP            13
#define EXCEPTION_PF            14

#define CR0_TS                  (1 << 3)

#define VMCALL                  0x0f, 0x01, 0xc1
#define VMMCALL                 0x0f, 0x01, 0xd9

#define HYPERCALL               34
#define GUEST_REQUEST           24

static void expect_ok(TestVM *vm)
{
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    tool_expect_no_event(vm->tool);
}

static void expect_exception(TestVM *vm, unsigned vector, uint64_t rip)
{
    vm_guest_expect_exception_at(vm, 0, vector, rip);
    tool_expect_no_event(vm->tool);
}

/* HYPERCALL */

/* Code that loads registers and calls; @size in and out. */
typedef struct Call {
    uint8_t code[64];
    size_t size;
    size_t insn;                /* offset of VMCALL or VMMCALL */
} Call;

static void call_append(Call *call, const uint8_t *bytes, size_t size)
{
    memcpy(call->code + call->size, bytes, size);
    call->size += size;
}

static void call_load(Call *call, bool bits16, uint8_t opcode, uint32_t value)
{
    const uint8_t insn[] = { 0x66, opcode, value, value >> 8, value >> 16,
                             value >> 24 };

    call_append(call, insn + !bits16, sizeof(insn) - !bits16);
}

static Call make_call(unsigned mode, bool amd, uint32_t nr, uint32_t a0,
                      uint32_t a1)
{
    static const uint8_t insns[2][3] = { { VMCALL }, { VMMCALL } };
    bool bits16 = mode == GUEST_MODE_COMPAT16 || mode >= GUEST_MODE_PROT16;
    bool bits64 = mode == GUEST_MODE_USER64;
    Call call = { };

    /* what the other register pair has must not matter */
    call_load(&call, bits16, bits64 ? 0xbb : 0xbf, 0x1111);
    call_load(&call, bits16, bits64 ? 0xb9 : 0xbe, 0x2222);
    call_load(&call, bits16, bits64 ? 0xbf : 0xbb, a0);     /* EDI or EBX */
    call_load(&call, bits16, bits64 ? 0xbe : 0xb9, a1);     /* ESI or ECX */
    call_load(&call, bits16, 0xb8, nr);                     /* EAX */
    call.insn = call.size;
    call_append(&call, insns[amd], 3);
    return call;
}

static void begin_call(TestVM *vm, unsigned mode, const Call *call)
{
    vm_guest_begin_code(vm, 0, mode, call->code, call->size);
}

static bool is_user_mode(unsigned mode)
{
    return mode == GUEST_MODE_USER64 || mode == GUEST_MODE_USER32 ||
           mode == GUEST_MODE_V86;
}

/* Of the processor that the guest has */
static bool has_vmmcall(TestVM *vm)
{
    g_assert_cmpint(vm_guest_do(vm, 0, OP_CPUID, 0, 0), ==, GUEST_OK);
    /* AuthenticAMD, HygonGenuine */
    return vm_guest_get(vm, 0, result[1]) == 0x68747541 ||
           vm_guest_get(vm, 0, result[1]) == 0x6f677948;
}

/*
 * KVM replaces the instruction that the processor does not have by the other
 * one.  But it gives user mode #GP for it, and in real mode writes to RIP without
 * the base of CS, and tries again for ever.
 */
static bool has_call(TestVM *vm, unsigned mode, bool vmmcall)
{
    return !vm->engine->in_kernel || vmmcall == has_vmmcall(vm) ||
           !(is_user_mode(mode) || mode == GUEST_MODE_REAL);
}

/* In each mode, by both instructions. */
static void for_all_calls(TestVM *vm, void (*check)(TestVM *vm, unsigned mode,
                                                    const Call *call))
{
    for (unsigned mode = 0; mode <= GUEST_MODE_REAL; mode++) {
        for (unsigned amd = 0; amd < 2; amd++) {
            Call call = make_call(mode, amd, HYPERCALL, GUEST_REQUEST, 0);

            if (!has_call(vm, mode, amd)) {
                continue;
            }
            g_test_message("%s, %s", amd ? "VMMCALL" : "VMCALL",
                           vm_guest_mode_name(mode));
            check(vm, mode, &call);
        }
    }
}

static ToolEvent *expect_call(TestVM *vm, unsigned mode, const Call *call)
{
    ToolEvent *event = tool_expect_event(vm->tool, 0, KVMI_EVENT_HYPERCALL);

    g_assert_cmphex(event->common.regs.rip, ==,
                    vm_guest_code_rip(mode) + call->insn);
    g_assert_cmphex((uint32_t)event->common.regs.rax, ==, HYPERCALL);
    g_assert_false(vm_guest_is_done(vm, 0));
    return event;
}

static void check_call(TestVM *vm, unsigned mode, const Call *call)
{
    g_autofree ToolEvent *event = NULL;

    begin_call(vm, mode, call);
    event = expect_call(vm, mode, call);
    tool_continue(vm->tool, event);
    expect_ok(vm);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, 0);
}

static void test_hypercall(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_HYPERCALL_FLAG);
    for_all_calls(vm, check_call);
}

static void check_call_off(TestVM *vm, unsigned mode, const Call *call)
{
    begin_call(vm, mode, call);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, 0);
}

/* It is one whether or not somebody wants to know. */
static void test_hypercall_off(TestVM *vm)
{
    for_all_calls(vm, check_call_off);
    tool_expect_no_event(vm->tool);
}

static void test_hypercall_no_tool(TestVM *vm)
{
    tool_close(vm->tool);
    for_all_calls(vm, check_call_off);
}

static void check_call_unknown(TestVM *vm, unsigned mode, const Call *call)
{
    begin_call(vm, mode, call);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_EXCEPTION);
    g_assert_cmphex(vm_guest_get(vm, 0, vector), ==, EXCEPTION_UD);
    g_assert_cmphex(vm_guest_get(vm, 0, rip), ==,
                    vm_guest_code_rip(mode) + call->insn);
}

/*
 * No object, no hypercall; and the same once it has been deleted.  KVM has it
 * whatever QEMU has.
 */
static void test_hypercall_no_object(TestVM *vm)
{
    tool_close(vm->tool);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'object-del',"
                             " 'arguments': {'id': 'kvmi0'}}");
    for_all_calls(vm, vm->engine->in_kernel ? check_call_off
                                            : check_call_unknown);
}

/* KVM has hypercalls for the guest's kernel, and this is none of them. */
static void check_call_refused(TestVM *vm, unsigned mode, const Call *call)
{
    int error = is_user_mode(mode) ? -KVM_EPERM : -KVM_ENOSYS;

    begin_call(vm, mode, call);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex((uint32_t)vm_guest_get(vm, 0, result[0]), ==,
                    (uint32_t)error);
}

/* With any other register contents it is what it was. */
static void test_hypercall_other(TestVM *vm)
{
    static const uint32_t other[][3] = {
        { HYPERCALL + 1, GUEST_REQUEST, 0 },
        { HYPERCALL, GUEST_REQUEST + 1, 0 },
        { HYPERCALL, GUEST_REQUEST, 1 },
    };

    vm_control_events(vm, 0, KVMI_EVENT_HYPERCALL_FLAG);
    for (size_t i = 0; i < G_N_ELEMENTS(other); i++) {
        for (unsigned mode = 0; mode <= GUEST_MODE_REAL; mode++) {
            for (unsigned amd = 0; amd < 2; amd++) {
                Call call = make_call(mode, amd, other[i][0], other[i][1],
                                      other[i][2]);

                if (!vm->engine->in_kernel) {
                    check_call_unknown(vm, mode, &call);
                } else if (has_call(vm, mode, amd)) {
                    check_call_refused(vm, mode, &call);
                }
            }
        }
    }
    tool_expect_no_event(vm->tool);
}

/* The tool puts its answer in registers; the call stays answered. */
static void test_hypercall_registers(TestVM *vm)
{
    Call call = make_call(GUEST_MODE_USER64, true, HYPERCALL, GUEST_REQUEST,
                          0);
    /* mov %rdi, %rax */
    static const uint8_t show_rdi[] = { 0x48, 0x89, 0xf8 };
    g_autofree ToolEvent *event = NULL;
    struct kvm_regs regs;

    call_append(&call, show_rdi, sizeof(show_rdi));
    vm_control_events(vm, 0, KVMI_EVENT_HYPERCALL_FLAG);
    begin_call(vm, GUEST_MODE_USER64, &call);
    event = expect_call(vm, GUEST_MODE_USER64, &call);
    regs = event->common.regs;
    regs.rax = 0x77;
    regs.rdi = 0x1234567;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    tool_continue(vm->tool, event);
    expect_ok(vm);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, 0x1234567);
}

static void test_hypercall_crash(TestVM *vm)
{
    Call call = make_call(GUEST_MODE_USER64, true, HYPERCALL, GUEST_REQUEST,
                          0);
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_HYPERCALL_FLAG);
    begin_call(vm, GUEST_MODE_USER64, &call);
    event = expect_call(vm, GUEST_MODE_USER64, &call);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    vm_expect_panicked(vm);
    g_assert_false(vm_guest_is_done(vm, 0));
}

static void test_hypercall_disconnect(TestVM *vm)
{
    Call call = make_call(GUEST_MODE_USER64, true, HYPERCALL, GUEST_REQUEST,
                          0);
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_HYPERCALL_FLAG);
    begin_call(vm, GUEST_MODE_USER64, &call);
    event = expect_call(vm, GUEST_MODE_USER64, &call);
    tool_close(vm->tool);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, 0);
    vm_rehook(vm);
    check_call_off(vm, GUEST_MODE_USER64, &call);
    tool_expect_no_event(vm->tool);
}

static void test_hypercall_retry(TestVM *vm)
{
    Call call = make_call(GUEST_MODE_USER64, true, HYPERCALL, GUEST_REQUEST,
                          0);
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_HYPERCALL_FLAG);
    begin_call(vm, GUEST_MODE_USER64, &call);
    event = expect_call(vm, GUEST_MODE_USER64, &call);
    tool_retry(vm->tool, event);
    vm_expect_close_and_rehook(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

/* DESCRIPTOR */

#define MEMORY                  (GUEST_SCRATCH + 0x2000)
#define DATA32                  0x00, 0x20, 0x40, 0x00  /* MEMORY, disp32 */

/*
 * Instructions of 32-bit and of 64-bit kernel code, with an operand in memory
 * at MEMORY, or in AX.
 */
typedef struct Access {
    const char *name;
    uint8_t descriptor;
    uint8_t write;
    uint8_t modrm;              /* for memory without base; | 0xc0: AX */
    uint8_t opcode;             /* the second byte */
    bool has_register;
} Access;

static const Access accesses[] = {
    { "SGDT", KVMI_DESC_GDTR, 0, 0x05, 0x01, false },
    { "SIDT", KVMI_DESC_IDTR, 0, 0x0d, 0x01, false },
    { "LGDT", KVMI_DESC_GDTR, 1, 0x15, 0x01, false },
    { "LIDT", KVMI_DESC_IDTR, 1, 0x1d, 0x01, false },
    { "SLDT", KVMI_DESC_LDTR, 0, 0x05, 0x00, true },
    { "STR", KVMI_DESC_TR, 0, 0x0d, 0x00, true },
    { "LLDT", KVMI_DESC_LDTR, 1, 0x15, 0x00, true },
    { "LTR", KVMI_DESC_TR, 1, 0x1d, 0x00, true },
};

/* INSN; ret: with an absolute address, which takes a SIB in 64-bit mode. */
static size_t make_access(const Access *access, bool in_register,
                          uint8_t code[16])
{
    const uint8_t reg[] = { 0x0f, access->opcode,
                            (access->modrm & 0x38) | 0xc0, 0xc3 };
    const uint8_t mem[] = { 0x0f, access->opcode,
                            (access->modrm & 0x38) | 0x04, 0x25, DATA32,
                            0xc3 };

    if (in_register) {
        memcpy(code, reg, sizeof(reg));
        return sizeof(reg);
    }
    memcpy(code, mem, sizeof(mem));
    return sizeof(mem);
}

/* What the instructions that load find: what is there already. */
static void fill_operand(TestVM *vm, const Access *access)
{
    ToolRegisters regs;
    struct {
        uint16_t limit;
        uint64_t base;
    } QEMU_PACKED table = { };

    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &regs), ==, 0);
    switch (access->descriptor) {
    case KVMI_DESC_GDTR:
        table.limit = regs.common.sregs.gdt.limit;
        table.base = regs.common.sregs.gdt.base;
        break;
    case KVMI_DESC_IDTR:
        table.limit = regs.common.sregs.idt.limit;
        table.base = regs.common.sregs.idt.base;
        break;
    case KVMI_DESC_TR:
        table.limit = GUEST_TSS;
        if (access->write) {
            /* free it: LTR takes no busy one */
            qtest_writeb(vm->qts, regs.common.sregs.gdt.base + GUEST_TSS + 5,
                         0x89);
        }
        break;
    }
    qtest_memwrite(vm->qts, MEMORY, &table, sizeof(table));
}

static ToolEvent *expect_access(TestVM *vm, const Access *access,
                                uint64_t rip)
{
    ToolEvent *event = tool_expect_event(vm->tool, 0, KVMI_EVENT_DESCRIPTOR);
    struct kvmi_event_descriptor expected = {
        .descriptor = access->descriptor, .write = access->write,
    };

    /* as the host's processor has it */
    if (vm->engine->in_kernel) {
        memcpy(&expected.arch, &event->own.descriptor.arch, sizeof(expected.arch));
    }
    g_assert_cmphex(event->common.regs.rip, ==, rip);
    g_assert_cmpmem(&event->own.descriptor, sizeof(event->own.descriptor),
                    &expected, sizeof(expected));
    g_assert_false(vm_guest_is_done(vm, 0));
    return event;
}

static void begin_access(TestVM *vm, const Access *access, bool in_register)
{
    /* mov $GUEST_TSS or 0, %eax: what a load from the register finds */
    uint8_t code[32] = { 0xb8, access->descriptor == KVMI_DESC_TR
                               ? GUEST_TSS : 0 };

    g_test_message("%s, %s", access->name, in_register ? "AX" : "memory");
    make_access(access, in_register, code + 5);
    fill_operand(vm, access);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
}

static void for_all_accesses(TestVM *vm, void (*check)(TestVM *vm,
                                                       const Access *access,
                                                       bool in_register))
{
    for (size_t i = 0; i < G_N_ELEMENTS(accesses); i++) {
        check(vm, &accesses[i], false);
        if (accesses[i].has_register) {
            check(vm, &accesses[i], true);
        }
    }
}

/* It has done what it does: the table's register, or its value in memory. */
static void expect_access_done(TestVM *vm, const Access *access,
                               bool in_register)
{
    ToolRegisters regs;
    uint64_t stored;

    expect_ok(vm);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &regs), ==, 0);
    stored = in_register ? vm_guest_get(vm, 0, result[0])
                         : vm_guest_read(vm, MEMORY, 8);
    switch (access->descriptor) {
    case KVMI_DESC_GDTR:
        g_assert_cmphex(stored & 0xffff, ==, regs.common.sregs.gdt.limit);
        g_assert_cmphex(stored >> 16, ==, regs.common.sregs.gdt.base);
        break;
    case KVMI_DESC_IDTR:
        g_assert_cmphex(stored & 0xffff, ==, regs.common.sregs.idt.limit);
        g_assert_cmphex(stored >> 16, ==, regs.common.sregs.idt.base);
        break;
    case KVMI_DESC_LDTR:
        g_assert_cmphex(stored & 0xffff, ==, 0);
        break;
    case KVMI_DESC_TR:
        g_assert_cmphex(stored & 0xffff, ==, GUEST_TSS);
        break;
    }
}

static void check_access(TestVM *vm, const Access *access, bool in_register)
{
    g_autofree ToolEvent *event = NULL;

    begin_access(vm, access, in_register);
    event = expect_access(vm, access, GUEST_SCRATCH + 5);
    tool_continue(vm->tool, event);
    expect_access_done(vm, access, in_register);
}

static void test_descriptor(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    for_all_accesses(vm, check_access);
}

/* RETRY behind it: it has not been carried out. */
static void check_access_moved(TestVM *vm, const Access *access,
                               bool in_register)
{
    g_autofree ToolEvent *event = NULL;
    struct kvm_regs regs;
    ToolRegisters before, after;
    uint8_t code[16];

    begin_access(vm, access, in_register);
    event = expect_access(vm, access, GUEST_SCRATCH + 5);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &before), ==, 0);
    regs = event->common.regs;
    regs.rip += make_access(access, in_register, code) - 1;
    regs.rax = 0x5555;
    qtest_writeq(vm->qts, MEMORY, 0x5555);
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    tool_retry(vm->tool, event);
    expect_ok(vm);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &after), ==, 0);
    g_assert_cmpmem(&before.common.sregs, sizeof(before.common.sregs),
                    &after.common.sregs, sizeof(after.common.sregs));
    g_assert_cmphex(vm_guest_read(vm, MEMORY, 8), ==, 0x5555);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, 0x5555);
}

static void test_descriptor_moved(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    for_all_accesses(vm, check_access_moved);
}

/* RETRY alone: it comes again. */
static void check_access_retry(TestVM *vm, const Access *access,
                               bool in_register)
{
    g_autofree ToolEvent *first = NULL;
    g_autofree ToolEvent *second = NULL;

    begin_access(vm, access, in_register);
    first = expect_access(vm, access, GUEST_SCRATCH + 5);
    tool_retry(vm->tool, first);
    second = expect_access(vm, access, GUEST_SCRATCH + 5);
    g_assert_cmpuint(first->seq, !=, second->seq);
    tool_continue(vm->tool, second);
    expect_access_done(vm, access, in_register);
}

static void test_descriptor_retry(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    for_all_accesses(vm, check_access_retry);
}

static void check_access_off(TestVM *vm, const Access *access,
                             bool in_register)
{
    begin_access(vm, access, in_register);
    expect_access_done(vm, access, in_register);
}

/* Before, after, and while the other vCPU is watched. */
static void test_descriptor_off(TestVM *vm)
{
    for_all_accesses(vm, check_access_off);
    vm_control_events(vm, 1, KVMI_EVENT_DESCRIPTOR_FLAG);
    for_all_accesses(vm, check_access_off);
    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    for_all_accesses(vm, check_access);
    vm_control_events(vm, 1, 0);
    for_all_accesses(vm, check_access);
    vm_control_events(vm, 0, 0);
    for_all_accesses(vm, check_access_off);
}

/*
 * Code that has been translated and runs when the event is switched on, and
 * is not translated anew when it is off.
 */
static void test_descriptor_running(TestVM *vm)
{
    uint8_t code[16];
    size_t size = make_access(&accesses[1], false, code);

    vm_guest_start_vcpu(vm, 1);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, size);
    vm_guest_begin(vm, 0, OP_CALL_LOOP, GUEST_SCRATCH, 0);
    vm_guest_begin(vm, 1, OP_CALL_LOOP, GUEST_SCRATCH, 0);
    for (int round = 0; round < 10; round++) {
        for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
            vm_guest_wait_counting(vm, vcpu);
            vm_control_events(vm, vcpu, KVMI_EVENT_DESCRIPTOR_FLAG);
            for (int i = 0; i < 5; i++) {
                g_autofree ToolEvent *event =
                    tool_expect_event(vm->tool, vcpu, KVMI_EVENT_DESCRIPTOR);

                g_assert_cmphex(event->common.regs.rip, ==, GUEST_SCRATCH);
                if (i == 4) {
                    vm_control_events(vm, vcpu, 0);
                }
                tool_continue(vm->tool, event);
            }
            tool_expect_no_event(vm->tool);
        }
    }
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmpint(vm_guest_finish(vm, 1), ==, GUEST_OK);
}

/* In 32-bit code; CONTINUE and the end are as in the other. */
static void test_descriptor_modes(TestVM *vm)
{
    static const unsigned modes[] = {
        GUEST_MODE_COMPAT32, GUEST_MODE_PROT32, GUEST_MODE_PAGED32,
    };

    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    for (size_t m = 0; m < G_N_ELEMENTS(modes); m++) {
        for (size_t i = 0; i < G_N_ELEMENTS(accesses); i++) {
            const Access *access = &accesses[i];
            uint8_t code[16];
            size_t size = make_access(access, access->has_register, code) - 1;
            g_autofree ToolEvent *event = NULL;
            struct kvm_regs regs;

            g_test_message("%s: %s", vm_guest_mode_name(modes[m]),
                           access->name);
            vm_guest_begin_code(vm, 0, modes[m], code, size);
            /* the guest's own, on its way to a legacy mode */
            while (!event) {
                event = tool_expect_event(vm->tool, 0, KVMI_EVENT_DESCRIPTOR);
                if (event->common.regs.rip != GUEST_SCRATCH) {
                    tool_continue(vm->tool, event);
                    g_clear_pointer(&event, g_free);
                }
            }
            g_assert_cmpuint(event->common.mode, ==, 4);
            g_assert_cmpuint(event->own.descriptor.descriptor, ==,
                             access->descriptor);
            g_assert_cmpuint(event->own.descriptor.write, ==, access->write);
            regs = event->common.regs;
            regs.rip += size;
            g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
            tool_retry(vm->tool, event);
            while (!vm_guest_is_done(vm, 0)) {
                g_autofree ToolEvent *own = NULL;

                if (!tool_event_waits(vm->tool)) {
                    continue;
                }
                own = tool_expect_event(vm->tool, 0, KVMI_EVENT_DESCRIPTOR);
                g_assert_cmphex(own->common.regs.rip, !=, GUEST_SCRATCH);
                tool_continue(vm->tool, own);
            }
            g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
        }
    }
}

/* What the processor refuses for the privilege level raises no event. */
static void test_descriptor_refused(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    for (size_t i = 0; i < G_N_ELEMENTS(accesses); i++) {
        const Access *access = &accesses[i];
        uint8_t code[16];
        size_t size = make_access(access, false, code) - 1;

        g_test_message("%s", access->name);
        if (access->write) {
            vm_guest_begin_code(vm, 0, GUEST_MODE_USER64, code, size);
            expect_exception(vm, EXCEPTION_GP, GUEST_SCRATCH);
        } else {
            g_autofree ToolEvent *event = NULL;

            /* user mode may store them */
            vm_guest_begin_code(vm, 0, GUEST_MODE_USER64, code, size);
            event = expect_access(vm, access, GUEST_SCRATCH);
            tool_continue(vm->tool, event);
            expect_ok(vm);
        }
    }
}

/* The operand cannot be read or written: after the event, as in hardware. */
static void test_descriptor_fault(TestVM *vm)
{
    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    qtest_writeq(vm->qts, GUEST_PT + 2 * 8, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(accesses); i++) {
        const Access *access = &accesses[i];
        g_autofree ToolEvent *event = NULL;
        uint8_t code[16];
        size_t size = make_access(access, false, code);

        g_test_message("%s", access->name);
        qtest_memwrite(vm->qts, GUEST_SCRATCH, code, size);
        vm_guest_begin(vm, 0, OP_CALL, GUEST_SCRATCH, 0);
        event = expect_access(vm, access, GUEST_SCRATCH);
        tool_continue(vm->tool, event);
        expect_exception(vm, EXCEPTION_PF, GUEST_SCRATCH);
        g_assert_cmphex(vm_guest_get(vm, 0, cr2), ==, MEMORY);
    }
}

static void test_descriptor_crash(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    begin_access(vm, &accesses[3], false);
    event = expect_access(vm, &accesses[3], GUEST_SCRATCH + 5);
    tool_reply(vm->tool, event, KVMI_EVENT_ACTION_CRASH, NULL, 0);
    vm_expect_panicked(vm);
    g_assert_false(vm_guest_is_done(vm, 0));
}

static void test_descriptor_disconnect(TestVM *vm)
{
    const Access *access = &accesses[1];
    g_autofree ToolEvent *event = NULL;

    vm_control_events(vm, 0, KVMI_EVENT_DESCRIPTOR_FLAG);
    begin_access(vm, access, false);
    event = expect_access(vm, access, GUEST_SCRATCH + 5);
    tool_close(vm->tool);
    vm_rehook(vm);
    expect_access_done(vm, access, false);
    for_all_accesses(vm, check_access_off);
}

/* Control registers that a task switch writes */

/* ljmp $GUEST_TSS32_B, $0 */
static const uint8_t jump_to_task[] = { 0xea, 0, 0, 0, 0, GUEST_TSS32_B, 0 };
/* lcall $GUEST_TSS32_B, $0 */
static const uint8_t call_task[] = { 0x9a, 0, 0, 0, 0, GUEST_TSS32_B, 0 };
/* mov %cr3, %eax; int $GUEST_VECTOR_RETURN */
static const uint8_t show_cr3[] = { 0x0f, 0x20, 0xd8, 0xcd,
                                    GUEST_VECTOR_RETURN };
/* mov %cr0, %eax; int $GUEST_VECTOR_RETURN */
static const uint8_t show_cr0[] = { 0x0f, 0x20, 0xc0, 0xcd,
                                    GUEST_VECTOR_RETURN };

#define OTHER_TASK              (GUEST_SCRATCH + 0x1000)

/* The guest's own writes on its way there are let through. */
static ToolEvent *next_in_code(TestVM *vm)
{
    for (;;) {
        ToolEvent *event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);

        if (event->common.regs.rip >= GUEST_SCRATCH) {
            return event;
        }
        tool_continue(vm->tool, event);
        g_free(event);
    }
}

static enum GuestStatus finish_switch(TestVM *vm)
{
    while (!vm_guest_is_done(vm, 0)) {
        if (tool_event_waits(vm->tool)) {
            g_autofree ToolEvent *event =
                tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);

            g_assert_cmphex(event->common.regs.rip, <, GUEST_SCRATCH);
            tool_continue(vm->tool, event);
        }
    }
    return vm_guest_finish(vm, 0);
}

static void begin_switch(TestVM *vm, const uint8_t *code, size_t size,
                         const uint8_t *other, size_t other_size)
{
    qtest_memwrite(vm->qts, OTHER_TASK, other, other_size);
    qtest_writeq(vm->qts, VM_MAILBOX(0, arg[2]), OTHER_TASK);
    vm_guest_begin_code(vm, 0, GUEST_MODE_PAGED32, code, size);
}

static void expect_cr(const ToolEvent *event, uint16_t cr, uint64_t rip,
                      uint64_t old, uint64_t new)
{
    g_assert_cmpuint(event->own.cr.cr, ==, cr);
    g_assert_cmphex(event->own.cr.old_value, ==, old);
    g_assert_cmphex(event->own.cr.new_value, ==, new);
    g_assert_cmphex(event->common.regs.rip, ==, rip);
}

static void test_task_switch_cr3(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    begin_switch(vm, jump_to_task, sizeof(jump_to_task),
                 show_cr3, sizeof(show_cr3));
    event = next_in_code(vm);
    expect_cr(event, 3, GUEST_SCRATCH, GUEST_PD32_A, GUEST_PD32_B);
    g_assert_cmphex(event->common.sregs.tr.selector, ==, GUEST_TSS32);
    tool_continue(vm->tool, event);
    g_assert_cmpint(finish_switch(vm), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PD32_B);
}

static void test_task_switch_new_value(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;

    vm_watch_cr(vm, 0, 3);
    begin_switch(vm, jump_to_task, sizeof(jump_to_task),
                 show_cr3, sizeof(show_cr3));
    event = next_in_code(vm);
    expect_cr(event, 3, GUEST_SCRATCH, GUEST_PD32_A, GUEST_PD32_B);
    tool_continue_with(vm->tool, event, GUEST_PD32_B | 8);
    g_assert_cmpint(finish_switch(vm), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PD32_B | 8);
}

/* It sets TS as well. */
static void test_task_switch_cr0(TestVM *vm)
{
    g_autofree ToolEvent *event = NULL;
    uint64_t cr0;

    vm_watch_cr(vm, 0, 0);
    begin_switch(vm, jump_to_task, sizeof(jump_to_task),
                 show_cr0, sizeof(show_cr0));
    event = next_in_code(vm);
    cr0 = event->common.sregs.cr0;
    g_assert_cmphex(cr0 & CR0_TS, ==, 0);
    expect_cr(event, 0, GUEST_SCRATCH, cr0, cr0 | CR0_TS);
    tool_continue(vm->tool, event);
    g_assert_cmpint(finish_switch(vm), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, cr0 | CR0_TS);
}

/* Two events of one instruction, each once, each with its own answer. */
static void test_task_switch_both(TestVM *vm)
{
    g_autofree ToolEvent *first = NULL;
    g_autofree ToolEvent *second = NULL;
    uint64_t cr0;

    vm_watch_cr(vm, 0, 0);
    vm_watch_cr(vm, 0, 3);
    begin_switch(vm, jump_to_task, sizeof(jump_to_task),
                 show_cr3, sizeof(show_cr3));
    first = next_in_code(vm);
    cr0 = first->common.sregs.cr0;
    expect_cr(first, 0, GUEST_SCRATCH, cr0, cr0 | CR0_TS);
    tool_continue(vm->tool, first);
    second = next_in_code(vm);
    expect_cr(second, 3, GUEST_SCRATCH, GUEST_PD32_A, GUEST_PD32_B);
    g_assert_cmphex(second->common.sregs.cr0, ==, cr0);
    tool_continue_with(vm->tool, second, GUEST_PD32_B | 8);
    g_assert_cmpint(finish_switch(vm), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PD32_B | 8);
}

/* There by CALL, back by IRET. */
static void test_task_switch_call(TestVM *vm)
{
    static const uint8_t iret[] = { 0xcf };
    g_autofree ToolEvent *there = NULL;
    g_autofree ToolEvent *back = NULL;

    vm_watch_cr(vm, 0, 3);
    begin_switch(vm, call_task, sizeof(call_task), iret, sizeof(iret));
    there = next_in_code(vm);
    expect_cr(there, 3, GUEST_SCRATCH, GUEST_PD32_A, GUEST_PD32_B);
    tool_continue(vm->tool, there);
    back = next_in_code(vm);
    expect_cr(back, 3, OTHER_TASK, GUEST_PD32_B, GUEST_PD32_A);
    tool_continue(vm->tool, back);
    g_assert_cmpint(finish_switch(vm), ==, GUEST_OK);
}

/* A gate of the legacy modes' IDT that leads to the other task. */
static void make_task_gate(TestVM *vm, uint64_t idt, unsigned vector)
{
    const uint64_t present_dpl3_task_gate = 0xe5;

    qtest_writeq(vm->qts, idt + vector * 8,
                 present_dpl3_task_gate << 40 | GUEST_TSS32_B << 16);
}

/* By an exception: #BP of the guest's own INT3. */
static void test_task_gate(TestVM *vm)
{
    static const uint8_t int3[] = { 0xcc };
    g_autofree ToolEvent *breakpoint = NULL;
    g_autofree ToolEvent *event = NULL;

    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    begin_switch(vm, int3, sizeof(int3), show_cr3, sizeof(show_cr3));
    breakpoint = tool_expect_event(vm->tool, 0, KVMI_EVENT_BREAKPOINT);
    make_task_gate(vm, breakpoint->common.sregs.idt.base, 3);
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG | KVMI_EVENT_CR_FLAG);
    tool_continue(vm->tool, breakpoint);
    event = next_in_code(vm);
    expect_cr(event, 3, GUEST_SCRATCH, GUEST_PD32_A, GUEST_PD32_B);
    g_assert_cmphex(event->common.sregs.tr.selector, ==, GUEST_TSS32);
    tool_continue_with(vm->tool, event, GUEST_PD32_B | 8);
    g_assert_cmpint(finish_switch(vm), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PD32_B | 8);
}

/* By an interrupt, which must not get lost while the tool thinks. */
static void test_task_gate_interrupt(TestVM *vm, bool disconnect)
{
    /* int3; sti; jmp . */
    static const uint8_t code[] = { 0xcc, 0xfb, 0xeb, 0xfe };
    const unsigned vector = GUEST_VECTOR_RETURN - 1;
    g_autofree ToolEvent *breakpoint = NULL;
    g_autofree ToolEvent *event = NULL;
    struct kvm_regs regs;

    vm_guest_start_vcpu(vm, 1);
    g_assert_cmpint(tool_control_cr(vm->tool, 0, 3, true), ==, 0);
    vm_control_events(vm, 0, KVMI_EVENT_BREAKPOINT_FLAG);
    begin_switch(vm, code, sizeof(code), show_cr3, sizeof(show_cr3));
    breakpoint = tool_expect_event(vm->tool, 0, KVMI_EVENT_BREAKPOINT);
    make_task_gate(vm, breakpoint->common.sregs.idt.base, vector);
    vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG);
    regs = breakpoint->common.regs;
    regs.rip++;
    g_assert_cmpint(tool_set_registers(vm->tool, 0, &regs), ==, 0);
    tool_retry(vm->tool, breakpoint);
    g_assert_cmpint(vm_guest_do(vm, 1, OP_SEND_IPI, 0, vector), ==, GUEST_OK);
    event = next_in_code(vm);
    expect_cr(event, 3, GUEST_SCRATCH + 2, GUEST_PD32_A, GUEST_PD32_B);
    if (disconnect) {
        tool_close(vm->tool);
        g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    } else {
        tool_continue(vm->tool, event);
        g_assert_cmpint(finish_switch(vm), ==, GUEST_OK);
    }
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PD32_B);
}

static void test_task_gate_continue(TestVM *vm)
{
    test_task_gate_interrupt(vm, false);
}

static void test_task_gate_disconnect(TestVM *vm)
{
    test_task_gate_interrupt(vm, true);
}

static const TestCase cases[] = {
    { "hypercall/continue", test_hypercall, NEEDS_RUNNING_GUEST },
    { "hypercall/off", test_hypercall_off, NEEDS_RUNNING_GUEST },
    { "hypercall/no-tool", test_hypercall_no_tool, NEEDS_RUNNING_GUEST },
    { "hypercall/no-object", test_hypercall_no_object, NEEDS_RUNNING_GUEST },
    { "hypercall/other", test_hypercall_other, NEEDS_RUNNING_GUEST },
    { "hypercall/registers", test_hypercall_registers, NEEDS_RUNNING_GUEST },
    { "hypercall/crash", test_hypercall_crash, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "hypercall/disconnect", test_hypercall_disconnect, NEEDS_RUNNING_GUEST },
    { "hypercall/retry", test_hypercall_retry, NEEDS_RUNNING_GUEST },
    { "descriptor/continue", test_descriptor, NEEDS_RUNNING_GUEST },
    { "descriptor/retry-moved", test_descriptor_moved, NEEDS_RUNNING_GUEST },
    { "descriptor/retry", test_descriptor_retry, NEEDS_RUNNING_GUEST },
    { "descriptor/off", test_descriptor_off, NEEDS_RUNNING_GUEST },
    { "descriptor/running", test_descriptor_running, NEEDS_RUNNING_GUEST },
    { "descriptor/modes", test_descriptor_modes, NEEDS_RUNNING_GUEST },
    { "descriptor/refused", test_descriptor_refused, NEEDS_RUNNING_GUEST },
    { "descriptor/fault", test_descriptor_fault, NEEDS_RUNNING_GUEST },
    { "descriptor/crash", test_descriptor_crash, NEEDS_RUNNING_GUEST,
      .more = "-action panic=pause" },
    { "descriptor/disconnect", test_descriptor_disconnect,
      NEEDS_RUNNING_GUEST },
    { "cr/task-switch-cr3", test_task_switch_cr3,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
    { "cr/task-switch-new-value", test_task_switch_new_value,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
    { "cr/task-switch-cr0", test_task_switch_cr0,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
    { "cr/task-switch-both", test_task_switch_both,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
    { "cr/task-switch-call", test_task_switch_call,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
    { "cr/task-gate", test_task_gate,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
    { "cr/task-gate-interrupt", test_task_gate_continue,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
    { "cr/task-gate-disconnect", test_task_gate_disconnect,
      NEEDS_RUNNING_GUEST | NEEDS_TASK_SWITCHES },
};

void introspection_add_instruction_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
