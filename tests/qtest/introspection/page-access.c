/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For cases about access to pages.
 */
#include "qemu/osdep.h"
#include "page-access.h"

int get_access(TestVM *vm, unsigned vcpu, uint64_t gpa, uint8_t *access)
{
    struct {
        struct kvmi_get_page_access head;
        uint64_t gpa;
    } request = { { .vcpu = vcpu, .count = 1 }, gpa };

    return tool_call(vm->tool, KVMI_GET_PAGE_ACCESS, &request,
                     sizeof(request), access, sizeof(*access));
}

int try_set_access(TestVM *vm, unsigned vcpu, uint64_t gpa, uint8_t access)
{
    struct {
        struct kvmi_set_page_access head;
        struct kvmi_page_access_entry entry;
    } request = { { .vcpu = vcpu, .count = 1 }, { gpa, access } };

    return tool_call(vm->tool, KVMI_SET_PAGE_ACCESS, &request,
                     sizeof(request), NULL, 0);
}

/* A flag of the processor that KVM uses, as Linux calls it. */
static bool host_has(const char *flag)
{
    g_autofree char *cpuinfo = NULL;
    g_autofree char *word = g_strdup_printf(" %s ", flag);

    if (!g_file_get_contents("/proc/cpuinfo", &cpuinfo, NULL, NULL)) {
        return false;
    }
    g_strdelimit(cpuinfo, "\n", ' ');
    return strstr(cpuinfo, word) != NULL;
}

bool has_access(TestVM *vm, uint8_t access)
{
    if (!vm->engine->in_kernel || !access || (access & R)) {
        return true;
    }
    return access == X && host_has("ept_x_only");
}

uint8_t possible_access(TestVM *vm, uint8_t access)
{
    return has_access(vm, access) ? access : 0;
}

void set_access(TestVM *vm, uint64_t gpa, uint8_t access)
{
    g_assert_cmpint(try_set_access(vm, 0, gpa, access), ==, 0);
}

void enable_pf(TestVM *vm, unsigned vcpu)
{
    vm_control_events(vm, vcpu, KVMI_EVENT_PF_FLAG);
}

static void append_load(GByteArray *code, uint8_t opcode, uint64_t value)
{
    uint8_t mov[] = { 0x48, opcode };   /* mov $value, %reg */

    g_byte_array_append(code, mov, sizeof(mov));
    g_byte_array_append(code, (uint8_t *)&value, sizeof(value));
}

static GByteArray *loads(const Insn *insn)
{
    GByteArray *code = g_byte_array_new();

    append_load(code, 0xb8, insn->rax);
    append_load(code, 0xb9, insn->rcx);
    append_load(code, 0xba, insn->rdx);
    append_load(code, 0xbe, insn->rsi);
    append_load(code, 0xbf, insn->rdi);
    return code;
}

uint64_t put_insn_at(TestVM *vm, uint64_t code, const Insn *insn)
{
    static const uint8_t ret = 0xc3;
    g_autoptr(GByteArray) bytes = loads(insn);
    uint64_t rip = code + bytes->len;

    g_byte_array_append(bytes, insn->bytes, insn->size);
    g_byte_array_append(bytes, &ret, sizeof(ret));
    qtest_memwrite(vm->qts, code, bytes->data, bytes->len);
    return rip;
}

uint64_t put_insn_before(TestVM *vm, uint64_t rip, const Insn *insn)
{
    g_autoptr(GByteArray) bytes = loads(insn);
    uint64_t code = rip - bytes->len;

    put_insn_at(vm, code, insn);
    return code;
}

void begin(TestVM *vm, unsigned vcpu, uint64_t code)
{
    vm_guest_begin(vm, vcpu, OP_CALL, code, 0);
}

uint64_t result(TestVM *vm, unsigned vcpu)
{
    return vm_guest_get(vm, vcpu, result[0]);
}

uint64_t read_u64(TestVM *vm, uint64_t gpa)
{
    uint64_t value;

    qtest_memread(vm->qts, gpa, &value, sizeof(value));
    return value;
}

void write_u64(TestVM *vm, uint64_t gpa, uint64_t value)
{
    qtest_memwrite(vm->qts, gpa, &value, sizeof(value));
}

Insn load64(uint64_t address)
{
    return (Insn) { "load", { 0x48, 0x8b, 0x07 }, 3, .rdi = address };
}

Insn store64(uint64_t address, uint64_t value)
{
    return (Insn) {
        "store", { 0x48, 0x89, 0x07 }, 3, .rdi = address, .rax = value,
    };
}

uint64_t begin_insn(TestVM *vm, const Insn *insn)
{
    uint64_t rip = put_insn_at(vm, CODE, insn);

    begin(vm, 0, CODE);
    return rip;
}

ToolEvent *expect_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
                     uint32_t mode)
{
    ToolEvent *event = tool_expect_event(vm->tool, vcpu, KVMI_EVENT_PF);

    g_assert_cmphex(event->common.regs.rip, ==, rip);
    g_assert_cmphex(event->own.pf.gpa, ==, gpa);
    g_assert_cmphex(event->own.pf.gva, ==, gpa);
    g_assert_cmphex(event->own.pf.mode, ==, mode);
    g_assert_cmpuint(event->own.pf.padding, ==, 0);
    return event;
}

void reply_pf(TestVM *vm, const ToolEvent *event, uint32_t action,
              const struct kvmi_event_pf_reply *reply)
{
    tool_reply(vm->tool, event, action, reply, sizeof(*reply));
}

void pass_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
             uint32_t mode)
{
    g_autofree ToolEvent *event = expect_pf(vm, vcpu, rip, gpa, mode);
    struct kvmi_event_pf_reply reply = { };

    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
}

void pass_pf_with(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
                  uint32_t mode, const void *ctx_data, uint32_t ctx_size)
{
    g_autofree ToolEvent *event = expect_pf(vm, vcpu, rip, gpa, mode);
    struct kvmi_event_pf_reply reply = { .ctx_size = ctx_size };

    memcpy(reply.ctx_data, ctx_data, ctx_size);
    reply_pf(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply);
}

void retry_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
              uint32_t mode)
{
    g_autofree ToolEvent *event = expect_pf(vm, vcpu, rip, gpa, mode);
    struct kvmi_event_pf_reply reply = { };

    reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
}

void step_pf(TestVM *vm, unsigned vcpu, uint64_t rip, uint64_t gpa,
             uint32_t mode)
{
    g_autofree ToolEvent *event = expect_pf(vm, vcpu, rip, gpa, mode);
    struct kvmi_event_pf_reply reply = { .singlestep = 1 };

    reply_pf(vm, event, KVMI_EVENT_ACTION_RETRY, &reply);
}

/* Nothing more was reported. */
void finish_ok(TestVM *vm, unsigned vcpu)
{
    g_assert_cmpint(vm_guest_finish(vm, vcpu), ==, GUEST_OK);
    tool_expect_no_event(vm->tool);
}
