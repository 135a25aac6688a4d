/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: names of commands, events, errors and registers
 */

#include <string.h>
#include "internals.h"

GQuark kvmi_engine_error_quark(void)
{
    return g_quark_from_static_string("kvmi-engine-error-quark");
}

static const char *const command_names[] = {
    [KVMI_GET_VERSION] = "get-version",
    [KVMI_GET_GUEST_INFO] = "get-guest-info",
    [KVMI_GET_REGISTERS] = "get-registers",
    [KVMI_SET_REGISTERS] = "set-registers",
    [KVMI_GET_PAGE_ACCESS] = "get-page-access",
    [KVMI_SET_PAGE_ACCESS] = "set-page-access",
    [KVMI_INJECT_EXCEPTION] = "inject-exception",
    [KVMI_READ_PHYSICAL] = "read-physical",
    [KVMI_WRITE_PHYSICAL] = "write-physical",
    [KVMI_GET_MAP_TOKEN] = "get-map-token",
    [KVMI_CONTROL_EVENTS] = "control-events",
    [KVMI_CONTROL_CR] = "control-cr",
    [KVMI_CONTROL_MSR] = "control-msr",
    [KVMI_EVENT] = "event",
    [KVMI_EVENT_REPLY] = "event-reply",
    [KVMI_GET_CPUID] = "get-cpuid",
    [KVMI_GET_XSAVE] = "get-xsave",
    [KVMI_PAUSE_ALL_VCPUS] = "pause-all-vcpus",
    [KVMI_CONTROL_VM_EVENTS] = "control-vm-events",
};

static const char *const event_names[KVMI_NUM_EVENTS] = {
    [KVMI_EVENT_UNHOOK] = "unhook",
    [KVMI_EVENT_CR] = "cr",
    [KVMI_EVENT_MSR] = "msr",
    [KVMI_EVENT_XSETBV] = "xsetbv",
    [KVMI_EVENT_BREAKPOINT] = "breakpoint",
    [KVMI_EVENT_HYPERCALL] = "hypercall",
    [KVMI_EVENT_PF] = "pf",
    [KVMI_EVENT_TRAP] = "trap",
    [KVMI_EVENT_DESCRIPTOR] = "descriptor",
    [KVMI_EVENT_CREATE_VCPU] = "create-vcpu",
    [KVMI_EVENT_PAUSE_VCPU] = "pause-vcpu",
};

const char *kvmi_command_name(unsigned id)
{
    return id < G_N_ELEMENTS(command_names) ? command_names[id] : NULL;
}

const char *kvmi_event_name(unsigned id)
{
    return id < G_N_ELEMENTS(event_names) ? event_names[id] : NULL;
}

static const struct {
    int err;
    const char *name;
    const char *meaning;
} engine_errors[] = {
    { KVM_EPERM, "EPERM",
      "the VM's manager does not allow this event (events= of -object "
      "introspection)" },
    { KVM_ENOENT, "ENOENT", "there is no such thing in this VM" },
    { KVM_E2BIG, "E2BIG", "too much was asked for" },
    { KVM_EAGAIN, "EAGAIN", "it cannot be done yet" },
    { KVM_ENOMEM, "ENOMEM", "the host is out of memory" },
    { KVM_EACCES, "EACCES",
      "the VM's manager does not allow this command (commands= of -object "
      "introspection)" },
    { KVM_EFAULT, "EFAULT", "bad address" },
    { KVM_EBUSY, "EBUSY", "an earlier command is still under way" },
    { KVM_EINVAL, "EINVAL", "what was asked for is not valid" },
    { KVM_EOPNOTSUPP, "EOPNOTSUPP",
      "not possible on this machine, or in this state of the vCPU" },
    { KVM_ENOSYS, "ENOSYS", "its engine does not implement this command" },
};

const char *kvmi_engine_error_name(int err)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(engine_errors); i++) {
        if (engine_errors[i].err == err) {
            return engine_errors[i].name;
        }
    }
    return NULL;
}

const char *kvmi_engine_error_meaning(int err)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(engine_errors); i++) {
        if (engine_errors[i].err == err) {
            return engine_errors[i].meaning;
        }
    }
    return NULL;
}

/* Most commands have few reasons for the error that means everything. */
static const char *einval_meaning(uint16_t id)
{
    switch (id) {
    case KVMI_READ_PHYSICAL:
        return "it is not RAM or ROM, or not in one page";
    case KVMI_WRITE_PHYSICAL:
        return "it is not RAM, or not in one page";
    case KVMI_GET_REGISTERS:
    case KVMI_CONTROL_MSR:
        return "there is no such vCPU, or no such MSR";
    case KVMI_GET_PAGE_ACCESS:
        return "it is not RAM";
    case KVMI_SET_PAGE_ACCESS:
        return "it is not RAM, or this machine cannot have such an access";
    case KVMI_SET_REGISTERS:
    case KVMI_GET_CPUID:
    case KVMI_GET_XSAVE:
    case KVMI_INJECT_EXCEPTION:
        return "there is no such vCPU";
    default:
        return kvmi_engine_error_meaning(KVM_EINVAL);
    }
}

void kvmi_set_engine_error(GError **errp, uint16_t id, int err)
{
    const char *command = kvmi_command_name(id) ?: "the command";
    const char *name = kvmi_engine_error_name(err);

    if (name) {
        g_set_error(errp, KVMI_ENGINE_ERROR, err, "the VM refused %s: %s, %s",
                    command, name,
                    err == KVM_EINVAL ? einval_meaning(id)
                                      : kvmi_engine_error_meaning(err));
    } else {
        g_set_error(errp, KVMI_ENGINE_ERROR, err,
                    "the VM refused %s: unknown error %d", command, err);
    }
}

#define REG(name) { #name, offsetof(struct kvm_regs, name) }

static const struct {
    const char *name;
    size_t offset;
} regs[KVMI_NUM_REGS] = {
    REG(rax), REG(rbx), REG(rcx), REG(rdx),
    REG(rsi), REG(rdi), REG(rbp), REG(rsp),
    REG(r8), REG(r9), REG(r10), REG(r11),
    REG(r12), REG(r13), REG(r14), REG(r15),
    REG(rip), REG(rflags),
};

const char *kvmi_reg_name(unsigned nr)
{
    return nr < G_N_ELEMENTS(regs) ? regs[nr].name : NULL;
}

uint64_t *kvmi_reg(struct kvm_regs *values, unsigned nr)
{
    g_assert(nr < G_N_ELEMENTS(regs));
    return (uint64_t *)((char *)values + regs[nr].offset);
}

bool kvmi_reg_from_name(const char *name, unsigned *nr)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(regs); i++) {
        if (!g_ascii_strcasecmp(name, regs[i].name)) {
            *nr = i;
            return true;
        }
    }
    return false;
}
