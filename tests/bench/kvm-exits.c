/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long an exit of KVM takes: a guest that executes nothing but CPUID.
 *
 * Usage: kvm-exits EXITS hooked|unhooked
 *
 * Prints the nanoseconds of one.  "hooked": with an introspection tool that asks
 * for nothing.
 */

#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <linux/kvm.h>
#include <linux/kvmi.h>

#define CODE        0x1000
#define RAM_SIZE    0x10000

/* Real mode. */
static const uint8_t code[] = {
    0x66, 0xbe, 0, 0, 0, 0,     /*    mov esi, EXITS */
    0x66, 0x31, 0xc0,           /* 1: xor eax, eax */
    0x0f, 0xa2,                 /*    cpuid */
    0x66, 0x4e,                 /*    dec esi */
    0x75, 0xf7,                 /*    jnz 1b */
    0xf4,                       /*    hlt */
};

#define EXITS_OFFSET 2

typedef struct Guest {
    int vm;
    int vcpu;
    struct kvm_run *run;
    uint8_t *ram;
} Guest;

static int must(int ret, const char *what)
{
    if (ret < 0) {
        err(1, "%s", what);
    }
    return ret;
}

static void create(Guest *g)
{
    int kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    struct kvm_userspace_memory_region region = { .memory_size = RAM_SIZE };
    int size;

    g->vm = must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    g->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    region.userspace_addr = (uintptr_t)g->ram;
    must(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region),
         "KVM_SET_USER_MEMORY_REGION");
    g->vcpu = must(ioctl(g->vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    size = must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
                "KVM_GET_VCPU_MMAP_SIZE");
    g->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
    if (g->run == MAP_FAILED || g->ram == MAP_FAILED) {
        err(1, "mmap");
    }
}

static void load(Guest *g, uint32_t exits)
{
    struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
    struct kvm_sregs sregs;

    memcpy(g->ram + CODE, code, sizeof(code));
    memcpy(g->ram + CODE + EXITS_OFFSET, &exits, sizeof(exits));
    must(ioctl(g->vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    must(ioctl(g->vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    must(ioctl(g->vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static double run(Guest *g, uint32_t exits)
{
    struct timespec begin, end;

    load(g, exits);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    must(ioctl(g->vcpu, KVM_RUN, 0), "KVM_RUN");
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (g->run->exit_reason != KVM_EXIT_HLT) {
        errx(1, "the guest ended with exit %u", g->run->exit_reason);
    }
    return ((end.tv_sec - begin.tv_sec) * 1e9 +
            (end.tv_nsec - begin.tv_nsec)) / exits;
}

/* The tool is the other end of the pair, and stays silent. */
static void hook(Guest *g)
{
    struct kvm_introspection hook = {
        .commands = KVMI_KNOWN_COMMANDS,
        .events = KVMI_KNOWN_EVENTS,
    };
    int pair[2];

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    hook.fd = pair[0];
    must(ioctl(g->vm, KVM_INTROSPECTION_HOOK, &hook),
         "KVM_INTROSPECTION_HOOK");
}

int main(int argc, char **argv)
{
    uint32_t exits = argc == 3 ? strtoul(argv[1], NULL, 0) : 0;
    Guest guest;

    if (!exits) {
        errx(2, "usage: kvm-exits EXITS hooked|unhooked");
    }
    create(&guest);
    if (!strcmp(argv[2], "hooked")) {
        hook(&guest);
    }
    run(&guest, exits / 10 + 1);
    printf("%.3f\n", run(&guest, exits));
    return 0;
}
