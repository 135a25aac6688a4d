/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's side of a KVMI connection, played by a thread
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "fake-vm.h"

static void *vm_thread(void *opaque)
{
    FakeVM *vm = opaque;

    vm->script(vm);
    close(vm->fd);
    return NULL;
}

static FakeVM *vm_new(FakeScript *script)
{
    static int vms;
    FakeVM *vm = g_new0(FakeVM, 1);
    size_t i;

    vm->number = g_atomic_int_add(&vms, 1);
    vm->script = script;
    vm->ram = g_malloc(FAKE_RAM_SIZE);
    for (i = 0; i < FAKE_RAM_SIZE; i++) {
        vm->ram[i] = i ^ i >> 8 ^ i >> 16;
    }
    memset(vm->access, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W |
           KVMI_PAGE_ACCESS_X, sizeof(vm->access));
    return vm;
}

FakeVM *fake_vm_new(FakeScript *script, size_t piece, void *opaque)
{
    FakeVM *vm = vm_new(script);
    int fds[2];

    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    vm->fd = fds[0];
    vm->client_fd = fds[1];
    vm->piece = piece;
    vm->opaque = opaque;
    vm->thread = g_thread_new("fake-vm", vm_thread, vm);
    return vm;
}

FakeVM *fake_vm_new_connected(FakeScript *script, int fd, unsigned number)
{
    FakeVM *vm = vm_new(script);

    vm->fd = fd;
    vm->client_fd = -1;
    g_snprintf(vm->name, sizeof(vm->name), "fake-%u", number);
    vm->uuid[15] = number;
    vm->thread = g_thread_new("fake-vm", vm_thread, vm);
    return vm;
}

void fake_vm_join(FakeVM *vm)
{
    g_clear_pointer(&vm->thread, g_thread_join);
}

void fake_vm_free(FakeVM *vm)
{
    fake_vm_join(vm);
    g_free(vm->ram);
    g_free(vm);
}

/*
 * What a VM says in a case is what a fuzzer begins with: one file for each VM,
 * in the directory that KVMI_FAKE_VM_RECORD names.
 */
static void record(const FakeVM *vm, const void *buf, size_t size)
{
    const char *directory = g_getenv("KVMI_FAKE_VM_RECORD");
    g_autofree char *path = NULL;
    FILE *file;

    if (!directory) {
        return;
    }
    path = g_strdup_printf("%s/%u", directory, vm->number);
    file = fopen(path, "a");
    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(buf, 1, size, file), ==, size);
    g_assert_cmpint(fclose(file), ==, 0);
}

void fake_send(FakeVM *vm, const void *buf, size_t size)
{
    const uint8_t *p = buf;

    record(vm, buf, size);
    while (size) {
        size_t n = vm->piece ? MIN(size, vm->piece) : size;
        ssize_t sent = send(vm->fd, p, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            return;             /* the tool has gone: its test says if so */
        }
        p += sent;
        size -= sent;
        if (vm->piece) {
            g_thread_yield();
        }
    }
}

