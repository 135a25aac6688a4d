/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: one function for each command
 */

#include <string.h>
#include "internals.h"

/* VM commands */

bool kvmi_get_version(KvmiClient *c, struct kvmi_get_version_reply *out,
                      GError **errp)
{
    return kvmi_call(c, KVMI_GET_VERSION, NULL, 0, out, sizeof(*out), errp);
}

bool kvmi_get_guest_info(KvmiClient *c, struct kvmi_get_guest_info_reply *out,
                         GError **errp)
{
    struct kvmi_get_guest_info msg = { 0 };

    return kvmi_call(c, KVMI_GET_GUEST_INFO, &msg, sizeof(msg),
                     out, sizeof(*out), errp);
}

bool kvmi_pause_all_vcpus(KvmiClient *c, uint32_t *vcpu_count, GError **errp)
{
    struct kvmi_pause_all_vcpus_reply reply;

    if (!kvmi_call(c, KVMI_PAUSE_ALL_VCPUS, NULL, 0, &reply, sizeof(reply),
                   errp)) {
        return false;
    }
    *vcpu_count = reply.vcpu_count;
    return true;
}

bool kvmi_get_map_token(KvmiClient *c, struct kvmi_map_mem_token *out,
                        GError **errp)
{
    struct kvmi_get_map_token_reply reply;

    if (!kvmi_call(c, KVMI_GET_MAP_TOKEN, NULL, 0, &reply, sizeof(reply),
                   errp)) {
        return false;
    }
    *out = reply.token;
    return true;
}

bool kvmi_read_physical(KvmiClient *c, uint64_t gpa, void *buf, size_t size,
                        GError **errp)
{
    struct kvmi_read_physical msg = { .gpa = gpa, .size = size };

    if (!kvmi_call(c, KVMI_READ_PHYSICAL, &msg, sizeof(msg), buf, size,
                   errp)) {
        g_prefix_error(errp, "reading %zu bytes at 0x%" PRIx64 ": ",
                       size, gpa);
        return false;
    }
    return true;
}

bool kvmi_write_physical(KvmiClient *c, uint64_t gpa, const void *buf,
                         size_t size, GError **errp)
{
    union {
        struct kvmi_write_physical msg;
        uint8_t bytes[KVMI_MSG_SIZE];
    } u;

    if (size > sizeof(u) - sizeof(u.msg)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ARGUMENT,
                    "%zu bytes are too many for one message: %zu at most",
                    size, sizeof(u) - sizeof(u.msg));
        return false;
    }
    u.msg.gpa = gpa;
    u.msg.size = size;
    memcpy(u.msg.data, buf, size);
    if (!kvmi_call(c, KVMI_WRITE_PHYSICAL, &u, sizeof(u.msg) + size, NULL, 0,
                   errp)) {
        g_prefix_error(errp, "writing %zu bytes at 0x%" PRIx64 ": ",
                       size, gpa);
        return false;
    }
    return true;
}

bool kvmi_control_vm_events(KvmiClient *c, uint32_t events, GError **errp)
{
    struct kvmi_control_vm_events msg = { .events = events };

    if (!kvmi_call(c, KVMI_CONTROL_VM_EVENTS, &msg, sizeof(msg), NULL, 0,
                   errp)) {
        return false;
    }
    kvmi_client_note_vm_events(c, events);
    return true;
}

/* vCPU commands */

static bool vcpu_call(KvmiClient *c, uint16_t vcpu, uint16_t id,
                      const void *msg, size_t size,
                      void *reply, size_t reply_size, GError **errp)
{
    if (!kvmi_call(c, id, msg, size, reply, reply_size, errp)) {
        g_prefix_error(errp, "vCPU %u: ", vcpu);
        return false;
    }
    return true;
}

bool kvmi_get_registers(KvmiClient *c, uint16_t vcpu,
                        const uint32_t *msrs, unsigned nmsrs,
                        uint32_t *mode, struct kvm_regs *regs,
                        struct kvm_sregs *sregs, uint64_t *msr_values,
                        GError **errp)
{
    union {
        struct kvmi_get_registers msg;
        uint8_t bytes[KVMI_MSG_SIZE];
    } u = { .msg = { .vcpu = vcpu, .nmsrs = nmsrs } };
    struct kvmi_get_registers_reply *reply;
    g_autofree void *buf = NULL;
    size_t size;
    unsigned i;

    if (nmsrs > KVMI_MAX_MSRS) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ARGUMENT,
                    "%u MSRs are too many for one message: %zu at most",
                    nmsrs, KVMI_MAX_MSRS);
        return false;
    }
    if (nmsrs) {
        memcpy(u.msg.msrs_idx, msrs, nmsrs * sizeof(msrs[0]));
    }
    size = sizeof(*reply) + nmsrs * sizeof(struct kvm_msr_entry);
    reply = buf = g_malloc(size);
    if (!vcpu_call(c, vcpu, KVMI_GET_REGISTERS, &u,
                   sizeof(u.msg) + nmsrs * sizeof(msrs[0]),
                   reply, size, errp)) {
        return false;
    }

    *mode = reply->mode;
    *regs = reply->regs;
    *sregs = reply->sregs;
    for (i = 0; i < nmsrs; i++) {
        if (reply->msrs.nmsrs != nmsrs ||
            reply->msrs.entries[i].index != msrs[i]) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_PROTOCOL,
                        "vCPU %u: the VM answered get-registers with other "
                        "MSRs than it was asked for", vcpu);
            return false;
        }
        msr_values[i] = reply->msrs.entries[i].data;
    }
    return true;
}

