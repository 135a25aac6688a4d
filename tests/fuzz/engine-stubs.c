/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU's engine calls outside of itself: vCPUs' state and memory
 */
#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/core/cpu.h"
#include "introspection/tcg.h"
#include "introspection/vcpu.h"
#include "introspection/x86.h"
#include "qemu/units.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "engine-stubs.h"

uint64_t stub_rip[STUB_VCPUS];

AddressSpace address_space_memory;
bool tcg_allowed = true;
bool introspection_guest_held;

void cpu_exit(CPUState *cpu)
{
}

/* State, as target/i386/introspection/ has it */

void x86_introspection_event_state(CPUState *cpu, struct kvmi_event *event)
{
    event->regs.rip = x86_introspection_rip(cpu);
}

uint8_t x86_introspection_mode(CPUState *cpu)
{
    return 8;
}

uint64_t x86_introspection_rip(CPUState *cpu)
{
    return stub_rip[cpu->cpu_index];
}

bool x86_introspection_at_rep(CPUState *cpu)
{
    return x86_introspection_rip(cpu) % 2;
}

bool x86_introspection_canonical(CPUState *cpu, uint64_t address)
{
    return !(address >> 47) || !(~address >> 47);
}

bool x86_introspection_wake(CPUState *cpu)
{
    return false;
}

void x86_introspection_raise(CPUState *cpu)
{
}

void x86_introspection_watch_descriptors(CPUState *cpu, bool watch)
{
}

void x86_introspection_get_regs(CPUState *cpu, struct kvm_regs *regs)
{
    regs->rip = x86_introspection_rip(cpu);
}

void x86_introspection_get_sregs(CPUState *cpu, struct kvm_sregs *sregs)
{
    sregs->cr3 = 0x1000;
}

void x86_introspection_set_regs(CPUState *cpu, const struct kvm_regs *regs)
{
    stub_rip[cpu->cpu_index] = regs->rip;
}

bool x86_introspection_read_msr(CPUState *cpu, uint32_t msr, uint64_t *value)
{
    *value = msr;
    return msr != 0x123;
}

bool x86_introspection_cpuid(CPUState *cpu, uint32_t function, uint32_t index,
                             struct kvmi_get_cpuid_reply *leaf)
{
    *leaf = (struct kvmi_get_cpuid_reply) { .eax = function, .ebx = index };
    return function <= 0x16;
}

void x86_introspection_xsave(CPUState *cpu, struct kvm_xsave *xsave)
{
    memset(xsave->region, 0, sizeof(xsave->region));
}

uint64_t x86_introspection_tsc_speed(CPUState *cpu)
{
    return 1000000000;
}

void introspection_tcg_execute_one(CPUState *cpu, bool whole_rep)
{
}

void introspection_tcg_flush(CPUState *cpu)
{
}

void introspection_tcg_flush_page(CPUState *cpu, vaddr addr)
{
}

void introspection_tcg_forget_code(CPUState *cpu)
{
}

void introspection_tcg_cancel_delivery(CPUState *cpu)
{
}

void qemu_system_guest_panicked(GuestPanicInformation *info)
{
}

/* RAM, then ROM, then nothing */

#define RAM_SIZE (64 * KiB)
#define ROM_END (RAM_SIZE + 8 * KiB)

static uint8_t memory[ROM_END];
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static MemoryRegion system_memory;
static MemoryRegion ram = { .ram = true };
static MemoryRegion rom = { .rom_device = true, .romd_mode = true };

MemoryRegion *get_system_memory(void)
{
    return &system_memory;
}

MemoryRegionSection memory_region_find(MemoryRegion *mr, hwaddr addr,
                                       uint64_t size)
{
    MemoryRegionSection section = { };
    uint64_t end = addr < RAM_SIZE ? RAM_SIZE : ROM_END;

    g_assert(size);
    if (addr < ROM_END) {
        section.mr = end == RAM_SIZE ? &ram : &rom;
        section.offset_within_address_space = addr;
        section.size = int128_make64(MIN(size, end - addr));
    }
    return section;
}

void memory_region_ref(MemoryRegion *mr)
{
}

void memory_region_unref(MemoryRegion *mr)
{
}

bool memory_region_is_ram_device(MemoryRegion *mr)
{
    return false;
}

MemTxResult address_space_read_full(AddressSpace *as, hwaddr addr,
                                    MemTxAttrs attrs, void *buf, hwaddr len)
{
    g_assert(addr < ROM_END && len <= ROM_END - addr);
    pthread_mutex_lock(&memory_lock);
    memcpy(buf, memory + addr, len);
    pthread_mutex_unlock(&memory_lock);
    return MEMTX_OK;
}

MemTxResult address_space_write(AddressSpace *as, hwaddr addr,
                                MemTxAttrs attrs, const void *buf, hwaddr len)
{
    g_assert(addr < RAM_SIZE && len <= RAM_SIZE - addr);
    pthread_mutex_lock(&memory_lock);
    memcpy(memory + addr, buf, len);
    pthread_mutex_unlock(&memory_lock);
    return MEMTX_OK;
}
