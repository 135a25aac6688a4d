/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: all that the client library parses of a VM's bytes
 *
 * An input is a byte that says what the tool does, and then what the VM sends:
 * its part of the handshake, replies and events.
 */

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvmi-client.h"

/* What a socket takes at once */
#define MAX_STREAM (64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each fails or succeeds; nothing here depends on it. */

static void ask_registers(KvmiClient *c)
{
    static const uint32_t msrs[] = { 0xc0000082, 0xc0000080 };
    uint64_t values[G_N_ELEMENTS(msrs)];
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    uint32_t mode;

    kvmi_get_registers(c, 0, msrs, G_N_ELEMENTS(msrs), &mode, &regs, &sregs,
                       values, NULL);
    kvmi_get_registers(c, 1, NULL, 0, &mode, &regs, &sregs, NULL, NULL);
}

static void ask_small(KvmiClient *c)
{
    struct kvmi_get_version_reply version;
    struct kvmi_get_guest_info_reply info;
    struct kvmi_map_mem_token token;
    struct kvmi_get_cpuid_reply leaf;
    uint32_t count;

    kvmi_get_version(c, &version, NULL);
    kvmi_get_guest_info(c, &info, NULL);
    kvmi_get_map_token(c, &token, NULL);
    kvmi_get_cpuid(c, 0, 1, 0, &leaf, NULL);
    kvmi_pause_all_vcpus(c, &count, NULL);
}

static void ask_large(KvmiClient *c)
{
    static const uint64_t gpas[] = { 0, 0x1000, 0x2000 };
    g_autofree struct kvm_xsave *xsave = g_malloc(sizeof(*xsave));
    g_autofree uint8_t *buf = g_malloc(5 * KVMI_PAGE_SIZE);
    uint8_t access[G_N_ELEMENTS(gpas)];
    uint8_t present[4];
    KvmiRead *read;

    kvmi_get_xsave(c, 0, xsave, NULL);
    kvmi_get_page_access(c, 0, gpas, G_N_ELEMENTS(gpas), access, NULL);
    kvmi_read_physical(c, 0x10, buf, 100, NULL);
    kvmi_read_memory(c, 0x800, buf, 4 * KVMI_PAGE_SIZE, NULL);
    read = kvmi_read_start(c, 0, G_N_ELEMENTS(present), buf, present, NULL);
    if (read) {
        kvmi_read_finish(c, read, NULL);
    }
}

static void answer_events(KvmiClient *c)
{
    KvmiEvent *event;

    kvmi_control_events(c, 0, KVMI_KNOWN_VCPU_EVENTS, NULL);
    while (kvmi_next_event(c, 0, &event, NULL) && event) {
        kvmi_event_continue(c, event, NULL);
        kvmi_event_free(event);
    }
    kvmi_client_unhook(c, NULL, NULL, NULL);
}

static void tool(int fd, unsigned what)
{
    KvmiClient *c = kvmi_client_new_from_fd(fd, NULL, NULL);

    if (!c) {
        return;
    }
    g_assert(memchr(kvmi_client_vm(c)->name, 0,
                    sizeof(kvmi_client_vm(c)->name)));
    if (what & 1) {
        ask_small(c);
    }
    if (what & 2) {
        ask_registers(c);
    }
    if (what & 4) {
        ask_large(c);
    }
    answer_events(c);
    kvmi_client_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];

    if (!size || size - 1 > MAX_STREAM) {
        return 0;
    }
    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    g_assert(size == 1 ||
             send(fds[0], data + 1, size - 1, 0) == (ssize_t)(size - 1));
    /* What the tool says still finds a reader; what it reads has an end. */
    shutdown(fds[0], SHUT_WR);
    tool(fds[1], *data);
    close(fds[0]);
    return 0;
}
