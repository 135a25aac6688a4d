/*
 * Virtual machine introspection: x86 instructions that have events
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/cpu-common.h"
#include "exec/exec-all.h"
#include "exec/helper-proto.h"
#include "exec/tb-flush.h"
#include "exec/translation-block.h"
#include "introspection/x86-tcg.h"
#include "introspection/x86.h"
#include "tcg/tcg.h"
#include "introspection.h"

/*
 * Whether what is being executed is the instruction that was answered: alone
 * in a translation block, so RIP is exact.  Without @ra it is the delivery of
 * an exception or interrupt.
 */
static bool is_answered_insn(const IntrospectionVCPU *v, uintptr_t ra)
{
    const TranslationBlock *tb;

    if (!ra) {
        return v->repeating && v->delivery.active && v->grants.delivery;
    }
    tb = tcg_tb_lookup(ra);
    return tb && (tb->cflags & (CF_COUNT_MASK | CF_NOIRQ)) == (1 | CF_NOIRQ) &&
           v->verdicts.rip == cpu_env(v->cpu)->eip;
}

static uint64_t verdict_key(const IntrospectionVerdict *verdict)
{
    switch (verdict->event) {
    case KVMI_EVENT_CR:
        return verdict->data.cr.cr;
    case KVMI_EVENT_MSR:
        return verdict->data.msr.msr;
    default:
        return 0;
    }
}

const IntrospectionVerdict *
introspection_take_verdict(IntrospectionVCPU *v, uint32_t event, uint64_t key,
                           uintptr_t ra)
{
    unsigned i;

    if (!v->verdicts.n) {
        return NULL;
    }
    if (!is_answered_insn(v, ra)) {
        /* The guest took another way. */
        v->verdicts.n = 0;
        return NULL;
    }
    for (i = 0; i < v->verdicts.n; i++) {
        IntrospectionVerdict *verdict = &v->verdicts.of[i];

        if (!verdict->used && verdict->event == event &&
            verdict_key(verdict) == key) {
            verdict->used = true;
            return verdict;
        }
    }
    return NULL;
}

G_NORETURN void
introspection_leave_for_event(IntrospectionVCPU *v, uint32_t event,
                              const IntrospectionEventData *data, uintptr_t ra)
{
    v->delivery.pending = !ra && v->delivery.active;
    if (v->delivery.pending && v->delivery.hardware) {
        CPUX86State *env = cpu_env(v->cpu);

        /* It comes again as if it were an exception. */
        env->exception_is_int = 0;
        env->error_code = 0;
        env->exception_next_eip = 0;
    }
    v->due.valid = true;
    v->due.event = event;
    v->due.data = *data;
    v->cpu->exception_index = EXCP_INTERRUPT;
    cpu_loop_exit_restore(v->cpu, ra);
}

/* Where the instruction that is being executed lies in guest memory. */
static uint64_t insn_gpa(CPUX86State *env)
{
    CPUState *cpu = env_cpu(env);
    CPUTLBEntryFull *full;
    hwaddr page;
    void *host;
    vaddr pc;

    pc = env->hflags & HF_CS64_MASK ?
         env->eip : (uint32_t)(env->segs[R_CS].base + env->eip);
    if (probe_access_full_mmu(env, pc, 1, MMU_INST_FETCH,
                              cpu_mmu_index(cpu, true), &host, &full)
        & TLB_INVALID_MASK) {
        /* Another vCPU has just made it so: what the guest's tables say. */
        page = cpu_get_phys_page_debug(cpu, pc & TARGET_PAGE_MASK);
    } else {
        page = full->phys_addr;
    }
    return page | (pc & ~TARGET_PAGE_MASK);
}

void introspection_insn_int3(CPUX86State *env, uintptr_t ra)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;
    IntrospectionEventData data = { };

    if (!introspection_take_verdict(v, KVMI_EVENT_BREAKPOINT, 0, ra) &&
        (v->events & KVMI_EVENT_BREAKPOINT_FLAG)) {
        data.breakpoint.gpa = insn_gpa(env);
        introspection_leave_for_event(v, KVMI_EVENT_BREAKPOINT, &data, ra);
    }
}

