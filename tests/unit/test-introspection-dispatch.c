/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's engine: which messages are carried out, which get an error, and
 * which end the connection.  What carries them out is replaced by notes.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "kvmi/accel/introspection/engine/page-access.h"
#include "kvmi/accel/introspection/engine/session.h"
#include "kvmi/accel/introspection/engine/vcpu.h"
#include "kvmi/accel/introspection/engine/vm-commands.h"

/* What became of the last message. */
enum {
    CLOSED = 1,                 /* the connection was to be closed */
    CARRIED_OUT,                /* by the receiver thread */
    QUEUED,                     /* to its vCPU */
};

static struct {
    int outcome;                /* one of the above, or a negative KVM_E* */
    unsigned count;
    uint16_t vcpu;
} note;

static void note_outcome(int outcome)
{
    note.outcome = outcome;
    note.count++;
}

void session_reply(IntrospectionSession *s, const struct kvmi_msg_hdr *cmd,
                   int err, const void *data, size_t size)
{
    g_assert_cmpint(err, <, 0);
    note_outcome(err);
}

#define NOTE_COMMAND(name)                                                  \
    void name(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr,      \
              const void *payload)                                          \
    {                                                                       \
        note_outcome(CARRIED_OUT);                                          \
    }

NOTE_COMMAND(vm_get_version)
NOTE_COMMAND(vm_get_guest_info)
NOTE_COMMAND(vm_read_physical)
NOTE_COMMAND(vm_write_physical)
NOTE_COMMAND(vm_pause_all_vcpus)
NOTE_COMMAND(vm_control_vm_events)
NOTE_COMMAND(page_access_get)
NOTE_COMMAND(page_access_set)

int introspection_vcpu_queue_command(IntrospectionSession *s, uint16_t index,
                                     const struct kvmi_msg_hdr *hdr,
                                     const void *payload)
{
    note.vcpu = index;
    note_outcome(QUEUED);
    return 0;
}

bool introspection_vcpu_queue_reply(IntrospectionSession *s,
                                    const struct kvmi_msg_hdr *hdr,
                                    const void *payload, Error **errp)
{
    note_outcome(QUEUED);
    return true;
}

static IntrospectionSession session = { .commands = ENGINE_COMMANDS };

/* The one thing that becomes of this message. */
static int outcome(uint16_t id, uint32_t size, const void *payload)
{
    g_autofree uint8_t *copy = g_malloc0(UINT16_MAX + 1);
    struct kvmi_msg_hdr hdr = { .id = id, .size = size, .seq = 7 };
    Error *err = NULL;

    note.outcome = 0;
    note.count = 0;
    if (payload) {
        /* messages lie anywhere in the receiver's buffer */
        memcpy(copy + 1, payload, size);
    }
    if (!session_dispatch(&session, &hdr, copy + 1, &err)) {
        g_assert_nonnull(err);
        error_free(err);
        note_outcome(CLOSED);
    }
    g_assert_cmpuint(note.count, ==, 1);
    return note.outcome;
}

static const struct {
    uint16_t id;
    uint16_t size;
    int carried_out;
} fixed[] = {
    { KVMI_GET_VERSION, 0, CARRIED_OUT },
    { KVMI_GET_GUEST_INFO, 8, CARRIED_OUT },
    { KVMI_GET_REGISTERS, 8, QUEUED },
    { KVMI_SET_REGISTERS, 152, QUEUED },
    { KVMI_GET_PAGE_ACCESS, 8, CARRIED_OUT },
    { KVMI_SET_PAGE_ACCESS, 8, CARRIED_OUT },
    { KVMI_INJECT_EXCEPTION, 16, QUEUED },
    { KVMI_READ_PHYSICAL, 16, CARRIED_OUT },
    { KVMI_WRITE_PHYSICAL, 16, CARRIED_OUT },
    { KVMI_CONTROL_EVENTS, 8, QUEUED },
    { KVMI_CONTROL_CR, 8, QUEUED },
    { KVMI_CONTROL_MSR, 8, QUEUED },
    { KVMI_GET_CPUID, 16, QUEUED },
    { KVMI_GET_XSAVE, 8, QUEUED },
    { KVMI_PAUSE_ALL_VCPUS, 0, CARRIED_OUT },
    { KVMI_CONTROL_VM_EVENTS, 8, CARRIED_OUT },
};

static bool is_implemented(unsigned id)
{
    if (id == KVMI_EVENT_REPLY) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        if (fixed[i].id == id) {
            return true;
        }
    }
    return false;
}

/* Zeros are a good request of each command; any other size is a bad one. */
static void test_sizes(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        for (uint32_t size = 0; size <= KVMI_MSG_SIZE + 2; size++) {
            g_assert_cmpint(outcome(fixed[i].id, size, NULL), ==,
                            size == fixed[i].size ? fixed[i].carried_out
                                                  : CLOSED);
        }
    }
}

