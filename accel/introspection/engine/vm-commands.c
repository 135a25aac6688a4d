/*
 * Virtual machine introspection, QEMU's engine: commands to the VM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/core/cpu.h"
#include "introspection/x86.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "vcpu.h"
#include "vm-commands.h"

#define GUEST_PAGE_SIZE 4096

void vm_get_version(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                    const void *payload)
{
    struct kvmi_get_version_reply reply = {
        .version = KVMI_VERSION,
        .commands = s->commands,
        .events = s->events,
    };

    session_reply(s, hdr, 0, &reply, sizeof(reply));
}

void vm_get_guest_info(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                       const void *payload)
{
    struct kvmi_get_guest_info_reply reply = { };
    CPUState *cpu;

    WITH_RCU_READ_LOCK_GUARD() {
        CPU_FOREACH(cpu) {
            reply.vcpu_count += cpu->created;
        }
        if (first_cpu) {
            reply.tsc_speed = x86_introspection_tsc_speed(first_cpu);
        }
    }
    session_reply(s, hdr, 0, &reply, sizeof(reply));
}

static bool in_one_page(uint64_t gpa, uint64_t size)
{
    return size && size <= GUEST_PAGE_SIZE &&
           gpa % GUEST_PAGE_SIZE + size <= GUEST_PAGE_SIZE;
}

/* Memory that reading cannot change */
static bool is_readable(const MemoryRegionSection *section)
{
    return (memory_region_is_ram(section->mr) &&
            !memory_region_is_ram_device(section->mr)) ||
           memory_region_is_romd(section->mr);
}

static bool is_writable(const MemoryRegionSection *section)
{
    return memory_region_is_ram(section->mr) &&
           !memory_region_is_ram_device(section->mr) && !section->readonly;
}

/*
 * Whether all of a range in one guest page, which may consist of several
 * sections, is such memory.
 */
static bool range_is(uint64_t gpa, uint64_t size,
                     bool (*is)(const MemoryRegionSection *section))
{
    while (size) {
        MemoryRegionSection section =
            memory_region_find(get_system_memory(), gpa, size);
        bool ok = section.mr && is(&section) &&
                  section.offset_within_address_space == gpa;
        uint64_t len = int128_get64(section.size);

        if (section.mr) {
            memory_region_unref(section.mr);
        }
        if (!ok) {
            return false;
        }
        gpa += len;
        size -= len;
    }
    return true;
}

bool vm_page_is_ram(uint64_t gpa)
{
    return range_is(QEMU_ALIGN_DOWN(gpa, GUEST_PAGE_SIZE), GUEST_PAGE_SIZE,
                    is_writable);
}

static int read_physical(uint64_t gpa, uint64_t size, void *data)
{
    if (!in_one_page(gpa, size) || !range_is(gpa, size, is_readable) ||
        address_space_read(&address_space_memory, gpa, MEMTXATTRS_UNSPECIFIED,
                           data, size) != MEMTX_OK) {
        return -KVM_EINVAL;
    }
    return 0;
}

/* Also invalidates translated code and marks the page dirty. */
static int write_physical(uint64_t gpa, uint64_t size, const void *data)
{
    if (!in_one_page(gpa, size) || !range_is(gpa, size, is_writable) ||
        address_space_write(&address_space_memory, gpa, MEMTXATTRS_UNSPECIFIED,
                            data, size) != MEMTX_OK) {
        return -KVM_EINVAL;
    }
    return 0;
}

void vm_read_physical(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                      const void *payload)
{
    const struct kvmi_read_physical *req = payload;
    uint8_t data[GUEST_PAGE_SIZE];

    session_reply(s, hdr, read_physical(req->gpa, req->size, data), data,
                  req->size);
}

void vm_write_physical(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,
                       const void *payload)
{
    const struct kvmi_write_physical *req = payload;

    session_reply(s, hdr, write_physical(req->gpa, req->size, req->data),
                  NULL, 0);
}

void vm_pause_all_vcpus(IntrospectionSession *s,
                        const struct kvmi_msg_hdr *hdr, const void *payload)
{
    struct kvmi_pause_all_vcpus_reply reply = { };

    reply.vcpu_count = introspection_vcpus_stop(s);
    session_reply(s, hdr, 0, &reply, sizeof(reply));
    introspection_vcpus_report_stop(s);
}

void vm_control_vm_events(IntrospectionSession *s,
                          const struct kvmi_msg_hdr *hdr, const void *payload)
{
    const struct kvmi_control_vm_events *req = payload;
    int err = 0;

    if (req->events & ~KVMI_KNOWN_VM_EVENTS) {
        err = -KVM_EINVAL;
    } else if (req->events & ~s->events) {
        err = -KVM_EPERM;
    } else {
        BQL_LOCK_GUARD();
        s->vm_events = req->events;
    }
    session_reply(s, hdr, err, NULL, 0);
}
