/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests of the KVMI client library, against a VM played by a thread
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "fake-vm.h"
#include "kvmi-client.h"

/* Nothing here takes long: a test that hangs is to fail. */
#define HANG_SECONDS 60

#define assert_kvmi_error(err, code) \
    g_assert_error(err, KVMI_ERROR, KVMI_ERROR_ ## code)

typedef struct Body {
    uint8_t bytes[KVMI_MSG_SIZE] __attribute__((aligned(8)));
} Body;

static KvmiClient *connect_to(FakeVM *vm)
{
    GError *err = NULL;
    KvmiClient *client = kvmi_client_new_from_fd(vm->client_fd, NULL, &err);

    g_assert_no_error(err);
    g_assert_nonnull(client);
    return client;
}

static void finish(KvmiClient *client, FakeVM *vm)
{
    kvmi_client_free(client);
    fake_vm_free(vm);
}

/* The next message must be this command. */
static void expect(FakeVM *vm, struct kvmi_msg_hdr *hdr, Body *body,
                   uint16_t id)
{
    g_assert(fake_recv_message(vm, hdr, body));
    g_assert_cmpuint(hdr->id, ==, id);
}

/* The client must say nothing more. */
static void expect_end(FakeVM *vm)
{
    uint8_t byte;

    g_assert(!fake_recv(vm, &byte, 1));
}

/*
 * Handshake
 */

static void check_uuid(KvmiClient *client)
{
    unsigned i;

    for (i = 0; i < 16; i++) {
        g_assert_cmphex(kvmi_client_vm(client)->uuid[i], ==, 0x10 + i);
    }
}

static void script_handshake(FakeVM *vm)
{
    fake_handshake(vm);
    expect_end(vm);
}

static void check_handshake(size_t piece)
{
    static const uint8_t expected[24] = { 24 };
    FakeVM *vm = fake_vm_new(script_handshake, piece, NULL);
    KvmiClient *client = connect_to(vm);
    const KvmiVMInfo *info = kvmi_client_vm(client);

    check_uuid(client);
    g_assert_cmpuint(info->struct_size, ==, 96);
    g_assert_cmpstr(info->name, ==, "fake");
    g_assert_cmpint(info->start_time, ==, 1700000000);
    kvmi_client_free(client);
    fake_vm_join(vm);
    g_assert_cmpmem(vm->hello, sizeof(vm->hello), expected, sizeof(expected));
    fake_vm_free(vm);
}

static void test_handshake_bytes(void)
{
    check_handshake(0);
}

static void test_handshake_pieces(void)
{
    check_handshake(1);
}

static void test_handshake_cookie(void)
{
    /* SHA-1 of "secret" */
    static const uint8_t expected[24] = {
        24, 0, 0, 0,
        0xe5, 0xe9, 0xfa, 0x1b, 0xa3, 0x1e, 0xcd, 0x1a, 0xe8, 0x4f,
        0x75, 0xca, 0xaa, 0x47, 0x4f, 0x3a, 0x66, 0x3f, 0x05, 0xf4,
    };
    FakeVM *vm = fake_vm_new(script_handshake, 0, NULL);
    KvmiConfig config = {
        .key = (const uint8_t *)"secret",
        .key_size = 6,
        .auth = KVMI_AUTH_COOKIE,
    };
    KvmiClient *client;

    client = kvmi_client_new_from_fd(vm->client_fd, &config, NULL);
    g_assert_nonnull(client);
    kvmi_client_free(client);
    fake_vm_join(vm);
    g_assert_cmpmem(vm->hello, sizeof(vm->hello), expected, sizeof(expected));
    fake_vm_free(vm);
}

/* A VM that takes HMAC, and what it does then. */
typedef struct HmacVM {
    const char *key;
    uint32_t methods;           /* 0: it has no key */
    bool silent;                /* hang up instead of proving anything */
    uint8_t hello[136];
    uint8_t answer[92];
} HmacVM;

static void hmac_mac(const HmacVM *h, const char *name, uint8_t mac[32])
{
    g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA256,
                                       (const guchar *)h->key,
                                       strlen(h->key));
    char label[16] = { 0 };
    gsize size = 32;

    strcpy(label, name);
    g_hmac_update(hmac, (const guchar *)label, sizeof(label));
    g_hmac_update(hmac, h->hello, sizeof(h->hello));
    g_hmac_update(hmac, h->answer, sizeof(h->answer));
    g_hmac_get_digest(hmac, mac, &size);
}

static void script_hmac(FakeVM *vm)
{
    HmacVM *h = vm->opaque;
    uint32_t size = h->methods ? 136 : 96;
    struct {
        uint32_t struct_size;
        uint8_t mac[32];
    } proof = { .struct_size = sizeof(proof) };

    memset(h->hello, 0, sizeof(h->hello));
    memcpy(h->hello, &size, 4);
    memcpy(h->hello + 96, &h->methods, 4);
    memset(h->hello + 104, 0x51, 32);
    fake_send(vm, h->hello, size);
    if (!fake_recv(vm, h->answer, 24)) {
        return;                         /* it did not like the hello */
    }
    memcpy(&size, h->answer, 4);
    if (size == 24 || h->silent) {
        return;
    }
    g_assert_cmpuint(size, ==, sizeof(h->answer));
    g_assert(fake_recv(vm, h->answer + 24, size - 24));
    hmac_mac(h, "KVMI VM", proof.mac);
    fake_send(vm, &proof, sizeof(proof));
}

static KvmiClient *connect_hmac(HmacVM *h, FakeVM **vm, const char *key,
                                unsigned auth, GError **errp)
{
    KvmiConfig config = {
        .key = (const uint8_t *)key,
        .key_size = key ? strlen(key) : 0,
        .auth = auth,
    };

    *vm = fake_vm_new(script_hmac, 0, h);
    return kvmi_client_new_from_fd((*vm)->client_fd, &config, errp);
}

static void test_hmac(void)
{
    HmacVM first = { .key = "secret", .methods = KVMI_AUTH_HMAC };
    HmacVM second = first;
    uint8_t mac[32], expected[32];
    uint32_t method = KVMI_AUTH_HMAC;
    GError *err = NULL;
    FakeVM *vm;
    KvmiClient *client;

    client = connect_hmac(&first, &vm, "secret", 0, &err);
    g_assert_no_error(err);
    finish(client, vm);
    g_assert_cmpmem(first.answer + 24, 4, &method, 4);
    memcpy(mac, first.answer + 60, 32);
    memset(first.answer + 60, 0, 32);
    hmac_mac(&first, "KVMI tool", expected);
    g_assert_cmpmem(mac, 32, expected, 32);

    /* other numbers each time */
    client = connect_hmac(&second, &vm, "secret", 0, &err);
    g_assert_no_error(err);
    finish(client, vm);
    g_assert(memcmp(first.answer + 28, second.answer + 28, 32) != 0);
}

static void expect_hmac_error(HmacVM h, const char *key, unsigned auth,
                              const char *words)
{
    GError *err = NULL;
    FakeVM *vm;

    g_assert_null(connect_hmac(&h, &vm, key, auth, &err));
    g_assert_error(err, KVMI_ERROR, KVMI_ERROR_HANDSHAKE);
    g_assert_nonnull(strstr(err->message, words));
    g_error_free(err);
    fake_vm_join(vm);
    fake_vm_free(vm);
}

static void test_hmac_refused(void)
{
    HmacVM good = { .key = "secret", .methods = KVMI_AUTH_HMAC };
    HmacVM silent = good, other = good, cookie = good, none = good;

    /* the VM does not take our key, or has another one itself */
    silent.silent = true;
    expect_hmac_error(silent, "secret", 0, "refused the key");
    other.key = "another";
    expect_hmac_error(other, "secret", 0, "does not know the key");
    /* somebody has taken HMAC out of what the VM said */
    none.methods = 0;
    expect_hmac_error(none, "secret", 0, "does not prove");
    expect_hmac_error(none, "secret", KVMI_AUTH_HMAC, "does not prove");
    cookie.methods = KVMI_AUTH_COOKIE;
    expect_hmac_error(cookie, "secret", 0, "does not prove");
    expect_hmac_error(good, NULL, 0, "none was given");
}

static void test_hmac_or_cookie(void)
{
    HmacVM h = { .key = "secret" };
    GError *err = NULL;
    FakeVM *vm;
    KvmiClient *client = connect_hmac(&h, &vm, "secret",
                                      KVMI_AUTH_HMAC | KVMI_AUTH_COOKIE, &err);

    g_assert_no_error(err);
    finish(client, vm);
    g_assert_cmpuint(h.answer[4], ==, 0xe5);
    g_assert_cmpuint(h.answer[23], ==, 0xf4);
}

static void script_longer_handshake(FakeVM *vm)
{
    Body body;
    struct kvmi_msg_hdr hdr;

    fake_send_hello(vm, 10000);
    fake_recv_hello(vm);
    /* What follows must not be taken for a part of the handshake. */
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    fake_answer(vm, &hdr, &body);
}