static void test_too_large(void)
{
    static const uint32_t sizes[] = { KVMI_MSG_SIZE + 1, 0x8000, 0xffff };

    for (unsigned id = 0; id < 64; id++) {
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            g_assert_cmpint(outcome(id, sizes[i], NULL), ==, CLOSED);
        }
    }
}

static void test_unknown(void)
{
    for (unsigned id = 0; id <= 0xffff; id++) {
        if (!is_implemented(id)) {
            g_assert_cmpint(outcome(id, 0, NULL), ==, -KVM_ENOSYS);
            g_assert_cmpint(outcome(id, 4096, NULL), ==, -KVM_ENOSYS);
        }
    }
}

static void test_disallowed(void)
{
    session.commands = KVMI_GET_VERSION_FLAG | KVMI_EVENT_REPLY_FLAG;
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        if (fixed[i].id != KVMI_GET_VERSION) {
            g_assert_cmpint(outcome(fixed[i].id, fixed[i].size, NULL), ==,
                            -KVM_EACCES);
            g_assert_cmpint(outcome(fixed[i].id, fixed[i].size + 1, NULL),
                            ==, CLOSED);
        }
    }
    g_assert_cmpint(outcome(KVMI_GET_VERSION, 0, NULL), ==, CARRIED_OUT);
    g_assert_cmpint(outcome(0, 0, NULL), ==, -KVM_ENOSYS);
    session.commands = ENGINE_COMMANDS;
}

static void test_msr_count(void)
{
    g_autofree uint8_t *payload = g_malloc0(KVMI_MSG_SIZE + 8);

    for (uint32_t count = 0; count <= 0xffff; count++) {
        struct kvmi_get_registers *req = (void *)payload;
        uint32_t size = sizeof(*req) + count * 4;

        req->nmsrs = count;
        g_assert_cmpint(outcome(KVMI_GET_REGISTERS, MIN(size, KVMI_MSG_SIZE),
                                payload), ==,
                        size <= KVMI_MSG_SIZE ? QUEUED : CLOSED);
        if (size + 4 <= KVMI_MSG_SIZE) {
            g_assert_cmpint(outcome(KVMI_GET_REGISTERS, size + 4, payload),
                            ==, CLOSED);
        }
    }
}

static void expect_count(uint16_t id, size_t entry_size)
{
    g_autofree uint8_t *payload = g_malloc0(KVMI_MSG_SIZE + 32);

    for (uint32_t count = 0; count <= 0xffff; count++) {
        uint32_t size = 8 + count * entry_size;

        memcpy(payload + 2, &(uint16_t) { count }, 2);
        g_assert_cmpint(outcome(id, MIN(size, KVMI_MSG_SIZE), payload), ==,
                        size <= KVMI_MSG_SIZE ? CARRIED_OUT : CLOSED);
        if (size + entry_size <= KVMI_MSG_SIZE) {
            g_assert_cmpint(outcome(id, size + entry_size, payload), ==,
                            CLOSED);
            g_assert_cmpint(outcome(id, size + 1, payload), ==, CLOSED);
        }
    }
}

static void test_page_count(void)
{
    expect_count(KVMI_GET_PAGE_ACCESS, 8);
    expect_count(KVMI_SET_PAGE_ACCESS, 16);
}

static void test_entry_padding(void)
{
    enum { COUNT = 255, SIZE = 8 + COUNT * 16 };

    for (unsigned entry = 0; entry < COUNT; entry++) {
        for (unsigned i = 9; i < 16; i++) {
            uint8_t payload[SIZE] = { 0, 0, COUNT };

            payload[8 + entry * 16 + i] = 1;
            g_assert_cmpint(outcome(KVMI_SET_PAGE_ACCESS, SIZE, payload), ==,
                            -KVM_EINVAL);
        }
    }
}

