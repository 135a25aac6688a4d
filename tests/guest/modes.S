/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running code outside of 64-bit kernel mode.  It ends with INT
 * GUEST_VECTOR_RETURN, or with an exception, in every mode.
 *
 * Legacy modes are left and entered by one vCPU at a time: what they need is
 * in static variables and at fixed places in low memory.
 */
#include "guest-abi.h"

#define CR0_PE          0x00000001
#define CR0_PG          0x80000000
#define CR4_PSE         0x10
#define CR4_PAE         0x20
#define MSR_EFER        0xc0000080
#define EFER_LME_BIT    8

#define FLAGS           2
#define FLAGS_V86       (0x20000 | 3 << 12 | 2)         /* VM, IOPL 3 */

#define REAL_SAVE       0x600           /* what a real-mode handler saw */
#define CODE16_SEG      (GUEST_CODE16 >> 4)
#define STACK16         0x7ff0

        .text
        .code64

/* void guest_enter(rip, cs, ss, rsp): does not return */
        .globl  guest_enter
guest_enter:
        movl    %edx, %ds
        movl    %edx, %es
        pushq   %rdx
        pushq   %rcx
        pushq   $FLAGS
        pushq   %rsi
        pushq   %rdi
        iretq

/* void guest_enter_legacy(mb, mode, code): does not return */
        .globl  guest_enter_legacy
guest_enter_legacy:
        movl    %edi, legacy_mailbox
        movl    %esi, legacy_mode
        movl    %edx, legacy_code
        movq    %cr3, %rax
        movl    %eax, legacy_cr3
        sgdt    legacy_gdt
        sidt    legacy_idt
        pushq   $GUEST_CS32
        pushq   $1f
        lretq

        .code32
1:      movl    $GUEST_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $legacy_stack_end, %esp
        movl    %cr0, %eax
        andl    $~CR0_PG, %eax
        movl    %eax, %cr0
        movl    $MSR_EFER, %ecx
        rdmsr
        btrl    $EFER_LME_BIT, %eax
        wrmsr
        lidt    idt32_pointer
        movl    legacy_gdt + 2, %ebx
        movb    $0x89, GUEST_TSS32 + 5(%ebx)
        movb    $0x89, GUEST_TSS32_B + 5(%ebx)
        movl    $GUEST_TSS32, %eax
        ltr     %ax
        movl    legacy_mode, %eax
        cmpl    $GUEST_MODE_PROT32, %eax
        je      enter_prot32
        cmpl    $GUEST_MODE_PAGED32, %eax
        je      enter_paged32
        cmpl    $GUEST_MODE_PROT16, %eax
        je      enter_prot16
        cmpl    $GUEST_MODE_V86, %eax
        je      enter_v86
        ljmpl   $GUEST_CS16_ROM, $(enter_real - GUEST_ROM)

enter_paged32:                          /* two levels, pages of 4 MiB */
        movl    %cr4, %eax
        andl    $~CR4_PAE, %eax
        orl     $CR4_PSE, %eax
        movl    %eax, %cr4
        movl    $GUEST_PD32_A, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
enter_prot32:
        jmp     *legacy_code

enter_prot16:
        ljmpl   $GUEST_CS16, $GUEST_CODE16

enter_v86:
        xorl    %eax, %eax
        pushl   %eax                    /* GS, FS, DS, ES, SS */
        pushl   %eax
        pushl   %eax
        pushl   %eax
        pushl   %eax
        pushl   $STACK16
        pushl   $FLAGS_V86
        pushl   $CODE16_SEG
        pushl   $0
        iretl

/* All exceptions of 32-bit code, and the way back. */
        .balign 16
        .globl  guest_vectors32
guest_vectors32:
        vector = 0
        .rept   GUEST_VECTOR_RETURN + 1
        .balign 16
        .if     !((vector == 8) || (vector >= 10 && vector <= 14) || \
                  (vector == 17) || (vector == 21) || (vector == 29) || \
                  (vector == 30))
        pushl   $0
        .endif
        pushl   $vector
        jmp     trap32
        vector = vector + 1
        .endr