static void test_handshake_longer(void)
{
    FakeVM *vm = fake_vm_new(script_longer_handshake, 0, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvmi_get_version_reply version;

    check_uuid(client);
    g_assert_cmpuint(kvmi_client_vm(client)->struct_size, ==, 10000);
    g_assert_cmpstr(kvmi_client_vm(client)->name, ==, "fake");
    g_assert(kvmi_get_version(client, &version, NULL));
    finish(client, vm);
}

static void script_shortest_handshake(FakeVM *vm)
{
    fake_send_hello(vm, 20);
    fake_recv_hello(vm);
}

static void test_handshake_shortest(void)
{
    FakeVM *vm = fake_vm_new(script_shortest_handshake, 0, NULL);
    KvmiClient *client = connect_to(vm);

    check_uuid(client);
    g_assert_cmpuint(kvmi_client_vm(client)->struct_size, ==, 20);
    g_assert_cmpstr(kvmi_client_vm(client)->name, ==, "");
    g_assert_cmpint(kvmi_client_vm(client)->start_time, ==, 0);
    finish(client, vm);
}

static void script_bad_size(FakeVM *vm)
{
    fake_send(vm, vm->opaque, 4);
    expect_end(vm);
}

static void check_bad_size(uint32_t size)
{
    FakeVM *vm = fake_vm_new(script_bad_size, 0, &size);
    GError *err = NULL;

    g_assert_null(kvmi_client_new_from_fd(vm->client_fd, NULL, &err));
    assert_kvmi_error(err, HANDSHAKE);
    g_assert_nonnull(strstr(err->message, "claims to have"));
    g_error_free(err);
    fake_vm_free(vm);
}

static void test_handshake_too_short(void)
{
    check_bad_size(0);
    check_bad_size(19);
}

static void test_handshake_too_long(void)
{
    check_bad_size(1024 * 1024 + 1);
    check_bad_size(UINT32_MAX);
}

static void script_silent(FakeVM *vm)
{
    fake_send(vm, "\x60\0\0\0half", 8);
    expect_end(vm);
}

static void test_handshake_silent(void)
{
    FakeVM *vm = fake_vm_new(script_silent, 0, NULL);
    KvmiConfig config = { .handshake_timeout_ms = 50 };
    GError *err = NULL;

    g_assert_null(kvmi_client_new_from_fd(vm->client_fd, &config, &err));
    assert_kvmi_error(err, HANDSHAKE);
    g_assert_nonnull(strstr(err->message, "8 bytes"));
    g_error_free(err);
    fake_vm_free(vm);
}

static void script_hangup(FakeVM *vm)
{
    fake_send(vm, "\x60\0\0\0", 4);
}

static void test_handshake_hangup(void)
{
    FakeVM *vm = fake_vm_new(script_hangup, 0, NULL);
    GError *err = NULL;

    g_assert_null(kvmi_client_new_from_fd(vm->client_fd, NULL, &err));
    assert_kvmi_error(err, HANDSHAKE);
    g_error_free(err);
    fake_vm_free(vm);
}

/*
 * Commands and replies
 */

/* What each command must send, after its header, and what it gets. */
typedef struct Exchange {
    uint16_t id;
    const void *msg;
    size_t size;
    const void *reply;
    size_t reply_size;
} Exchange;

static void script_exchanges(FakeVM *vm)
{
    const Exchange *x;
    struct kvmi_msg_hdr hdr;
    uint32_t last_seq = 0;
    Body body;

    fake_handshake(vm);
    for (x = vm->opaque; x->id; x++) {
        expect(vm, &hdr, &body, x->id);
        g_assert_cmpmem(body.bytes, hdr.size, x->msg, x->size);
        g_assert_cmpuint(hdr.seq, !=, last_seq);
        last_seq = hdr.seq;
        fake_reply(vm, &hdr, 0, x->reply, x->reply_size);
    }
    expect_end(vm);
}

static void test_vm_commands(void)
{
    static const struct kvmi_get_version_reply version = { 1, 2, 3, 0 };
    static const struct kvmi_get_guest_info guest_info = { 0 };
    static const struct kvmi_get_guest_info_reply guest = { 4, 0, 5 };
    static const struct kvmi_pause_all_vcpus_reply paused = { 7, 0 };
    static const struct kvmi_get_map_token_reply token = {
        { { 1, 2, 3, 4 } }
    };
    static const struct kvmi_control_vm_events vm_events = { 0x201, 0 };
    static const struct kvmi_read_physical read = { 0x1234, 4 };
    static const uint64_t write[] = { 0x5678, 8, 0x1122334455667788 };
    static const Exchange exchanges[] = {
        { KVMI_GET_VERSION, NULL, 0, &version, sizeof(version) },
        { KVMI_GET_GUEST_INFO, &guest_info, 8, &guest, sizeof(guest) },
        { KVMI_PAUSE_ALL_VCPUS, NULL, 0, &paused, sizeof(paused) },
        { KVMI_GET_MAP_TOKEN, NULL, 0, &token, sizeof(token) },
        { KVMI_CONTROL_VM_EVENTS, &vm_events, 8, NULL, 0 },
        { KVMI_READ_PHYSICAL, &read, 16, "abcd", 4 },
        { KVMI_WRITE_PHYSICAL, write, 24, NULL, 0 },
        { 0 }
    };
    FakeVM *vm = fake_vm_new(script_exchanges, 0, (void *)exchanges);
    KvmiClient *c = connect_to(vm);
    struct kvmi_get_version_reply v;
    struct kvmi_get_guest_info_reply g;
    struct kvmi_map_mem_token t;
    uint32_t count;
    char buf[4];

    g_assert(kvmi_get_version(c, &v, NULL));
    g_assert_cmpmem(&v, sizeof(v), &version, sizeof(version));
    g_assert(kvmi_get_guest_info(c, &g, NULL));
    g_assert_cmpmem(&g, sizeof(g), &guest, sizeof(guest));
    g_assert(kvmi_pause_all_vcpus(c, &count, NULL));
    g_assert_cmpuint(count, ==, 7);
    g_assert(kvmi_get_map_token(c, &t, NULL));
    g_assert_cmpmem(&t, sizeof(t), &token, sizeof(token));
    g_assert(kvmi_control_vm_events(c, 0x201, NULL));
    g_assert(kvmi_read_physical(c, 0x1234, buf, 4, NULL));
    g_assert_cmpmem(buf, 4, "abcd", 4);
    g_assert(kvmi_write_physical(c, 0x5678, &write[2], 8, NULL));
    finish(c, vm);
}

static void test_vcpu_commands(void)
{
    static const struct {
        struct kvmi_get_registers msg;
        uint32_t msrs[2];
    } get_registers = { { .vcpu = 1, .nmsrs = 2 }, { 0x10, 0xc0000082 } };
    static const struct {
        struct kvmi_get_registers_reply reply;
        struct kvm_msr_entry entries[2];
    } registers = {
        { .mode = 8, .regs = { .rip = 9 }, .sregs = { .cr3 = 10 },
          .msrs = { .nmsrs = 2 } },
        { { 0x10, 0, 11 }, { 0xc0000082, 0, 12 } },
    };
    static const struct kvmi_set_registers set_registers = {
        .vcpu = 1, .regs = { .rax = 1, .rflags = 2 },
    };
    static const struct kvmi_get_cpuid get_cpuid = {
        .vcpu = 1, .function = 7, .index = 2,
    };
    static const struct kvmi_get_cpuid_reply cpuid = { 1, 2, 3, 4 };
    static const struct kvmi_get_xsave get_xsave = { .vcpu = 1 };
    static const struct kvm_xsave xsave = { .region = { 5, 6 } };
    static const struct kvmi_inject_exception inject = {
        .vcpu = 1, .nr = 14, .has_error = 1, .error_code = 3,
        .address = 0x7000,
    };
    static const struct {
        struct kvmi_get_page_access msg;
        uint64_t gpas[2];
    } get_access = { { .vcpu = 1, .count = 2 }, { 0x1000, 0x2000 } };
    static const struct {
        struct kvmi_set_page_access msg;
        struct kvmi_page_access_entry entries[1];
    } set_access = { { .vcpu = 1, .count = 1 }, { { 0x3000, 5, { 0 } } } };
    static const struct kvmi_control_events events = { 1, 0, 6 };
    static const struct kvmi_control_cr cr = { 1, 1, 0, 3 };
    static const struct kvmi_control_msr msr = { 1, 0, 0, 0xc0000082 };
    const Exchange exchanges[] = {
        { KVMI_GET_REGISTERS, &get_registers, 16,
          &registers, sizeof(registers) },
        { KVMI_SET_REGISTERS, &set_registers, sizeof(set_registers), NULL, 0 },
        { KVMI_GET_CPUID, &get_cpuid, 16, &cpuid, sizeof(cpuid) },
        { KVMI_GET_XSAVE, &get_xsave, 8, &xsave, 4096 },
        { KVMI_INJECT_EXCEPTION, &inject, 16, NULL, 0 },
        { KVMI_GET_PAGE_ACCESS, &get_access, 24, "\7\5", 2 },
        { KVMI_SET_PAGE_ACCESS, &set_access, 24, NULL, 0 },
        { KVMI_CONTROL_EVENTS, &events, 8, NULL, 0 },
        { KVMI_CONTROL_CR, &cr, 8, NULL, 0 },
        { KVMI_CONTROL_MSR, &msr, 8, NULL, 0 },
        { 0 }
    };
    FakeVM *vm = fake_vm_new(script_exchanges, 0, (void *)exchanges);
    KvmiClient *c = connect_to(vm);
    struct kvmi_get_cpuid_reply leaf;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xsave image;
    uint64_t values[2];
    uint8_t access[2];
    uint32_t mode;

    g_assert(kvmi_get_registers(c, 1, get_registers.msrs, 2, &mode, &regs,
                                &sregs, values, NULL));
    g_assert_cmpuint(mode, ==, 8);
    g_assert_cmpuint(regs.rip, ==, 9);
    g_assert_cmpuint(sregs.cr3, ==, 10);
    g_assert_cmpuint(values[0], ==, 11);
    g_assert_cmpuint(values[1], ==, 12);
    g_assert(kvmi_set_registers(c, 1, &set_registers.regs, NULL));
    g_assert(kvmi_get_cpuid(c, 1, 7, 2, &leaf, NULL));
    g_assert_cmpmem(&leaf, sizeof(leaf), &cpuid, sizeof(cpuid));
    g_assert(kvmi_get_xsave(c, 1, &image, NULL));
    g_assert_cmpmem(&image, 4096, &xsave, 4096);
    g_assert(kvmi_inject_exception(c, 1, 14, true, 3, 0x7000, NULL));
    g_assert(kvmi_get_page_access(c, 1, get_access.gpas, 2, access, NULL));
    g_assert_cmpmem(access, 2, "\7\5", 2);
    g_assert(kvmi_set_page_access(c, 1, set_access.entries, 1, NULL));
    g_assert(kvmi_control_events(c, 1, 6, NULL));
    g_assert(kvmi_control_cr(c, 1, 3, true, NULL));
    g_assert(kvmi_control_msr(c, 1, 0xc0000082, false, NULL));
    finish(c, vm);
}

static void test_pieces(void)
{
    FakeVM *vm = fake_vm_new(fake_serve, 1, NULL);
    KvmiClient *client = connect_to(vm);
    uint8_t buf[4096];
    unsigned i;

    for (i = 0; i < 4; i++) {
        g_assert(kvmi_read_physical(client, 0x1000 + i, buf, 4096 - i, NULL));
        g_assert_cmpmem(buf, 4096 - i, vm->ram + 0x1000 + i, 4096 - i);
    }
    finish(client, vm);
}

static void script_longer_reply(FakeVM *vm)
{
    struct {
        struct kvmi_get_guest_info_reply known;
        uint8_t unknown[1000];
    } reply = { .known = { .vcpu_count = 3 } };
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_GUEST_INFO);
    memset(reply.unknown, 0xee, sizeof(reply.unknown));
    fake_reply(vm, &hdr, 0, &reply, sizeof(reply));
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    fake_answer(vm, &hdr, &body);
}

