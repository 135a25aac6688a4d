/*
 * Virtual machine introspection, QEMU's engine: the tool's messages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "page-access.h"
#include "session.h"
#include "vcpu.h"
#include "vm-commands.h"
#include "../trace.h"

/*
 * Each check function returns 0 or the negative KVM_E* for a parameter that
 * is wrong whatever the vCPU does.  Payloads are unaligned in the buffer but
 * aligned when these see them.
 */

static int check_get_guest_info(const void *payload)
{
    const struct kvmi_get_guest_info *req = payload;

    return req->vcpu || req->padding[0] || req->padding[1] || req->padding[2]
           ? -KVM_EINVAL : 0;
}

static int check_get_registers(const void *payload)
{
    const struct kvmi_get_registers *req = payload;

    return req->padding[0] || req->padding[1] ? -KVM_EINVAL : 0;
}

static size_t size_get_registers(const void *payload)
{
    const struct kvmi_get_registers *req = payload;

    return sizeof(*req) + req->nmsrs * sizeof(req->msrs_idx[0]);
}

static int check_set_registers(const void *payload)
{
    const struct kvmi_set_registers *req = payload;

    return req->padding[0] || req->padding[1] || req->padding[2]
           ? -KVM_EINVAL : 0;
}

static int check_get_page_access(const void *payload)
{
    const struct kvmi_get_page_access *req = payload;

    return req->view || req->padding ? -KVM_EINVAL : 0;
}

static size_t size_get_page_access(const void *payload)
{
    const struct kvmi_get_page_access *req = payload;

    return sizeof(*req) + req->count * sizeof(req->gpa[0]);
}

static int check_set_page_access(const void *payload)
{
    const struct kvmi_set_page_access *req = payload;

    if (req->view || req->padding) {
        return -KVM_EINVAL;
    }
    for (unsigned i = 0; i < req->count; i++) {
        const struct kvmi_page_access_entry *entry = &req->entries[i];

        if (!buffer_is_zero(entry->padding, sizeof(entry->padding))) {
            return -KVM_EINVAL;
        }
    }
    return 0;
}

static size_t size_set_page_access(const void *payload)
{
    const struct kvmi_set_page_access *req = payload;

    return sizeof(*req) + req->count * sizeof(req->entries[0]);
}

static size_t size_write_physical(const void *payload)
{
    const struct kvmi_write_physical *req = payload;

    /* More than any message holds, rather than an overflow. */
    return sizeof(*req) + MIN(req->size, UINT16_MAX);
}

static bool exception_has_error(uint8_t vector)
{
    const uint32_t with_error = 1u << 8 | 0x1fu << 10 | 1u << 17 | 1u << 21 |
                                1u << 29 | 1u << 30;

    return with_error & (1u << vector);
}

static int check_inject_exception(const void *payload)
{
    const struct kvmi_inject_exception *req = payload;

    /* 2 is NMI, which is no exception. */
    return req->padding || req->nr > 31 || req->nr == 2 ||
           req->has_error != exception_has_error(req->nr) ? -KVM_EINVAL : 0;
}

static int check_control_events(const void *payload)
{
    const struct kvmi_control_events *req = payload;

    return req->padding ? -KVM_EINVAL : 0;
}

static int check_control_vm_events(const void *payload)
{
    const struct kvmi_control_vm_events *req = payload;

    return req->padding ? -KVM_EINVAL : 0;
}

static int check_control_cr(const void *payload)
{
    const struct kvmi_control_cr *req = payload;

    if (req->padding || req->enable > 1 ||
        (req->cr != 0 && req->cr != 3 && req->cr != 4)) {
        return -KVM_EINVAL;
    }
    return 0;
}

static int check_control_msr(const void *payload)
{
    const struct kvmi_control_msr *req = payload;

    if (req->padding || req->enable > 1 ||
        !introspection_msr_can_be_watched(req->msr)) {
        return -KVM_EINVAL;
    }
    return 0;
}

static int check_get_cpuid(const void *payload)
{
    const struct kvmi_get_cpuid *req = payload;

    return req->padding[0] || req->padding[1] || req->padding[2]
           ? -KVM_EINVAL : 0;
}

static int check_get_xsave(const void *payload)
{
    const struct kvmi_get_xsave *req = payload;

    return req->padding[0] || req->padding[1] || req->padding[2]
           ? -KVM_EINVAL : 0;
}

typedef struct Command {
    size_t size;                            /* of the fixed part */
    size_t (*full_size)(const void *payload);   /* NULL: nothing follows it */
    int (*check)(const void *payload);
    /*
     * NULL: the vCPU carries it out, whose number the payload begins with.
     * Whoever reads the messages; replies.
     */
    void (*run)(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                const void *payload);
    bool waits;                             /* run() does, for vCPUs */
} Command;

