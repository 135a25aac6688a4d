/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: commands to the VM.
 */
#include "qemu/osdep.h"
#include "tests.h"

#define PAGE_SIZE_4K    4096
#define RAM_END         (VM_RAM_MIB * 1024 * 1024ULL)

/* What cannot be read or written: holes, devices, the end of everything. */
static const uint64_t not_ram[] = {
    RAM_END,
    0x10000000,
    0xfec00000,                 /* I/O APIC */
    0xfed00000,                 /* HPET */
    0xfee00000,                 /* local APIC */
    0x10000000000,
    0x8000000000000000,
    0xfffffffffffff000,
};

static void fill(uint8_t *bytes, size_t size, uint8_t seed)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = seed + i * 7 + (i >> 8);
    }
}

/* GET_VERSION */

static void test_get_version(TestVM *vm)
{
    uint32_t commands = KVMI_GET_VERSION_FLAG |
        KVMI_GET_GUEST_INFO_FLAG | KVMI_GET_REGISTERS_FLAG |
        KVMI_SET_REGISTERS_FLAG | KVMI_GET_PAGE_ACCESS_FLAG |
        KVMI_SET_PAGE_ACCESS_FLAG | KVMI_INJECT_EXCEPTION_FLAG |
        KVMI_READ_PHYSICAL_FLAG |
        KVMI_WRITE_PHYSICAL_FLAG | KVMI_CONTROL_EVENTS_FLAG |
        KVMI_CONTROL_CR_FLAG | KVMI_CONTROL_MSR_FLAG | KVMI_EVENT_FLAG |
        KVMI_EVENT_REPLY_FLAG | KVMI_GET_CPUID_FLAG | KVMI_GET_XSAVE_FLAG |
        KVMI_PAUSE_ALL_VCPUS_FLAG | KVMI_CONTROL_VM_EVENTS_FLAG;
    uint32_t events = KVMI_EVENT_UNHOOK_FLAG |
        KVMI_EVENT_CREATE_VCPU_FLAG |
        KVMI_EVENT_CR_FLAG |
        KVMI_EVENT_MSR_FLAG |
        KVMI_EVENT_XSETBV_FLAG |
        KVMI_EVENT_BREAKPOINT_FLAG |
        KVMI_EVENT_HYPERCALL_FLAG |
        KVMI_EVENT_PF_FLAG |
        KVMI_EVENT_TRAP_FLAG |
        KVMI_EVENT_DESCRIPTOR_FLAG |
        KVMI_EVENT_PAUSE_VCPU_FLAG;
    struct kvmi_get_version_reply version;

    if (vm->engine->in_kernel) {
        commands |= KVMI_GET_MAP_TOKEN_FLAG;
    }
    tool_get_version(vm->tool, &version);
    g_assert_cmpuint(version.version, ==, KVMI_VERSION);
    g_assert_cmphex(version.commands, ==, commands);
    g_assert_cmphex(version.events, ==, events);
    g_assert_cmpuint(version.padding, ==, 0);
}

static void test_get_version_allowed(TestVM *vm)
{
    struct kvmi_get_version_reply version;

    tool_get_version(vm->tool, &version);
    g_assert_cmphex(version.commands, ==,
                    KVMI_GET_VERSION_FLAG | KVMI_EVENT_FLAG |
                    KVMI_EVENT_REPLY_FLAG | KVMI_GET_REGISTERS_FLAG |
                    KVMI_READ_PHYSICAL_FLAG);
    g_assert_cmphex(version.events, ==, KVMI_EVENT_MSR_FLAG);
}

/* GET_GUEST_INFO */

static void test_get_guest_info(TestVM *vm)
{
    struct kvmi_get_guest_info_reply info;

    g_assert_cmpint(tool_get_guest_info(vm->tool, 0, &info), ==, 0);
    g_assert_cmpuint(info.vcpu_count, ==, VM_VCPUS);
    g_assert_cmpuint(info.padding, ==, 0);
}