static void test_longer_reply(void)
{
    FakeVM *vm = fake_vm_new(script_longer_reply, 0, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvmi_get_guest_info_reply info;
    struct kvmi_get_version_reply version;

    g_assert(kvmi_get_guest_info(client, &info, NULL));
    g_assert_cmpuint(info.vcpu_count, ==, 3);
    g_assert(kvmi_get_version(client, &version, NULL));
    g_assert_cmpuint(version.version, ==, KVMI_VERSION);
    finish(client, vm);
}

static void script_shorter_reply(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_GUEST_INFO);
    fake_reply(vm, &hdr, 0, "1234", 4);
    expect_end(vm);
}

static void test_shorter_reply(void)
{
    FakeVM *vm = fake_vm_new(script_shorter_reply, 0, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvmi_get_guest_info_reply info;
    GError *err = NULL;

    g_assert(!kvmi_get_guest_info(client, &info, &err));
    assert_kvmi_error(err, PROTOCOL);
    g_error_free(err);
    finish(client, vm);
}

static const int engine_errors[] = {
    KVM_EPERM, KVM_ENOENT, KVM_E2BIG, KVM_EAGAIN, KVM_ENOMEM, KVM_EACCES,
    KVM_EFAULT, KVM_EBUSY, KVM_EINVAL, KVM_EOPNOTSUPP, KVM_ENOSYS,
};

static void script_errors(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;
    unsigned i;

    fake_handshake(vm);
    for (i = 0; i < G_N_ELEMENTS(engine_errors); i++) {
        expect(vm, &hdr, &body, KVMI_GET_XSAVE);
        fake_reply(vm, &hdr, -engine_errors[i], NULL, 0);
    }
    expect(vm, &hdr, &body, KVMI_GET_XSAVE);
    fake_reply(vm, &hdr, -12345, NULL, 0);
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    fake_answer(vm, &hdr, &body);
}

static void test_error_replies(void)
{
    FakeVM *vm = fake_vm_new(script_errors, 0, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvmi_get_version_reply version;
    struct kvm_xsave xsave;
    GError *err = NULL;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(engine_errors); i++) {
        const char *name = kvmi_engine_error_name(engine_errors[i]);

        g_assert(!kvmi_get_xsave(client, 3, &xsave, &err));
        g_assert_error(err, KVMI_ENGINE_ERROR, engine_errors[i]);
        g_assert_nonnull(strstr(err->message, name));
        g_assert_nonnull(strstr(err->message, "get-xsave"));
        g_assert_nonnull(strstr(err->message, "vCPU 3"));
        g_clear_error(&err);
    }
    g_assert(!kvmi_get_xsave(client, 3, &xsave, &err));
    g_assert_error(err, KVMI_ENGINE_ERROR, 12345);
    g_clear_error(&err);

    /* An error does no harm to the connection. */
    g_assert(kvmi_get_version(client, &version, NULL));
    finish(client, vm);
}

static void script_wrong_seq(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    hdr.seq += 1000;
    fake_answer(vm, &hdr, &body);
    expect_end(vm);
}

static void script_wrong_id(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    hdr.id = KVMI_GET_GUEST_INFO;
    fake_answer(vm, &hdr, &body);
    expect_end(vm);
}

static void script_no_error_code(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    hdr.size = 7;
    fake_send(vm, &hdr, sizeof(hdr));
    fake_send(vm, &body, 7);
    expect_end(vm);
}

static void script_positive_error(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    fake_reply(vm, &hdr, 22, NULL, 0);
    expect_end(vm);
}

static void script_short_event(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_VERSION);
    fake_event(vm, 1, KVMI_EVENT_CR, 0, "too short", 9);
    expect_end(vm);
}

/* The client must give such a VM up, and say why. */
static void test_bad_messages(void)
{
    FakeScript *const scripts[] = {
        script_wrong_seq, script_wrong_id, script_no_error_code,
        script_positive_error, script_short_event,
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(scripts); i++) {
        FakeVM *vm = fake_vm_new(scripts[i], 0, NULL);
        KvmiClient *client = connect_to(vm);
        struct kvmi_get_version_reply version;
        GError *err = NULL;

        g_assert(!kvmi_get_version(client, &version, &err));
        assert_kvmi_error(err, PROTOCOL);
        g_clear_error(&err);
        g_assert(!kvmi_get_version(client, &version, &err));
        assert_kvmi_error(err, PROTOCOL);
        g_error_free(err);
        finish(client, vm);
    }
}

static void test_message_too_long(void)
{
    FakeVM *vm = fake_vm_new(script_handshake, 0, NULL);
    KvmiClient *client = connect_to(vm);
    g_autofree uint8_t *buf = g_malloc0(5000);
    GError *err = NULL;

    g_assert(!kvmi_write_physical(client, 0, buf, 4081, &err));
    assert_kvmi_error(err, ARGUMENT);
    g_clear_error(&err);
    g_assert_null(kvmi_submit(client, KVMI_GET_VERSION, buf, 4097, NULL, 0,
                              false, &err));
    assert_kvmi_error(err, ARGUMENT);
    g_error_free(err);
    /* script_handshake checks that nothing was sent. */
    finish(client, vm);
}

/*
 * Many requests
 */

#define IN_FLIGHT 1000

/* Nothing is answered before all is there. */
static void script_pipelining(FakeVM *vm)
{
    g_autofree struct kvmi_msg_hdr *hdrs = g_new(struct kvmi_msg_hdr,
                                                 IN_FLIGHT);
    g_autofree Body *bodies = g_new(Body, IN_FLIGHT);
    unsigned i;

    fake_handshake(vm);
    for (i = 0; i < IN_FLIGHT; i++) {
        expect(vm, &hdrs[i], &bodies[i], KVMI_READ_PHYSICAL);
    }
    for (i = 0; i < IN_FLIGHT; i++) {
        fake_answer(vm, &hdrs[i], &bodies[i]);
    }
}

static void test_pipelining(void)
{
    FakeVM *vm = fake_vm_new(script_pipelining, 0, NULL);
    KvmiClient *client = connect_to(vm);
    KvmiRequest *requests[IN_FLIGHT];
    uint64_t values[IN_FLIGHT];
    unsigned i;

    for (i = 0; i < IN_FLIGHT; i++) {
        struct kvmi_read_physical msg = { .gpa = i * 8, .size = 8 };

        requests[i] = kvmi_submit(client, KVMI_READ_PHYSICAL,
                                  &msg, sizeof(msg), &values[i], 8,
                                  i % 10, NULL);
        g_assert_nonnull(requests[i]);
    }
    for (i = 0; i < IN_FLIGHT; i++) {
        g_assert(kvmi_request_finish(client, requests[i], 8, NULL, NULL,
                                     NULL));
        g_assert_cmpmem(&values[i], 8, vm->ram + i * 8, 8);
    }
    finish(client, vm);
}

/*
 * The VM answers one request after the other, and blocks where nobody reads
 * its answers.  The client must read although it wants to send.
 */
