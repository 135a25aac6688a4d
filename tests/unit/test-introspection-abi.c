/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layout of the KVMI ABI: sizes and offsets, written down here once more
 * from its specification.  Existing tools have them built in.
 */
#include "qemu/osdep.h"
#include <linux/kvm.h>
#include <linux/kvmi.h>

typedef struct Layout {
    const char *name;
    size_t actual;
    size_t expected;
} Layout;

#define SIZE(type, expected) { "sizeof " #type, sizeof(struct type), expected }
#define OFFSET(type, member, expected) \
    { #type "." #member, offsetof(struct type, member), expected }

static const Layout layouts[] = {
    SIZE(kvmi_msg_hdr, 8),
    OFFSET(kvmi_msg_hdr, size, 2),
    OFFSET(kvmi_msg_hdr, seq, 4),
    SIZE(kvmi_error_code, 8),
    SIZE(kvmi_get_version_reply, 16),
    OFFSET(kvmi_get_version_reply, commands, 4),
    OFFSET(kvmi_get_version_reply, events, 8),
    SIZE(kvmi_get_guest_info, 8),
    SIZE(kvmi_get_guest_info_reply, 16),
    OFFSET(kvmi_get_guest_info_reply, tsc_speed, 8),
    SIZE(kvmi_pause_all_vcpus_reply, 8),
    SIZE(kvmi_event_reply, 8),
    OFFSET(kvmi_event_reply, event, 4),
    SIZE(kvmi_control_events, 8),
    OFFSET(kvmi_control_events, events, 4),
    SIZE(kvmi_control_vm_events, 8),
    SIZE(kvmi_get_page_access, 8),
    OFFSET(kvmi_get_page_access, count, 2),
    OFFSET(kvmi_get_page_access, view, 4),
    OFFSET(kvmi_get_page_access, gpa, 8),
    SIZE(kvmi_page_access_entry, 16),
    OFFSET(kvmi_page_access_entry, access, 8),
    SIZE(kvmi_set_page_access, 8),
    OFFSET(kvmi_set_page_access, entries, 8),
    SIZE(kvmi_read_physical, 16),
    OFFSET(kvmi_read_physical, size, 8),
    SIZE(kvmi_write_physical, 16),
    OFFSET(kvmi_write_physical, data, 16),
    SIZE(kvmi_get_map_token_reply, 32),
    SIZE(kvmi_mem_map, 48),
    OFFSET(kvmi_mem_map, gpa, 32),
    OFFSET(kvmi_mem_map, gva, 40),
    SIZE(kvm_regs, 144),
    SIZE(kvm_sregs, 312),
    SIZE(kvmi_event, 536),
    OFFSET(kvmi_event, vcpu, 4),
    OFFSET(kvmi_event, mode, 6),
    OFFSET(kvmi_event, regs, 8),
    OFFSET(kvmi_event, sregs, 152),
    OFFSET(kvmi_event, msrs, 464),
    OFFSET(kvmi_event, msrs.efer, 488),
    OFFSET(kvmi_event, msrs.shadow_gs, 528),
    SIZE(kvmi_event_cr, 24),
    OFFSET(kvmi_event_cr, old_value, 8),
    OFFSET(kvmi_event_cr, new_value, 16),
    SIZE(kvmi_event_cr_reply, 8),
    SIZE(kvmi_event_msr, 24),
    OFFSET(kvmi_event_msr, old_value, 8),
    OFFSET(kvmi_event_msr, new_value, 16),
    SIZE(kvmi_event_msr_reply, 8),
    SIZE(kvmi_event_breakpoint, 8),
    SIZE(kvmi_event_pf, 24),
    OFFSET(kvmi_event_pf, gpa, 8),
    OFFSET(kvmi_event_pf, mode, 16),
    SIZE(kvmi_event_pf_reply, 264),
    OFFSET(kvmi_event_pf_reply, rep_complete, 1),
    OFFSET(kvmi_event_pf_reply, ctx_size, 4),
    OFFSET(kvmi_event_pf_reply, ctx_data, 8),
    SIZE(kvmi_event_trap, 24),
    OFFSET(kvmi_event_trap, cr2, 16),
    SIZE(kvmi_event_descriptor, 24),
    OFFSET(kvmi_event_descriptor, descriptor, 16),
    OFFSET(kvmi_event_descriptor, write, 17),
    SIZE(kvmi_guest_info, 16),
    SIZE(kvmi_get_registers, 8),
    OFFSET(kvmi_get_registers, nmsrs, 2),
    OFFSET(kvmi_get_registers, msrs_idx, 8),
    SIZE(kvmi_get_registers_reply, 472),
    OFFSET(kvmi_get_registers_reply, regs, 8),
    OFFSET(kvmi_get_registers_reply, sregs, 152),
    OFFSET(kvmi_get_registers_reply, msrs, 464),
    SIZE(kvmi_set_registers, 152),
    OFFSET(kvmi_set_registers, regs, 8),
    SIZE(kvmi_get_cpuid, 16),
    OFFSET(kvmi_get_cpuid, function, 8),
    OFFSET(kvmi_get_cpuid, index, 12),
    SIZE(kvmi_get_cpuid_reply, 16),
    SIZE(kvmi_get_xsave, 8),
    SIZE(kvmi_inject_exception, 16),
    OFFSET(kvmi_inject_exception, nr, 2),
    OFFSET(kvmi_inject_exception, has_error, 3),
    OFFSET(kvmi_inject_exception, error_code, 4),
    OFFSET(kvmi_inject_exception, address, 8),
    SIZE(kvmi_control_cr, 8),
    OFFSET(kvmi_control_cr, enable, 2),
    OFFSET(kvmi_control_cr, cr, 4),
    SIZE(kvmi_control_msr, 8),
    OFFSET(kvmi_control_msr, enable, 2),
    OFFSET(kvmi_control_msr, msr, 4),
};

static void test_layout(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
        if (layouts[i].actual != layouts[i].expected) {
            g_error("%s is %zu, not %zu", layouts[i].name,
                    layouts[i].actual, layouts[i].expected);
        }
    }
}