bool fake_recv(FakeVM *vm, void *buf, size_t size)
{
    uint8_t *p = buf;

    while (size) {
        ssize_t n = recv(vm->fd, p, size, 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        p += n;
        size -= n;
    }
    return true;
}

void fake_send_hello(FakeVM *vm, uint32_t struct_size)
{
    g_autofree uint8_t *hello = g_malloc0(MAX(struct_size, 96));
    int64_t start_time = 1700000000;
    unsigned i;

    memcpy(hello, &struct_size, 4);
    memcpy(hello + 24, &start_time, 8);
    if (*vm->name) {
        memcpy(hello + 4, vm->uuid, sizeof(vm->uuid));
        memcpy(hello + 32, vm->name, sizeof(vm->name));
    } else {
        for (i = 0; i < sizeof(vm->uuid); i++) {
            hello[4 + i] = 0x10 + i;
        }
        strcpy((char *)hello + 32, "fake");
    }
    if (struct_size > 96) {
        memset(hello + 96, 0xee, struct_size - 96);
    }
    fake_send(vm, hello, struct_size);
}

void fake_recv_hello(FakeVM *vm)
{
    g_assert(fake_recv(vm, vm->hello, sizeof(vm->hello)));
}

void fake_handshake(FakeVM *vm)
{
    fake_send_hello(vm, 96);
    fake_recv_hello(vm);
}

bool fake_recv_message(FakeVM *vm, struct kvmi_msg_hdr *hdr, void *body)
{
    if (!fake_recv(vm, hdr, sizeof(*hdr))) {
        return false;
    }
    g_assert_cmpuint(hdr->size, <=, KVMI_MSG_SIZE);
    return fake_recv(vm, body, hdr->size);
}

void fake_reply(FakeVM *vm, const struct kvmi_msg_hdr *hdr, int32_t err,
                const void *data, size_t size)
{
    struct {
        struct kvmi_msg_hdr hdr;
        struct kvmi_error_code ec;
        uint8_t data[8192];
    } msg = {
        .hdr = { .id = hdr->id, .seq = hdr->seq },
        .ec = { .err = err },
    };

    g_assert_cmpuint(size, <=, sizeof(msg.data));
    msg.hdr.size = sizeof(msg.ec) + size;
    if (size) {
        memcpy(msg.data, data, size);
    }
    fake_send(vm, &msg, sizeof(msg.hdr) + msg.hdr.size);
}

void fake_event(FakeVM *vm, uint32_t seq, uint32_t event, uint16_t vcpu,
                const void *own, size_t size)
{
    struct {
        struct kvmi_msg_hdr hdr;
        struct kvmi_event common;
        uint8_t own[256];
    } msg = {
        .hdr = { .id = KVMI_EVENT, .seq = seq },
        .common = { .event = event, .vcpu = vcpu, .mode = 8 },
    };

    g_assert_cmpuint(size, <=, sizeof(msg.own));
    msg.hdr.size = sizeof(msg.common) + size;
    msg.common.regs.rip = 0xffffffff81000000 + seq;
    if (size) {
        memcpy(msg.own, own, size);
    }
    fake_send(vm, &msg, sizeof(msg.hdr) + msg.hdr.size);
}

static bool is_ram(uint64_t gpa, uint64_t size)
{
    return gpa < FAKE_RAM_SIZE && size <= FAKE_RAM_SIZE - gpa &&
           (gpa + size <= FAKE_HOLE_START || gpa >= FAKE_HOLE_END) &&
           size && gpa / 4096 == (gpa + size - 1) / 4096;
}

static void answer_registers(FakeVM *vm, const struct kvmi_msg_hdr *hdr,
                             const void *body)
{
    const struct kvmi_get_registers *msg = body;
    size_t size = sizeof(struct kvmi_get_registers_reply) +
                  msg->nmsrs * sizeof(struct kvm_msr_entry);
    struct kvmi_get_registers_reply *reply;
    g_autofree void *buf = g_malloc0(size);
    unsigned i;

    g_assert_cmpuint(hdr->size, ==,
                     sizeof(*msg) + msg->nmsrs * sizeof(uint32_t));
    reply = buf;
    reply->mode = 8;
    reply->regs.rax = vm->rax;
    reply->regs.rip = 0xffffffff81000000 + msg->vcpu;
    reply->sregs.cr3 = 0x1000;
    reply->msrs.nmsrs = msg->nmsrs;
    for (i = 0; i < msg->nmsrs; i++) {
        reply->msrs.entries[i].index = msg->msrs_idx[i];
        reply->msrs.entries[i].data = msg->msrs_idx[i] * 3ULL;
    }
    fake_reply(vm, hdr, 0, reply, size);
}

static void answer_get_access(FakeVM *vm, const struct kvmi_msg_hdr *hdr,
                              const void *body)
{
    const struct kvmi_get_page_access *msg = body;
    uint8_t access[KVMI_MSG_SIZE / sizeof(msg->gpa[0])];
    unsigned i;

    g_assert_cmpuint(hdr->size, ==,
                     sizeof(*msg) + msg->count * sizeof(msg->gpa[0]));
    for (i = 0; i < msg->count; i++) {
        g_assert_cmpuint(msg->gpa[i] / 4096, <, FAKE_PAGES);
        access[i] = vm->access[msg->gpa[i] / 4096];
    }
    fake_reply(vm, hdr, 0, access, msg->count);
}

static void answer_set_access(FakeVM *vm, const struct kvmi_msg_hdr *hdr,
                              const void *body)
{
    const struct kvmi_set_page_access *msg = body;
    int err = 0;
    unsigned i;

    g_assert_cmpuint(hdr->size, ==,
                     sizeof(*msg) + msg->count * sizeof(msg->entries[0]));
    for (i = 0; i < msg->count; i++) {
        uint64_t page = msg->entries[i].gpa / 4096;

        g_assert_cmpuint(page, <, FAKE_PAGES);
        if (page == FAKE_PAGES - 1) {
            err = -KVM_EINVAL;
        } else {
            vm->access[page] = msg->entries[i].access;
        }
    }
    vm->messages++;
    fake_reply(vm, hdr, err, NULL, 0);
}

void fake_answer(FakeVM *vm, const struct kvmi_msg_hdr *hdr,
                 const void *body)
{
    switch (hdr->id) {
    case KVMI_GET_VERSION: {
        struct kvmi_get_version_reply reply = {
            .version = KVMI_VERSION,
            .commands = KVMI_KNOWN_COMMANDS,
            .events = KVMI_KNOWN_EVENTS,
        };

        fake_reply(vm, hdr, 0, &reply, sizeof(reply));
        break;
    }
    case KVMI_GET_GUEST_INFO: {
        struct kvmi_get_guest_info_reply reply = {
            .vcpu_count = 2,
            .tsc_speed = 1000000000,
        };

        fake_reply(vm, hdr, 0, &reply, sizeof(reply));
        break;
    }
    case KVMI_READ_PHYSICAL: {
        const struct kvmi_read_physical *msg = body;

        g_assert_cmpuint(hdr->size, ==, sizeof(*msg));
        if (is_ram(msg->gpa, msg->size)) {
            fake_reply(vm, hdr, 0, vm->ram + msg->gpa, msg->size);
        } else {
            fake_reply(vm, hdr, -KVM_EINVAL, NULL, 0);
        }
        break;
    }
    case KVMI_WRITE_PHYSICAL: {
        const struct kvmi_write_physical *msg = body;

        g_assert_cmpuint(hdr->size, ==, sizeof(*msg) + msg->size);
        if (is_ram(msg->gpa, msg->size)) {
            memcpy(vm->ram + msg->gpa, msg->data, msg->size);
            fake_reply(vm, hdr, 0, NULL, 0);
        } else {
            fake_reply(vm, hdr, -KVM_EINVAL, NULL, 0);
        }
        break;
    }
    case KVMI_GET_REGISTERS:
        answer_registers(vm, hdr, body);
        break;
    case KVMI_SET_REGISTERS:
        vm->rax = ((const struct kvmi_set_registers *)body)->regs.rax;
        fake_reply(vm, hdr, 0, NULL, 0);
        break;
    case KVMI_GET_PAGE_ACCESS:
        answer_get_access(vm, hdr, body);
        break;
    case KVMI_SET_PAGE_ACCESS:
        answer_set_access(vm, hdr, body);
        break;
    case KVMI_CONTROL_EVENTS:
    case KVMI_CONTROL_VM_EVENTS:
    case KVMI_CONTROL_CR:
    case KVMI_CONTROL_MSR:
        fake_reply(vm, hdr, 0, NULL, 0);
        break;
    default:
        fake_reply(vm, hdr, -KVM_ENOSYS, NULL, 0);
    }
}

void fake_serve(FakeVM *vm)
{
    uint8_t body[KVMI_MSG_SIZE] __attribute__((aligned(8)));
    struct kvmi_msg_hdr hdr;

    fake_handshake(vm);
    while (fake_recv_message(vm, &hdr, body)) {
        if (hdr.id != KVMI_EVENT_REPLY) {
            fake_answer(vm, &hdr, body);
        }
    }
}