static void test_get_guest_info_vcpu(TestVM *vm)
{
    struct kvmi_get_guest_info_reply info;

    g_assert_cmpint(tool_get_guest_info(vm->tool, 1, &info),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(tool_get_guest_info(vm->tool, 0xffff, &info),
                    ==, -KVM_EINVAL);
}

/* READ_PHYSICAL */

static void test_read_sizes(TestVM *vm)
{
    static const size_t sizes[] = { 1, 2, 3, 8, 511, 4095, 4096 };
    uint8_t page[PAGE_SIZE_4K], read[PAGE_SIZE_4K];

    fill(page, sizeof(page), 1);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, page, sizeof(page));
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        size_t size = sizes[i], last = PAGE_SIZE_4K - size;

        g_assert_cmpint(tool_read_physical(vm->tool, GUEST_SCRATCH, size,
                                           read), ==, 0);
        g_assert_cmpmem(read, size, page, size);
        g_assert_cmpint(tool_read_physical(vm->tool, GUEST_SCRATCH + last,
                                           size, read), ==, 0);
        g_assert_cmpmem(read, size, page + last, size);
    }
}

static void test_read_bad_size(TestVM *vm)
{
    static const uint64_t sizes[] = {
        0, 4097, 8192, 0x100000001, UINT64_MAX, UINT64_MAX - 15,
        UINT64_MAX - 4095,
    };
    /* some of them make the end of the page wrap around */
    static const uint64_t offsets[] = { 0, 1, 16, 24, 4095 };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(offsets); j++) {
            g_assert_cmpint(tool_read_physical(vm->tool,
                                               GUEST_SCRATCH + offsets[j],
                                               sizes[i], NULL),
                            ==, -KVM_EINVAL);
        }
    }
}

static void test_read_page_crossing(TestVM *vm)
{
    g_assert_cmpint(tool_read_physical(vm->tool, GUEST_SCRATCH + 4095, 2,
                                       NULL), ==, -KVM_EINVAL);
    g_assert_cmpint(tool_read_physical(vm->tool, GUEST_SCRATCH + 1, 4096,
                                       NULL), ==, -KVM_EINVAL);
    g_assert_cmpint(tool_read_physical(vm->tool, UINT64_MAX, 2, NULL),
                    ==, -KVM_EINVAL);
}

static void test_read_not_ram(TestVM *vm)
{
    for (size_t i = 0; i < G_N_ELEMENTS(not_ram); i++) {
        g_test_message("0x%" PRIx64, not_ram[i]);
        g_assert_cmpint(tool_read_physical(vm->tool, not_ram[i], 8, NULL),
                        ==, -KVM_EINVAL);
    }
}

static void test_read_last_page(TestVM *vm)
{
    uint8_t page[PAGE_SIZE_4K], read[PAGE_SIZE_4K];
    uint64_t gpa = RAM_END - PAGE_SIZE_4K;

    fill(page, sizeof(page), 5);
    qtest_memwrite(vm->qts, gpa, page, sizeof(page));
    g_assert_cmpint(tool_read_physical(vm->tool, gpa, 4096, read), ==, 0);
    g_assert_cmpmem(read, 4096, page, 4096);
}

static void test_read_rom(TestVM *vm)
{
    size_t size = sizeof(GUEST_ROM_MARK_TEXT);
    char read[sizeof(GUEST_ROM_MARK_TEXT)];

    g_assert_cmpint(tool_read_physical(vm->tool, GUEST_ROM_MARK, size, read),
                    ==, 0);
    g_assert_cmpmem(read, size, GUEST_ROM_MARK_TEXT, size);
    g_assert_cmpint(tool_read_physical(vm->tool, GUEST_ROM_MARK + 0xfff00000,
                                       size, read), ==, 0);
    g_assert_cmpmem(read, size, GUEST_ROM_MARK_TEXT, size);
}

