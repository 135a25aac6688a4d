/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: messages on the stream, and what is wrong with them.
 */
#include "qemu/osdep.h"
#include "tests.h"

/* A vCPU that is neither there nor can be. */
#define NO_VCPU 0xffff

/*
 * A well-formed request of each command, which it would carry out.  Where
 * the size depends on contents, that is said.
 */
typedef struct Request {
    const char *name;
    uint16_t id;
    uint16_t size;
    bool has_vcpu;              /* at its beginning */
    uint16_t padding[8];        /* offsets that must be zero, up to a 0 */
    union {
        struct kvmi_get_guest_info get_guest_info;
        struct kvmi_get_registers get_registers;
        struct kvmi_set_registers set_registers;
        struct kvmi_read_physical read_physical;
        struct kvmi_write_physical write_physical;
        struct kvmi_control_events control_events;
        struct kvmi_control_cr control_cr;
        struct kvmi_control_msr control_msr;
        struct kvmi_get_cpuid get_cpuid;
        struct kvmi_get_xsave get_xsave;
        struct kvmi_control_vm_events control_vm_events;
        uint8_t bytes[256];
    };
} Request;

static const Request requests[] = {
    {
        .name = "get-version", .id = KVMI_GET_VERSION,
    }, {
        .name = "get-guest-info", .id = KVMI_GET_GUEST_INFO, .size = 8,
        .padding = { 2, 4, 6 },
    }, {
        .name = "get-registers", .id = KVMI_GET_REGISTERS, .size = 8,
        .has_vcpu = true, .padding = { 4, 6 },
    }, {
        .name = "set-registers", .id = KVMI_SET_REGISTERS,
        .size = 8 + sizeof(struct kvm_regs),
        .has_vcpu = true, .padding = { 2, 4, 6 },
    }, {
        .name = "read-physical", .id = KVMI_READ_PHYSICAL, .size = 16,
        .read_physical = { .gpa = GUEST_SCRATCH, .size = 8 },
    }, {
        .name = "write-physical", .id = KVMI_WRITE_PHYSICAL, .size = 16 + 8,
        .write_physical = { .gpa = GUEST_SCRATCH, .size = 8 },
    }, {
        .name = "control-events", .id = KVMI_CONTROL_EVENTS, .size = 8,
        .has_vcpu = true, .padding = { 2 },
    }, {
        .name = "control-cr", .id = KVMI_CONTROL_CR, .size = 8,
        .has_vcpu = true, .padding = { 3 },
        .control_cr = { .cr = 4 },
    }, {
        .name = "control-msr", .id = KVMI_CONTROL_MSR, .size = 8,
        .has_vcpu = true, .padding = { 3 },
        .control_msr = { .msr = 0x10 },
    }, {
        .name = "get-cpuid", .id = KVMI_GET_CPUID, .size = 16,
        .has_vcpu = true, .padding = { 2, 4, 6 },
    }, {
        .name = "get-xsave", .id = KVMI_GET_XSAVE, .size = 8,
        .has_vcpu = true, .padding = { 2, 4, 6 },
    }, {
        .name = "pause-all-vcpus", .id = KVMI_PAUSE_ALL_VCPUS,
    }, {
        .name = "control-vm-events", .id = KVMI_CONTROL_VM_EVENTS, .size = 8,
        .padding = { 4 },
    },
};

#define FOR_EACH_REQUEST(r) \
    for (const Request *r = requests; \
         r < requests + G_N_ELEMENTS(requests); r++)

static uint32_t send_request(TestVM *vm, const Request *r)
{
    return tool_send(vm->tool, r->id, r->bytes, r->size);
}

/* The error that a request with these contents gets; it must get one. */
static int request_error(TestVM *vm, const Request *r)
{
    uint32_t seq = send_request(vm, r);

    return tool_receive_reply(vm->tool, r->id, seq, NULL, 0);
}

static void expect_alive(TestVM *vm)
{
    struct kvmi_get_version_reply version;

    tool_get_version(vm->tool, &version);
    g_assert_cmpuint(version.version, ==, KVMI_VERSION);
}

/* Pieces. */

