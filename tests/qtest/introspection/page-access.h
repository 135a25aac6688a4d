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

#define MARK                    0x8877665544332211ULL
#define OTHER_MARK              0x00ffeeddccbbaa99ULL

/* An instruction (or some), and what it finds in registers. */
typedef struct Insn {
    const char *name;
    uint8_t bytes[32];
    uint8_t size;
    uint64_t rax, rcx, rdx, rsi, rdi;
} Insn;

/* Commands. */
int get_access(TestVM *vm, unsigned vcpu, uint64_t gpa, uint8_t *access);
int try_set_access(TestVM *vm, unsigned vcpu, uint64_t gpa, uint8_t access);
void set_access(TestVM *vm, uint64_t gpa, uint8_t access);
/* Whether the engine can restrict a page to that. */
bool has_access(TestVM *vm, uint8_t access);
/* @access, or none at all where the engine does not have it. */
uint8_t possible_access(TestVM *vm, uint8_t access);
void enable_pf(TestVM *vm, unsigned vcpu);

/*
 * Put @insn into the guest's memory, with what loads its registers before it
 * and RET behind it.  Returns its own address.
 */
uint64_t put_insn_at(TestVM *vm, uint64_t code, const Insn *insn);
/* The same with @insn itself at @rip.  Returns where to call it. */
uint64_t put_insn_before(TestVM *vm, uint64_t rip, const Insn *insn);

/* Have a vCPU call code; results and memory. */
void begin(TestVM *vm, unsigned vcpu, uint64_t code);
uint64_t result(TestVM *vm, unsigned vcpu);
uint64_t read_u64(TestVM *vm, uint64_t gpa);
void write_u64(TestVM *vm, uint64_t gpa, uint64_t value);

/* mov (%rdi), %rax and mov %rax, (%rdi) */
Insn load64(uint64_t address);
Insn store64(uint64_t address, uint64_t value);

/* Returns the address of the instruction, which vCPU 0 is about to do. */
uint64_t begin_insn(TestVM *vm, const Insn *insn);

/* Events. */
ToolEvent *expect_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
                     uint32_t mode);
void reply_pf(TestVM *vm, const ToolEvent *event, uint32_t action,
              const struct kvmi_event_pf_reply *reply);
/* Expect one and answer it; returns nothing to look at. */
void pass_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
             uint32_t mode);
void pass_pf_with(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
                  uint32_t mode, const void *ctx_data, uint32_t ctx_size);
void retry_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
              uint32_t mode);
void step_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
             uint32_t mode);
void finish_ok(TestVM *vm, unsigned vcpu);

#endif /* TESTS_INTROSPECTION_PAGE_ACCESS_H */