/* A flash device that is in the state in which it reads as a ROM is one. */
static void test_flash(TestVM *vm)
{
    g_autofree char *image = vm_guest_image();
    g_autofree char *flash = g_strdup_printf(
        "-drive if=pflash,format=raw,readonly=on,file=%s", image);
    uint64_t mark = GUEST_ROM_MARK + 0xfff00000;
    size_t size = sizeof(GUEST_ROM_MARK_TEXT);
    char text[sizeof(GUEST_ROM_MARK_TEXT)] = "";

    vm_start_hooked(vm, "", flash);
    g_assert_cmpint(tool_read_physical(vm->tool, mark, size, text), ==, 0);
    g_assert_cmpmem(text, size, GUEST_ROM_MARK_TEXT, size);
    /* a command to the flash, if it came there */
    g_assert_cmpint(tool_write_physical(vm->tool, mark, 1, "\x90"),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(tool_read_physical(vm->tool, mark, size, text), ==, 0);
    g_assert_cmpmem(text, size, GUEST_ROM_MARK_TEXT, size);
}

static void test_read_running(TestVM *vm)
{
    uint64_t before = tool_read_u64(vm->tool, VM_MAILBOX(0, counter));

    VM_WAIT_UNTIL(tool_read_u64(vm->tool, VM_MAILBOX(0, counter)) > before);
}

/* WRITE_PHYSICAL */

static void test_write_sizes(TestVM *vm)
{
    static const size_t sizes[] = { 1, 2, 3, 8, 511, 4079, 4080 };
    uint8_t written[PAGE_SIZE_4K], expected[PAGE_SIZE_4K];
    uint8_t page[PAGE_SIZE_4K];

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        size_t size = sizes[i], last = PAGE_SIZE_4K - size;

        memset(expected, 0, sizeof(expected));
        qtest_memset(vm->qts, GUEST_SCRATCH, 0, PAGE_SIZE_4K);
        fill(written, sizeof(written), i);
        g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH + last,
                                            size, written), ==, 0);
        memcpy(expected + last, written, size);
        qtest_memread(vm->qts, GUEST_SCRATCH, page, PAGE_SIZE_4K);
        g_assert_cmpmem(page, PAGE_SIZE_4K, expected, PAGE_SIZE_4K);
    }
}

static void test_write_size_zero(TestVM *vm)
{
    g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH, 0, NULL),
                    ==, -KVM_EINVAL);
}

/* All or nothing: the part inside the first page isn't written either. */
static void test_write_page_crossing(TestVM *vm)
{
    static const uint8_t bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    uint64_t gpa = GUEST_SCRATCH + PAGE_SIZE_4K - 4;

    qtest_writeq(vm->qts, gpa, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, gpa, 8, bytes),
                    ==, -KVM_EINVAL);
    g_assert_cmphex(qtest_readq(vm->qts, gpa), ==, 0);
}

/* The part that is RAM isn't written either. */
static void test_write_end_of_ram(TestVM *vm)
{
    static const uint8_t bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

    qtest_writel(vm->qts, RAM_END - 4, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, RAM_END - 4, 8, bytes),
                    ==, -KVM_EINVAL);
    g_assert_cmphex(qtest_readl(vm->qts, RAM_END - 4), ==, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, RAM_END - 4, 4, bytes),
                    ==, 0);
    g_assert_cmphex(qtest_readl(vm->qts, RAM_END - 4), ==, 0x04030201);
}

static void test_write_not_ram(TestVM *vm)
{
    static const uint8_t zeros[8];

    for (size_t i = 0; i < G_N_ELEMENTS(not_ram); i++) {
        g_test_message("0x%" PRIx64, not_ram[i]);
        g_assert_cmpint(tool_write_physical(vm->tool, not_ram[i], 8, zeros),
                        ==, -KVM_EINVAL);
    }
}