static void test_full_socket(void)
{
    enum { N = 3000 };
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    g_autofree KvmiRequest **requests = g_new(KvmiRequest *, N);
    g_autofree uint8_t *buf = g_malloc(N * 4096);
    unsigned i;

    for (i = 0; i < N; i++) {
        struct kvmi_read_physical msg = { .gpa = i % 100 * 4096,
                                          .size = 4096 };

        requests[i] = kvmi_submit(client, KVMI_READ_PHYSICAL,
                                  &msg, sizeof(msg), buf + i * 4096, 4096,
                                  false, NULL);
        g_assert_nonnull(requests[i]);
    }
    for (i = 0; i < N; i++) {
        g_assert(kvmi_request_finish(client, requests[i], 4096, NULL, NULL,
                                     NULL));
        g_assert_cmpmem(buf + i * 4096, 4096, vm->ram + i % 100 * 4096, 4096);
    }
    finish(client, vm);
}

/* vCPUs answer when they can, so not in the order of the commands. */
static void script_out_of_order(FakeVM *vm)
{
    struct kvmi_msg_hdr hdrs[3];
    Body bodies[3];
    unsigned i;

    fake_handshake(vm);
    for (i = 0; i < 3; i++) {
        expect(vm, &hdrs[i], &bodies[i], KVMI_GET_CPUID);
    }
    for (i = 3; i-- > 0; ) {
        struct kvmi_get_cpuid *msg = (struct kvmi_get_cpuid *)&bodies[i];
        struct kvmi_get_cpuid_reply reply = { .eax = msg->vcpu };

        fake_reply(vm, &hdrs[i], 0, &reply, sizeof(reply));
    }
}

static void test_out_of_order(void)
{
    FakeVM *vm = fake_vm_new(script_out_of_order, 0, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvmi_get_cpuid_reply replies[3];
    KvmiRequest *requests[3];
    unsigned i;

    for (i = 0; i < 3; i++) {
        struct kvmi_get_cpuid msg = { .vcpu = i };

        requests[i] = kvmi_submit(client, KVMI_GET_CPUID, &msg, sizeof(msg),
                                  &replies[i], sizeof(replies[i]), i < 2,
                                  NULL);
    }
    for (i = 0; i < 3; i++) {
        g_assert(kvmi_request_finish(client, requests[i], sizeof(replies[i]),
                                     NULL, NULL, NULL));
        g_assert_cmpuint(replies[i].eax, ==, i);
    }
    finish(client, vm);
}

/*
 * Memory
 */

static void test_memory_read(void)
{
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    g_autofree uint8_t *buf = g_malloc(FAKE_HOLE_START);
    GError *err = NULL;

    g_assert(kvmi_read_memory(client, 0x1fff, buf, 2, NULL));
    g_assert_cmpmem(buf, 2, vm->ram + 0x1fff, 2);
    g_assert(kvmi_read_memory(client, 3, buf, FAKE_HOLE_START - 3, NULL));
    g_assert_cmpmem(buf, FAKE_HOLE_START - 3, vm->ram + 3,
                    FAKE_HOLE_START - 3);

    g_assert(!kvmi_read_memory(client, FAKE_HOLE_START - 1, buf, 2, &err));
    g_assert_error(err, KVMI_ENGINE_ERROR, KVM_EINVAL);
    g_assert_nonnull(strstr(err->message, "0xa0000"));
    g_error_free(err);
    finish(client, vm);
}

static void test_memory_write(void)
{
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    g_autofree uint8_t *data = g_malloc(100000);
    GError *err = NULL;

    memset(data, 0x5a, 100000);
    g_assert(kvmi_write_memory(client, 0x1ffd, data, 100000, NULL));
    g_assert_cmphex(vm->ram[0x1ffc], ==, 0xfc ^ 0x1f);
    g_assert_cmpmem(vm->ram + 0x1ffd, 100000, data, 100000);
    g_assert_cmphex(vm->ram[0x1ffd + 100000], !=, 0x5a);

    g_assert(!kvmi_write_memory(client, FAKE_RAM_SIZE - 8, data, 16, &err));
    g_assert_error(err, KVMI_ENGINE_ERROR, KVM_EINVAL);
    g_error_free(err);
    finish(client, vm);
}

static void test_memory_holes(void)
{
    enum { N = FAKE_RAM_SIZE / 4096 + 10 };
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    g_autofree uint8_t *buf = g_malloc(N * 4096);
    uint8_t present[N];
    KvmiRead *read;
    unsigned i;

    read = kvmi_read_start(client, 0, N, buf, present, NULL);
    g_assert_nonnull(read);
    g_assert(kvmi_read_finish(client, read, NULL));
    for (i = 0; i < N; i++) {
        uint64_t gpa = i * 4096;
        bool ram = gpa < FAKE_RAM_SIZE &&
                   !(gpa >= FAKE_HOLE_START && gpa < FAKE_HOLE_END);

        g_assert_cmpint(present[i], ==, ram);
        if (ram) {
            g_assert_cmpmem(buf + gpa, 4096, vm->ram + gpa, 4096);
        }
    }
    g_assert(kvmi_probe(client, FAKE_HOLE_START - 8192, 4096, 4, present,
                        NULL));
    g_assert_cmpmem(present, 4, "\1\1\0\0", 4);
    finish(client, vm);
}

/*
 * Events
 */

static void script_event_before_reply(FakeVM *vm)
{
    struct kvmi_event_cr cr = { .cr = 3, .old_value = 1, .new_value = 2 };
    struct kvmi_event_msr msr = { .msr = 0xc0000082, .new_value = 7 };
    struct kvmi_event_reply *reply;
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_GUEST_INFO);
    fake_event(vm, 77, KVMI_EVENT_CR, 1, &cr, sizeof(cr));
    fake_event(vm, 78, KVMI_EVENT_MSR, 0, &msr, sizeof(msr));
    fake_answer(vm, &hdr, &body);

    expect(vm, &hdr, &body, KVMI_EVENT_REPLY);
    g_assert_cmpuint(hdr.seq, ==, 77);
    g_assert_cmpuint(hdr.size, ==, 16);
    reply = (struct kvmi_event_reply *)&body;
    g_assert_cmpuint(reply->action, ==, KVMI_EVENT_ACTION_CONTINUE);
    g_assert_cmpuint(reply->event, ==, KVMI_EVENT_CR);
    g_assert_cmpuint(*(uint64_t *)(reply + 1), ==, 2);

    expect(vm, &hdr, &body, KVMI_EVENT_REPLY);
    g_assert_cmpuint(hdr.seq, ==, 78);
    g_assert_cmpuint(hdr.size, ==, 16);
    g_assert_cmpuint(reply->event, ==, KVMI_EVENT_MSR);
    g_assert_cmpuint(*(uint64_t *)(reply + 1), ==, 7);
    expect_end(vm);
}

static void check_event_before_reply(size_t piece)
{
    FakeVM *vm = fake_vm_new(script_event_before_reply, piece, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvmi_get_guest_info_reply info;
    KvmiEvent *event;

    g_assert(kvmi_get_guest_info(client, &info, NULL));
    g_assert_cmpuint(info.vcpu_count, ==, 2);

    g_assert(kvmi_next_event(client, 0, &event, NULL));
    g_assert_nonnull(event);
    g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_CR);
    g_assert_cmpuint(event->common.vcpu, ==, 1);
    g_assert_cmphex(event->common.regs.rip, ==, 0xffffffff81000000 + 77);
    g_assert_cmpuint(event->cr.cr, ==, 3);
    g_assert_cmpuint(event->cr.old_value, ==, 1);
    g_assert_cmpuint(event->cr.new_value, ==, 2);
    g_assert(kvmi_event_continue(client, event, NULL));
    kvmi_event_free(event);

    g_assert(kvmi_next_event(client, -1, &event, NULL));
    g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_MSR);
    g_assert_cmphex(event->msr.msr, ==, 0xc0000082);
    g_assert(kvmi_event_continue(client, event, NULL));
    kvmi_event_free(event);
    finish(client, vm);
}

static void test_event_before_reply(void)
{
    check_event_before_reply(0);
}

static void test_event_pieces(void)
{
    check_event_before_reply(1);
}

/* The size of the reply to each event: abi. */
static const struct {
    uint32_t event;
    size_t own_size;
    size_t reply_size;
} event_sizes[] = {
    { KVMI_EVENT_UNHOOK, 0, 8 },
    { KVMI_EVENT_CR, 24, 16 },
    { KVMI_EVENT_MSR, 24, 16 },
    { KVMI_EVENT_XSETBV, 0, 8 },
    { KVMI_EVENT_BREAKPOINT, 8, 8 },
    { KVMI_EVENT_HYPERCALL, 0, 8 },
    { KVMI_EVENT_PF, 24, 8 + 264 },
    { KVMI_EVENT_TRAP, 24, 8 },
    { KVMI_EVENT_DESCRIPTOR, 24, 8 },
    { KVMI_EVENT_CREATE_VCPU, 0, 8 },
    { KVMI_EVENT_PAUSE_VCPU, 0, 8 },
};