static void test_in_pieces(TestVM *vm)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree uint8_t *write = g_malloc0(16 + 64);
    struct kvmi_read_physical read = { .gpa = GUEST_SCRATCH, .size = 64 };
    struct kvmi_get_version_reply version;
    uint8_t data[64];

    memcpy(write, &(struct kvmi_write_physical) {
        .gpa = GUEST_SCRATCH, .size = 64,
    }, 16);
    memset(write + 16, 0xa5, 64);

    tool_append(out, KVMI_GET_VERSION, 1, NULL, 0);
    tool_append(out, KVMI_WRITE_PHYSICAL, 2, write, 16 + 64);
    tool_append(out, KVMI_READ_PHYSICAL, 3, &read, sizeof(read));
    tool_send_bytes_slowly(vm->tool, out->data, out->len);

    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_VERSION, 1,
                                       &version, sizeof(version)), ==, 0);
    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_WRITE_PHYSICAL, 2,
                                       NULL, 0), ==, 0);
    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL, 3,
                                       data, sizeof(data)), ==, 0);
    g_assert_cmpmem(data, 64, write + 16, 64);
}

/* Event replies too. */
static void test_event_reply_in_pieces(TestVM *vm)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint32_t vcpus = tool_pause_all(vm->tool);

    for (uint32_t i = 0; i < vcpus; i++) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);
        struct kvmi_event_reply reply = { .event = KVMI_EVENT_PAUSE_VCPU };

        g_byte_array_set_size(out, 0);
        tool_append(out, KVMI_EVENT_REPLY, event->seq, &reply, sizeof(reply));
        tool_send_bytes_slowly(vm->tool, out->data, out->len);
    }
    expect_alive(vm);
}

/* Many in one write, each answered once, in order. */
static void test_many_in_one_write(TestVM *vm)
{
    enum { ROUNDS = 200 };
    g_autoptr(GByteArray) out = g_byte_array_new();
    struct kvmi_read_physical read = { .gpa = GUEST_ROM_MARK, .size = 8 };
    struct kvmi_get_guest_info get_info = { .vcpu = 0 };
    struct kvmi_get_guest_info_reply info;
    struct kvmi_get_version_reply version;
    uint8_t data[8];

    for (uint32_t i = 0; i < ROUNDS; i++) {
        tool_append(out, KVMI_READ_PHYSICAL, 3 * i, &read, sizeof(read));
        tool_append(out, KVMI_GET_VERSION, 3 * i + 1, NULL, 0);
        tool_append(out, KVMI_GET_GUEST_INFO, 3 * i + 2,
                    &get_info, sizeof(get_info));
    }
    tool_send_bytes(vm->tool, out->data, out->len);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        g_assert_cmpuint(tool_receive_next_reply(vm->tool), ==, 3 * i);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL,
                                           3 * i, data, 8), ==, 0);
        g_assert_cmpmem(data, 8, GUEST_ROM_MARK_TEXT, 8);
        g_assert_cmpuint(tool_receive_next_reply(vm->tool), ==, 3 * i + 1);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_VERSION,
                                           3 * i + 1, &version,
                                           sizeof(version)), ==, 0);
        g_assert_cmpuint(tool_receive_next_reply(vm->tool), ==, 3 * i + 2);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_GUEST_INFO,
                                           3 * i + 2, &info,
                                           sizeof(info)), ==, 0);
    }
    tool_expect_silence(vm->tool);
}

/* The tool's choice: repeated, zero, the largest. */
static void test_seq(TestVM *vm)
{
    static const uint32_t seqs[] = { 7, 7, 0, 0xffffffff, 0x80000000, 1 };
    struct kvmi_get_version_reply version;

    for (size_t i = 0; i < G_N_ELEMENTS(seqs); i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();

        tool_append(out, KVMI_GET_VERSION, seqs[i], NULL, 0);
        tool_send_bytes(vm->tool, out->data, out->len);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_VERSION,
                                           seqs[i], &version,
                                           sizeof(version)), ==, 0);
    }
}

static void test_hangup_in_header(TestVM *vm)
{
    tool_send_bytes(vm->tool, "\1\0\0", 3);
    tool_close(vm->tool);
    vm_rehook(vm);
}

static void test_hangup_in_payload(TestVM *vm)
{
    g_autoptr(GByteArray) out = g_byte_array_new();

    tool_append(out, KVMI_READ_PHYSICAL, 1, "\0\0\0\0\0\0\0\0"
                                            "\0\0\0\0\0\0\0\0", 16);
    tool_send_bytes(vm->tool, out->data, out->len - 1);
    tool_close(vm->tool);
    vm_rehook(vm);
}