static void test_write_rom(TestVM *vm)
{
    static const uint64_t marks[] = {
        GUEST_ROM_MARK, GUEST_ROM_MARK + 0xfff00000,
    };
    static const uint8_t zeros[8];
    char text[8];

    for (size_t i = 0; i < G_N_ELEMENTS(marks); i++) {
        g_assert_cmpint(tool_write_physical(vm->tool, marks[i], 8, zeros),
                        ==, -KVM_EINVAL);
        qtest_memread(vm->qts, marks[i], text, 8);
        g_assert_cmpmem(text, 8, GUEST_ROM_MARK_TEXT, 8);
    }
}

/* What the i440FX does with 0xd0000...0xd3fff: its register PAM3. */
static void set_pam(TestVM *vm, uint8_t value)
{
    qtest_outl(vm->qts, 0xcf8, 0x8000005c);
    qtest_outb(vm->qts, 0xcfc, value);
}

/* RAM counts as what the guest has it for just now. */
static void test_write_shadow(TestVM *vm)
{
    enum { READ = 1, WRITE = 2 };
    static const uint8_t first[8] = "shadow1", second[8] = "shadow2";
    uint64_t gpa = 0xd0000;
    uint8_t read[8];

    set_pam(vm, READ | WRITE);
    g_assert_cmpint(tool_write_physical(vm->tool, gpa, 8, first), ==, 0);
    set_pam(vm, READ);
    g_assert_cmpint(tool_read_physical(vm->tool, gpa, 8, read), ==, 0);
    g_assert_cmpmem(read, 8, first, 8);
    g_assert_cmpint(tool_write_physical(vm->tool, gpa, 8, second),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(tool_read_physical(vm->tool, gpa, 8, read), ==, 0);
    g_assert_cmpmem(read, 8, first, 8);
    set_pam(vm, READ | WRITE);
    g_assert_cmpint(tool_write_physical(vm->tool, gpa, 8, second), ==, 0);
}

/* Code that a vCPU is executing: the new code is executed. */
static void expect_running_code_patched(TestVM *vm, unsigned vcpu)
{
    /* mov $1, %eax; ret */
    static const uint8_t code[] = { 0xb8, 1, 0, 0, 0, 0xc3 };

    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    vm_guest_begin(vm, vcpu, OP_CALL_LOOP, GUEST_SCRATCH, 0);
    VM_WAIT_UNTIL(vm_guest_get(vm, vcpu, result[0]) == 1);
    for (uint32_t value = 2; value < 50; value++) {
        g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH + 1,
                                            sizeof(value), &value), ==, 0);
        VM_WAIT_UNTIL(vm_guest_get(vm, vcpu, result[0]) == value);
    }
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
}

static void test_write_running_code(TestVM *vm)
{
    expect_running_code_patched(vm, 0);
}

static void test_write_running_code_vcpu1(TestVM *vm)
{
    vm_guest_start_vcpu(vm, 1);
    expect_running_code_patched(vm, 1);
}

/* What the guest itself is asked through. */
static void test_write_mailbox(TestVM *vm)
{
    uint32_t op = OP_READ_CR;
    uint64_t cr = 3, request = ++vm->request[0];

    g_assert_cmpint(tool_write_physical(vm->tool, VM_MAILBOX(0, op),
                                        sizeof(op), &op), ==, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, VM_MAILBOX(0, arg[0]),
                                        sizeof(cr), &cr), ==, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, VM_MAILBOX(0, request),
                                        sizeof(request), &request), ==, 0);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_A);
}

/* PAUSE_ALL_VCPUS */

/* One PAUSE_VCPU event of each vCPU, in any order, in events[vcpu]. */
static void receive_pauses(TestVM *vm, ToolEvent *events[VM_VCPUS])
{
    memset(events, 0, VM_VCPUS * sizeof(*events));
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        ToolEvent *event = tool_receive_event(vm->tool);

        g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_PAUSE_VCPU);
        g_assert_cmpuint(event->common.vcpu, <, VM_VCPUS);
        g_assert_cmpuint(event->size, ==, 0);
        g_assert_null(events[event->common.vcpu]);
        events[event->common.vcpu] = event;
    }
}

