/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest of the conformance suite: what its own files share.
 */
#ifndef TESTS_GUEST_GUEST_H
#define TESTS_GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include "guest-abi.h"

#define CR4_OSFXSR              (1 << 9)
#define CR4_OSXMMEXCPT          (1 << 10)
#define CR4_OSXSAVE             (1 << 18)
#define CPUID_1_ECX_XSAVE       (1 << 26)

#define APIC_BASE               0xfee00000
#define APIC_EOI                0x0b0
#define APIC_SPURIOUS           0x0f0
#define APIC_SOFTWARE_ENABLE    0x100
#define APIC_ICR_LOW            0x300
#define APIC_ICR_HIGH           0x310
#define APIC_ICR_PENDING        (1 << 12)
#define APIC_LVT_LINT1          0x360
#define APIC_MODE_NMI           0x400

static inline void apic_write(uint32_t reg, uint32_t value)
{
    /* volatile: a device's register */
    *(volatile uint32_t *)(uintptr_t)(APIC_BASE + reg) = value;
}

static inline uint32_t apic_read(uint32_t reg)
{
    /* volatile: a device's register */
    return *(volatile uint32_t *)(uintptr_t)(APIC_BASE + reg);
}

/* What the test, another vCPU or an interrupt may change at any time. */
#define load(variable)          __atomic_load_n(&(variable), __ATOMIC_RELAXED)
#define store(variable, value) \
    __atomic_store_n(&(variable), value, __ATOMIC_RELAXED)

/*
 * In each loop that waits: a hypervisor may take the processor away there, and
 * does not do without on Bochs 2.7, which takes no interrupts for the host
 * while a guest runs that was entered with interrupts disabled.
 */
static inline void spin_hint(void)
{
    asm volatile("pause");
}

static inline void cpuid(uint32_t function, uint32_t index,
                         uint32_t *eax, uint32_t *ebx,
                         uint32_t *ecx, uint32_t *edx)
{
    asm volatile("cpuid"
                 : "=a" (*eax), "=b" (*ebx), "=c" (*ecx), "=d" (*edx)
                 : "0" (function), "2" (index));
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t eax, edx;

    asm volatile("rdmsr" : "=a" (eax), "=d" (edx) : "c" (msr));
    return eax | (uint64_t)edx << 32;
}

static inline uint64_t read_cr(uint32_t cr)
{
    uint64_t value = 0;

    switch (cr) {
    case 0:
        asm volatile("mov %%cr0, %0" : "=r" (value));
        break;
    case 2:
        asm volatile("mov %%cr2, %0" : "=r" (value));
        break;
    case 3:
        asm volatile("mov %%cr3, %0" : "=r" (value));
        break;
    case 4:
        asm volatile("mov %%cr4, %0" : "=r" (value));
        break;
    case 8:
        asm volatile("mov %%cr8, %0" : "=r" (value));
        break;
    }
    return value;
}

static inline void write_cr(uint32_t cr, uint64_t value)
{
    switch (cr) {
    case 0:
        asm volatile("mov %0, %%cr0" : : "r" (value) : "memory");
        break;
    case 3:
        asm volatile("mov %0, %%cr3" : : "r" (value) : "memory");
        break;
    case 4:
        asm volatile("mov %0, %%cr4" : : "r" (value) : "memory");
        break;
    }
}

/* main.c */
struct TrapFrame;
void guest_trap(struct TrapFrame *frame);
void guest_main(uint32_t apic_id);

/* ops-asm.S */
extern const uint8_t guest_vectors[256][16];
extern const uint8_t guest_run_fault[];
extern const uint8_t guest_run_done[];
int guest_run(void (*op)(struct GuestMailbox *mb), struct GuestMailbox *mb);
void guest_load_regs(struct GuestMailbox *mb);
void guest_spin32(struct GuestMailbox *mb);

/* modes.S, modes.c */
extern const uint8_t guest_vectors32[][16];
extern const uint8_t guest_vectors16[][8];
void guest_enter(uint64_t rip, uint32_t cs, uint32_t ss, uint64_t rsp)
    __attribute__((noreturn));
void guest_enter_legacy(struct GuestMailbox *mb, uint32_t mode, uint64_t code)
    __attribute__((noreturn));
void guest_init_legacy(uint64_t *gdt);

#define GUEST_OP_DECLARE(NAME, name) void op_##name(struct GuestMailbox *mb);
GUEST_OPS(GUEST_OP_DECLARE)
#undef GUEST_OP_DECLARE

#endif /* TESTS_GUEST_GUEST_H */