bool kvmi_set_registers(KvmiClient *c, uint16_t vcpu,
                        const struct kvm_regs *regs, GError **errp)
{
    struct kvmi_set_registers msg = { .vcpu = vcpu, .regs = *regs };

    return vcpu_call(c, vcpu, KVMI_SET_REGISTERS, &msg, sizeof(msg), NULL, 0,
                     errp);
}

bool kvmi_get_cpuid(KvmiClient *c, uint16_t vcpu, uint32_t function,
                    uint32_t index, struct kvmi_get_cpuid_reply *out,
                    GError **errp)
{
    struct kvmi_get_cpuid msg = {
        .vcpu = vcpu,
        .function = function,
        .index = index,
    };

    return vcpu_call(c, vcpu, KVMI_GET_CPUID, &msg, sizeof(msg),
                     out, sizeof(*out), errp);
}

bool kvmi_get_xsave(KvmiClient *c, uint16_t vcpu, struct kvm_xsave *out,
                    GError **errp)
{
    struct kvmi_get_xsave msg = { .vcpu = vcpu };

    return vcpu_call(c, vcpu, KVMI_GET_XSAVE, &msg, sizeof(msg),
                     out, sizeof(*out), errp);
}

bool kvmi_inject_exception(KvmiClient *c, uint16_t vcpu, uint8_t vector,
                           bool has_error, uint16_t error_code,
                           uint64_t address, GError **errp)
{
    struct kvmi_inject_exception msg = {
        .vcpu = vcpu,
        .nr = vector,
        .has_error = has_error,
        .error_code = error_code,
        .address = address,
    };

    return vcpu_call(c, vcpu, KVMI_INJECT_EXCEPTION, &msg, sizeof(msg),
                     NULL, 0, errp);
}

bool kvmi_get_page_access(KvmiClient *c, uint16_t vcpu,
                          const uint64_t *gpas, unsigned count,
                          uint8_t *access, GError **errp)
{
    union {
        struct kvmi_get_page_access msg;
        uint8_t bytes[KVMI_MSG_SIZE];
    } u = { .msg = { .vcpu = vcpu, .count = count } };
    size_t max = (sizeof(u) - sizeof(u.msg)) / sizeof(gpas[0]);

    if (count > max) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ARGUMENT,
                    "%u pages are too many for one message: %zu at most",
                    count, max);
        return false;
    }
    memcpy(u.msg.gpa, gpas, count * sizeof(gpas[0]));
    return vcpu_call(c, vcpu, KVMI_GET_PAGE_ACCESS, &u,
                     sizeof(u.msg) + count * sizeof(gpas[0]),
                     access, count, errp);
}

bool kvmi_set_page_access(KvmiClient *c, uint16_t vcpu,
                          const struct kvmi_page_access_entry *entries,
                          unsigned count, GError **errp)
{
    union {
        struct kvmi_set_page_access msg;
        uint8_t bytes[KVMI_MSG_SIZE];
    } u = { .msg = { .vcpu = vcpu, .count = count } };
    size_t max = (sizeof(u) - sizeof(u.msg)) / sizeof(entries[0]);

    if (count > max) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ARGUMENT,
                    "%u pages are too many for one message: %zu at most",
                    count, max);
        return false;
    }
    memcpy(u.msg.entries, entries, count * sizeof(entries[0]));
    /* One that fails may have set some of them. */
    kvmi_client_note_access(c, entries, count);
    return vcpu_call(c, vcpu, KVMI_SET_PAGE_ACCESS, &u,
                     sizeof(u.msg) + count * sizeof(entries[0]),
                     NULL, 0, errp);
}

bool kvmi_control_events(KvmiClient *c, uint16_t vcpu, uint32_t events,
                         GError **errp)
{
    struct kvmi_control_events msg = { .vcpu = vcpu, .events = events };

    if (!vcpu_call(c, vcpu, KVMI_CONTROL_EVENTS, &msg, sizeof(msg), NULL, 0,
                   errp)) {
        return false;
    }
    kvmi_client_note_events(c, vcpu, events);
    return true;
}

bool kvmi_control_cr(KvmiClient *c, uint16_t vcpu, uint32_t cr, bool enable,
                     GError **errp)
{
    struct kvmi_control_cr msg = {
        .vcpu = vcpu,
        .enable = enable,
        .cr = cr,
    };

    if (!vcpu_call(c, vcpu, KVMI_CONTROL_CR, &msg, sizeof(msg), NULL, 0,
                   errp)) {
        g_prefix_error(errp, "cr%" PRIu32 ": ", cr);
        return false;
    }
    return true;
}

bool kvmi_control_msr(KvmiClient *c, uint16_t vcpu, uint32_t msr, bool enable,
                      GError **errp)
{
    struct kvmi_control_msr msg = {
        .vcpu = vcpu,
        .enable = enable,
        .msr = msr,
    };

    if (!vcpu_call(c, vcpu, KVMI_CONTROL_MSR, &msg, sizeof(msg), NULL, 0,
                   errp)) {
        g_prefix_error(errp, "MSR 0x%" PRIx32 ": ", msr);
        return false;
    }
    return true;
}
