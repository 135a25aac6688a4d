/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest of the conformance suite: each vCPU waits for requests in its
 * mailbox and carries out one operation at a time.
 */
#include "guest.h"

struct TrapFrame {
    uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

struct Gate {
    uint16_t offset0;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset1;
    uint32_t offset2;
    uint32_t reserved;
} __attribute__((packed));

struct Tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t iopb;
} __attribute__((packed));

struct DescriptorPointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

#define OFFSET_IS(member, offset) \
    _Static_assert(__builtin_offsetof(struct GuestMailbox, member) == offset, \
                   #member)
OFFSET_IS(counter, GUEST_MB_COUNTER);
OFFSET_IS(result, GUEST_MB_RESULT);
OFFSET_IS(vector, GUEST_MB_VECTOR);
OFFSET_IS(insn_rip, GUEST_MB_INSN);
OFFSET_IS(resume_rsp, GUEST_MB_RESUME_RSP);
_Static_assert(sizeof(struct GuestMailbox) <= GUEST_MB_DATA, "mailbox size");

static struct Gate idt[256] __attribute__((aligned(16)));
static struct Tss tss[GUEST_MAX_VCPUS] __attribute__((aligned(16)));
static uint64_t gdt[GUEST_MAX_VCPUS][GUEST_GDT_ENTRIES] __attribute__((aligned(16)));

static void (*const guest_ops[])(struct GuestMailbox *) = {
#define GUEST_OP_ENTRY(NAME, name) [OP_##NAME] = op_##name,
    GUEST_OPS(GUEST_OP_ENTRY)
#undef GUEST_OP_ENTRY
};

/* Exceptions come on a stack of their own: the guest's may be anything. */
static uint64_t trap_stack(uint32_t vcpu)
{
    return GUEST_MAILBOX(vcpu) + 0x2000;
}

static struct GuestMailbox *mailbox_of_stack(const void *stack)
{
    return (struct GuestMailbox *)((uintptr_t)stack &
                                   ~(uint64_t)(GUEST_VCPU_AREA_SIZE - 1));
}

static void leave_op(const struct GuestMailbox *mb, struct TrapFrame *frame,
                     const uint8_t *to)
{
    frame->rip = (uintptr_t)to;
    frame->cs = GUEST_CS64;
    frame->rflags = 2;
    frame->rsp = mb->resume_rsp;
    frame->ss = GUEST_DS;
}

void guest_trap(struct TrapFrame *frame)
{
    struct GuestMailbox *mb = mailbox_of_stack(frame);

    if (frame->vector == GUEST_VECTOR_RETURN) {
        mb->result[0] = frame->rax;
        leave_op(mb, frame, guest_run_done);
        return;
    }
    if (frame->vector >= 32 || frame->vector == 2) {
        mb->interrupt = frame->vector;
        mb->interrupts++;
        if (frame->vector >= 32 && frame->vector != GUEST_VECTOR_SPURIOUS) {
            apic_write(APIC_EOI, 0);
        }
        return;
    }

    mb->vector = frame->vector;
    mb->error_code = frame->error_code;
    mb->rip = frame->rip;
    asm volatile("mov %%cr2, %0" : "=r" (mb->cr2));
    mb->exceptions++;

    leave_op(mb, frame, guest_run_fault);
}

static void init_idt(void)
{
    for (int i = 0; i < 256; i++) {
        uint64_t entry = (uintptr_t)guest_vectors[i];

        idt[i] = (struct Gate) {
            .offset0 = entry,
            .selector = GUEST_CS64,
            .ist = 1,
            .type = i == 3 || i == GUEST_VECTOR_RETURN ? 0xee : 0x8e,
            .offset1 = entry >> 16,
            .offset2 = entry >> 32,
        };
    }
}

static void init_segments(uint32_t vcpu)
{
    uint64_t base = (uintptr_t)&tss[vcpu];
    struct DescriptorPointer gdtr = { sizeof(gdt[0]) - 1,
                                      (uintptr_t)gdt[vcpu] };
    struct DescriptorPointer idtr = { sizeof(idt) - 1, (uintptr_t)idt };

    tss[vcpu].rsp[0] = trap_stack(vcpu);
    tss[vcpu].ist[0] = trap_stack(vcpu);
    tss[vcpu].iopb = sizeof(tss[0]);

    gdt[vcpu][0] = 0;
    gdt[vcpu][GUEST_CS32 / 8] = 0x00cf9b000000ffff;
    gdt[vcpu][GUEST_DS / 8] = 0x00cf93000000ffff;
    gdt[vcpu][GUEST_CS64 / 8] = 0x00af9b000000ffff;
    gdt[vcpu][GUEST_TSS / 8] = (sizeof(tss[0]) - 1) | (base & 0xffffff) << 16 |
                               0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[vcpu][GUEST_TSS / 8 + 1] = base >> 32;
    gdt[vcpu][GUEST_CS16 / 8] = 0x00009b000000ffff;
    gdt[vcpu][GUEST_DS16 / 8] = 0x000093000000ffff;
    gdt[vcpu][GUEST_CS16_ROM / 8] = 0x00009b0f0000ffff;
    gdt[vcpu][GUEST_USER_CS64 / 8] = 0x00affb000000ffff;
    gdt[vcpu][GUEST_USER_DS / 8] = 0x00cff3000000ffff;
    gdt[vcpu][GUEST_USER_CS32 / 8] = 0x00cffb000000ffff;
    guest_init_legacy(gdt[vcpu]);

    asm volatile("lgdt %0\n\t"
                 "lidt %1\n\t"
                 "ltr %w2"
                 : : "m" (gdtr), "m" (idtr), "r" (GUEST_TSS) : "memory");
}

/* SSE, and XSAVE with all that the CPU has, where the CPU has them. */
static void init_fpu(void)
{
    uint32_t eax, ebx, ecx, edx;
    uint64_t cr4 = read_cr(4);

    cpuid(1, 0, &eax, &ebx, &ecx, &edx);
    cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (ecx & CPUID_1_ECX_XSAVE) {
        cr4 |= CR4_OSXSAVE;
    }
    write_cr(4, cr4);
    if (ecx & CPUID_1_ECX_XSAVE) {
        cpuid(0xd, 0, &eax, &ebx, &ecx, &edx);
        asm volatile("xsetbv" : : "a" (eax & 7), "d" (0), "c" (0));
    }
    asm volatile("fninit");
}

static void init_apic(void)
{
    apic_write(APIC_SPURIOUS, APIC_SOFTWARE_ENABLE | GUEST_VECTOR_SPURIOUS);
    apic_write(APIC_LVT_LINT1, APIC_MODE_NMI);
}

static uint32_t carry_out(struct GuestMailbox *mb)
{
    if (mb->op >= OP__MAX) {
        return GUEST_NO_SUCH_OP;
    }
    return guest_run(guest_ops[mb->op], mb) ? GUEST_EXCEPTION : GUEST_OK;
}

void guest_main(uint32_t apic_id)
{
    struct GuestMailbox *mb = (void *)(uintptr_t)GUEST_MAILBOX(apic_id);

    if (apic_id == 0) {
        init_idt();
    }
    init_segments(apic_id);
    init_fpu();
    init_apic();

    mb->apic_id = apic_id;
    __atomic_store_n(&mb->magic, GUEST_MAGIC, __ATOMIC_RELEASE);
    for (;;) {
        uint64_t number = load(mb->request);

        if (number == mb->done) {
            spin_hint();
            store(mb->counter, mb->counter + 1);
            continue;
        }
        __atomic_store_n(&mb->started, number, __ATOMIC_SEQ_CST);
        mb->status = carry_out(mb);
        __atomic_store_n(&mb->done, number, __ATOMIC_SEQ_CST);
    }
}
