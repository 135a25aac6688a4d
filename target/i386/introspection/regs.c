/*
 * Virtual machine introspection: registers of an x86 vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/cpu-common.h"
#include "hw/i386/apic.h"
#include "introspection/x86.h"

/* RFLAGS bits that software can set: SDM Vol. 1, 3.4.3. */
#define RFLAGS_SETTABLE \
    (CC_C | CC_P | CC_A | CC_Z | CC_S | TF_MASK | IF_MASK | DF_MASK | CC_O | \
     IOPL_MASK | NT_MASK | RF_MASK | VM_MASK | AC_MASK | VIF_MASK | \
     VIP_MASK | ID_MASK)
#define RFLAGS_ALWAYS_SET 2

#define INSN_MAX_SIZE 15

uint8_t x86_introspection_mode(CPUState *cpu)
{
    uint32_t hflags = cpu_env(cpu)->hflags;

    if (hflags & HF_CS64_MASK) {
        return 8;
    }
    return (hflags & HF_PE_MASK) && (hflags & HF_CS32_MASK) ? 4 : 2;
}

uint64_t x86_introspection_rip(CPUState *cpu)
{
    return cpu_env(cpu)->eip;
}

static bool is_prefix(uint8_t byte, bool code64)
{
    switch (byte) {
    case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
    case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
        return true;
    default:
        return code64 && (byte & 0xf0) == 0x40;
    }
}

/* INS, OUTS, MOVS, CMPS, STOS, LODS, SCAS */
static bool is_string_opcode(uint8_t byte)
{
    return (byte >= 0x6c && byte <= 0x6f) || (byte >= 0xa4 && byte <= 0xa7) ||
           (byte >= 0xaa && byte <= 0xaf);
}

bool x86_introspection_at_rep(CPUState *cpu)
{
    CPUX86State *env = cpu_env(cpu);
    bool code64 = env->hflags & HF_CS64_MASK;
    vaddr pc = env->eip + (code64 ? 0 : env->segs[R_CS].base);
    bool rep = false;
    uint8_t byte;

    for (int i = 0; i < INSN_MAX_SIZE; i++) {
        vaddr addr = code64 ? pc + i : (uint32_t)(pc + i);

        if (cpu_memory_rw_debug(cpu, addr, &byte, 1, false) < 0) {
            return false;
        }
        if (!is_prefix(byte, code64)) {
            return rep && is_string_opcode(byte);
        }
        rep |= byte == 0xf2 || byte == 0xf3;
    }
    return false;
}

void x86_introspection_get_regs(CPUState *cpu, struct kvm_regs *regs)
{
    CPUX86State *env = cpu_env(cpu);

    *regs = (struct kvm_regs) {
        .rax = env->regs[R_EAX],
        .rbx = env->regs[R_EBX],
        .rcx = env->regs[R_ECX],
        .rdx = env->regs[R_EDX],
        .rsi = env->regs[R_ESI],
        .rdi = env->regs[R_EDI],
        .rsp = env->regs[R_ESP],
        .rbp = env->regs[R_EBP],
#ifdef TARGET_X86_64
        .r8 = env->regs[8],
        .r9 = env->regs[9],
        .r10 = env->regs[10],
        .r11 = env->regs[11],
        .r12 = env->regs[12],
        .r13 = env->regs[13],
        .r14 = env->regs[14],
        .r15 = env->regs[15],
#endif
        .rip = env->eip,
        .rflags = env->eflags | RFLAGS_ALWAYS_SET,
    };
}

void x86_introspection_set_regs(CPUState *cpu, const struct kvm_regs *regs)
{
    CPUX86State *env = cpu_env(cpu);

    env->regs[R_EAX] = regs->rax;
    env->regs[R_EBX] = regs->rbx;
    env->regs[R_ECX] = regs->rcx;
    env->regs[R_EDX] = regs->rdx;
    env->regs[R_ESI] = regs->rsi;
    env->regs[R_EDI] = regs->rdi;
    env->regs[R_ESP] = regs->rsp;
    env->regs[R_EBP] = regs->rbp;
#ifdef TARGET_X86_64
    env->regs[8] = regs->r8;
    env->regs[9] = regs->r9;
    env->regs[10] = regs->r10;
    env->regs[11] = regs->r11;
    env->regs[12] = regs->r12;
    env->regs[13] = regs->r13;
    env->regs[14] = regs->r14;
    env->regs[15] = regs->r15;
#endif
    env->eip = env->hflags & HF_CS64_MASK ? regs->rip : (uint32_t)regs->rip;
    env->eflags = (regs->rflags & RFLAGS_SETTABLE) | RFLAGS_ALWAYS_SET;
    if (!(env->cr[0] & CR0_PE_MASK) || (env->efer & MSR_EFER_LMA)) {
        env->eflags &= ~VM_MASK;
    }
    /* hflags depends on none of these: TCG adds RFLAGS to it by itself. */
}