void introspection_insn_xsetbv(CPUX86State *env, uint64_t value, uintptr_t ra)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;
    IntrospectionEventData data = { };

    if (!introspection_take_verdict(v, KVMI_EVENT_XSETBV, 0, ra) &&
        (v->events & KVMI_EVENT_XSETBV_FLAG) && value != env->xcr0) {
        introspection_leave_for_event(v, KVMI_EVENT_XSETBV, &data, ra);
    }
}

/* What a guest has in its registers to call the tool. */
#define HYPERCALL_HVM_OP            34      /* KVM_HC_XEN_HVM_OP */
#define HVM_OP_GUEST_REQUEST        24      /* HVMOP_guest_request_vm_event */

static bool is_guest_request(const CPUX86State *env)
{
    if (env->hflags & HF_CS64_MASK) {
        return env->regs[R_EAX] == HYPERCALL_HVM_OP &&
               env->regs[R_EDI] == HVM_OP_GUEST_REQUEST &&
               env->regs[R_ESI] == 0;
    }
    return (uint32_t)env->regs[R_EAX] == HYPERCALL_HVM_OP &&
           (uint32_t)env->regs[R_EBX] == HVM_OP_GUEST_REQUEST &&
           (uint32_t)env->regs[R_ECX] == 0;
}

bool introspection_insn_hypercall(CPUX86State *env, uintptr_t ra)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;
    IntrospectionEventData data = { };

    /* Answered, it is one whatever the tool has put in the registers. */
    if (!v || !introspection_take_verdict(v, KVMI_EVENT_HYPERCALL, 0, ra)) {
        if (!is_guest_request(env)) {
            return false;
        }
        if (v && (v->events & KVMI_EVENT_HYPERCALL_FLAG)) {
            introspection_leave_for_event(v, KVMI_EVENT_HYPERCALL, &data, ra);
        }
    }
    env->regs[R_EAX] = 0;
    return true;
}

/* The exit codes have the order that the ABI's numbers have. */
QEMU_BUILD_BUG_ON(SVM_EXIT_TR_READ - SVM_EXIT_IDTR_READ !=
                  KVMI_DESC_TR - KVMI_DESC_IDTR);
QEMU_BUILD_BUG_ON(SVM_EXIT_TR_WRITE - SVM_EXIT_IDTR_WRITE !=
                  KVMI_DESC_TR - KVMI_DESC_IDTR);

unsigned introspection_descriptor_watchers;     /* BQL to write */

/*
 * What is translated from here on has the checks, and what was before goes
 * before @cpu executes guest code again; other vCPUs see to themselves.
 */
void x86_introspection_watch_descriptors(CPUState *cpu, bool watch)
{
    unsigned n = introspection_descriptor_watchers + (watch ? 1 : -1);

    qatomic_set(&introspection_descriptor_watchers, n);
    if (watch || !n) {
        tb_flush(watch ? cpu : first_cpu);
    }
}

/* Only in code that was translated while somebody watched. */
void introspection_intercept(CPUX86State *env, uint32_t type, uintptr_t ra)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;
    IntrospectionEventData data = { };

    switch (type) {
    case SVM_EXIT_IDTR_READ ... SVM_EXIT_TR_READ:
        data.descriptor.descriptor = KVMI_DESC_IDTR + type - SVM_EXIT_IDTR_READ;
        break;
    case SVM_EXIT_IDTR_WRITE ... SVM_EXIT_TR_WRITE:
        data.descriptor.descriptor = KVMI_DESC_IDTR + type - SVM_EXIT_IDTR_WRITE;
        data.descriptor.write = true;
        break;
    default:
        return;
    }
    if (v && !introspection_take_verdict(v, KVMI_EVENT_DESCRIPTOR, 0, ra) &&
        (v->events & KVMI_EVENT_DESCRIPTOR_FLAG)) {
        introspection_leave_for_event(v, KVMI_EVENT_DESCRIPTOR, &data, ra);
    }
}
