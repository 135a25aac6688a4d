/*
 * Virtual machine introspection: commands and events as masks and as names
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvmi.h>
#include "masks.h"

#define ALWAYS_ALLOWED_COMMANDS \
    (KVMI_GET_VERSION_FLAG | KVMI_EVENT_FLAG | KVMI_EVENT_REPLY_FLAG)

static const uint8_t command_bits[INTROSPECTION_COMMAND__MAX] = {
    [INTROSPECTION_COMMAND_GET_VERSION]       = KVMI_GET_VERSION,
    [INTROSPECTION_COMMAND_GET_GUEST_INFO]    = KVMI_GET_GUEST_INFO,
    [INTROSPECTION_COMMAND_GET_REGISTERS]     = KVMI_GET_REGISTERS,
    [INTROSPECTION_COMMAND_SET_REGISTERS]     = KVMI_SET_REGISTERS,
    [INTROSPECTION_COMMAND_GET_PAGE_ACCESS]   = KVMI_GET_PAGE_ACCESS,
    [INTROSPECTION_COMMAND_SET_PAGE_ACCESS]   = KVMI_SET_PAGE_ACCESS,
    [INTROSPECTION_COMMAND_INJECT_EXCEPTION]  = KVMI_INJECT_EXCEPTION,
    [INTROSPECTION_COMMAND_READ_PHYSICAL]     = KVMI_READ_PHYSICAL,
    [INTROSPECTION_COMMAND_WRITE_PHYSICAL]    = KVMI_WRITE_PHYSICAL,
    [INTROSPECTION_COMMAND_GET_MAP_TOKEN]     = KVMI_GET_MAP_TOKEN,
    [INTROSPECTION_COMMAND_CONTROL_EVENTS]    = KVMI_CONTROL_EVENTS,
    [INTROSPECTION_COMMAND_CONTROL_CR]        = KVMI_CONTROL_CR,
    [INTROSPECTION_COMMAND_CONTROL_MSR]       = KVMI_CONTROL_MSR,
    [INTROSPECTION_COMMAND_EVENT]             = KVMI_EVENT,
    [INTROSPECTION_COMMAND_EVENT_REPLY]       = KVMI_EVENT_REPLY,
    [INTROSPECTION_COMMAND_GET_CPUID]         = KVMI_GET_CPUID,
    [INTROSPECTION_COMMAND_GET_XSAVE]         = KVMI_GET_XSAVE,
    [INTROSPECTION_COMMAND_PAUSE_ALL_VCPUS]   = KVMI_PAUSE_ALL_VCPUS,
    [INTROSPECTION_COMMAND_CONTROL_VM_EVENTS] = KVMI_CONTROL_VM_EVENTS,
};

static const uint8_t event_bits[INTROSPECTION_EVENT__MAX] = {
    [INTROSPECTION_EVENT_UNHOOK]      = KVMI_EVENT_UNHOOK,
    [INTROSPECTION_EVENT_CR]          = KVMI_EVENT_CR,
    [INTROSPECTION_EVENT_MSR]         = KVMI_EVENT_MSR,
    [INTROSPECTION_EVENT_XSETBV]      = KVMI_EVENT_XSETBV,
    [INTROSPECTION_EVENT_BREAKPOINT]  = KVMI_EVENT_BREAKPOINT,
    [INTROSPECTION_EVENT_HYPERCALL]   = KVMI_EVENT_HYPERCALL,
    [INTROSPECTION_EVENT_PF]          = KVMI_EVENT_PF,
    [INTROSPECTION_EVENT_TRAP]        = KVMI_EVENT_TRAP,
    [INTROSPECTION_EVENT_DESCRIPTOR]  = KVMI_EVENT_DESCRIPTOR,
    [INTROSPECTION_EVENT_CREATE_VCPU] = KVMI_EVENT_CREATE_VCPU,
    [INTROSPECTION_EVENT_PAUSE_VCPU]  = KVMI_EVENT_PAUSE_VCPU,
};

uint32_t introspection_commands_to_mask(const IntrospectionCommandList *list)
{
    uint32_t mask = ALWAYS_ALLOWED_COMMANDS;

    for (; list; list = list->next) {
        mask |= 1u << command_bits[list->value];
    }
    return mask;
}

uint32_t introspection_events_to_mask(const IntrospectionEventList *list)
{
    uint32_t mask = 0;

    for (; list; list = list->next) {
        mask |= 1u << event_bits[list->value];
    }
    return mask;
}

IntrospectionCommandList *introspection_commands_from_mask(uint32_t mask)
{
    IntrospectionCommandList *list = NULL, **tail = &list;
    int i;

    for (i = 0; i < INTROSPECTION_COMMAND__MAX; i++) {
        if (mask & (1u << command_bits[i])) {
            QAPI_LIST_APPEND(tail, i);
        }
    }
    return list;
}

IntrospectionEventList *introspection_events_from_mask(uint32_t mask)
{
    IntrospectionEventList *list = NULL, **tail = &list;
    int i;

    for (i = 0; i < INTROSPECTION_EVENT__MAX; i++) {
        if (mask & (1u << event_bits[i])) {
            QAPI_LIST_APPEND(tail, i);
        }
    }
    return list;
}

IntrospectionEvent introspection_event_from_id(uint32_t id)
{
    int i = 0;

    while (event_bits[i] != id) {
        i++;
        assert(i < INTROSPECTION_EVENT__MAX);
    }
    return i;
}
