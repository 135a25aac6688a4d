/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For cases about access to pages: code for the guest that touches memory in
 * one instruction, and the event that this is.
 */
#ifndef TESTS_INTROSPECTION_PAGE_ACCESS_H
#define TESTS_INTROSPECTION_PAGE_ACCESS_H

#include "tests.h"

#define R KVMI_PAGE_ACCESS_R
#define W KVMI_PAGE_ACCESS_W
#define X KVMI_PAGE_ACCESS_X
#define RWX (R | W | X)

#define PAGE_SIZE               0x1000
/* The page of the guest's code, and pages for it to touch. */
#define CODE                    GUEST_SCRATCH
#define PAGE_A                  (GUEST_SCRATCH + 0x10000)
#define PAGE_B                  (PAGE_A + PAGE_SIZE)
#define PAGE_C                  (PAGE_B + PAGE_SIZE)

/* An instruction, and what it finds in registers. */
typedef struct Insn {
    const char *name;
    uint8_t bytes[15];
    uint8_t size;
    uint64_t rax, rcx, rdx, rsi, rdi;
} Insn;

/* Commands. */
int get_access(TestVM *vm, unsigned vcpu, uint64_t gpa, uint8_t *access);
int try_set_access(TestVM *vm, unsigned vcpu, uint64_t gpa, uint8_t access);
void set_access(TestVM *vm, uint64_t gpa, uint8_t access);
void enable_pf(TestVM *vm, unsigned vcpu);

/*
 * Put @insn into the guest's memory, with what loads its registers before it
 * and RET behind it.  Returns its own address.
 */
uint64_t put_insn_at(TestVM *vm, uint64_t code, const Insn *insn);
/* The same with @insn itself at @rip.  Returns where to call it. */
uint64_t put_insn_before(TestVM *vm, uint64_t rip, const Insn *insn);

/* Events. */
ToolEvent *expect_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
                     uint32_t mode);
void reply_pf(TestVM *vm, const ToolEvent *event, uint32_t action,
              const struct kvmi_event_pf_reply *reply);
/* Expect one and answer it; returns nothing to look at. */
void pass_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
             uint32_t mode);
void step_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
             uint32_t mode);
void finish_ok(TestVM *vm, unsigned vcpu);

#endif /* TESTS_INTROSPECTION_PAGE_ACCESS_H */
