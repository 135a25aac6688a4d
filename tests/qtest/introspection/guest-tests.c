/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: its own guest, in a VM without introspection.  Where
 * one of these fails, the other cases prove nothing.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "tests.h"

static void start_plain(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,server=on,wait=off",
                                               vm->socket);

    vm_start_with(vm, chardev, NULL, NULL);
    vm_guest_wait_up(vm, 0);
}

static void test_boots(TestVM *vm)
{
    start_plain(vm);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_NOP, 0, 0), ==, GUEST_OK);
    g_assert_cmpint(vm_guest_do(vm, 0, OP__MAX, 0, 0), ==,
                    GUEST_NO_SUCH_OP);
    vm_guest_wait_counting(vm, 0);
    g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, 0);
    g_assert_false(vm_guest_is_up(vm, 1));
}

static void test_vcpus(TestVM *vm)
{
    start_plain(vm);
    vm_guest_start_vcpu(vm, 1);
    g_assert_cmpuint(vm_guest_get(vm, 1, apic_id), ==, 1);
    for (unsigned vcpu = 0; vcpu < VM_VCPUS; vcpu++) {
        vm_guest_wait_counting(vm, vcpu);
        g_assert_cmphex(vm_guest_result(vm, vcpu, OP_READ_CR, 3, 0), ==,
                        GUEST_PML4_A);
    }
}

static void test_registers(TestVM *vm)
{
    uint64_t cr;

    start_plain(vm);
    vm_guest_begin(vm, 0, OP_LOAD_REGS, 0, 0);
    vm_guest_wait_started(vm, 0);
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[1]), ==,
                    GUEST_REG_PATTERN(0));
    cr = vm_guest_result(vm, 0, OP_READ_CR, 4, 0) ^ 8;
    g_assert_cmphex(vm_guest_result(vm, 0, OP_WRITE_CR, 4, cr), ==, cr);
    cr = vm_guest_result(vm, 0, OP_READ_CR, 0, 0);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_LMSW, (cr & 0xf) | 8, 0), ==,
                    cr | 8);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_CLTS, 0, 0), ==, cr);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_WRITE_CR, 3, GUEST_PML4_B),
                    ==, GUEST_PML4_B);
    g_assert_cmphex(vm_guest_result(vm, 0, OP_WRMSR, 0xc0000082, 0x1000),
                    ==, 0x1000);
}

/* What the processor refuses, so that it is refused without a tool too. */
static void test_refusals(TestVM *vm)
{
    static const struct {
        const char *what;
        enum GuestOp op;
        uint64_t arg[2];
    } refused[] = {
        { "CR4.LA57", OP_WRITE_CR, { 4, 0x40620 | 1 << 12 } },
        { "CR4 reserved bit", OP_WRITE_CR, { 4, 0x40620 | 1ULL << 31 } },
        { "APICBASE reserved", OP_WRMSR, { 0x1b, UINT64_MAX } },
    };

    start_plain(vm);
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_test_message("%s", refused[i].what);
        vm_guest_begin(vm, 0, refused[i].op, refused[i].arg[0],
                       refused[i].arg[1]);
        vm_guest_expect_exception(vm, 0, 13);
        g_assert_cmpuint(vm_guest_get(vm, 0, exceptions), ==, i + 1);
    }
}

static void test_interrupts(TestVM *vm)
{
    start_plain(vm);
    vm_guest_start_vcpu(vm, 1);

    vm_guest_begin(vm, 1, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 1);
    VM_WAIT_UNTIL(vm_guest_stands_still(vm, 1));
    vm_guest_do(vm, 0, OP_SEND_IPI, 1, GUEST_VECTOR_WAKE);
    g_assert_cmpint(vm_guest_finish(vm, 1), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 1, result[0]), ==, GUEST_VECTOR_WAKE);

    vm_guest_begin(vm, 0, OP_HALT, 0, 0);
    vm_guest_wait_started(vm, 0);
    qtest_qmp_assert_success(vm->qts, "{'execute': 'inject-nmi'}");
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
    g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, 2);
}

static void test_modes(TestVM *vm)
{
    start_plain(vm);
    vm_guest_begin(vm, 0, OP_SPIN32, 0, 0);
    vm_guest_wait_started(vm, 0);
    vm_guest_wait_counting(vm, 0);
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
}