static struct kvm_segment kvm_segment(const SegmentCache *seg, bool v8086)
{
    struct kvm_segment s = {
        .base = seg->base,
        .limit = seg->limit,
        .selector = seg->selector,
    };

    if (v8086) {
        /* SDM Vol. 3, 21.1.1: what the processor assumes in this mode. */
        s.type = 3;
        s.present = 1;
        s.dpl = 3;
        s.s = 1;
        return s;
    }
    s.type = extract32(seg->flags, DESC_TYPE_SHIFT, 4);
    s.s = !!(seg->flags & DESC_S_MASK);
    s.dpl = extract32(seg->flags, DESC_DPL_SHIFT, 2);
    s.present = !!(seg->flags & DESC_P_MASK);
    s.avl = !!(seg->flags & DESC_AVL_MASK);
    s.l = !!(seg->flags & DESC_L_MASK);
    s.db = !!(seg->flags & DESC_B_MASK);
    s.g = !!(seg->flags & DESC_G_MASK);
    s.unusable = !s.present;
    return s;
}

/* TR always holds a busy TSS, which TCG notes only in memory. */
static struct kvm_segment task_register(const SegmentCache *tr)
{
    struct kvm_segment s = kvm_segment(tr, false);

    s.type |= DESC_TSS_BUSY_MASK >> DESC_TYPE_SHIFT;
    return s;
}

/* TCG leaves the cached flags alone when LLDT loads a null selector. */
static struct kvm_segment local_descriptor_table(const SegmentCache *ldt)
{
    struct kvm_segment s = kvm_segment(ldt, false);

    if (!(ldt->selector & 0xfffc) && !ldt->limit) {
        s.present = 0;
        s.unusable = 1;
    }
    return s;
}

void x86_introspection_get_sregs(CPUState *cpu, struct kvm_sregs *sregs)
{
    CPUX86State *env = cpu_env(cpu);
    DeviceState *apic = env_archcpu(env)->apic_state;
    bool v8086 = env->eflags & VM_MASK;

    *sregs = (struct kvm_sregs) {
        .cs = kvm_segment(&env->segs[R_CS], v8086),
        .ds = kvm_segment(&env->segs[R_DS], v8086),
        .es = kvm_segment(&env->segs[R_ES], v8086),
        .fs = kvm_segment(&env->segs[R_FS], v8086),
        .gs = kvm_segment(&env->segs[R_GS], v8086),
        .ss = kvm_segment(&env->segs[R_SS], v8086),
        .tr = task_register(&env->tr),
        .ldt = local_descriptor_table(&env->ldt),
        .gdt = { .base = env->gdt.base, .limit = env->gdt.limit },
        .idt = { .base = env->idt.base, .limit = env->idt.limit },
        .cr0 = env->cr[0],
        .cr2 = env->cr[2],
        .cr3 = env->cr[3],
        .cr4 = env->cr[4],
        .cr8 = apic ? cpu_get_apic_tpr(apic) : 0,
        .efer = env->efer,
        .apic_base = apic ? cpu_get_apic_base(apic) : 0,
    };
}

void x86_introspection_event_state(CPUState *cpu, struct kvmi_event *event)
{
    CPUX86State *env = cpu_env(cpu);

    event->mode = x86_introspection_mode(cpu);
    x86_introspection_get_regs(cpu, &event->regs);
    x86_introspection_get_sregs(cpu, &event->sregs);
    event->msrs.sysenter_cs = env->sysenter_cs;
    event->msrs.sysenter_esp = env->sysenter_esp;
    event->msrs.sysenter_eip = env->sysenter_eip;
    event->msrs.efer = env->efer;
    event->msrs.star = env->star;
#ifdef TARGET_X86_64
    event->msrs.lstar = env->lstar;
    event->msrs.cstar = env->cstar;
    event->msrs.shadow_gs = env->kernelgsbase;
#endif
    event->msrs.pat = env->pat;
}

bool x86_introspection_canonical(CPUState *cpu, uint64_t address)
{
    int bits = cpu_env(cpu)->cr[4] & CR4_LA57_MASK ? 57 : 48;

    return sextract64(address, 0, bits) == address;
}

uint64_t x86_introspection_tsc_speed(CPUState *cpu)
{
    return cpu_env(cpu)->tsc_khz * UINT64_C(1000);
}
