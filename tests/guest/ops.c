/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations that the guest carries out on request, each exactly one
 * thing.  Arguments and results are listed with GUEST_OPS.
 */
#include "guest.h"

/*
 * Carry out one instruction between two labels that the mailbox knows.
 * Operands are what the instruction itself needs.
 */
#define ONE_INSN(mb, insn, outputs, ...)                                    \
    asm volatile("leaq 771f(%%rip), %%r10\n\t"                              \
                 "movq %%r10, %c[insn_rip](%[mailbox])\n\t"                 \
                 "leaq 772f(%%rip), %%r10\n\t"                              \
                 "movq %%r10, %c[insn_rip] + 8(%[mailbox])\n"               \
                 "771:\t" insn "\n772:"                                     \
                 : outputs                                                  \
                 : [mailbox] "D" (mb),                                      \
                   [insn_rip] "i" (GUEST_MB_INSN), ##__VA_ARGS__            \
                 : "r10", "cc", "memory")
#define NO_OUTPUT

static bool released(void)
{
    spin_hint();
    return load(*(uint32_t *)(uintptr_t)GUEST_RELEASE);
}

static void count(struct GuestMailbox *mb)
{
    store(mb->counter, mb->counter + 1);
}

void op_nop(struct GuestMailbox *mb)
{
}

void op_count(struct GuestMailbox *mb)
{
    while (!released()) {
        count(mb);
    }
}

void op_halt(struct GuestMailbox *mb)
{
    uint64_t before = load(mb->interrupts);

    while (load(mb->interrupts) == before) {
        /* STI's shadow: no interrupt slips in between and is waited for */
        ONE_INSN(mb, "sti; hlt; cli", NO_OUTPUT);
    }
    mb->result[0] = mb->interrupt;
}

void op_read_cr(struct GuestMailbox *mb)
{
    mb->result[0] = read_cr(mb->arg[0]);
}

void op_write_cr(struct GuestMailbox *mb)
{
    switch (mb->arg[0]) {
    case 0:
        ONE_INSN(mb, "mov %[value], %%cr0", NO_OUTPUT,
                 [value] "a" (mb->arg[1]));
        break;
    case 3:
        ONE_INSN(mb, "mov %[value], %%cr3", NO_OUTPUT,
                 [value] "a" (mb->arg[1]));
        break;
    case 4:
        ONE_INSN(mb, "mov %[value], %%cr4", NO_OUTPUT,
                 [value] "a" (mb->arg[1]));
        break;
    case 8:
        ONE_INSN(mb, "mov %[value], %%cr8", NO_OUTPUT,
                 [value] "a" (mb->arg[1]));
        break;
    }
    mb->result[0] = read_cr(mb->arg[0]);
}

void op_write_cr_loop(struct GuestMailbox *mb)
{
    while (!released()) {
        uint64_t value = mb->arg[1];

        op_write_cr(mb);
        mb->arg[1] = mb->arg[2];
        mb->arg[2] = value;
        count(mb);
    }
}

void op_lmsw(struct GuestMailbox *mb)
{
    ONE_INSN(mb, "lmsw %w[value]", NO_OUTPUT,
             [value] "a" ((uint32_t)mb->arg[0]));
    mb->result[0] = read_cr(0);
}

void op_clts(struct GuestMailbox *mb)
{
    ONE_INSN(mb, "clts", NO_OUTPUT);
    mb->result[0] = read_cr(0);
}

void op_rdmsr(struct GuestMailbox *mb)
{
    mb->result[0] = rdmsr(mb->arg[0]);
}

void op_wrmsr_only(struct GuestMailbox *mb)
{
    ONE_INSN(mb, "wrmsr", NO_OUTPUT, "c" ((uint32_t)mb->arg[0]),
             "a" ((uint32_t)mb->arg[1]), "d" ((uint32_t)(mb->arg[1] >> 32)));
}

void op_wrmsr(struct GuestMailbox *mb)
{
    op_wrmsr_only(mb);
    mb->result[0] = rdmsr(mb->arg[0]);
}

void op_cpuid(struct GuestMailbox *mb)
{
    uint32_t eax, ebx, ecx, edx;

    cpuid(mb->arg[0], mb->arg[1], &eax, &ebx, &ecx, &edx);
    mb->result[0] = eax;
    mb->result[1] = ebx;
    mb->result[2] = ecx;
    mb->result[3] = edx;
}

void op_int3(struct GuestMailbox *mb)
{
    ONE_INSN(mb, "int3", NO_OUTPUT);
}

void op_int_n(struct GuestMailbox *mb)
{
    ONE_INSN(mb, ".byte 0xcd, 3", NO_OUTPUT);
}

void op_xgetbv(struct GuestMailbox *mb)
{
    uint32_t eax, edx;

    asm volatile("xgetbv" : "=a" (eax), "=d" (edx) : "c" (0));
    mb->result[0] = eax | (uint64_t)edx << 32;
}

void op_xsetbv(struct GuestMailbox *mb)
{
    ONE_INSN(mb, "xsetbv", NO_OUTPUT, "c" ((uint32_t)mb->arg[0]),
             "a" ((uint32_t)mb->arg[1]), "d" ((uint32_t)(mb->arg[1] >> 32)));
    op_xgetbv(mb);
}

void op_load_regs(struct GuestMailbox *mb)
{
    guest_load_regs(mb);
}

void op_spin32(struct GuestMailbox *mb)
{
    guest_spin32(mb);
}

void op_load_fpu(struct GuestMailbox *mb)
{
    const uint8_t *image = (uint8_t *)mb + GUEST_MB_DATA;

    asm volatile("fxrstor64 %0" : : "m" (*(const uint8_t (*)[512])image));
    op_count(mb);
}

void op_xsave(struct GuestMailbox *mb)
{
    uint8_t *image = (uint8_t *)mb + GUEST_MB_DATA;

    asm volatile("xsave64 %0"
                 : "+m" (*(uint8_t (*)[GUEST_MB_DATA_SIZE])image)
                 : "a" (-1), "d" (-1));
}

static uint64_t call(uint64_t address)
{
    uint64_t (*code)(void) = (void *)(uintptr_t)address;

    return code();
}

void op_call(struct GuestMailbox *mb)
{
    mb->result[0] = call(mb->arg[0]);
}

void op_call_loop(struct GuestMailbox *mb)
{
    while (!released()) {
        store(mb->result[0], call(mb->arg[0]));
        count(mb);
    }
}

void op_out(struct GuestMailbox *mb)
{
    while (!released()) {
        asm volatile("outb %%al, %%dx" : : "a" (0), "d" (mb->arg[0]));
        count(mb);
    }
}

static void send_ipi(uint32_t apic_id, uint32_t command)
{
    apic_write(APIC_ICR_HIGH, apic_id << 24);
    apic_write(APIC_ICR_LOW, command);
    while (apic_read(APIC_ICR_LOW) & APIC_ICR_PENDING) {
        /* on its way */
    }
}

void op_start_vcpu(struct GuestMailbox *mb)
{
    send_ipi(mb->arg[0], 0x4500);
    send_ipi(mb->arg[0], 0x4600 | GUEST_SIPI_VECTOR);
}

void op_send_ipi(struct GuestMailbox *mb)
{
    send_ipi(mb->arg[0], 0x4000 | (mb->arg[1] & 0xff));
}