static void script_all_events(FakeVM *vm)
{
    static const uint8_t own[64] = { 0 };
    struct kvmi_event_reply *reply;
    struct kvmi_msg_hdr hdr;
    Body body;
    unsigned i;

    fake_handshake(vm);
    for (i = 0; i < G_N_ELEMENTS(event_sizes); i++) {
        fake_event(vm, i, event_sizes[i].event, 0, own,
                   event_sizes[i].own_size);
        expect(vm, &hdr, &body, KVMI_EVENT_REPLY);
        reply = (struct kvmi_event_reply *)&body;
        g_assert_cmpuint(hdr.seq, ==, i);
        g_assert_cmpuint(hdr.size, ==, event_sizes[i].reply_size);
        g_assert_cmpuint(reply->event, ==, event_sizes[i].event);
        g_assert_cmpuint(reply->action, ==, KVMI_EVENT_ACTION_CONTINUE);
    }
    /* And an action of the tool's choosing. */
    fake_event(vm, 99, KVMI_EVENT_CR, 0, own, 24);
    expect(vm, &hdr, &body, KVMI_EVENT_REPLY);
    reply = (struct kvmi_event_reply *)&body;
    g_assert_cmpuint(hdr.size, ==, 16);
    g_assert_cmpuint(reply->action, ==, KVMI_EVENT_ACTION_CRASH);
    g_assert_cmpuint(*(uint64_t *)(reply + 1), ==, 5);
}

static void test_event_replies(void)
{
    struct kvmi_event_cr_reply cr = { .new_val = 5 };
    FakeVM *vm = fake_vm_new(script_all_events, 0, NULL);
    KvmiClient *client = connect_to(vm);
    KvmiEvent *event;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(event_sizes); i++) {
        g_assert(kvmi_next_event(client, -1, &event, NULL));
        g_assert_cmpuint(event->common.event, ==, event_sizes[i].event);
        g_assert(kvmi_event_continue(client, event, NULL));
        kvmi_event_free(event);
    }
    g_assert(kvmi_next_event(client, -1, &event, NULL));
    g_assert(kvmi_event_reply(client, event, KVMI_EVENT_ACTION_CRASH,
                              &cr, sizeof(cr), NULL));
    kvmi_event_free(event);
    finish(client, vm);
}

static void test_no_event(void)
{
    FakeVM *vm = fake_vm_new(script_handshake, 0, NULL);
    KvmiClient *client = connect_to(vm);
    gint64 start = g_get_monotonic_time();
    KvmiEvent *event;

    g_assert(kvmi_next_event(client, 0, &event, NULL));
    g_assert_null(event);
    g_assert(kvmi_next_event(client, 300, &event, NULL));
    g_assert_null(event);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 300000);
    finish(client, vm);
}

/*
 * Unhooking: events off on the vCPUs that have any, and an answer to the
 * event that came before they were off.
 */
static void script_unhook(FakeVM *vm)
{
    struct kvmi_event_cr cr = { .cr = 3, .new_value = 9 };
    struct kvmi_control_events *control;
    struct kvmi_msg_hdr hdr;
    Body body;
    unsigned i;

    fake_handshake(vm);
    for (i = 0; i < 3; i++) {
        expect(vm, &hdr, &body, KVMI_CONTROL_EVENTS);
        fake_answer(vm, &hdr, &body);
    }
    expect(vm, &hdr, &body, KVMI_CONTROL_VM_EVENTS);
    fake_answer(vm, &hdr, &body);

    control = (struct kvmi_control_events *)&body;
    expect(vm, &hdr, &body, KVMI_CONTROL_EVENTS);
    g_assert_cmpuint(control->vcpu, ==, 1);
    g_assert_cmpuint(control->events, ==, 0);
    fake_event(vm, 5, KVMI_EVENT_CR, 1, &cr, sizeof(cr));
    fake_answer(vm, &hdr, &body);
    expect(vm, &hdr, &body, KVMI_CONTROL_VM_EVENTS);
    g_assert_cmpuint(((struct kvmi_control_vm_events *)&body)->events, ==, 0);
    fake_answer(vm, &hdr, &body);

    expect(vm, &hdr, &body, KVMI_EVENT_REPLY);
    g_assert_cmpuint(hdr.seq, ==, 5);
    g_assert_cmpuint(*(uint64_t *)(body.bytes + 8), ==, 9);
    expect_end(vm);
}

static void test_unhook(void)
{
    FakeVM *vm = fake_vm_new(script_unhook, 0, NULL);
    KvmiClient *client = connect_to(vm);

    g_assert(kvmi_control_events(client, 0, KVMI_EVENT_CR_FLAG, NULL));
    g_assert(kvmi_control_events(client, 1, KVMI_EVENT_CR_FLAG, NULL));
    g_assert(kvmi_control_events(client, 0, 0, NULL));
    g_assert(kvmi_control_vm_events(client, KVMI_EVENT_UNHOOK_FLAG, NULL));
    g_assert(kvmi_client_unhook(client, NULL, NULL, NULL));
    finish(client, vm);
}

/* It was asked for registers, and answers only when asked for the next. */
static void script_cancelled_command(FakeVM *vm)
{
    struct kvmi_msg_hdr first, hdr;
    Body first_body, body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_CONTROL_EVENTS);
    fake_answer(vm, &hdr, &body);
    expect(vm, &first, &first_body, KVMI_GET_REGISTERS);
    kvmi_cancel(vm->opaque);
    /* The client must wait with its next command: the vCPU would refuse it. */
    g_usleep(2 * KVMI_CANCEL_LATENCY_MS * 1000);
    g_assert_cmpint(recv(vm->fd, &hdr, sizeof(hdr), MSG_DONTWAIT), ==, -1);
    fake_answer(vm, &first, &first_body);
    expect(vm, &hdr, &body, KVMI_CONTROL_EVENTS);
    fake_answer(vm, &hdr, &body);
    expect_end(vm);
}

static void test_unhook_cancelled(void)
{
    KvmiCancel cancel = { 0 };
    KvmiConfig config = { .cancel = &cancel };
    FakeVM *vm = fake_vm_new(script_cancelled_command, 0, &cancel);
    KvmiClient *client = kvmi_client_new_from_fd(vm->client_fd, &config,
                                                 NULL);
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    GError *err = NULL;
    uint32_t mode;

    g_assert_nonnull(client);
    g_assert(kvmi_control_events(client, 0, KVMI_EVENT_CR_FLAG, NULL));
    g_assert(!kvmi_get_registers(client, 0, NULL, 0, &mode, &regs, &sregs,
                                 NULL, &err));
    assert_kvmi_error(err, CANCELLED);
    g_clear_error(&err);
    kvmi_cancel_reset(&cancel);
    g_assert(kvmi_client_unhook(client, NULL, NULL, &err));
    g_assert_no_error(err);
    finish(client, vm);
}

/*
 * Page access
 */

static void check_access(FakeVM *vm, unsigned first, unsigned n,
                         uint8_t access)
{
    unsigned i;

    for (i = 0; i < FAKE_PAGES; i++) {
        g_assert_cmpuint(vm->access[i], ==,
                         i >= first && i - first < n ? access
                                                     : KVMI_PAGE_ACCESS_ALL);
    }
}

/* More than fits one message, and exactly what fits. */
static void test_access_range(void)
{
    static const unsigned counts[] = { 1, 255, 256, 511, 512, 1100 };
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    uint8_t access[FAKE_PAGES];
    GError *err = NULL;
    unsigned i, j;

    for (i = 0; i < G_N_ELEMENTS(counts); i++) {
        unsigned n = counts[i];

        g_assert(kvmi_set_access(client, 7 * 4096 + 123, n,
                                 KVMI_PAGE_ACCESS_R, &err));
        g_assert_no_error(err);
        check_access(vm, 7, n, KVMI_PAGE_ACCESS_R);
        g_assert(kvmi_get_access(client, 6 * 4096, n + 2, access, &err));
        g_assert_no_error(err);
        for (j = 0; j < n + 2; j++) {
            g_assert_cmpuint(access[j], ==,
                             j == 0 || j == n + 1 ? KVMI_PAGE_ACCESS_ALL
                                                  : KVMI_PAGE_ACCESS_R);
        }
        g_assert(kvmi_set_access(client, 7 * 4096, n, KVMI_PAGE_ACCESS_ALL,
                                 NULL));
        check_access(vm, 0, 0, 0);
    }
    finish(client, vm);
}

/* What was taken is given back, in few messages, and nothing else. */
static void test_access_unhook(void)
{
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    GError *err = NULL;

    g_assert(kvmi_set_access(client, 0, 200, KVMI_PAGE_ACCESS_R, NULL));
    g_assert(kvmi_set_access(client, 300 * 4096, 1, 0, NULL));
    g_assert(kvmi_set_access(client, 100 * 4096, 1, KVMI_PAGE_ACCESS_ALL,
                             NULL));
    vm->messages = 0;
    g_assert(kvmi_client_unhook(client, NULL, NULL, &err));
    g_assert_no_error(err);
    g_assert_cmpuint(vm->messages, ==, 3);
    check_access(vm, 0, 0, 0);

    /* There is nothing more to give back. */
    vm->messages = 0;
    g_assert(kvmi_client_unhook(client, NULL, NULL, NULL));
    g_assert_cmpuint(vm->messages, ==, 0);
    finish(client, vm);
}