/*
 * A tool that asks and asks, and reads no answer: QEMU and the guest go on,
 * and the answers are all there when it reads at last.
 */
static void test_tool_does_not_read(TestVM *vm)
{
    struct kvmi_read_physical read = { .gpa = GUEST_SCRATCH, .size = 4096 };
    g_autoptr(GByteArray) rest = g_byte_array_new();
    g_autofree uint8_t *page = g_malloc(4096);
    uint32_t first;
    unsigned count;

    expect_alive(vm);
    first = tool_next_seq(vm->tool) + 1;
    count = tool_flood(vm->tool, KVMI_READ_PHYSICAL, &read, sizeof(read),
                       rest);
    g_assert_cmpuint(count, >, 2);

    qtest_qmp_assert_success(vm->qts, "{'execute': 'query-status'}");
    if (vm->engine->runs) {
        vm_guest_wait_counting(vm, 0);
    }
    for (unsigned i = 0; i < count; i++) {
        if (i == count - 1) {
            tool_send_bytes(vm->tool, rest->data, rest->len);
        }
        g_assert_cmpuint(tool_receive_next_reply(vm->tool), ==, first + i);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL,
                                           first + i, page, 4096), ==, 0);
    }
    expect_alive(vm);
}

/* Unknown ids. */

static void expect_enosys(TestVM *vm, uint16_t id, size_t size)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree uint8_t *payload = g_malloc(MAX(size, 1));
    struct kvmi_get_version_reply version;

    /* no mistaking the payload for messages */
    memset(payload, 1, size);
    tool_append(out, id, 1, payload, size);
    tool_append(out, KVMI_GET_VERSION, 2, NULL, 0);
    tool_send_bytes(vm->tool, out->data, out->len);
    g_assert_cmpint(tool_receive_reply(vm->tool, id, 1, NULL, 0),
                    ==, -KVM_ENOSYS);
    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_VERSION, 2,
                                       &version, sizeof(version)), ==, 0);
}

static void test_unknown_id(TestVM *vm)
{
    static const uint16_t ids[] = {
        0, 2, 4, 5, 8, 9, 16, 20, 21, 22, KVMI_EVENT, 29, 30, 31, 32, 33,
        0x101, 0x7fff, 0x8001, 0xffff,
    };
    static const size_t sizes[] = { 0, 1, 8, 100, KVMI_MSG_SIZE };

    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(sizes); j++) {
            expect_enosys(vm, ids[i], sizes[j]);
        }
    }
}

/* Known to the ABI, but not in this engine: what the mask lacks. */
static void test_not_implemented(TestVM *vm)
{
    static const uint16_t ids[] = {
        KVMI_GET_MAP_TOKEN,
    };
    struct kvmi_get_version_reply version;

    tool_get_version(vm->tool, &version);
    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_assert_cmphex(version.commands & (1u << ids[i]), ==, 0);
        expect_enosys(vm, ids[i], 0);
        expect_enosys(vm, ids[i], 32);
    }
}

/* Sizes. */

static void test_largest(TestVM *vm)
{
    g_autofree uint8_t *written = g_malloc(4080);
    g_autofree uint8_t *read = g_malloc(4080);

    memset(written, 0x3c, 4080);
    g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH, 4080,
                                        written), ==, 0);
    g_assert_cmpint(tool_read_physical(vm->tool, GUEST_SCRATCH, 4080,
                                       read), ==, 0);
    g_assert_cmpmem(read, 4080, written, 4080);
}

/* The header alone is enough to close. */
static void test_too_large(TestVM *vm)
{
    static const uint16_t ids[] = {
        KVMI_GET_VERSION, KVMI_WRITE_PHYSICAL, KVMI_EVENT_REPLY, 0, 0xffff,
    };
    static const uint16_t sizes[] = { KVMI_MSG_SIZE + 1, 0xffff };

    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(sizes); j++) {
            struct kvmi_msg_hdr header = { .id = ids[i], .size = sizes[j] };

            tool_send_bytes(vm->tool, &header, sizeof(header));
            vm_expect_close_and_rehook(vm);
        }
    }
}

