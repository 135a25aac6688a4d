/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: what comes while vCPUs wait for their replies.  One of them
 * may then be the one that reads it.
 */
#include "qemu/osdep.h"
#include "tests.h"

#define ROUNDS 50

typedef struct CRReply {
    struct kvmi_event_reply head;
    struct kvmi_event_cr_reply own;
} CRReply;

static void append_continue(GByteArray *out, const ToolEvent *event)
{
    CRReply reply = {
        .head = {
            .action = KVMI_EVENT_ACTION_CONTINUE,
            .event = KVMI_EVENT_CR,
        },
        .own = { .new_val = event->own.cr.new_value },
    };

    tool_append(out, KVMI_EVENT_REPLY, event->seq, &reply, sizeof(reply));
}

/* The vCPU writes to CR3 without end, and waits in the first event of that. */
static ToolEvent *begin_events(TestVM *vm, unsigned vcpu)
{
    uint64_t other = GUEST_PML4_A;

    vm_guest_wait_up(vm, vcpu);
    g_assert_cmpint(tool_control_cr(vm->tool, vcpu, 3, true), ==, 0);
    g_assert_cmpint(tool_control_events(vm->tool, vcpu, KVMI_EVENT_CR_FLAG),
                    ==, 0);
    g_assert_cmpint(tool_write_physical(vm->tool, VM_MAILBOX(vcpu, arg[2]),
                                        sizeof(other), &other), ==, 0);
    vm_guest_begin(vm, vcpu, OP_WRITE_CR_LOOP, 3, GUEST_PML4_B);
    return tool_expect_event(vm->tool, vcpu, KVMI_EVENT_CR);
}

static void end_events(TestVM *vm, unsigned vcpu, ToolEvent *event)
{
    g_assert_cmpint(tool_control_events(vm->tool, vcpu, 0), ==, 0);
    vm_guest_release(vm);
    tool_continue(vm->tool, event);
    g_free(event);
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
}

/* Commands of all kinds before the reply, those that wait for vCPUs too. */
static void test_commands_and_reply(TestVM *vm)
{
    ToolEvent *event = begin_events(vm, 0);
    struct kvmi_read_physical read = { .gpa = GUEST_ROM_MARK, .size = 8 };
    g_autoptr(GByteArray) get_registers =
        tool_get_registers_request(0, NULL, 0);
    struct {
        struct kvmi_set_page_access head;
        struct kvmi_page_access_entry entry;
    } set_access = {
        .head = { .count = 1 },
        .entry = { .gpa = GUEST_SCRATCH },
    };

    for (unsigned i = 0; i < ROUNDS; i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        uint32_t seq[5];
        uint8_t mark[8];
        ToolRegisters regs;

        for (unsigned j = 0; j < G_N_ELEMENTS(seq); j++) {
            seq[j] = tool_next_seq(vm->tool);
        }
        set_access.entry.access = i & 1 ? KVMI_PAGE_ACCESS_R : 7;
        tool_append(out, KVMI_READ_PHYSICAL, seq[0], &read, sizeof(read));
        tool_append(out, KVMI_SET_PAGE_ACCESS, seq[1], &set_access,
                    sizeof(set_access));
        tool_append(out, KVMI_SET_PAGE_ACCESS, seq[3], &set_access,
                    sizeof(set_access));
        tool_append(out, KVMI_READ_PHYSICAL, seq[4], &read, sizeof(read));
        tool_append(out, KVMI_GET_REGISTERS, seq[2], get_registers->data,
                    get_registers->len);
        append_continue(out, event);
        tool_send_bytes(vm->tool, out->data, out->len);

        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL,
                                           seq[0], mark, 8), ==, 0);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_SET_PAGE_ACCESS,
                                           seq[1], NULL, 0), ==, 0);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_GET_REGISTERS,
                                           seq[2], &regs.common,
                                           sizeof(regs.common)), ==, 0);
        /* before the reply, so in the event */
        g_assert_cmphex(regs.common.regs.rip, ==, event->common.regs.rip);
        g_assert_cmphex(regs.common.regs.rsp, ==, event->common.regs.rsp);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_SET_PAGE_ACCESS,
                                           seq[3], NULL, 0), ==, 0);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL,
                                           seq[4], mark, 8), ==, 0);
        g_assert_cmpmem(mark, 8, GUEST_ROM_MARK_TEXT, 8);
        g_free(event);
        event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    }
    end_events(vm, 0, event);
}

/* Behind the reply, where a vCPU has no reason any more to read it. */
static void test_commands_behind_reply(TestVM *vm)
{
    ToolEvent *event = begin_events(vm, 0);
    struct kvmi_read_physical read = { .gpa = GUEST_ROM_MARK, .size = 8 };

    for (unsigned i = 0; i < ROUNDS; i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        uint32_t first = tool_next_seq(vm->tool);
        uint32_t second = tool_next_seq(vm->tool);
        uint8_t mark[8];

        append_continue(out, event);
        tool_append(out, KVMI_READ_PHYSICAL, first, &read, sizeof(read));
        tool_append(out, KVMI_READ_PHYSICAL, second, &read, sizeof(read));
        tool_send_bytes(vm->tool, out->data, out->len);

        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL,
                                           first, mark, 8), ==, 0);
        g_assert_cmpint(tool_receive_reply(vm->tool, KVMI_READ_PHYSICAL,
                                           second, mark, 8), ==, 0);
        g_free(event);
        event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    }
    end_events(vm, 0, event);
}

/* Both wait: whichever reads finds the other's reply, first or last. */
static void test_replies_of_two(TestVM *vm)
{
    ToolEvent *events[2];

    vm_guest_start_vcpu(vm, 1);
    for (unsigned i = 0; i < 2; i++) {
        events[i] = begin_events(vm, i);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();

        append_continue(out, events[i % 2]);
        append_continue(out, events[1 - i % 2]);
        tool_send_bytes(vm->tool, out->data, out->len);
        g_free(events[0]);
        g_free(events[1]);
        events[0] = events[1] = NULL;
        for (unsigned j = 0; j < 2; j++) {
            ToolEvent *event = tool_receive_event(vm->tool);

            g_assert_cmpuint(event->common.event, ==, KVMI_EVENT_CR);
            g_assert_cmpuint(event->common.vcpu, <, 2);
            g_assert_null(events[event->common.vcpu]);
            events[event->common.vcpu] = event;
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        end_events(vm, i, events[i]);
    }
}

/* The vCPU is kicked between two halves of a reply, for an NMI. */
static void test_half_a_reply(TestVM *vm)
{
    ToolEvent *event = begin_events(vm, 0);

    for (unsigned i = 0; i < ROUNDS / 5; i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        size_t half;

        append_continue(out, event);
        half = i % (out->len - 1) + 1;
        tool_send_bytes(vm->tool, out->data, half);
        qtest_qmp_assert_success(vm->qts, "{'execute': 'inject-nmi'}");
        vm_expect_waiting_vcpus(vm, 1);
        tool_send_bytes(vm->tool, out->data + half, out->len - half);
        g_free(event);
        event = tool_expect_event(vm->tool, 0, KVMI_EVENT_CR);
    }
    end_events(vm, 0, event);
}

static const TestCase cases[] = {
    { "receiver/commands-and-reply", test_commands_and_reply, NEEDS_COMMAND_QUEUE },
    { "receiver/commands-behind-reply", test_commands_behind_reply },
    { "receiver/replies-of-two", test_replies_of_two },
    { "receiver/half-a-reply", test_half_a_reply },
};

void introspection_add_receiver_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES_NEEDING(engine, cases, NEEDS_RUNNING_GUEST);
}
