/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The introspection tool's end of the socket, for the conformance suite.
 *
 * It shares nothing with tools/kvmi, so that one cannot hide the other's
 * mistakes, and it can send what a tool must not send.  Every wait ends the
 * test if it takes longer than TOOL_LIMIT_MS.
 */
#ifndef TESTS_INTROSPECTION_TOOL_H
#define TESTS_INTROSPECTION_TOOL_H

#include <linux/kvm.h>
#include <linux/kvmi.h>

/* Far more than anything takes on a busy machine. */
#define TOOL_LIMIT_MS           30000

/* How long to watch for something that must not happen. */
#define TOOL_WATCH_MS           100

/* The handshake: what QEMU says, and what the tool answers. */
#define HELLO_SIZE              96
#define HELLO_UUID_OFFSET       4
#define HELLO_PADDING_OFFSET    20
#define HELLO_START_TIME_OFFSET 24
#define HELLO_NAME_OFFSET       32
#define HELLO_NAME_SIZE         64
#define ANSWER_SIZE             24
#define ANSWER_MAX_SIZE         (1024 * 1024)

typedef struct Tool Tool;

/* A message from the engine that is not a reply. */
typedef struct ToolEvent {
    uint32_t seq;
    size_t size;                /* of own */
    struct kvmi_event common;
    union {
        struct kvmi_event_cr cr;
        struct kvmi_event_msr msr;
        struct kvmi_event_breakpoint breakpoint;
        struct kvmi_event_descriptor descriptor;
        struct kvmi_event_pf pf;
        struct kvmi_event_trap trap;
        uint8_t bytes[512];
    } own;                      /* the structure of the event's own kind */
} ToolEvent;

/* Connection. */
Tool *tool_listen(const char *path);
Tool *tool_new(void);
Tool *tool_from_listener(int fd);
Tool *tool_from_connection(int fd);
void tool_free(Tool *tool);
void tool_connect(Tool *tool, const char *path);
void tool_accept(Tool *tool);
bool tool_wait_connection(Tool *tool, int64_t timeout_ms);
void tool_close(Tool *tool);
int tool_fd(const Tool *tool);

/* Handshake. */
void tool_receive_hello(Tool *tool, uint8_t hello[HELLO_SIZE]);
void tool_answer_hello(Tool *tool);
void tool_receive_bytes(Tool *tool, void *bytes, size_t size);
void tool_hook(Tool *tool);

/* Bytes. */
void tool_send_bytes(Tool *tool, const void *bytes, size_t size);
void tool_send_bytes_slowly(Tool *tool, const void *bytes, size_t size);
unsigned tool_flood(Tool *tool, uint16_t id, const void *payload, size_t size,
                    GByteArray *rest);
void tool_expect_eof(Tool *tool);
void tool_expect_silence(Tool *tool);
bool tool_eof_within(Tool *tool, int64_t timeout_ms);

/* Messages. */
void tool_append(GByteArray *out, uint16_t id, uint32_t seq,
                 const void *payload, size_t size);
uint32_t tool_next_seq(Tool *tool);
uint32_t tool_send(Tool *tool, uint16_t id, const void *payload, size_t size);
int tool_receive_reply(Tool *tool, uint16_t id, uint32_t seq,
                       void *data, size_t size);
uint32_t tool_receive_next_reply(Tool *tool);
int tool_call(Tool *tool, uint16_t id, const void *payload, size_t size,
              void *data, size_t data_size);

/* Commands. */
void tool_get_version(Tool *tool, struct kvmi_get_version_reply *version);
int tool_get_guest_info(Tool *tool, uint16_t vcpu,
                        struct kvmi_get_guest_info_reply *info);
int tool_read_physical(Tool *tool, uint64_t gpa, uint64_t size, void *data);
int tool_write_physical(Tool *tool, uint64_t gpa, uint64_t size,
                        const void *data);
uint64_t tool_read_u64(Tool *tool, uint64_t gpa);
uint32_t tool_pause_all(Tool *tool);
int tool_control_vm_events(Tool *tool, uint32_t events);
int tool_control_events(Tool *tool, uint16_t vcpu, uint32_t events);
int tool_control_cr(Tool *tool, uint16_t vcpu, uint32_t cr, bool enable);
int tool_control_msr(Tool *tool, uint16_t vcpu, uint32_t msr, bool enable);
int tool_get_cpuid(Tool *tool, uint16_t vcpu, uint32_t function,
                   uint32_t index, struct kvmi_get_cpuid_reply *cpuid);
int tool_get_xsave(Tool *tool, uint16_t vcpu, uint8_t xsave[4096]);

typedef struct ToolRegisters {
    struct kvmi_get_registers_reply common;
    struct kvm_msr_entry msrs[16];
} ToolRegisters;

GByteArray *tool_get_registers_request(uint16_t vcpu, const uint32_t *msrs,
                                       uint16_t nmsrs);
int tool_get_registers(Tool *tool, uint16_t vcpu, const uint32_t *msrs,
                       uint16_t nmsrs, ToolRegisters *registers);
int tool_set_registers(Tool *tool, uint16_t vcpu, const struct kvm_regs *regs);

/* Events. */
ToolEvent *tool_receive_event(Tool *tool);
ToolEvent *tool_expect_event(Tool *tool, uint16_t vcpu, uint32_t event);
void tool_expect_no_event(Tool *tool);
bool tool_event_waits(Tool *tool);
void tool_reply(Tool *tool, const ToolEvent *event, uint32_t action,
                const void *own, size_t size);
void tool_continue(Tool *tool, const ToolEvent *event);
void tool_retry(Tool *tool, const ToolEvent *event);
void tool_reply_raw(Tool *tool, uint32_t seq, uint32_t event, uint32_t action,
                    size_t size);
void tool_continue_with(Tool *tool, const ToolEvent *event, uint64_t new_val);

#endif /* TESTS_INTROSPECTION_TOOL_H */