static void expect_size_refused(TestVM *vm, const Request *r, uint16_t size)
{
    g_autofree uint8_t *payload = g_malloc0(MAX(size, r->size) + 1);

    g_test_message("%s with %u bytes instead of %u", r->name, size, r->size);
    memcpy(payload, r->bytes, r->size);
    tool_send(vm->tool, r->id, payload, size);
    vm_expect_close_and_rehook(vm);
}

static void test_too_short(TestVM *vm)
{
    FOR_EACH_REQUEST(r) {
        if (r->size) {
            expect_size_refused(vm, r, r->size - 1);
            expect_size_refused(vm, r, 0);
        }
    }
}

static void test_too_long(TestVM *vm)
{
    FOR_EACH_REQUEST(r) {
        expect_size_refused(vm, r, r->size + 1);
        expect_size_refused(vm, r, r->size + 8);
    }
}

/* A count that doesn't add up with the size. */
static void test_count_and_size(TestVM *vm)
{
    static const struct {
        uint16_t nmsrs;
        uint16_t size;
    } registers[] = {
        { 1, 8 }, { 1, 11 }, { 1, 13 }, { 1, 16 }, { 2, 12 }, { 0, 12 },
        { 0xffff, 8 }, { 0x4000, 8 }, { 1022, 8 + 1021 * 4 },
    };
    static const struct {
        uint64_t count;
        uint16_t size;
    } writes[] = {
        { 0, 16 + 1 }, { 1, 16 }, { 8, 16 + 7 }, { 8, 16 + 9 },
        { 4096, 4096 }, { 0x100000008, 16 + 8 }, { UINT64_MAX, 16 },
        { UINT64_MAX - 15, 16 }, { UINT64_MAX - 15, 0 + 16 + 1 },
    };
    uint8_t payload[KVMI_MSG_SIZE] = { 0 };

    for (size_t i = 0; i < G_N_ELEMENTS(registers); i++) {
        struct kvmi_get_registers r = { .nmsrs = registers[i].nmsrs };

        g_test_message("%u MSRs in %u bytes", r.nmsrs, registers[i].size);
        memcpy(payload, &r, sizeof(r));
        tool_send(vm->tool, KVMI_GET_REGISTERS, payload, registers[i].size);
        vm_expect_close_and_rehook(vm);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(writes); i++) {
        struct kvmi_write_physical w = {
            .gpa = GUEST_SCRATCH, .size = writes[i].count,
        };

        g_test_message("write of %" PRIu64 " in %u bytes",
                       writes[i].count, writes[i].size);
        memcpy(payload, &w, sizeof(w));
        tool_send(vm->tool, KVMI_WRITE_PHYSICAL, payload, writes[i].size);
        vm_expect_close_and_rehook(vm);
    }
}

/* What is wrong is said once, whatever else comes behind it. */
static void test_closed_at_first_mistake(TestVM *vm)
{
    g_autoptr(GByteArray) out = g_byte_array_new();

    tool_append(out, KVMI_GET_VERSION, 1, "x", 1);
    tool_append(out, KVMI_GET_VERSION, 2, NULL, 0);
    tool_append(out, KVMI_GET_VERSION, 3, "x", 1);
    tool_send_bytes(vm->tool, out->data, out->len);
    vm_expect_close_and_rehook(vm);
}

/* What was asked before the mistake is answered. */
static void test_answered_up_to_mistake(TestVM *vm)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    struct kvmi_get_version_reply version;

    tool_append(out, KVMI_GET_VERSION, 1, NULL, 0);
    tool_append(out, KVMI_GET_VERSION, 2, "x", 1);
    tool_send_bytes(vm->tool, out->data, out->len);
    g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_VERSION, 1,
                                       &version, sizeof(version)), ==, 0);
    vm_expect_close_and_rehook(vm);
}

/* Contents. */

static void test_padding(TestVM *vm)
{
    FOR_EACH_REQUEST(r) {
        for (const uint16_t *offset = r->padding; *offset; offset++) {
            Request wrong = *r;

            g_test_message("%s, offset %u", r->name, *offset);
            wrong.bytes[*offset] = 1;
            g_assert_cmpint(request_error(vm, &wrong), ==, -KVM_EINVAL);
        }
    }
    expect_alive(vm);
}