static void test_code(TestVM *vm)
{
    static const uint8_t code[] = { 0xb8, 7, 0, 0, 0, 0xc3 };

    start_plain(vm);
    qtest_memwrite(vm->qts, GUEST_SCRATCH, code, sizeof(code));
    g_assert_cmpuint(vm_guest_result(vm, 0, OP_CALL, GUEST_SCRATCH, 0),
                     ==, 7);
}

/*
 * vCPU 0 patches what vCPU 1 is executing, and waits each time until that
 * executes it.
 */
static void test_cross_modifying(TestVM *vm)
{
    enum { CODE = GUEST_SCRATCH, WRITER = CODE + 0x1000 };
    /* a turn of each vCPU is long where they share a thread */
    uint32_t rounds = vm->engine->one_thread ? 10 : 2000;
    /* mov $0, %eax; ret */
    static const uint8_t code[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
    uint8_t writer[] = {
        0x31, 0xc0,                             /* xor %eax, %eax */
        0xff, 0xc0,                             /* 1: inc %eax */
        0x89, 0x04, 0x25, 0, 0, 0, 0,           /* mov %eax, CODE + 1 */
        0xb9, 0, 0, 0, 0x04,                    /* mov $0x4000000, %ecx */
        0x3b, 0x04, 0x25, 0, 0, 0, 0,           /* 2: cmp result[0], %eax */
        0x74, 0x05,                             /* je 3f */
        0xff, 0xc9,                             /* dec %ecx */
        0x75, 0xf3,                             /* jne 2b */
        0xc3,                                   /* ret */
        0x3d, 0, 0, 0, 0,                       /* 3: cmp $rounds, %eax */
        0x72, 0xdd,                             /* jb 1b */
        0xc3,                                   /* ret */
    };

    stl_le_p(writer + 7, CODE + 1);
    stl_le_p(writer + 19, VM_MAILBOX(1, result[0]));
    stl_le_p(writer + 31, rounds);
    start_plain(vm);
    vm_guest_start_vcpu(vm, 1);
    qtest_memwrite(vm->qts, CODE, code, sizeof(code));
    qtest_memwrite(vm->qts, WRITER, writer, sizeof(writer));
    vm_guest_begin(vm, 1, OP_CALL_LOOP, CODE, 0);
    g_assert_cmpuint(vm_guest_result(vm, 0, OP_CALL, WRITER, 0), ==, rounds);
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_finish(vm, 1), ==, GUEST_OK);
}

static void test_fpu(TestVM *vm)
{
    uint8_t image[512] = { 0x7f, 0x03 }, saved[512];

    start_plain(vm);
    memset(image + 160, 0x77, 256);
    image[25] = 0x1f;
    qtest_memwrite(vm->qts, GUEST_MAILBOX(0) + GUEST_MB_DATA, image, 512);
    vm_guest_release(vm);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_LOAD_FPU, 0, 0), ==, GUEST_OK);
    qtest_memset(vm->qts, GUEST_MAILBOX(0) + GUEST_MB_DATA, 0,
                 GUEST_MB_DATA_SIZE);
    g_assert_cmpint(vm_guest_do(vm, 0, OP_XSAVE, 0, 0), ==, GUEST_OK);
    qtest_memread(vm->qts, GUEST_MAILBOX(0) + GUEST_MB_DATA, saved, 512);
    g_assert_cmpmem(saved + 160, 256, image + 160, 256);
}

static void test_main_loop_blocked(TestVM *vm)
{
    start_plain(vm);
    vm_block_main_loop(vm);
    vm_unblock_main_loop(vm);
    vm_guest_wait_counting(vm, 0);
}

static const TestCase cases[] = {
    { "guest/boots", test_boots, NEEDS_RUNNING_GUEST, .unstarted = true },
    { "guest/vcpus", test_vcpus, NEEDS_RUNNING_GUEST, .unstarted = true },
    { "guest/registers", test_registers, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "guest/refusals", test_refusals, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "guest/interrupts", test_interrupts, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "guest/modes", test_modes, NEEDS_RUNNING_GUEST, .unstarted = true },
    { "guest/code", test_code, NEEDS_RUNNING_GUEST, .unstarted = true },
    { "guest/cross-modifying", test_cross_modifying, NEEDS_RUNNING_GUEST,
      .unstarted = true },
    { "guest/fpu", test_fpu, NEEDS_RUNNING_GUEST, .unstarted = true },
    { "guest/main-loop-blocked", test_main_loop_blocked,
      NEEDS_RUNNING_GUEST, .unstarted = true },
};

void introspection_add_guest_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