/* A page that is refused, the last of several: the others are given back. */
static void test_access_refused(void)
{
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    GError *err = NULL;

    g_assert(!kvmi_set_access(client, (FAKE_PAGES - 3) * 4096, 3,
                              KVMI_PAGE_ACCESS_X, &err));
    g_assert_error(err, KVMI_ENGINE_ERROR, KVM_EINVAL);
    g_assert_nonnull(strstr(err->message, "not RAM"));
    g_clear_error(&err);
    check_access(vm, FAKE_PAGES - 3, 2, KVMI_PAGE_ACCESS_X);
    g_assert(kvmi_client_unhook(client, NULL, NULL, &err));
    g_assert_no_error(err);
    check_access(vm, 0, 0, 0);
    finish(client, vm);
}

/*
 * Virtual addresses
 */

#define PG 0x80000000
#define PSE 0x10
#define PAE 0x20
#define LA57 0x1000
#define LMA 0x400

static void put_entry(FakeVM *vm, uint64_t gpa, unsigned size, uint64_t entry)
{
    memcpy(vm->ram + gpa, &entry, size);
}

/* Each a way of the page tables, which begin at 0x10000. */
static void test_translate(void)
{
    static const struct {
        uint64_t cr0, cr4, efer;
        uint64_t gva;
        struct {
            uint64_t gpa, entry;
        } entries[5];
        uint64_t gpa;           /* or 0 where it is not mapped */
    } ways[] = {
        { 0, 0, 0, 0x12345, { }, 0x12345 },
        /* 32 bits: 4 KiB, 4 MiB with bits 32 to 34, and PSE not on */
        { PG, 0, 0, 0xc0401234,
          { { 0x10c04, 0x11001 }, { 0x11004, 0x33001 } }, 0x33234 },
        { PG, PSE, 0, 0xc0701234, { { 0x10c04, 0x00c06081 } }, 0x300f01234 },
        { PG, 0, 0, 0xc0401234,
          { { 0x10c04, 0x11081 }, { 0x11004, 0x33001 } }, 0x33234 },
        { PG, PSE, 0, 0xc0401234,
          { { 0x10c04, 0x11001 }, { 0x11004, 0x33080 } }, 0 },
        /* PAE: 4 KiB, with NX, and 2 MiB */
        { PG, PAE, 0, 0x40201234,
          { { 0x10008, 0x11001 }, { 0x11008, 0x12001 },
            { 0x12008, 0x8000000033000001 } }, 0x33000234 },
        { PG, PAE, 0, 0x40312345,
          { { 0x10008, 0x11001 }, { 0x11008, 0x800000af00200081 } },
          0xaf00312345 },
        { PG, PAE, 0, 0x40312345, { { 0x10008, 0x11000 } }, 0 },
        /* 4 levels: 4 KiB, 2 MiB, 1 GiB */
        { PG, PAE, LMA, 0xffff808040201234,
          { { 0x10808, 0x11003 }, { 0x11008, 0x12003 }, { 0x12008, 0x13003 },
            { 0x13008, 0x8000000000033003 } }, 0x33234 },
        { PG, PAE, LMA, 0xffff808040312345,
          { { 0x10808, 0x11003 }, { 0x11008, 0x12003 },
            { 0x12008, 0x8000000000401083 } }, 0x512345 },
        { PG, PAE, LMA, 0xffff808052345678,
          { { 0x10808, 0x11003 }, { 0x11008, 0x8000000080001083 } },
          0x92345678 },
        { PG, PAE, LMA, 0xffff808040201234,
          { { 0x10808, 0x11003 }, { 0x11008, 0x12003 }, { 0x12008, 0x13003 },
            { 0x13008, 0x33002 } }, 0 },
        /* 5 levels */
        { PG, PAE | LA57, LMA, 0xff02808040201234,
          { { 0x10810, 0x14003 }, { 0x14808, 0x11003 }, { 0x11008, 0x12003 },
            { 0x12008, 0x13003 }, { 0x13008, 0x33002 } }, 0 },
        { PG, PAE | LA57, LMA, 0xff02808040201234,
          { { 0x10810, 0x14003 }, { 0x14808, 0x11003 }, { 0x11008, 0x12003 },
            { 0x12008, 0x13003 }, { 0x13008, 0x33003 } }, 0x33234 },
    };
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    unsigned i, j;

    for (i = 0; i < G_N_ELEMENTS(ways); i++) {
        struct kvm_sregs sregs = {
            .cr0 = ways[i].cr0,
            .cr3 = 0x10000,
            .cr4 = ways[i].cr4,
            .efer = ways[i].efer,
        };
        unsigned size = ways[i].cr4 & PAE ? 8 : 4;
        GError *err = NULL;
        uint64_t gpa = 0;

        memset(vm->ram + 0x10000, 0, 0x10000);
        for (j = 0; j < G_N_ELEMENTS(ways[i].entries); j++) {
            if (ways[i].entries[j].gpa) {
                put_entry(vm, ways[i].entries[j].gpa, size,
                          ways[i].entries[j].entry);
            }
        }
        if (ways[i].gpa) {
            g_assert(kvmi_translate(client, &sregs, ways[i].gva, &gpa, &err));
            g_assert_no_error(err);
            g_assert_cmphex(gpa, ==, ways[i].gpa);
        } else {
            g_assert(!kvmi_translate(client, &sregs, ways[i].gva, &gpa, &err));
            assert_kvmi_error(err, NOT_MAPPED);
            g_error_free(err);
        }
    }
    finish(client, vm);
}

/* Two pages that are no neighbours, and then one that is not there */
static void test_read_virtual(void)
{
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvm_sregs sregs = { .cr0 = PG, .cr3 = 0x10000 };
    uint8_t buf[0x3000];
    GError *err = NULL;
    size_t done;

    memset(vm->ram + 0x10000, 0, 0x10000);
    put_entry(vm, 0x10000, 4, 0x11001);
    put_entry(vm, 0x11000, 4, 0x33001);
    put_entry(vm, 0x11004, 4, 0x55001);
    g_assert(kvmi_read_virtual(client, &sregs, 0xff0, buf, 0x20, &done,
                               &err));
    g_assert_no_error(err);
    g_assert_cmpuint(done, ==, 0x20);
    g_assert_cmpmem(buf, 0x10, vm->ram + 0x33ff0, 0x10);
    g_assert_cmpmem(buf + 0x10, 0x10, vm->ram + 0x55000, 0x10);

    g_assert(!kvmi_read_virtual(client, &sregs, 0x10, buf, 0x2000, &done,
                                &err));
    assert_kvmi_error(err, NOT_MAPPED);
    g_error_free(err);
    g_assert_cmpuint(done, ==, 0x1ff0);
    finish(client, vm);
}

/*
 * Ends, expected and not
 */

static void script_die_before_reply(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_READ_PHYSICAL);
}

static void script_die_in_header(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_READ_PHYSICAL);
    fake_send(vm, &hdr, 5);
}

static void script_die_in_reply(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_READ_PHYSICAL);
    hdr.size = 8 + 4096;
    memset(&body, 0, sizeof(body));
    fake_send(vm, &hdr, sizeof(hdr));
    fake_send(vm, &body, 2000);
}

static void test_disconnect_in_command(void)
{
    FakeScript *const scripts[] = {
        script_die_before_reply, script_die_in_header, script_die_in_reply,
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(scripts); i++) {
        FakeVM *vm = fake_vm_new(scripts[i], 0, NULL);
        KvmiClient *client = connect_to(vm);
        uint8_t buf[4096];
        GError *err = NULL;

        g_assert(!kvmi_read_physical(client, 0, buf, 4096, &err));
        assert_kvmi_error(err, DISCONNECTED);
        g_assert_nonnull(strstr(err->message, "fake"));
        g_clear_error(&err);
        g_assert(!kvmi_read_physical(client, 0, buf, 4096, &err));
        assert_kvmi_error(err, DISCONNECTED);
        g_clear_error(&err);
        g_assert(!kvmi_client_unhook(client, NULL, NULL, &err));
        assert_kvmi_error(err, DISCONNECTED);
        g_error_free(err);
        finish(client, vm);
    }
}

static void script_die_in_pipeline(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;
    unsigned i;

    fake_handshake(vm);
    for (i = 0; i < 10; i++) {
        expect(vm, &hdr, &body, KVMI_READ_PHYSICAL);
        fake_answer(vm, &hdr, &body);
    }
}

static void test_disconnect_in_pipeline(void)
{
    FakeVM *vm = fake_vm_new(script_die_in_pipeline, 0, NULL);
    KvmiClient *client = connect_to(vm);
    g_autofree uint8_t *buf = g_malloc(100 * 4096);
    GError *err = NULL;

    g_assert(!kvmi_read_memory(client, 0, buf, 100 * 4096, &err));
    assert_kvmi_error(err, DISCONNECTED);
    g_error_free(err);
    finish(client, vm);
}

static void script_die(FakeVM *vm)
{
    fake_handshake(vm);
    g_usleep(20000);
}

static void test_disconnect_waiting(void)
{
    FakeVM *vm = fake_vm_new(script_die, 0, NULL);
    KvmiClient *client = connect_to(vm);
    KvmiEvent *event;
    GError *err = NULL;

    g_assert(!kvmi_next_event(client, -1, &event, &err));
    assert_kvmi_error(err, DISCONNECTED);
    g_error_free(err);
    finish(client, vm);
}

static void *cancel_soon(void *opaque)
{
    g_usleep(20000);
    kvmi_cancel(opaque);
    return NULL;
}

