/*
 * Virtual machine introspection: exceptions and interrupts under TCG
 *
 * Their delivery can have events, as an instruction can: it accesses memory,
 * and may switch tasks.  It is where an exception that the tool injects is
 * handed to the guest, and where that is lost to another one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "hw/i386/apic_internal.h"
#include "introspection/tcg.h"
#include "introspection/x86-tcg.h"
#include "introspection/x86.h"
#include "kvmi/accel/introspection/engine/vcpu.h"

/*
 * struct kvmi_event_trap.type: what the fields for event injection of both
 * Intel's and AMD's processors have, and Intel's for INT3 and INTO.
 */
enum {
    TRAP_TYPE_INTERRUPT = 0,
    TRAP_TYPE_NMI = 2,
    TRAP_TYPE_EXCEPTION = 3,
    TRAP_TYPE_SOFTWARE_INTERRUPT = 4,
    TRAP_TYPE_SOFTWARE_EXCEPTION = 6,
};

static bool waits_for_sipi(CPUState *cpu)
{
    DeviceState *apic = X86_CPU(cpu)->apic_state;

    return apic && APIC_COMMON(apic)->wait_for_sipi;
}

bool x86_introspection_wake(CPUState *cpu)
{
    if (!cpu->halted || waits_for_sipi(cpu)) {
        return false;
    }
    cpu->halted = 0;
    return true;
}

void x86_introspection_raise(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;
    CPUX86State *env = cpu_env(cpu);

    if (cpu->halted) {
        /* The guest has not started it. */
        return;
    }
    v->injection.delivering = true;
    cpu->exception_index = v->injection.exception.nr;
    env->error_code = v->injection.exception.error_code;
    env->exception_is_int = 0;
    env->exception_next_eip = env->eip;
}

bool introspection_exception_first(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;
    CPUX86State *env = cpu_env(cpu);

    if (!v->injection.pending || waits_for_sipi(cpu)) {
        return false;
    }
    v->injection.delivering = true;
    do_interrupt_all(X86_CPU(cpu), v->injection.exception.nr, 0,
                     v->injection.exception.error_code, env->eip, 0);
    env->old_exception = -1;
    return true;
}

/* What the base does where the processor itself raises an exception. */
static void begin_injection(CPUX86State *env)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;
    int vector = v->injection.exception.nr;

    v->injection.pending = false;
    v->injection.delivering = false;
    cpu_svm_check_intercept_param(env, SVM_EXIT_EXCP_BASE + vector,
                                  v->injection.exception.error_code, 0);
    if (vector == EXCP0E_PAGE) {
        env->cr[2] = v->injection.exception.address;
    }
    /* With a further one while this is delivered: #DF, or a triple fault. */
    if (vector == EXCP00_DIVZ || vector == EXCP08_DBLE ||
        (vector >= EXCP0A_TSS && vector <= EXCP0E_PAGE)) {
        env->old_exception = vector;
    }
}

void introspection_note_delivery(CPUX86State *env, int vector, bool is_int,
                                 int error_code, bool is_hw)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;

    v->delivery.active = true;
    v->delivery.pending = false;
    v->delivery.hardware = is_hw;
    v->delivery.software = is_int;
    v->delivery.vector = vector;
    v->delivery.error_code = error_code;
    if (v->injection.delivering) {
        begin_injection(env);
    }
}

static uint32_t trap_type(const IntrospectionVCPU *v)
{
    int vector = v->delivery.vector;

    if (v->delivery.hardware) {
        return vector == EXCP02_NMI ? TRAP_TYPE_NMI : TRAP_TYPE_INTERRUPT;
    }
    if (!v->delivery.software) {
        return TRAP_TYPE_EXCEPTION;
    }
    return vector == EXCP03_INT3 || vector == EXCP04_INTO
           ? TRAP_TYPE_SOFTWARE_EXCEPTION : TRAP_TYPE_SOFTWARE_INTERRUPT;
}

/* The guest got this instead of what the tool has injected. */
static void lose_injection(CPUX86State *env)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;
    uint32_t type = trap_type(v);
    bool has_error = type == TRAP_TYPE_EXCEPTION &&
                     exception_has_error_code(v->delivery.vector);

    v->injection.pending = false;
    v->injection.lost = true;
    v->injection.instead = (struct kvmi_event_trap) {
        .vector = v->delivery.vector,
        .type = type,
        .error_code = has_error ? v->delivery.error_code : 0,
        .cr2 = v->delivery.vector == EXCP0E_PAGE ? env->cr[2] : 0,
    };
}

void introspection_delivered(CPUX86State *env)
{
    IntrospectionVCPU *v = env_cpu(env)->introspection;

    v->delivery.active = false;
    if (v->grants.delivery) {
        v->verdicts.n = 0;
        page_grants_clear(&v->grants);
    }
    if (v->injection.pending) {
        lose_injection(env);
    }
}

bool introspection_redelivers_hw(CPUX86State *env)
{
    const IntrospectionVCPU *v = env_cpu(env)->introspection;

    return v && v->delivery.pending && v->delivery.hardware;
}

void introspection_tcg_cancel_delivery(CPUState *cs)
{
    cs->exception_index = -1;
    cpu_env(cs)->old_exception = -1;
}
