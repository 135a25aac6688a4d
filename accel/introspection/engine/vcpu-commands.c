/*
 * Virtual machine introspection, QEMU's engine: commands to a vCPU
 *
 * The parameters have passed dispatch.c's checks.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "introspection/x86.h"
#include "session.h"
#include "vcpu.h"

static int get_registers(IntrospectionVCPU *v, const void *payload,
                         GByteArray *data)
{
    const struct kvmi_get_registers *req = payload;
    struct kvmi_get_registers_reply reply = { };
    unsigned i;

    reply.mode = x86_introspection_mode(v->cpu);
    x86_introspection_get_regs(v->cpu, &reply.regs);
    x86_introspection_get_sregs(v->cpu, &reply.sregs);
    reply.msrs.nmsrs = req->nmsrs;
    g_byte_array_append(data, (void *)&reply, sizeof(reply));

    for (i = 0; i < req->nmsrs; i++) {
        struct kvm_msr_entry entry = { .index = req->msrs_idx[i] };
        uint64_t value;

        if (!x86_introspection_read_msr(v->cpu, entry.index, &value)) {
            return -KVM_EINVAL;
        }
        entry.data = value;
        g_byte_array_append(data, (void *)&entry, sizeof(entry));
    }
    return 0;
}

static int set_registers(IntrospectionVCPU *v, bool waiting,
                         const void *payload)
{
    const struct kvmi_set_registers *req = payload;

    if (!waiting) {
        return -KVM_EOPNOTSUPP;
    }
    x86_introspection_set_regs(v->cpu, &req->regs);
    return 0;
}

static int get_cpuid(IntrospectionVCPU *v, const void *payload,
                     GByteArray *data)
{
    const struct kvmi_get_cpuid *req = payload;
    struct kvmi_get_cpuid_reply leaf;

    if (!x86_introspection_cpuid(v->cpu, req->function, req->index, &leaf)) {
        return -KVM_ENOENT;
    }
    g_byte_array_append(data, (void *)&leaf, sizeof(leaf));
    return 0;
}

static int inject_exception(IntrospectionVCPU *v, const void *payload)
{
    const struct kvmi_inject_exception *req = payload;

    if (!x86_introspection_canonical(v->cpu, req->address)) {
        return -KVM_EINVAL;
    }
    if (v->injection.pending) {
        return -KVM_EBUSY;
    }
    introspection_vcpu_inject(v, req);
    return 0;
}

static int get_xsave(IntrospectionVCPU *v, GByteArray *data)
{
    struct kvm_xsave xsave;

    x86_introspection_xsave(v->cpu, &xsave);
    g_byte_array_append(data, (void *)xsave.region, sizeof(xsave.region));
    return 0;
}

static int control_events(IntrospectionVCPU *v, IntrospectionSession *s,
                          const void *payload)
{
    const struct kvmi_control_events *req = payload;

    if (req->events & ~KVMI_KNOWN_VCPU_EVENTS) {
        return -KVM_EINVAL;
    }
    /* PAUSE_VCPU is always on, whatever its bit says. */
    if (req->events & ~(s->events | KVMI_EVENT_PAUSE_VCPU_FLAG)) {
        return -KVM_EPERM;
    }
    introspection_vcpu_set_events(v, req->events);
    return 0;
}

static int control_cr(IntrospectionVCPU *v, const void *payload)
{
    const struct kvmi_control_cr *req = payload;

    v->crs = deposit32(v->crs, req->cr, 1, req->enable);
    return 0;
}

static int control_msr(IntrospectionVCPU *v, const void *payload)
{
    const struct kvmi_control_msr *req = payload;

    if (req->enable) {
        set_bit(introspection_msr_bit(req->msr),
                introspection_msr_map(v, req->msr));
    } else {
        clear_bit(introspection_msr_bit(req->msr),
                  introspection_msr_map(v, req->msr));
    }
    return 0;
}

int introspection_vcpu_run_command(IntrospectionVCPU *v,
                                   IntrospectionSession *s, bool waiting,
                                   const struct kvmi_msg_hdr *hdr,
                                   const void *payload, GByteArray *data)
{
    switch (hdr->id) {
    case KVMI_GET_REGISTERS:
        return get_registers(v, payload, data);
    case KVMI_SET_REGISTERS:
        return set_registers(v, waiting || v->wait.valid, payload);
    case KVMI_INJECT_EXCEPTION:
        return inject_exception(v, payload);
    case KVMI_GET_CPUID:
        return get_cpuid(v, payload, data);
    case KVMI_GET_XSAVE:
        return get_xsave(v, data);
    case KVMI_CONTROL_EVENTS:
        return control_events(v, s, payload);
    case KVMI_CONTROL_CR:
        return control_cr(v, payload);
    case KVMI_CONTROL_MSR:
        return control_msr(v, payload);
    default:
        g_assert_not_reached();
    }
}