from_real:
        movl    $GUEST_DS, %eax
        movl    %eax, %ds
        movl    REAL_SAVE, %esi
        movzwl  REAL_SAVE + 4, %eax
        xorl    %ebx, %ebx
        movzwl  REAL_SAVE + 6, %ecx
        jmp     return32

trap32:
        movl    %eax, %esi
        movl    $GUEST_DS, %eax
        movl    %eax, %ds
        popl    %eax                    /* vector */
        popl    %ebx                    /* error code */
        popl    %ecx                    /* EIP */
return32:
        movl    %ecx, %edx
        movl    %esi, %ecx
        movl    legacy_mailbox, %edi
        movl    %ecx, GUEST_MB_RESULT(%edi)
        xorl    %ebp, %ebp
        cmpl    $GUEST_VECTOR_RETURN, %eax
        je      1f
        incl    %ebp
        movl    %eax, GUEST_MB_VECTOR(%edi)
        movl    %ebx, GUEST_MB_VECTOR + 8(%edi)
        movl    %edx, GUEST_MB_VECTOR + 16(%edi)
        movl    %cr2, %eax
        movl    %eax, GUEST_MB_VECTOR + 24(%edi)
        incl    GUEST_MB_VECTOR - 8(%edi)
1:      movl    $GUEST_DS, %eax
        movl    %eax, %es
        movl    %eax, %ss
        movl    $legacy_stack_end, %esp
        clts
        movl    %cr0, %eax
        andl    $~CR0_PG, %eax
        movl    %eax, %cr0
        movl    %cr4, %eax
        andl    $~CR4_PSE, %eax
        orl     $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    legacy_cr3, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        btsl    $EFER_LME_BIT, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        lgdt    legacy_gdt
        movl    legacy_gdt + 2, %ebx
        movb    $0x89, GUEST_TSS + 5(%ebx)
        ljmpl   $GUEST_CS64, $1f
        .code64
1:      lidt    legacy_idt
        movl    $GUEST_TSS, %eax
        ltr     %ax
        movl    legacy_mailbox, %edi
        movq    GUEST_MB_RESUME_RSP(%rdi), %rsp
        testl   %ebp, %ebp
        jnz     guest_run_fault
        jmp     guest_run_done

idt32_pointer:
        .word   (GUEST_VECTOR_RETURN + 1) * 8 - 1
        .long   guest_idt32

        .bss
        .balign 16
        .globl  legacy_stack_end
        .skip   1024
legacy_stack_end:
legacy_mailbox:
        .long   0
legacy_mode:
        .long   0
legacy_code:
        .long   0
legacy_cr3:
        .long   0
legacy_gdt:
        .skip   16
legacy_idt:
        .skip   16

/* Real mode runs from ROM, which is below 1 MiB. */
        .section .rom, "ax"
        .code16
enter_real:
        movw    $GUEST_DS16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        lidtl   %cs:idt16_pointer - GUEST_ROM
        movl    %cr0, %eax
        andl    $~CR0_PE, %eax
        movl    %eax, %cr0
        ljmp    $(GUEST_ROM >> 4), $(1f - GUEST_ROM)
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $STACK16, %sp
        ljmp    $CODE16_SEG, $0

        .balign 8
        .globl  guest_vectors16
guest_vectors16:
        vector = 0
        .rept   GUEST_VECTOR_RETURN + 1
        .balign 8
        pushw   $vector
        jmp     trap16
        vector = vector + 1
        .endr
trap16:
        pushl   %eax
        xorw    %ax, %ax
        movw    %ax, %ds
        popl    REAL_SAVE
        popw    REAL_SAVE + 4           /* vector */
        popw    REAL_SAVE + 6           /* IP */
        movl    %cr0, %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   $GUEST_CS32, $from_real

        .balign 4
idt16_pointer:
        .word   0x3ff
        .long   0

        .section .note.GNU-stack, "", @progbits