static void test_no_such_vcpu(TestVM *vm)
{
    static const uint16_t vcpus[] = { VM_VCPUS, VM_VCPUS + 1, 256, NO_VCPU };

    FOR_EACH_REQUEST(r) {
        for (size_t i = 0; r->has_vcpu && i < G_N_ELEMENTS(vcpus); i++) {
            Request wrong = *r;

            g_test_message("%s, vCPU %u", r->name, vcpus[i]);
            memcpy(wrong.bytes, &vcpus[i], sizeof(vcpus[i]));
            g_assert_cmpint(request_error(vm, &wrong), ==, -KVM_EINVAL);
        }
    }
    expect_alive(vm);
}

/* Allowed are only pausing all vCPUs, and what cannot be disallowed. */
#define ONLY_PAUSE "commands.0=pause-all-vcpus"

static bool is_allowed(const Request *r)
{
    return r->id == KVMI_GET_VERSION || r->id == KVMI_PAUSE_ALL_VCPUS;
}

static void test_disallowed(TestVM *vm)
{
    struct kvmi_get_version_reply version;

    FOR_EACH_REQUEST(r) {
        if (!is_allowed(r)) {
            g_test_message("%s", r->name);
            g_assert_cmpint(request_error(vm, r), ==, -KVM_EACCES);
        }
    }
    tool_get_version(vm->tool, &version);
    g_assert_cmphex(version.commands & ~(KVMI_GET_VERSION_FLAG |
                                         KVMI_EVENT_FLAG |
                                         KVMI_EVENT_REPLY_FLAG),
                    ==, KVMI_PAUSE_ALL_VCPUS_FLAG);
}

/* Neither the version nor answering events can be taken away. */
static void test_always_allowed(TestVM *vm)
{
    uint32_t vcpus = tool_pause_all(vm->tool);

    for (uint32_t i = 0; i < vcpus; i++) {
        g_autofree ToolEvent *event = tool_receive_event(vm->tool);

        tool_continue(vm->tool, event);
    }
    expect_alive(vm);
}

/* The size rules come before the permission, the rest after it. */
static void test_disallowed_size(TestVM *vm)
{
    FOR_EACH_REQUEST(r) {
        if (!is_allowed(r)) {
            expect_size_refused(vm, r, r->size + 1);
            expect_size_refused(vm, r, r->size - 1);
        }
    }
}

static void test_disallowed_padding(TestVM *vm)
{
    FOR_EACH_REQUEST(r) {
        if (!is_allowed(r) && r->padding[0]) {
            Request wrong = *r;

            wrong.bytes[r->padding[0]] = 1;
            g_assert_cmpint(request_error(vm, &wrong), ==, -KVM_EACCES);
        }
    }
}

static void test_disallowed_unknown(TestVM *vm)
{
    expect_enosys(vm, 0, 8);
    expect_enosys(vm, KVMI_EVENT, 8);
    if (!vm->engine->in_kernel) {
        expect_enosys(vm, KVMI_GET_MAP_TOKEN, 0);
    }
}

/*
 * Several commands to one vCPU in one write: those that come before it has
 * answered the first are refused, and none is lost.  How many come before
 * that is a race, so this goes on until there was one.
 */
