/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What C cannot say: entries of exceptions and interrupts, running an
 * operation so that an exception ends it, and operations that load all
 * registers.
 */
#include "guest-abi.h"

        .text
        .code64

/*
 * int guest_run(void (*op)(struct GuestMailbox *), struct GuestMailbox *)
 * Returns 0, or 1 where an exception ended the operation: trap() then comes
 * back through guest_run_fault, with the stack as it was here.
 */
        .globl  guest_run
guest_run:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, GUEST_MB_RESUME_RSP(%rsi)
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        .globl  guest_run_done
guest_run_done:
        xorl    %eax, %eax
1:      popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .globl  guest_run_fault
guest_run_fault:
        movl    $1, %eax
        jmp     1b

/* One entry for each vector, so that the number and the error code fit. */
        .balign 16
        .globl  guest_vectors
guest_vectors:
        vector = 0
        .rept   256
        .balign 16
        .if     !((vector == 8) || (vector >= 10 && vector <= 14) || \
                  (vector == 17) || (vector == 21) || (vector == 29) || \
                  (vector == 30))
        pushq   $0
        .endif
        pushq   $vector
        jmp     enter_trap
        vector = vector + 1
        .endr

enter_trap:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        movq    %rsp, %rdi
        cld
        call    guest_trap
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rdx
        popq    %rcx
        popq    %rax
        addq    $16, %rsp
        iretq

/* void guest_load_regs(struct GuestMailbox *mb) */
        .globl  guest_load_regs
guest_load_regs:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, GUEST_MB_RESULT(%rdi)
        leaq    1f(%rip), %rax
        movq    %rax, GUEST_MB_INSN(%rdi)
        leaq    2f(%rip), %rax
        movq    %rax, GUEST_MB_INSN + 8(%rdi)
        movq    %rdi, saved_mailbox
        movabsq $GUEST_REG_PATTERN(0), %rax
        movabsq $GUEST_REG_PATTERN(1), %rcx
        movabsq $GUEST_REG_PATTERN(2), %rdx
        movabsq $GUEST_REG_PATTERN(3), %rbx
        movabsq $GUEST_REG_PATTERN(4), %rsp
        movabsq $GUEST_REG_PATTERN(5), %rbp
        movabsq $GUEST_REG_PATTERN(6), %rsi
        movabsq $GUEST_REG_PATTERN(7), %rdi
        movabsq $GUEST_REG_PATTERN(8), %r8
        movabsq $GUEST_REG_PATTERN(9), %r9
        movabsq $GUEST_REG_PATTERN(10), %r10
        movabsq $GUEST_REG_PATTERN(11), %r11
        movabsq $GUEST_REG_PATTERN(12), %r12
        movabsq $GUEST_REG_PATTERN(13), %r13
        movabsq $GUEST_REG_PATTERN(14), %r14
        movabsq $GUEST_REG_PATTERN(15), %r15
        cmpl    $0, GUEST_RELEASE
1:      pause
        cmpl    $0, GUEST_RELEASE
        je      1b
2:      movq    saved_mailbox, %rdi
        movq    %rax, GUEST_MB_RESULT + 8(%rdi)
        movq    GUEST_MB_RESULT(%rdi), %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

/* void guest_spin32(struct GuestMailbox *mb) */
        .globl  guest_spin32
guest_spin32:
        pushq   %rbx
        pushq   %rbp
        movq    %rsp, %rdx
        leaq    1f(%rip), %rax
        movq    %rax, GUEST_MB_INSN(%rdi)
        leaq    2f(%rip), %rax
        movq    %rax, GUEST_MB_INSN + 8(%rdi)
        pushq   $GUEST_CS32
        pushq   $1f
        lretq
        .code32
1:      pause
        incl    GUEST_MB_COUNTER(%edi)
        cmpl    $0, GUEST_RELEASE
        je      1b
        ljmpl   $GUEST_CS64, $2f
        .code64
2:      movq    %rdx, %rsp
        popq    %rbp
        popq    %rbx
        ret

        .bss
        .balign 8
saved_mailbox:
        .quad   0

        .section .note.GNU-stack, "", @progbits