static void test_cancel(void)
{
    FakeVM *vm = fake_vm_new(fake_serve, 0, NULL);
    KvmiCancel cancel = { 0 };
    KvmiConfig config = { .cancel = &cancel };
    KvmiClient *client = kvmi_client_new_from_fd(vm->client_fd, &config, NULL);
    struct kvmi_get_version_reply version;
    GThread *thread;
    KvmiEvent *event;
    GError *err = NULL;

    g_assert_nonnull(client);
    thread = g_thread_new("cancel", cancel_soon, &cancel);
    g_assert(!kvmi_next_event(client, -1, &event, &err));
    assert_kvmi_error(err, CANCELLED);
    g_error_free(err);
    g_thread_join(thread);

    kvmi_cancel_reset(&cancel);
    g_assert(kvmi_get_version(client, &version, NULL));
    finish(client, vm);
}

/* The reply that comes too late must not be taken for the next one's. */
static void script_late(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr, next;
    Body body;

    fake_handshake(vm);
    expect(vm, &hdr, &body, KVMI_GET_XSAVE);
    expect(vm, &next, &body, KVMI_GET_VERSION);
    fake_reply(vm, &hdr, 0, &body, 4096);
    fake_answer(vm, &next, &body);
}

static void test_timeout(void)
{
    FakeVM *vm = fake_vm_new(script_late, 0, NULL);
    KvmiClient *client = connect_to(vm);
    struct kvmi_get_version_reply version;
    struct kvm_xsave xsave;
    GError *err = NULL;

    kvmi_client_set_reply_timeout(client, 30);
    g_assert(!kvmi_get_xsave(client, 0, &xsave, &err));
    assert_kvmi_error(err, TIMEOUT);
    g_error_free(err);
    kvmi_client_set_reply_timeout(client, 0);
    g_assert(kvmi_get_version(client, &version, NULL));
    g_assert_cmpuint(version.version, ==, KVMI_VERSION);
    finish(client, vm);
}

/*
 * Threads
 */

#define THREADS 4
#define PER_THREAD 2000
#define THREAD_EVENTS 100

/* Events come now and then, while several threads send commands. */
static void script_threads(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    unsigned commands = 0, events = 0, replies = 0;
    Body body;

    fake_handshake(vm);
    while (commands < THREADS * PER_THREAD || replies < THREAD_EVENTS) {
        g_assert(fake_recv_message(vm, &hdr, &body));
        if (hdr.id == KVMI_EVENT_REPLY) {
            replies++;
            continue;
        }
        if (++commands % 20 == 0 && events < THREAD_EVENTS) {
            fake_event(vm, events++, KVMI_EVENT_PAUSE_VCPU, 0, NULL, 0);
        }
        fake_answer(vm, &hdr, &body);
    }
}

static void *command_thread(void *opaque)
{
    KvmiClient *client = opaque;
    unsigned i;

    for (i = 0; i < PER_THREAD; i++) {
        uint64_t gpa = g_random_int_range(0, 0x10000), value = 0;
        uint32_t j, expected;

        g_assert(kvmi_read_physical(client, gpa & ~7, &value, 8, NULL));
        for (j = 0; j < 8; j++) {
            uint32_t a = (gpa & ~7) + j;

            expected = (a ^ a >> 8 ^ a >> 16) & 0xff;
            g_assert_cmphex(value >> (j * 8) & 0xff, ==, expected);
        }
    }
    return NULL;
}

static void *event_thread(void *opaque)
{
    KvmiClient *client = opaque;
    KvmiEvent *event;
    unsigned i;

    for (i = 0; i < THREAD_EVENTS; i++) {
        g_assert(kvmi_next_event(client, -1, &event, NULL));
        g_assert_cmpuint(event->seq, ==, i);
        g_assert(kvmi_event_continue(client, event, NULL));
        kvmi_event_free(event);
    }
    return NULL;
}

static void test_threads(void)
{
    FakeVM *vm = fake_vm_new(script_threads, 0, NULL);
    KvmiClient *client = connect_to(vm);
    GThread *threads[THREADS + 1];
    unsigned i;

    threads[THREADS] = g_thread_new("events", event_thread, client);
    for (i = 0; i < THREADS; i++) {
        threads[i] = g_thread_new("commands", command_thread, client);
    }
    for (i = 0; i < THREADS + 1; i++) {
        g_thread_join(threads[i]);
    }
    finish(client, vm);
}

/*
 * A thread that waits for an event reads everybody's replies.  Those whose
 * replies it reads must be woken at once, not when they look by themselves.
 */
static void script_handover(FakeVM *vm)
{
    struct kvmi_msg_hdr hdr;
    Body body;
    unsigned i;

    fake_handshake(vm);
    for (i = 0; i < PER_THREAD; i++) {
        expect(vm, &hdr, &body, KVMI_READ_PHYSICAL);
        fake_answer(vm, &hdr, &body);
    }
    for (i = 0; i < THREAD_EVENTS; i++) {
        fake_event(vm, i, KVMI_EVENT_PAUSE_VCPU, 0, NULL, 0);
        expect(vm, &hdr, &body, KVMI_EVENT_REPLY);
    }
}

static void test_handover(void)
{
    FakeVM *vm = fake_vm_new(script_handover, 0, NULL);
    KvmiClient *client = connect_to(vm);
    gint64 start = g_get_monotonic_time();
    GThread *thread = g_thread_new("events", event_thread, client);

    g_usleep(20000);
    command_thread(client);
    g_thread_join(thread);
    g_assert_cmpint(g_get_monotonic_time() - start, <,
                    PER_THREAD * KVMI_CANCEL_LATENCY_MS * 1000LL / 20);
    finish(client, vm);
}

/*
 * Addresses
 */

typedef struct TmpDir {
    char *dir;
    char *path;
} TmpDir;

static void tmp_begin(TmpDir *tmp)
{
    tmp->dir = g_dir_make_tmp("kvmi-test-XXXXXX", NULL);
    g_assert_nonnull(tmp->dir);
    tmp->path = g_build_filename(tmp->dir, "sock", NULL);
}

static void tmp_end(TmpDir *tmp)
{
    g_unlink(tmp->path);
    g_assert_cmpint(g_rmdir(tmp->dir), ==, 0);
    g_free(tmp->path);
    g_free(tmp->dir);
}

static void check_path_exists(const char *path, const char *hint)
{
    GError *err = NULL;

    g_assert_null(kvmi_listener_new(path, &err));
    assert_kvmi_error(err, PATH_EXISTS);
    g_assert_nonnull(strstr(err->message, path));
    g_assert_nonnull(strstr(err->message, hint));
    g_error_free(err);
}

