/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: GET_PAGE_ACCESS and SET_PAGE_ACCESS.
 */
#include "qemu/osdep.h"
#include "page-access.h"

#define MMIO                    0xfee00000      /* the local APIC */
#define NO_MEMORY               0x80000000

typedef struct SetRequest {
    struct kvmi_set_page_access head;
    struct kvmi_page_access_entry entries[255];
} SetRequest;

typedef struct GetRequest {
    struct kvmi_get_page_access head;
    uint64_t gpa[511];
} GetRequest;

static int send_set(TestVM *vm, const SetRequest *request)
{
    return tool_call(vm->tool, KVMI_SET_PAGE_ACCESS, request,
                     sizeof(request->head) +
                     request->head.count * sizeof(request->entries[0]),
                     NULL, 0);
}

static int send_get(TestVM *vm, const GetRequest *request, uint8_t *access)
{
    return tool_call(vm->tool, KVMI_GET_PAGE_ACCESS, request,
                     sizeof(request->head) +
                     request->head.count * sizeof(request->gpa[0]),
                     access, request->head.count);
}

static void expect_access(TestVM *vm, uint64_t gpa, uint8_t expected)
{
    uint8_t access = 0xff;

    g_assert_cmpint(get_access(vm, 0, gpa, &access), ==, 0);
    g_assert_cmphex(access, ==, expected);
}

static void test_default(TestVM *vm)
{
    expect_access(vm, PAGE_A, RWX);
}

static void test_combinations(TestVM *vm)
{
    for (uint8_t access = 0; access <= RWX; access++) {
        if (!has_access(vm, access)) {
            set_access(vm, PAGE_A, R);
            g_assert_cmpint(try_set_access(vm, 0, PAGE_A, access),
                            ==, -KVM_EINVAL);
            expect_access(vm, PAGE_A, R);
            continue;
        }
        set_access(vm, PAGE_A, access);
        expect_access(vm, PAGE_A, access);
        expect_access(vm, PAGE_A - 1, RWX);
        expect_access(vm, PAGE_B, RWX);
    }
}

/* Any address of the page means the page. */
static void test_offset(TestVM *vm)
{
    set_access(vm, PAGE_A + 0xfff, R);
    expect_access(vm, PAGE_A, R);
    expect_access(vm, PAGE_A + 0x123, R);
    set_access(vm, PAGE_A + 1, RWX);
    expect_access(vm, PAGE_A, RWX);
}

/* The vCPU only says who does the work. */
static void test_per_vm(TestVM *vm)
{
    uint8_t access = 0xff;

    g_assert_cmpint(try_set_access(vm, 1, PAGE_A, R | X), ==, 0);
    expect_access(vm, PAGE_A, R | X);
    g_assert_cmpint(get_access(vm, 1, PAGE_A, &access), ==, 0);
    g_assert_cmphex(access, ==, R | X);
}

static void test_many(TestVM *vm)
{
    SetRequest set = { .head.count = G_N_ELEMENTS(set.entries) };
    GetRequest get = { .head.count = G_N_ELEMENTS(get.gpa) };
    uint8_t access[G_N_ELEMENTS(get.gpa)];

    for (unsigned i = 0; i < set.head.count; i++) {
        set.entries[i].gpa = GUEST_SCRATCH + i * PAGE_SIZE;
        set.entries[i].access = possible_access(vm, i % 8);
    }
    g_assert_cmpint(send_set(vm, &set), ==, 0);

    for (unsigned i = 0; i < get.head.count; i++) {
        get.gpa[i] = GUEST_SCRATCH + i * PAGE_SIZE;
    }
    g_assert_cmpint(send_get(vm, &get, access), ==, 0);
    for (unsigned i = 0; i < get.head.count; i++) {
        g_assert_cmphex(access[i], ==, i < set.head.count
                                       ? set.entries[i].access : RWX);
    }
}

static void test_none(TestVM *vm)
{
    SetRequest set = { };
    GetRequest get = { };

    g_assert_cmpint(send_set(vm, &set), ==, 0);
    g_assert_cmpint(send_get(vm, &get, NULL), ==, 0);
}

/* In order: the last one counts. */
static void test_twice(TestVM *vm)
{
    SetRequest set = {
        .head.count = 2,
        .entries = { { PAGE_A, R }, { PAGE_A, R | X } },
    };

    g_assert_cmpint(send_set(vm, &set), ==, 0);
    expect_access(vm, PAGE_A, R | X);
}

/* Does not stop at a bad entry, and replies the first error. */
static void test_bad_entry(TestVM *vm)
{
    SetRequest set = {
        .head.count = 4,
        .entries = {
            { PAGE_A, R }, { PAGE_B, 8 }, { MMIO, R }, { PAGE_C, 0 },
        },
    };

    g_assert_cmpint(send_set(vm, &set), ==, -KVM_EINVAL);
    expect_access(vm, PAGE_A, R);
    expect_access(vm, PAGE_B, RWX);
    expect_access(vm, PAGE_C, 0);
}

static void test_access_bits(TestVM *vm)
{
    static const uint8_t bad[] = { 0x08, 0x0f, 0x10, 0x40, 0x80, 0xff };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(try_set_access(vm, 0, PAGE_A, bad[i]),
                        ==, -KVM_EINVAL);
    }
    expect_access(vm, PAGE_A, RWX);
}