static void test_busy(TestVM *vm)
{
    enum { COUNT = 32 };
    struct kvmi_get_xsave request = { .vcpu = 0 };
    g_autofree uint8_t *xsave = g_malloc(4096);
    int64_t end = g_get_monotonic_time() + TOOL_LIMIT_MS * 1000;
    unsigned refused = 0;

    while (!refused) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        uint32_t first = tool_next_seq(vm->tool);

        for (uint32_t i = 1; i < COUNT; i++) {
            tool_next_seq(vm->tool);
        }
        for (uint32_t i = 0; i < COUNT; i++) {
            tool_append(out, KVMI_GET_XSAVE, first + i,
                        &request, sizeof(request));
        }
        tool_send_bytes(vm->tool, out->data, out->len);
        for (uint32_t i = 0; i < COUNT; i++) {
            int err = tool_receive_reply(vm->tool, KVMI_GET_XSAVE, first + i,
                                         xsave, 4096);

            if (i == 0) {
                g_assert_cmpint(err, ==, 0);
            } else if (err) {
                g_assert_cmpint(err, ==, -KVM_EBUSY);
                refused++;
            }
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
    /* the other vCPU has a queue of its own, and this one is free again */
    g_assert_cmpint(tool_get_xsave(vm->tool, 1, xsave), ==, 0);
    g_assert_cmpint(tool_get_xsave(vm->tool, 0, xsave), ==, 0);
}

/* VM commands are answered while QEMU's main loop is not. */
static void test_main_loop_blocked(TestVM *vm)
{
    struct kvmi_get_guest_info_reply info;
    uint64_t data = 0x1122334455667788;

    vm_block_main_loop(vm);
    for (int i = 0; i < 100; i++) {
        expect_alive(vm);
        data++;
        g_assert_cmpint(tool_get_guest_info(vm->tool, 0, &info), ==, 0);
        g_assert_cmpint(tool_write_physical(vm->tool, GUEST_SCRATCH, 8,
                                            &data), ==, 0);
        g_assert_cmphex(tool_read_u64(vm->tool, GUEST_SCRATCH), ==, data);
        g_usleep(1000);
    }
    vm_unblock_main_loop(vm);
}

/* Event replies. */

/* vCPU 0 waits in a PAUSE_VCPU event, the others go on. */
static ToolEvent *pause_vcpu0(TestVM *vm)
{
    uint32_t vcpus = tool_pause_all(vm->tool);
    ToolEvent *kept = NULL;

    while (vcpus--) {
        ToolEvent *event = tool_receive_event(vm->tool);

        if (event->common.vcpu == 0) {
            kept = event;
        } else {
            tool_continue(vm->tool, event);
            g_free(event);
        }
    }
    g_assert_nonnull(kept);
    return kept;
}

static void test_reply_to_nothing(TestVM *vm)
{
    tool_reply_raw(vm->tool, 0, KVMI_EVENT_PAUSE_VCPU,
                   KVMI_EVENT_ACTION_CONTINUE, 8);
    vm_expect_close_and_rehook(vm);
}

static void test_reply_unknown_seq(TestVM *vm)
{
    g_autofree ToolEvent *event = pause_vcpu0(vm);

    tool_reply_raw(vm->tool, event->seq + 1000, KVMI_EVENT_PAUSE_VCPU,
                   KVMI_EVENT_ACTION_CONTINUE, 8);
    vm_expect_close_and_rehook(vm);
}

static void test_reply_twice(TestVM *vm)
{
    g_autofree ToolEvent *event = pause_vcpu0(vm);

    tool_continue(vm->tool, event);
    expect_alive(vm);
    tool_continue(vm->tool, event);
    vm_expect_close_and_rehook(vm);
}

static void test_reply_wrong_event(TestVM *vm)
{
    static const uint32_t wrong[] = {
        KVMI_EVENT_UNHOOK, KVMI_EVENT_XSETBV, KVMI_EVENT_CREATE_VCPU,
        KVMI_NUM_EVENTS, 0xffffffff,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree ToolEvent *event = pause_vcpu0(vm);

        tool_reply_raw(vm->tool, event->seq, wrong[i],
                       KVMI_EVENT_ACTION_CONTINUE, 8);
        vm_expect_close_and_rehook(vm);
    }
}

static void test_reply_wrong_size(TestVM *vm)
{
    static const size_t wrong[] = { 0, 1, 7, 9, 16, 64 };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree ToolEvent *event = pause_vcpu0(vm);

        tool_reply_raw(vm->tool, event->seq, KVMI_EVENT_PAUSE_VCPU,
                       KVMI_EVENT_ACTION_CONTINUE, wrong[i]);
        vm_expect_close_and_rehook(vm);
    }
}

static void test_reply_wrong_action(TestVM *vm)
{
    static const uint32_t wrong[] = {
        KVMI_EVENT_ACTION_RETRY, KVMI_EVENT_ACTION_CRASH + 1, 0xffffffff,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree ToolEvent *event = pause_vcpu0(vm);

        tool_reply_raw(vm->tool, event->seq, KVMI_EVENT_PAUSE_VCPU, wrong[i],
                       8);
        vm_expect_close_and_rehook(vm);
    }
}