static int listen_at(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    g_strlcpy(sa.sun_path, path, sizeof(sa.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static void test_path_exists(void)
{
    TmpDir tmp;
    int fd;

    tmp_begin(&tmp);
    g_assert(g_file_set_contents(tmp.path, "precious", -1, NULL));
    check_path_exists(tmp.path, "no socket");
    g_assert(g_file_test(tmp.path, G_FILE_TEST_IS_REGULAR));
    g_unlink(tmp.path);

    fd = listen_at(tmp.path);
    check_path_exists(tmp.path, "somebody listens");
    close(fd);
    check_path_exists(tmp.path, "remove it");
    g_assert(g_file_test(tmp.path, G_FILE_TEST_EXISTS));
    tmp_end(&tmp);
}

static void test_path_removed(void)
{
    KvmiListener *listener;
    TmpDir tmp;

    tmp_begin(&tmp);
    listener = kvmi_listener_new(tmp.path, NULL);
    g_assert_nonnull(listener);
    g_assert(g_file_test(tmp.path, G_FILE_TEST_EXISTS));
    kvmi_listener_free(listener);
    g_assert(!g_file_test(tmp.path, G_FILE_TEST_EXISTS));

    /* Not what somebody else has put there. */
    listener = kvmi_listener_new(tmp.path, NULL);
    g_unlink(tmp.path);
    g_assert(g_file_set_contents(tmp.path, "precious", -1, NULL));
    kvmi_listener_free(listener);
    g_assert(g_file_test(tmp.path, G_FILE_TEST_EXISTS));
    tmp_end(&tmp);
}

static void test_bad_addresses(void)
{
    static const char *const addresses[] = {
        "", "unix:", "name", "tcp:", "tcp:host", "tcp::1", "vsock:1",
        "vsock:x:1", "vsock:1:x",
    };
    g_autofree char *too_long = g_strnfill(200, '/');
    GError *err = NULL;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(addresses); i++) {
        g_assert_null(kvmi_listener_new(addresses[i], &err));
        assert_kvmi_error(err, ADDRESS);
        g_clear_error(&err);
        g_assert_null(kvmi_connect(addresses[i], NULL, 0, &err));
        assert_kvmi_error(err, ADDRESS);
        g_clear_error(&err);
    }
    g_assert_null(kvmi_listener_new(too_long, &err));
    assert_kvmi_error(err, ADDRESS);
    g_error_free(err);
}

static void test_no_vm(void)
{
    KvmiListener *listener;
    GError *err = NULL;
    TmpDir tmp;

    tmp_begin(&tmp);
    g_assert_null(kvmi_connect(tmp.path, NULL, 60, &err));
    assert_kvmi_error(err, NO_VM);
    g_assert_nonnull(strstr(err->message, tmp.path));
    g_clear_error(&err);

    listener = kvmi_listener_new(tmp.path, NULL);
    g_assert_null(kvmi_listener_accept(listener, NULL, 30, &err));
    assert_kvmi_error(err, NO_VM);
    g_assert_nonnull(strstr(err->message, "-object introspection"));
    g_error_free(err);
    kvmi_listener_free(listener);
    tmp_end(&tmp);
}

/* Both ways, the VM speaks first. */
static void *accepting_vm(void *opaque)
{
    FakeVM vm = { .fd = accept(GPOINTER_TO_INT(opaque), NULL, NULL) };

    g_assert_cmpint(vm.fd, >=, 0);
    fake_serve(&vm);
    close(vm.fd);
    return NULL;
}

static int connect_at(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    g_strlcpy(sa.sun_path, path, sizeof(sa.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
    return fd;
}

static void *connecting_vm(void *opaque)
{
    FakeVM vm = { .fd = connect_at(opaque) };

    fake_serve(&vm);
    close(vm.fd);
    return NULL;
}

static void check_alive(KvmiClient *client)
{
    struct kvmi_get_guest_info_reply info;

    g_assert_nonnull(client);
    check_uuid(client);
    g_assert(kvmi_get_guest_info(client, &info, NULL));
    g_assert_cmpuint(info.vcpu_count, ==, 2);
    kvmi_client_free(client);
}

static void test_both_directions(void)
{
    KvmiListener *listener;
    GThread *thread;
    TmpDir tmp;
    int fd;

    tmp_begin(&tmp);
    listener = kvmi_listener_new(tmp.path, NULL);
    thread = g_thread_new("vm", connecting_vm, tmp.path);
    check_alive(kvmi_listener_accept(listener, NULL, 10000, NULL));
    g_thread_join(thread);
    kvmi_listener_free(listener);

    fd = listen_at(tmp.path);
    thread = g_thread_new("vm", accepting_vm, GINT_TO_POINTER(fd));
    check_alive(kvmi_connect(tmp.path, NULL, 10000, NULL));
    g_thread_join(thread);
    close(fd);
    tmp_end(&tmp);
}

/* A VM that must not be introspected yet closes, and comes again. */
static void *reluctant_vm(void *opaque)
{
    close(connect_at(opaque));
    close(connect_at(opaque));
    return connecting_vm(opaque);
}

static void count_peer_left(const GError *err, void *opaque)
{
    unsigned *left = opaque;

    assert_kvmi_error(err, LEFT);
    ++*left;
}

static void test_peer_left(void)
{
    unsigned left = 0;
    KvmiConfig config = { .peer_left = count_peer_left, .opaque = &left };
    KvmiListener *listener;
    GError *err = NULL;
    GThread *thread;
    TmpDir tmp;
    int fd;

    tmp_begin(&tmp);
    listener = kvmi_listener_new(tmp.path, NULL);
    thread = g_thread_new("vm", reluctant_vm, tmp.path);
    check_alive(kvmi_listener_accept(listener, &config, 10000, NULL));
    g_assert_cmpuint(left, ==, 2);
    g_thread_join(thread);

    /* it is not waited for longer */
    close(connect_at(tmp.path));
    g_assert_null(kvmi_listener_accept(listener, NULL, 30, &err));
    assert_kvmi_error(err, NO_VM);
    g_clear_error(&err);

    /* whoever begins a handshake is the VM */
    fd = connect_at(tmp.path);
    g_assert_cmpint(write(fd, "\x60\0\0\0", 4), ==, 4);
    close(fd);
    g_assert_null(kvmi_listener_accept(listener, NULL, 10000, &err));
    assert_kvmi_error(err, HANDSHAKE);
    g_error_free(err);
    kvmi_listener_free(listener);
    tmp_end(&tmp);
}

/*
 * Names
 */

static void test_names(void)
{
    struct kvm_regs regs = { .rax = 1, .r15 = 2, .rip = 3, .rflags = 4 };
    uint32_t index;
    unsigned nr;

    g_assert_cmpstr(kvmi_command_name(KVMI_GET_VERSION), ==, "get-version");
    g_assert_null(kvmi_command_name(0));
    g_assert_null(kvmi_command_name(2));
    g_assert_null(kvmi_command_name(29));
    g_assert_cmpstr(kvmi_event_name(KVMI_EVENT_PAUSE_VCPU), ==, "pause-vcpu");
    g_assert_null(kvmi_event_name(KVMI_NUM_EVENTS));
    g_assert_cmpstr(kvmi_engine_error_name(KVM_ENOSYS), ==, "ENOSYS");
    g_assert_null(kvmi_engine_error_name(0));

    g_assert_cmpstr(kvmi_msr_name(0xc0000082), ==, "lstar");
    g_assert(kvmi_msr_from_name("LSTAR", &index));
    g_assert_cmphex(index, ==, 0xc0000082);
    g_assert(!kvmi_msr_from_name("nonsense", &index));
    g_assert_null(kvmi_msr_name(0x12345));

    for (nr = 0; nr < KVMI_NUM_REGS; nr++) {
        unsigned found;

        g_assert(kvmi_reg_from_name(kvmi_reg_name(nr), &found));
        g_assert_cmpuint(found, ==, nr);
    }
    g_assert_null(kvmi_reg_name(nr));
    g_assert(kvmi_reg_from_name("RIP", &nr));
    g_assert_cmpuint(*kvmi_reg(&regs, nr), ==, 3);
    g_assert(!kvmi_reg_from_name("cr3", &nr));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    alarm(HANG_SECONDS);

    g_test_add_func("/kvmi/handshake/bytes", test_handshake_bytes);
    g_test_add_func("/kvmi/handshake/pieces", test_handshake_pieces);
    g_test_add_func("/kvmi/handshake/cookie", test_handshake_cookie);
    g_test_add_func("/kvmi/handshake/hmac", test_hmac);
    g_test_add_func("/kvmi/handshake/hmac-refused", test_hmac_refused);
    g_test_add_func("/kvmi/handshake/hmac-or-cookie", test_hmac_or_cookie);
    g_test_add_func("/kvmi/handshake/longer", test_handshake_longer);
    g_test_add_func("/kvmi/handshake/shortest", test_handshake_shortest);
    g_test_add_func("/kvmi/handshake/too-short", test_handshake_too_short);
    g_test_add_func("/kvmi/handshake/too-long", test_handshake_too_long);
    g_test_add_func("/kvmi/handshake/silent", test_handshake_silent);
    g_test_add_func("/kvmi/handshake/hangup", test_handshake_hangup);
    g_test_add_func("/kvmi/command/vm", test_vm_commands);
    g_test_add_func("/kvmi/command/vcpu", test_vcpu_commands);
    g_test_add_func("/kvmi/command/too-long", test_message_too_long);
    g_test_add_func("/kvmi/reply/pieces", test_pieces);
    g_test_add_func("/kvmi/reply/longer", test_longer_reply);
    g_test_add_func("/kvmi/reply/shorter", test_shorter_reply);
    g_test_add_func("/kvmi/reply/errors", test_error_replies);
    g_test_add_func("/kvmi/reply/bad", test_bad_messages);
    g_test_add_func("/kvmi/reply/timeout", test_timeout);
    g_test_add_func("/kvmi/requests/pipelining", test_pipelining);
    g_test_add_func("/kvmi/requests/full-socket", test_full_socket);
    g_test_add_func("/kvmi/requests/out-of-order", test_out_of_order);
    g_test_add_func("/kvmi/requests/threads", test_threads);
    g_test_add_func("/kvmi/requests/handover", test_handover);
    g_test_add_func("/kvmi/memory/read", test_memory_read);
    g_test_add_func("/kvmi/memory/write", test_memory_write);
    g_test_add_func("/kvmi/memory/holes", test_memory_holes);
    g_test_add_func("/kvmi/event/before-reply", test_event_before_reply);
    g_test_add_func("/kvmi/event/pieces", test_event_pieces);
    g_test_add_func("/kvmi/event/replies", test_event_replies);
    g_test_add_func("/kvmi/event/none", test_no_event);
    g_test_add_func("/kvmi/event/unhook", test_unhook);
    g_test_add_func("/kvmi/event/cancel", test_cancel);
    g_test_add_func("/kvmi/event/unhook-cancelled", test_unhook_cancelled);
    g_test_add_func("/kvmi/access/range", test_access_range);
    g_test_add_func("/kvmi/access/unhook", test_access_unhook);
    g_test_add_func("/kvmi/access/refused", test_access_refused);
    g_test_add_func("/kvmi/translate/page-tables", test_translate);
    g_test_add_func("/kvmi/translate/read", test_read_virtual);
    g_test_add_func("/kvmi/disconnect/command", test_disconnect_in_command);
    g_test_add_func("/kvmi/disconnect/pipeline", test_disconnect_in_pipeline);
    g_test_add_func("/kvmi/disconnect/waiting", test_disconnect_waiting);
    g_test_add_func("/kvmi/address/path-exists", test_path_exists);
    g_test_add_func("/kvmi/address/path-removed", test_path_removed);
    g_test_add_func("/kvmi/address/bad", test_bad_addresses);
    g_test_add_func("/kvmi/address/no-vm", test_no_vm);
    g_test_add_func("/kvmi/address/both-directions", test_both_directions);
    g_test_add_func("/kvmi/address/peer-left", test_peer_left);
    g_test_add_func("/kvmi/names", test_names);

    return g_test_run();
}