static void test_not_ram(TestVM *vm)
{
    static const uint64_t bad[] = {
        MMIO, NO_MEMORY, GUEST_ROM, UINT64_MAX, 1ULL << 52,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint8_t access;

        g_assert_cmpint(try_set_access(vm, 0, bad[i], R), ==, -KVM_EINVAL);
        g_assert_cmpint(try_set_access(vm, 0, bad[i], RWX), ==, -KVM_EINVAL);
        g_assert_cmpint(get_access(vm, 0, bad[i], &access),
                        ==, -KVM_EINVAL);
    }
}

static void test_view(TestVM *vm)
{
    SetRequest set = {
        .head = { .count = 1, .view = 1 }, .entries = { { PAGE_A, R } },
    };
    GetRequest get = {
        .head = { .count = 1, .view = 1 }, .gpa = { PAGE_A },
    };
    uint8_t access;

    g_assert_cmpint(send_set(vm, &set), ==, -KVM_EINVAL);
    g_assert_cmpint(send_get(vm, &get, &access), ==, -KVM_EINVAL);
    expect_access(vm, PAGE_A, RWX);
}

static void test_padding(TestVM *vm)
{
    SetRequest set = {
        .head = { .count = 1, .padding = 1 }, .entries = { { PAGE_A, R } },
    };
    GetRequest get = {
        .head = { .count = 1, .padding = 1 }, .gpa = { PAGE_A },
    };
    uint8_t access;

    g_assert_cmpint(send_set(vm, &set), ==, -KVM_EINVAL);
    g_assert_cmpint(send_get(vm, &get, &access), ==, -KVM_EINVAL);
    expect_access(vm, PAGE_A, RWX);
}

/* Of an entry, too; then nothing changes at all. */
static void test_entry_padding(TestVM *vm)
{
    for (size_t i = 0; i < sizeof_field(struct kvmi_page_access_entry,
                                        padding); i++) {
        SetRequest set = {
            .head.count = 2, .entries = { { PAGE_A, R }, { PAGE_B, R } },
        };

        set.entries[1].padding[i] = 1;
        g_assert_cmpint(send_set(vm, &set), ==, -KVM_EINVAL);
        expect_access(vm, PAGE_A, RWX);
        expect_access(vm, PAGE_B, RWX);
    }
}

static void test_no_such_vcpu(TestVM *vm)
{
    uint8_t access;

    g_assert_cmpint(try_set_access(vm, VM_VCPUS, PAGE_A, R),
                    ==, -KVM_EINVAL);
    g_assert_cmpint(get_access(vm, UINT16_MAX, PAGE_A, &access),
                    ==, -KVM_EINVAL);
    expect_access(vm, PAGE_A, RWX);
}

static void test_disallowed(TestVM *vm)
{
    uint8_t access;

    g_assert_cmpint(try_set_access(vm, 0, PAGE_A, R), ==, -KVM_EACCES);
    g_assert_cmpint(get_access(vm, 0, PAGE_A, &access), ==, -KVM_EACCES);
}

static void expect_wrong_size(TestVM *vm, uint16_t id, const void *payload,
                              size_t size)
{
    tool_send(vm->tool, id, payload, size);
    vm_expect_close_and_rehook(vm);
    expect_access(vm, PAGE_A, RWX);
}

static void test_wrong_size(TestVM *vm)
{
    SetRequest set = { .head.count = 2, .entries = { { PAGE_A, R } } };
    GetRequest get = { .head.count = 2 };

    expect_wrong_size(vm, KVMI_SET_PAGE_ACCESS, &set,
                      sizeof(set.head) + sizeof(set.entries[0]));
    expect_wrong_size(vm, KVMI_SET_PAGE_ACCESS, &set,
                      sizeof(set.head) + 2 * sizeof(set.entries[0]) + 1);
    expect_wrong_size(vm, KVMI_SET_PAGE_ACCESS, &set, sizeof(set.head) - 1);
    expect_wrong_size(vm, KVMI_GET_PAGE_ACCESS, &get,
                      sizeof(get.head) + sizeof(get.gpa[0]));
    set.head.count = UINT16_MAX;
    expect_wrong_size(vm, KVMI_SET_PAGE_ACCESS, &set,
                      sizeof(set.head) + 255 * sizeof(set.entries[0]));
    get.head.count = UINT16_MAX;
    expect_wrong_size(vm, KVMI_GET_PAGE_ACCESS, &get,
                      sizeof(get.head) + 511 * sizeof(get.gpa[0]));
}

static void test_undone(TestVM *vm)
{
    set_access(vm, PAGE_A, 0);
    tool_close(vm->tool);
    vm_rehook(vm);
    expect_access(vm, PAGE_A, RWX);
}

static const TestCase cases[] = {
    { "page-access/default", test_default },
    { "page-access/combinations", test_combinations },
    { "page-access/offset-in-page", test_offset },
    { "page-access/per-vm", test_per_vm },
    { "page-access/many", test_many },
    { "page-access/none", test_none },
    { "page-access/twice", test_twice },
    { "page-access/bad-entry", test_bad_entry },
    { "page-access/access-bits", test_access_bits },
    { "page-access/not-ram", test_not_ram },
    { "page-access/view", test_view },
    { "page-access/padding", test_padding },
    { "page-access/entry-padding", test_entry_padding },
    { "page-access/no-such-vcpu", test_no_such_vcpu },
    { "page-access/disallowed", test_disallowed,
      .object = "commands.0=pause-all-vcpus" },
    { "page-access/wrong-size", test_wrong_size },
    { "page-access/undone", test_undone },
};

void introspection_add_page_access_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