static void test_write_size(void)
{
    static const uint64_t wrong[] = {
        4081, 4096, 0xffff, 0x10000, 0x100000000, 0x8000000000000000,
        UINT64_MAX, UINT64_MAX - 15,
    };
    g_autofree uint8_t *payload = g_malloc0(KVMI_MSG_SIZE + 8);
    struct kvmi_write_physical *req = (void *)payload;

    for (uint32_t size = 0; size <= 4080; size++) {
        req->size = size;
        g_assert_cmpint(outcome(KVMI_WRITE_PHYSICAL, 16 + size, payload), ==,
                        CARRIED_OUT);
        g_assert_cmpint(outcome(KVMI_WRITE_PHYSICAL, 16 + size + 1, payload),
                        ==, CLOSED);
        if (size) {
            g_assert_cmpint(outcome(KVMI_WRITE_PHYSICAL, 16 + size - 1,
                                    payload), ==, CLOSED);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        req->size = wrong[i];
        for (uint32_t size = 0; size <= KVMI_MSG_SIZE; size++) {
            g_assert_cmpint(outcome(KVMI_WRITE_PHYSICAL, size, payload), ==,
                            CLOSED);
        }
    }
}

static void test_padding(void)
{
    static const struct {
        uint16_t id;
        uint16_t size;
        uint16_t offset;
    } paddings[] = {
        { KVMI_GET_GUEST_INFO, 8, 2 }, { KVMI_GET_GUEST_INFO, 8, 4 },
        { KVMI_GET_GUEST_INFO, 8, 6 }, { KVMI_GET_REGISTERS, 8, 4 },
        { KVMI_GET_REGISTERS, 8, 6 }, { KVMI_SET_REGISTERS, 152, 2 },
        { KVMI_SET_REGISTERS, 152, 4 }, { KVMI_SET_REGISTERS, 152, 6 },
        /* the view, too, must be 0 */
        { KVMI_GET_PAGE_ACCESS, 8, 4 }, { KVMI_GET_PAGE_ACCESS, 8, 6 },
        { KVMI_SET_PAGE_ACCESS, 8, 4 }, { KVMI_SET_PAGE_ACCESS, 8, 6 },
        { KVMI_CONTROL_EVENTS, 8, 2 }, { KVMI_CONTROL_CR, 8, 3 },
        { KVMI_CONTROL_MSR, 8, 3 }, { KVMI_GET_CPUID, 16, 2 },
        { KVMI_GET_CPUID, 16, 4 }, { KVMI_GET_CPUID, 16, 6 },
        { KVMI_GET_XSAVE, 8, 2 }, { KVMI_GET_XSAVE, 8, 4 },
        { KVMI_GET_XSAVE, 8, 6 }, { KVMI_CONTROL_VM_EVENTS, 8, 4 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(paddings); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t payload[256] = { 0 };

            payload[paddings[i].offset] = 1u << bit;
            g_assert_cmpint(outcome(paddings[i].id, paddings[i].size,
                                    payload), ==, -KVM_EINVAL);
        }
    }
}

static void test_vcpu(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        uint8_t payload[256] = { 0x34, 0x12 };

        if (fixed[i].carried_out == QUEUED) {
            g_assert_cmpint(outcome(fixed[i].id, fixed[i].size, payload), ==,
                            QUEUED);
            g_assert_cmphex(note.vcpu, ==, 0x1234);
        }
    }
}

static void test_control_values(void)
{
    static const struct {
        uint32_t number;
        uint8_t enable;
        int outcome;
    } crs[] = {
        { 0, 0, QUEUED }, { 0, 1, QUEUED }, { 3, 1, QUEUED },
        { 4, 1, QUEUED }, { 1, 1, -KVM_EINVAL }, { 2, 1, -KVM_EINVAL },
        { 5, 0, -KVM_EINVAL }, { 8, 1, -KVM_EINVAL },
        { 0x80000003, 1, -KVM_EINVAL }, { 3, 2, -KVM_EINVAL },
        { 3, 255, -KVM_EINVAL },
    }, msrs[] = {
        { 0, 0, QUEUED }, { 0x1fff, 1, QUEUED }, { 0x2000, 1, -KVM_EINVAL },
        { 0xbfffffff, 1, -KVM_EINVAL }, { 0xc0000000, 1, QUEUED },
        { 0xc0001fff, 0, QUEUED }, { 0xc0002000, 0, -KVM_EINVAL },
        { 0xffffffff, 0, -KVM_EINVAL }, { 0x10, 2, -KVM_EINVAL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(crs); i++) {
        struct kvmi_control_cr req = {
            .cr = crs[i].number, .enable = crs[i].enable,
        };

        g_assert_cmpint(outcome(KVMI_CONTROL_CR, sizeof(req), &req), ==,
                        crs[i].outcome);
    }
    for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
        struct kvmi_control_msr req = {
            .msr = msrs[i].number, .enable = msrs[i].enable,
        };

        g_assert_cmpint(outcome(KVMI_CONTROL_MSR, sizeof(req), &req), ==,
                        msrs[i].outcome);
    }
}

static void test_event_reply(void)
{
    /* its size is checked against the event */
    g_assert_cmpint(outcome(KVMI_EVENT_REPLY, 8, NULL), ==, QUEUED);
    g_assert_cmpint(outcome(KVMI_EVENT_REPLY, 16, NULL), ==, QUEUED);
    g_assert_cmpint(outcome(KVMI_EVENT_REPLY, 4097, NULL), ==, CLOSED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/introspection/dispatch/sizes", test_sizes);
    g_test_add_func("/introspection/dispatch/too-large", test_too_large);
    g_test_add_func("/introspection/dispatch/unknown", test_unknown);
    g_test_add_func("/introspection/dispatch/disallowed", test_disallowed);
    g_test_add_func("/introspection/dispatch/msr-count", test_msr_count);
    g_test_add_func("/introspection/dispatch/page-count", test_page_count);
    g_test_add_func("/introspection/dispatch/entry-padding",
                    test_entry_padding);
    g_test_add_func("/introspection/dispatch/write-size", test_write_size);
    g_test_add_func("/introspection/dispatch/padding", test_padding);
    g_test_add_func("/introspection/dispatch/vcpu", test_vcpu);
    g_test_add_func("/introspection/dispatch/control-values",
                    test_control_values);
    g_test_add_func("/introspection/dispatch/event-reply", test_event_reply);
    return g_test_run();
}