static const Command commands[] = {
    [KVMI_GET_VERSION] = {
        .run = vm_get_version,
    },
    [KVMI_GET_GUEST_INFO] = {
        .size = sizeof(struct kvmi_get_guest_info),
        .check = check_get_guest_info,
        .run = vm_get_guest_info,
    },
    [KVMI_GET_REGISTERS] = {
        .size = sizeof(struct kvmi_get_registers),
        .full_size = size_get_registers,
        .check = check_get_registers,
    },
    [KVMI_SET_REGISTERS] = {
        .size = sizeof(struct kvmi_set_registers),
        .check = check_set_registers,
    },
    [KVMI_GET_PAGE_ACCESS] = {
        .size = sizeof(struct kvmi_get_page_access),
        .full_size = size_get_page_access,
        .check = check_get_page_access,
        .run = page_access_get,
    },
    [KVMI_SET_PAGE_ACCESS] = {
        .size = sizeof(struct kvmi_set_page_access),
        .full_size = size_set_page_access,
        .check = check_set_page_access,
        .run = page_access_set,
        .waits = true,
    },
    [KVMI_INJECT_EXCEPTION] = {
        .size = sizeof(struct kvmi_inject_exception),
        .check = check_inject_exception,
    },
    [KVMI_READ_PHYSICAL] = {
        .size = sizeof(struct kvmi_read_physical),
        .run = vm_read_physical,
    },
    [KVMI_WRITE_PHYSICAL] = {
        .size = sizeof(struct kvmi_write_physical),
        .full_size = size_write_physical,
        .run = vm_write_physical,
    },
    [KVMI_CONTROL_EVENTS] = {
        .size = sizeof(struct kvmi_control_events),
        .check = check_control_events,
    },
    [KVMI_CONTROL_CR] = {
        .size = sizeof(struct kvmi_control_cr),
        .check = check_control_cr,
    },
    [KVMI_CONTROL_MSR] = {
        .size = sizeof(struct kvmi_control_msr),
        .check = check_control_msr,
    },
    [KVMI_GET_CPUID] = {
        .size = sizeof(struct kvmi_get_cpuid),
        .check = check_get_cpuid,
    },
    [KVMI_GET_XSAVE] = {
        .size = sizeof(struct kvmi_get_xsave),
        .check = check_get_xsave,
    },
    [KVMI_PAUSE_ALL_VCPUS] = {
        .run = vm_pause_all_vcpus,
        .waits = true,
    },
    [KVMI_CONTROL_VM_EVENTS] = {
        .size = sizeof(struct kvmi_control_vm_events),
        .check = check_control_vm_events,
        .run = vm_control_vm_events,
    },
};

/* NULL for what this engine does not implement */
static const Command *find_command(uint16_t id)
{
    if (id >= ARRAY_SIZE(commands) || id == KVMI_EVENT ||
        !(ENGINE_COMMANDS & (1u << id))) {
        return NULL;
    }
    return &commands[id];
}

bool session_command_waits(uint16_t id)
{
    const Command *cmd = find_command(id);

    return cmd && cmd->waits;
}

static bool size_fits(const Command *cmd, const struct kvmi_msg_hdr *hdr,
                      const void *payload, Error **errp)
{
    size_t size = cmd->size;

    if (cmd->full_size && hdr->size >= cmd->size) {
        size = cmd->full_size(payload);
    }
    if (hdr->size != size) {
        error_setg(errp, "its command %u has %u bytes where %zu belong",
                   hdr->id, hdr->size, size);
        return false;
    }
    return true;
}

static int run_command(IntrospectionSession *s, const Command *cmd,
                       const struct kvmi_msg_hdr *hdr, const void *payload)
{
    uint16_t vcpu;
    int err;

    if (!(s->commands & (1u << hdr->id))) {
        return -KVM_EACCES;
    }
    err = cmd->check ? cmd->check(payload) : 0;
    if (err) {
        return err;
    }
    if (cmd->run) {
        cmd->run(s, hdr, payload);
        return 0;
    }
    memcpy(&vcpu, payload, sizeof(vcpu));
    return introspection_vcpu_queue_command(s, vcpu, hdr, payload);
}

bool session_dispatch(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                      const void *unaligned, Error **errp)
{
    uint64_t payload[KVMI_MSG_SIZE / sizeof(uint64_t)];
    const Command *cmd;
    int err;

    if (hdr->size > KVMI_MSG_SIZE) {
        error_setg(errp, "it sent a message of %u bytes (id %u); at most %u "
                   "are possible", hdr->size, hdr->id, KVMI_MSG_SIZE);
        return false;
    }
    memcpy(payload, unaligned, hdr->size);

    if (hdr->id == KVMI_EVENT_REPLY) {
        return introspection_vcpu_queue_reply(s, hdr, payload, errp);
    }

    trace_introspection_command(s, hdr->id, hdr->size, hdr->seq);
    stat64_add(&s->n_commands, 1);
    cmd = find_command(hdr->id);
    if (!cmd) {
        session_reply(s, hdr, -KVM_ENOSYS, NULL, 0);
        return true;
    }
    if (!size_fits(cmd, hdr, payload, errp)) {
        return false;
    }
    err = run_command(s, cmd, hdr, payload);
    if (err) {
        session_reply(s, hdr, err, NULL, 0);
    }
    return true;
}