static void test_numbers(void)
{
    static const struct {
        unsigned actual;
        unsigned expected;
    } numbers[] = {
        { KVMI_VERSION, 1 }, { KVMI_MSG_SIZE, 4096 },
        { KVMI_GET_VERSION, 1 }, { KVMI_GET_GUEST_INFO, 3 },
        { KVMI_GET_REGISTERS, 6 }, { KVMI_SET_REGISTERS, 7 },
        { KVMI_GET_PAGE_ACCESS, 10 }, { KVMI_SET_PAGE_ACCESS, 11 },
        { KVMI_INJECT_EXCEPTION, 12 }, { KVMI_READ_PHYSICAL, 13 },
        { KVMI_WRITE_PHYSICAL, 14 }, { KVMI_GET_MAP_TOKEN, 15 },
        { KVMI_CONTROL_EVENTS, 17 }, { KVMI_CONTROL_CR, 18 },
        { KVMI_CONTROL_MSR, 19 }, { KVMI_EVENT, 23 },
        { KVMI_EVENT_REPLY, 24 }, { KVMI_GET_CPUID, 25 },
        { KVMI_GET_XSAVE, 26 }, { KVMI_PAUSE_ALL_VCPUS, 27 },
        { KVMI_CONTROL_VM_EVENTS, 28 },
        { KVMI_EVENT_UNHOOK, 0 }, { KVMI_EVENT_CR, 1 },
        { KVMI_EVENT_MSR, 2 }, { KVMI_EVENT_XSETBV, 3 },
        { KVMI_EVENT_BREAKPOINT, 4 }, { KVMI_EVENT_HYPERCALL, 5 },
        { KVMI_EVENT_PF, 6 }, { KVMI_EVENT_TRAP, 7 },
        { KVMI_EVENT_DESCRIPTOR, 8 }, { KVMI_EVENT_CREATE_VCPU, 9 },
        { KVMI_EVENT_PAUSE_VCPU, 10 },
        { KVMI_EVENT_ACTION_CONTINUE, 0 }, { KVMI_EVENT_ACTION_RETRY, 1 },
        { KVMI_EVENT_ACTION_CRASH, 2 },
        { KVMI_PAGE_ACCESS_R, 1 }, { KVMI_PAGE_ACCESS_W, 2 },
        { KVMI_PAGE_ACCESS_X, 4 },
        { KVMI_KNOWN_COMMANDS, 0x1f8efcca },
        { KVMI_KNOWN_VCPU_EVENTS, 0x5fe }, { KVMI_KNOWN_VM_EVENTS, 0x201 },
        { KVM_ENOSYS, 1000 }, { KVM_EINVAL, 22 }, { KVM_EPERM, 1 },
        { KVM_EAGAIN, 11 }, { KVM_EBUSY, 16 }, { KVM_ENOENT, 2 },
        { KVM_EACCES, 13 }, { KVM_EOPNOTSUPP, 95 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        g_assert_cmphex(numbers[i].actual, ==, numbers[i].expected);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/introspection/abi/layout", test_layout);
    g_test_add_func("/introspection/abi/numbers", test_numbers);
    return g_test_run();
}