/* CR and MSR want their own structure, and cannot be retried. */
static void test_reply_to_write(TestVM *vm)
{
    static const struct {
        uint32_t event;
        uint32_t action;
        size_t size;
    } wrong[] = {
        { KVMI_EVENT_CR, KVMI_EVENT_ACTION_CONTINUE, 8 },
        { KVMI_EVENT_CR, KVMI_EVENT_ACTION_CONTINUE, 15 },
        { KVMI_EVENT_CR, KVMI_EVENT_ACTION_CONTINUE, 17 },
        { KVMI_EVENT_CR, KVMI_EVENT_ACTION_RETRY, 16 },
        { KVMI_EVENT_CR, 3, 16 },
        { KVMI_EVENT_MSR, KVMI_EVENT_ACTION_CONTINUE, 8 },
        { KVMI_EVENT_MSR, KVMI_EVENT_ACTION_CONTINUE, 24 },
        { KVMI_EVENT_MSR, KVMI_EVENT_ACTION_RETRY, 16 },
    };
    uint64_t value = 0x1000;

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree ToolEvent *event = NULL;
        bool is_cr = wrong[i].event == KVMI_EVENT_CR;

        g_test_message("event %u, action %u, size %zu",
                       wrong[i].event, wrong[i].action, wrong[i].size);
        g_assert_cmpint(tool_control_cr(vm->tool, 0, 4, true), ==, 0);
        g_assert_cmpint(tool_control_msr(vm->tool, 0, 0xc0000082, true),
                        ==, 0);
        vm_control_events(vm, 0, KVMI_EVENT_CR_FLAG | KVMI_EVENT_MSR_FLAG);
        if (is_cr) {
            /* a debugging-extensions bit more or less */
            value = vm_guest_result(vm, 0, OP_READ_CR, 4, 0) ^ 8;
            vm_guest_begin(vm, 0, OP_WRITE_CR, 4, value);
        } else {
            value += 0x1000;
            vm_guest_begin(vm, 0, OP_WRMSR, 0xc0000082, value);
        }
        event = tool_expect_event(vm->tool, 0, wrong[i].event);
        tool_reply_raw(vm->tool, event->seq, wrong[i].event, wrong[i].action,
                       wrong[i].size);
        tool_expect_eof(vm->tool);

        /* the guest has its own value, as if nobody had been there */
        g_assert_cmpint(vm_guest_finish(vm, 0), ==, GUEST_OK);
        g_assert_cmphex(vm_guest_get(vm, 0, result[0]), ==, value);
        vm_rehook(vm);
    }
}

static const TestCase cases[] = {
    { "framing/in-pieces", test_in_pieces },
    { "framing/event-reply-in-pieces", test_event_reply_in_pieces },
    { "framing/many-in-one-write", test_many_in_one_write },
    { "framing/seq", test_seq },
    { "framing/hangup-in-header", test_hangup_in_header },
    { "framing/hangup-in-payload", test_hangup_in_payload },
    { "framing/tool-does-not-read", test_tool_does_not_read },
    { "framing/unknown-id", test_unknown_id },
    { "framing/not-implemented", test_not_implemented, NEEDS_NO_MAPPING },
    { "framing/largest", test_largest },
    { "framing/too-large", test_too_large },
    { "framing/too-short", test_too_short },
    { "framing/too-long", test_too_long },
    { "framing/count-and-size", test_count_and_size },
    { "framing/closed-at-first-mistake", test_closed_at_first_mistake },
    { "framing/answered-up-to-mistake", test_answered_up_to_mistake },
    { "framing/padding", test_padding },
    { "framing/no-such-vcpu", test_no_such_vcpu },
    { "framing/disallowed", test_disallowed, .object = ONLY_PAUSE },
    { "framing/always-allowed", test_always_allowed, .object = ONLY_PAUSE },
    { "framing/disallowed-size", test_disallowed_size,
      .object = ONLY_PAUSE },
    { "framing/disallowed-padding", test_disallowed_padding,
      .object = ONLY_PAUSE },
    { "framing/disallowed-unknown", test_disallowed_unknown,
      .object = ONLY_PAUSE },
    { "framing/busy", test_busy },
    { "framing/main-loop-blocked", test_main_loop_blocked },
    { "framing/reply-to-nothing", test_reply_to_nothing },
    { "framing/reply-unknown-seq", test_reply_unknown_seq },
    { "framing/reply-twice", test_reply_twice },
    { "framing/reply-wrong-event", test_reply_wrong_event },
    { "framing/reply-wrong-size", test_reply_wrong_size },
    { "framing/reply-wrong-action", test_reply_wrong_action },
    { "framing/reply-to-write", test_reply_to_write, NEEDS_RUNNING_GUEST },
};

void introspection_add_framing_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
