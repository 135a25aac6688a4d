/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way from the reset vector (or from a SIPI) to 64-bit mode, run from
 * ROM.  The first vCPU copies the rest of the image to RAM and builds the
 * page tables; the others find both there.
 */
#include "guest-abi.h"

#define CR0_PE          0x00000001
#define CR0_MP          0x00000002
#define CR0_NE          0x00000020
#define CR0_WP          0x00010000
#define CR0_PG          0x80000000
#define CR4_PAE         0x20
#define MSR_EFER        0xc0000080
#define EFER_SCE        0x001
#define EFER_LME        0x100

#define PTE_P           0x01
#define PTE_W           0x02
#define PTE_U           0x04
#define PTE_PS          0x80

        .section .rom, "ax"
        .code16
        .globl  rom_start
rom_start:                              /* an AP comes from its SIPI */
        movl    $1, %ebp
        jmp     start16
boot16:                                 /* the first vCPU */
        xorl    %ebp, %ebp
start16:
        cli
        cld
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   gdt_ptr - rom_start
        movl    $(CR0_PE | CR0_NE | CR0_MP), %eax
        movl    %eax, %cr0
        ljmpl   $GUEST_CS32, $start32

        .code32
start32:
        movl    $GUEST_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %eax, %ss
        testl   %ebp, %ebp
        jnz     enter64

        movb    $0xff, %al              /* both PICs: nothing from you */
        outb    %al, $0x21
        outb    %al, $0xa1

        movl    $ram_load, %esi
        movl    $ram_start, %edi
        movl    $ram_end, %ecx
        subl    %edi, %ecx
        rep movsb
        xorl    %eax, %eax
        movl    $bss_start, %edi
        movl    $bss_end, %ecx
        subl    %edi, %ecx
        rep stosb

        movl    $GUEST_PML4_A, %edi
        movl    $(GUEST_PAGE_TABLES_END - GUEST_PML4_A), %ecx
        rep stosb
        movl    $(GUEST_PDPT + PTE_P + PTE_W + PTE_U), %eax
        movl    %eax, GUEST_PML4_A
        movl    %eax, GUEST_PML4_B
        movl    $GUEST_PDPT, %edi
        movl    $(GUEST_PD + PTE_P + PTE_W + PTE_U), %eax
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x1000, %eax
        cmpl    $(GUEST_PT + PTE_P + PTE_W + PTE_U), %eax
        jne     1b
        movl    $GUEST_PD, %edi
        movl    $(PTE_P + PTE_W + PTE_PS), %eax
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x200000, %eax
        jnc     1b
        movl    $(GUEST_PT + PTE_P + PTE_W + PTE_U), \
                GUEST_PD + (GUEST_SCRATCH >> 21) * 8
        movl    $GUEST_PT, %edi
        movl    $(GUEST_SCRATCH + PTE_P + PTE_W + PTE_U), %eax
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x1000, %eax
        cmpl    $(GUEST_PT + 0x1000), %edi
        jne     1b

enter64:
        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $GUEST_PML4_A, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        movl    $(EFER_LME | EFER_SCE), %eax
        xorl    %edx, %edx
        wrmsr
        movl    $(CR0_PG | CR0_WP | CR0_NE | CR0_MP | CR0_PE), %eax
        movl    %eax, %cr0
        ljmpl   $GUEST_CS64, $start64

        .code64
start64:
        movl    $0xfee00020, %eax       /* the local APIC's id register */
        movl    (%rax), %edi
        shrl    $24, %edi
        movl    %edi, %eax
        imull   $GUEST_VCPU_AREA_SIZE, %eax
        leal    GUEST_MAILBOXES + GUEST_VCPU_AREA_SIZE(%rax), %eax
        movq    %rax, %rsp
        movl    $guest_main, %eax
        call    *%rax

        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* GUEST_CS32 */
        .quad   0x00cf93000000ffff      /* GUEST_DS */
        .quad   0x00af9b000000ffff      /* GUEST_CS64 */
gdt_ptr:
        .word   gdt_ptr - gdt - 1
        .long   gdt

        .section .mark, "a"
        .asciz  GUEST_ROM_MARK_TEXT

        .section .reset, "ax"
        .code16
        ljmp    $(GUEST_ROM >> 4), $(boot16 - rom_start)

        .section .note.GNU-stack, "", @progbits
