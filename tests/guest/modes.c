/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running code outside of 64-bit kernel mode: what has to be there.
 */
#include "guest.h"

#define LAST_VECTOR             GUEST_VECTOR_RETURN

#define PTE_P_W_U_PS            0x87

struct Tss32 {
    uint32_t back_link;
    uint32_t esp0, ss0, esp1, ss1, esp2, ss2;
    uint32_t cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs;
    uint32_t ldt;
    uint16_t trap, iopb;
};

uint64_t guest_idt32[LAST_VECTOR + 1] __attribute__((aligned(16)));
static struct Tss32 tss32[2] __attribute__((aligned(128)));
static uint8_t stack[2][1024] __attribute__((aligned(16)));

static uint64_t tss_descriptor(const struct Tss32 *tss)
{
    uint64_t base = (uintptr_t)tss;

    return (sizeof(*tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
           (base >> 24 & 0xff) << 56;
}

void guest_init_legacy(uint64_t *gdt)
{
    gdt[GUEST_TSS32 / 8] = tss_descriptor(&tss32[0]);
    gdt[GUEST_TSS32_B / 8] = tss_descriptor(&tss32[1]);

    for (int i = 0; i <= LAST_VECTOR; i++) {
        uint64_t entry = (uintptr_t)guest_vectors32[i];

        guest_idt32[i] = (entry & 0xffff) | (uint64_t)GUEST_CS32 << 16 |
                         0xee00ull << 32 | (entry >> 16) << 48;
    }
}

/* Real mode's vectors, which are at address 0. */
static void init_vectors16(void)
{
    volatile uint32_t *ivt;

    /* The compiler must not know that this is a null pointer. */
    asm("xorl %k0, %k0" : "=r" (ivt));
    for (int i = 0; i <= LAST_VECTOR; i++) {
        uint32_t offset = (uintptr_t)guest_vectors16[i] - GUEST_ROM;

        ivt[i] = (GUEST_ROM >> 4) << 16 | offset;
    }
}

static void init_page_directory(uint32_t address)
{
    uint32_t *pd = (uint32_t *)(uintptr_t)address;

    for (uint32_t i = 0; i < 1024; i++) {
        pd[i] = i << 22 | PTE_P_W_U_PS;
    }
}

static void init_tasks(uint32_t other_eip)
{
    for (int i = 0; i < 2; i++) {
        tss32[i] = (struct Tss32) {
            .esp0 = (uintptr_t)stack[0] + sizeof(stack[0]),
            .ss0 = GUEST_DS,
            .cr3 = i ? GUEST_PD32_B : GUEST_PD32_A,
            .eip = other_eip,
            .eflags = 2,
            .esp = (uintptr_t)stack[i] + sizeof(stack[i]),
            .es = GUEST_DS,
            .cs = GUEST_CS32,
            .ss = GUEST_DS,
            .ds = GUEST_DS,
            .iopb = sizeof(tss32[0]),
        };
    }
}

void op_run(struct GuestMailbox *mb)
{
    uint64_t stack_user = GUEST_SCRATCH + GUEST_SCRATCH_SIZE - 0x10;
    uint64_t stack_kernel = (uintptr_t)stack[0] + sizeof(stack[0]);

    switch (mb->arg[0]) {
    case GUEST_MODE_USER64:
        guest_enter(mb->arg[1], GUEST_USER_CS64, GUEST_USER_DS, stack_user);
    case GUEST_MODE_USER32:
        guest_enter(mb->arg[1], GUEST_USER_CS32, GUEST_USER_DS, stack_user);
    case GUEST_MODE_COMPAT32:
        guest_enter(mb->arg[1], GUEST_CS32, GUEST_DS, stack_kernel);
    case GUEST_MODE_COMPAT16:
        guest_enter(mb->arg[1], GUEST_CS16, GUEST_DS16, GUEST_CODE16 - 16);
    default:
        init_vectors16();
        init_page_directory(GUEST_PD32_A);
        init_page_directory(GUEST_PD32_B);
        init_tasks(mb->arg[2]);
        guest_enter_legacy(mb, mb->arg[0], mb->arg[1]);
    }
}