static void answer_pauses(TestVM *vm, ToolEvent *events[VM_VCPUS])
{
    for (unsigned i = 0; i < VM_VCPUS; i++) {
        tool_continue(vm->tool, events[i]);
        g_free(events[i]);
    }
}

static void test_pause_all(TestVM *vm)
{
    ToolEvent *events[VM_VCPUS];

    for (int round = 0; round < 20; round++) {
        g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
        receive_pauses(vm, events);
        tool_expect_silence(vm->tool);
        answer_pauses(vm, events);
        if (vm->engine->runs) {
            vm_guest_wait_counting(vm, 0);
        }
    }
    tool_expect_no_event(vm->tool);
}

/* It needs no permission by CONTROL_EVENTS, and takes none away. */
static void test_pause_all_uncontrolled(TestVM *vm)
{
    static const uint32_t sets[] = {
        0, KVMI_EVENT_PAUSE_VCPU_FLAG, KVMI_EVENT_CR_FLAG,
    };
    ToolEvent *events[VM_VCPUS];

    for (size_t i = 0; i < G_N_ELEMENTS(sets); i++) {
        for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
            g_assert_cmpint(tool_control_events(vm->tool, vcpu, sets[i]),
                            ==, 0);
        }
        tool_pause_all(vm->tool);
        receive_pauses(vm, events);
        answer_pauses(vm, events);
    }
    tool_expect_no_event(vm->tool);
}

static void test_pause_all_twice(TestVM *vm)
{
    ToolEvent *events[VM_VCPUS];

    g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
    g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
    for (int round = 0; round < 2; round++) {
        receive_pauses(vm, events);
        tool_expect_silence(vm->tool);
        answer_pauses(vm, events);
    }
    tool_expect_silence(vm->tool);
}

/* While one is being answered: it comes after that answer. */
static void test_pause_all_while_paused(TestVM *vm)
{
    ToolEvent *events[VM_VCPUS];

    g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
    receive_pauses(vm, events);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
    }
    tool_expect_silence(vm->tool);
    answer_pauses(vm, events);
    for (int i = 0; i < 3; i++) {
        receive_pauses(vm, events);
        answer_pauses(vm, events);
    }
    tool_expect_silence(vm->tool);
}

/* After the reply no guest code is executed until the event is answered. */
static void test_pause_all_stands_still(TestVM *vm)
{
    ToolEvent *events[VM_VCPUS];

    vm_guest_start_vcpu(vm, 1);
    for (int round = 0; round < 5; round++) {
        uint64_t counter[VM_VCPUS];

        vm_guest_wait_counting(vm, 0);
        vm_guest_wait_counting(vm, 1);
        tool_pause_all(vm->tool);
        for (unsigned i = 0; i < VM_VCPUS; i++) {
            counter[i] = tool_read_u64(vm->tool, VM_MAILBOX(i, counter));
        }
        g_usleep(TOOL_WATCH_MS * 1000);
        for (unsigned i = 0; i < VM_VCPUS; i++) {
            g_assert_cmpuint(tool_read_u64(vm->tool, VM_MAILBOX(i, counter)),
                             ==, counter[i]);
        }
        receive_pauses(vm, events);
        answer_pauses(vm, events);
    }
    vm_guest_wait_counting(vm, 0);
    vm_guest_wait_counting(vm, 1);
}

/* The answer to one lets that one go on, and no other. */
static void test_pause_all_one_by_one(TestVM *vm)
{
    ToolEvent *events[VM_VCPUS];

    vm_guest_start_vcpu(vm, 1);
    tool_pause_all(vm->tool);
    receive_pauses(vm, events);
    tool_continue(vm->tool, events[1]);
    vm_guest_wait_counting(vm, 1);
    g_assert_true(vm_guest_stands_still(vm, 0));
    tool_continue(vm->tool, events[0]);
    vm_guest_wait_counting(vm, 0);
    g_free(events[0]);
    g_free(events[1]);
}

/* A vCPU in HLT answers at once, and is still in HLT afterwards. */
static void test_pause_all_halted(TestVM *vm)
{
    ToolEvent *events[VM_VCPUS];
    uint64_t next;

    vm_guest_begin(vm, 0, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 0);
    VM_WAIT_UNTIL(vm_guest_stands_still(vm, 0));
    for (int round = 0; round < 3; round++) {
        g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
        receive_pauses(vm, events);
        answer_pauses(vm, events);
    }
    tool_expect_no_event(vm->tool);
    g_assert_false(vm_guest_is_done(vm, 0));

    next = vm_guest_get(vm, 0, insn_next);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'inject-nmi'}");
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmpuint(vm_guest_get(vm, 0, result[0]), ==, 2);
    g_assert_cmphex(vm_guest_get(vm, 0, insn_next), ==, next);
}

/* Queued commands and other events come first. */
static void test_pause_all_after_event(TestVM *vm)
{
    g_autofree ToolEvent *cr = NULL;
    ToolEvent *events[VM_VCPUS];
    ToolRegisters registers;

    vm_watch_cr(vm, 0, 3);
    vm_guest_begin(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B);
    cr = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);

    g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
    g_assert_cmpint(tool_get_registers(vm->tool, 0, NULL, 0, &registers),
                    ==, 0);
    tool_continue(vm->tool, cr);
    receive_pauses(vm, events);
    answer_pauses(vm, events);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, GUEST_PML4_B);
}

/*
 * In the middle of other events: one of each vCPU for each command, and no
 * other event of that vCPU before it is answered.
 */
static void test_pause_all_under_events(TestVM *vm)
{
    enum { PAUSES = 50 };
    /* mov $PML4_B, %eax; mov %rax, %cr3; mov $PML4_A, %eax; same; ret */
    static const uint8_t code[] = {
        0xb8, 0x00, 0x10, 0x01, 0x00, 0x0f, 0x22, 0xd8,
        0xb8, 0x00, 0x00, 0x01, 0x00, 0x0f, 0x22, 0xd8, 0xc3,
    };
    unsigned pauses[VM_VCPUS] = { 0 };
    unsigned asked = 0, others = 0;

    vm_guest_start_vcpu(vm, 1);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        vm_guest_begin(vm, vcpu, OP_CALL_LOOP, GUEST_SCRATCH, 0);
        vm_watch_cr(vm, vcpu, 3);
    }
    while (pauses[0] < PAUSES || pauses[1] < PAUSES) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);

        if (event->common.event == KVMI_EVENT_PAUSE_VCPU) {
            g_assert_cmpuint(++pauses[event->common.vcpu], <=, asked);
        } else {
            g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_CR);
            others++;
        }
        if (asked < PAUSES && others % 3 == 0) {
            g_assert_cmpuint(tool_pause_all(vm->tool), ==, VM_VCPUS);
            asked++;
        }
        tool_continue(vm->tool, event);
    }
    vm_guest_release(vm);
    tool_close(vm->tool);
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
    }
    vm_rehook(vm);
}

/* CONTROL_VM_EVENTS */

static void test_control_vm_events(TestVM *vm)
{
    g_assert_cmpint(tool_control_vm_events(vm->tool, 0), ==, 0);
    g_assert_cmpint(tool_control_vm_events(vm->tool, KVMI_EVENT_UNHOOK_FLAG),
                    ==, 0);
    g_assert_cmpint(tool_control_vm_events(vm->tool, KVMI_KNOWN_VM_EVENTS),
                    ==, 0);
    g_assert_cmpint(tool_control_vm_events(vm->tool, 0), ==, 0);
}

static void test_control_vm_events_unknown(TestVM *vm)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        if (bit != KVMI_EVENT_UNHOOK && bit != KVMI_EVENT_CREATE_VCPU) {
            g_assert_cmpint(tool_control_vm_events(vm->tool, 1u << bit),
                            ==, -KVM_EINVAL);
            /* the other mistake doesn't hide this one */
            g_assert_cmpint(tool_control_vm_events(vm->tool, 1u << bit |
                                                   KVMI_EVENT_UNHOOK_FLAG),
                            ==, -KVM_EINVAL);
        }
    }
}

static void test_control_vm_events_disallowed(TestVM *vm)
{
    g_assert_cmpint(tool_control_vm_events(vm->tool,
                                           KVMI_EVENT_UNHOOK_FLAG),
                    ==, -KVM_EPERM);
    g_assert_cmpint(tool_control_vm_events(vm->tool,
                                           KVMI_EVENT_CREATE_VCPU_FLAG),
                    ==, -KVM_EPERM);
    g_assert_cmpint(tool_control_vm_events(vm->tool, KVMI_KNOWN_VM_EVENTS),
                    ==, -KVM_EPERM);
}

static const TestCase cases[] = {
    { "get-version/values", test_get_version },
    { "get-version/allowed", test_get_version_allowed,
      .object = "commands.0=get-registers,commands.1=read-physical,"
                "events.0=msr" },
    { "get-guest-info/values", test_get_guest_info },
    { "get-guest-info/vcpu-not-0", test_get_guest_info_vcpu },
    { "read-physical/sizes", test_read_sizes },
    { "read-physical/bad-size", test_read_bad_size },
    { "read-physical/page-crossing", test_read_page_crossing },
    { "read-physical/not-ram", test_read_not_ram },
    { "read-physical/last-page", test_read_last_page },
    { "read-physical/rom", test_read_rom },
    { "read-physical/flash", test_flash, .unstarted = true },
    { "read-physical/running", test_read_running, NEEDS_RUNNING_GUEST },
    { "write-physical/sizes", test_write_sizes },
    { "write-physical/size-zero", test_write_size_zero },
    { "write-physical/page-crossing", test_write_page_crossing },
    { "write-physical/end-of-ram", test_write_end_of_ram },
    { "write-physical/not-ram", test_write_not_ram },
    { "write-physical/rom", test_write_rom },
    { "write-physical/shadow", test_write_shadow, NEEDS_READ_ONLY_RAM },
    { "write-physical/running-code", test_write_running_code,
      NEEDS_RUNNING_GUEST },
    { "write-physical/running-code-vcpu1", test_write_running_code_vcpu1,
      NEEDS_RUNNING_GUEST },
    { "write-physical/mailbox", test_write_mailbox, NEEDS_RUNNING_GUEST },
    { "pause-all-vcpus/one-event-each", test_pause_all },
    { "pause-all-vcpus/uncontrolled", test_pause_all_uncontrolled },
    { "pause-all-vcpus/always-on", test_pause_all, .object = "events.0=cr" },
    { "pause-all-vcpus/twice", test_pause_all_twice },
    { "pause-all-vcpus/while-paused", test_pause_all_while_paused },
    { "pause-all-vcpus/stands-still", test_pause_all_stands_still,
      NEEDS_RUNNING_GUEST },
    { "pause-all-vcpus/one-by-one", test_pause_all_one_by_one,
      NEEDS_RUNNING_GUEST },
    { "pause-all-vcpus/halted", test_pause_all_halted,
      NEEDS_RUNNING_GUEST },
    { "pause-all-vcpus/after-event", test_pause_all_after_event,
      NEEDS_RUNNING_GUEST },
    { "pause-all-vcpus/under-events", test_pause_all_under_events,
      NEEDS_RUNNING_GUEST },
    { "control-vm-events/on-and-off", test_control_vm_events },
    { "control-vm-events/unknown", test_control_vm_events_unknown },
    { "control-vm-events/disallowed", test_control_vm_events_disallowed,
      .object = "events.0=cr" },
};

void introspection_add_vm_command_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
