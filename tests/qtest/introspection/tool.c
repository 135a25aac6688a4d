/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The introspection tool's end of the socket, for the conformance suite.
 */
#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "tool.h"

typedef struct ToolMessage {
    struct kvmi_msg_hdr header;
    uint8_t data[];
} ToolMessage;

struct Tool {
    int listener;
    int fd;
    unsigned connection;        /* the number of its record */
    uint32_t seq;
    GQueue *replies;            /* received while waiting for something else */
    GQueue *events;
};

/*
 * What a tool says in a case is what a fuzzer begins with: one file for each
 * connection, in the directory that QTEST_INTROSPECTION_RECORD names.
 */
static void record(const Tool *tool, const void *bytes, size_t size)
{
    const char *directory = g_getenv("QTEST_INTROSPECTION_RECORD");
    g_autofree char *path = NULL;
    FILE *file;

    if (!directory) {
        return;
    }
    path = g_strdup_printf("%s/%d-%u", directory, getpid(), tool->connection);
    file = fopen(path, "a");
    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(bytes, 1, size, file), ==, size);
    g_assert_cmpint(fclose(file), ==, 0);
}

static unsigned next_connection(void)
{
    static int connections;

    return qatomic_fetch_inc(&connections);
}

/* Connection. */

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    *address = (struct sockaddr_un) { .sun_family = AF_UNIX };
    g_assert_cmpuint(strlen(path), <, sizeof(address->sun_path));
    strcpy(address->sun_path, path);
    return fd;
}

Tool *tool_new(void)
{
    Tool *tool = g_new0(Tool, 1);

    tool->listener = -1;
    tool->fd = -1;
    tool->seq = 1000;
    tool->replies = g_queue_new();
    tool->events = g_queue_new();
    return tool;
}

Tool *tool_from_listener(int fd)
{
    Tool *tool = tool_new();

    tool->listener = fd;
    return tool;
}

Tool *tool_from_connection(int fd)
{
    Tool *tool = tool_new();

    tool->fd = fd;
    return tool;
}

Tool *tool_listen(const char *path)
{
    Tool *tool = tool_new();
    struct sockaddr_un address;

    tool->listener = unix_socket(path, &address);
    g_assert_cmpint(bind(tool->listener, (struct sockaddr *)&address,
                         sizeof(address)), ==, 0);
    g_assert_cmpint(listen(tool->listener, 4), ==, 0);
    return tool;
}

void tool_free(Tool *tool)
{
    if (!tool) {
        return;
    }
    tool_close(tool);
    if (tool->listener >= 0) {
        close(tool->listener);
    }
    g_queue_free(tool->replies);
    g_queue_free(tool->events);
    g_free(tool);
}

/* QEMU may not have come to listen yet. */
void tool_connect(Tool *tool, const char *path)
{
    int64_t end = g_get_monotonic_time() + TOOL_LIMIT_MS * 1000;
    struct sockaddr_un address;

    g_assert_cmpint(tool->fd, ==, -1);
    tool->connection = next_connection();
    tool->fd = unix_socket(path, &address);
    while (connect(tool->fd, (struct sockaddr *)&address,
                   sizeof(address)) < 0) {
        g_assert_true(errno == ENOENT || errno == ECONNREFUSED);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

static bool wait_readable(int fd, int64_t timeout_ms)
{
    struct pollfd pollfd = { .fd = fd, .events = POLLIN };

    return RETRY_ON_EINTR(poll(&pollfd, 1, timeout_ms)) == 1;
}

bool tool_wait_connection(Tool *tool, int64_t timeout_ms)
{
    return wait_readable(tool->listener, timeout_ms);
}

void tool_accept(Tool *tool)
{
    g_assert_cmpint(tool->fd, ==, -1);
    g_assert_true(tool_wait_connection(tool, TOOL_LIMIT_MS));
    tool->fd = accept4(tool->listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(tool->fd, >=, 0);
    tool->connection = next_connection();
}

void tool_close(Tool *tool)
{
    if (tool->fd >= 0) {
        close(tool->fd);
        tool->fd = -1;
    }
    g_queue_clear_full(tool->replies, g_free);
    g_queue_clear_full(tool->events, g_free);
}

int tool_fd(const Tool *tool)
{
    return tool->fd;
}

/* Bytes. */

void tool_send_bytes(Tool *tool, const void *bytes, size_t size)
{
    size_t sent = 0;

    record(tool, bytes, size);
    while (sent < size) {
        ssize_t n = RETRY_ON_EINTR(send(tool->fd, (const char *)bytes + sent,
                                        size - sent, MSG_NOSIGNAL));

        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return;             /* the test will find the connection closed */
        }
        g_assert_cmpint(n, >, 0);
        sent += n;
    }
}

/* One byte at a time, each one on its way before the next. */
void tool_send_bytes_slowly(Tool *tool, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        tool_send_bytes(tool, (const char *)bytes + i, 1);
        g_usleep(200);
    }
}

/* Returns false where the other end closed before the first byte. */
static bool receive_bytes(Tool *tool, void *bytes, size_t size)
{
    size_t got = 0;

    while (got < size) {
        ssize_t n;

        g_assert_true(wait_readable(tool->fd, TOOL_LIMIT_MS));
        n = RETRY_ON_EINTR(recv(tool->fd, (char *)bytes + got, size - got, 0));
        if (n <= 0 && got == 0 && (n == 0 || errno == ECONNRESET)) {
            return false;
        }
        g_assert_cmpint(n, >, 0);
        got += n;
    }
    return true;
}

void tool_receive_bytes(Tool *tool, void *bytes, size_t size)
{
    g_assert_true(receive_bytes(tool, bytes, size));
}

/* Whether the other end closes; anything that comes before is dropped. */
bool tool_eof_within(Tool *tool, int64_t timeout_ms)
{
    int64_t end = g_get_monotonic_time() + timeout_ms * 1000;
    char buffer[4096];

    for (;;) {
        int64_t left = (end - g_get_monotonic_time()) / 1000;
        ssize_t n;

        if (left <= 0 || !wait_readable(tool->fd, left)) {
            return false;
        }
        n = RETRY_ON_EINTR(recv(tool->fd, buffer, sizeof(buffer), 0));
        if (n == 0 || (n < 0 && errno == ECONNRESET)) {
            return true;
        }
        g_assert_cmpint(n, >, 0);
    }
}

/* The connection is closed, and nothing more was said on it. */
void tool_expect_eof(Tool *tool)
{
    uint8_t byte;

    g_assert_true(g_queue_is_empty(tool->replies));
    g_assert_true(g_queue_is_empty(tool->events));
    g_assert_false(receive_bytes(tool, &byte, 1));
    tool_close(tool);
}

void tool_expect_silence(Tool *tool)
{
    g_assert_true(g_queue_is_empty(tool->replies));
    g_assert_true(g_queue_is_empty(tool->events));
    g_assert_false(wait_readable(tool->fd, TOOL_WATCH_MS));
}

/* Handshake. */

void tool_receive_hello(Tool *tool, uint8_t hello[HELLO_SIZE])
{
    g_assert_true(receive_bytes(tool, hello, HELLO_SIZE));
}

void tool_answer_hello(Tool *tool)
{
    uint8_t answer[ANSWER_SIZE] = { 0 };

    stl_he_p(answer, ANSWER_SIZE);
    tool_send_bytes(tool, answer, sizeof(answer));
}

/* With the connection there: through the handshake, until the engine answers */
void tool_hook(Tool *tool)
{
    struct kvmi_get_version_reply version;
    uint8_t hello[HELLO_SIZE];

    tool_receive_hello(tool, hello);
    tool_answer_hello(tool);
    tool_get_version(tool, &version);
}

/* Messages. */

void tool_append(GByteArray *out, uint16_t id, uint32_t seq,
                 const void *payload, size_t size)
{
    struct kvmi_msg_hdr header = { .id = id, .size = size, .seq = seq };

    g_byte_array_append(out, (uint8_t *)&header, sizeof(header));
    if (size) {
        g_byte_array_append(out, payload, size);
    }
}

uint32_t tool_next_seq(Tool *tool)
{
    return tool->seq++;
}

uint32_t tool_send(Tool *tool, uint16_t id, const void *payload, size_t size)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint32_t seq = tool_next_seq(tool);

    tool_append(out, id, seq, payload, size);
    tool_send_bytes(tool, out->data, out->len);
    return seq;
}

/*
 * Send a command again and again, without reading any reply, until the
 * engine takes no more.  Returns how many were begun; @rest is what is still
 * to be sent of the last one.  The first has the next sequence number.
 */
unsigned tool_flood(Tool *tool, uint16_t id, const void *payload, size_t size,
                    GByteArray *rest)
{
    struct pollfd pollfd = { .fd = tool->fd, .events = POLLOUT };
    unsigned n = 0;

    g_byte_array_set_size(rest, 0);
    while (RETRY_ON_EINTR(poll(&pollfd, 1, 5 * TOOL_WATCH_MS)) == 1) {
        ssize_t sent;

        if (!rest->len) {
            tool_append(rest, id, tool_next_seq(tool), payload, size);
            n++;
        }
        sent = RETRY_ON_EINTR(send(tool->fd, rest->data, rest->len,
                                   MSG_DONTWAIT | MSG_NOSIGNAL));
        g_assert_true(sent > 0 || (sent < 0 && errno == EAGAIN));
        if (sent > 0) {
            g_byte_array_remove_range(rest, 0, sent);
        }
    }
    return n;
}

static ToolMessage *receive_message(Tool *tool)
{
    g_autofree ToolMessage *message = g_malloc(sizeof(*message) + UINT16_MAX);

    if (!receive_bytes(tool, &message->header, sizeof(message->header))) {
        g_error("the engine closed the connection");
    }
    if (message->header.size) {
        g_assert_true(receive_bytes(tool, message->data,
                                    message->header.size));
    }
    return g_steal_pointer(&message);
}

/* The reply to a command KVMI_EVENT, which there is not, has the same id. */
static bool is_event(const ToolMessage *message)
{
    return message->header.id == KVMI_EVENT &&
           message->header.size >= sizeof(struct kvmi_event);
}

static void receive_into_queue(Tool *tool)
{
    ToolMessage *message = receive_message(tool);

    if (is_event(message)) {
        g_queue_push_tail(tool->events, message);
    } else {
        g_assert_cmpuint(message->header.size, >=,
                         sizeof(struct kvmi_error_code));
        g_queue_push_tail(tool->replies, message);
    }
}

static ToolMessage *take_reply(Tool *tool, uint32_t seq)
{
    for (GList *l = tool->replies->head; l; l = l->next) {
        ToolMessage *message = l->data;

        if (message->header.seq == seq) {
            g_queue_delete_link(tool->replies, l);
            return message;
        }
    }
    return NULL;
}

/*
 * The reply to command @seq: returns its error, or 0 with its data, which
 * must be of @size bytes, in @data.
 */
int tool_receive_reply(Tool *tool, uint16_t id, uint32_t seq,
                       void *data, size_t size)
{
    g_autofree ToolMessage *reply = NULL;
    struct kvmi_error_code error;
    size_t rest;

    while (!(reply = take_reply(tool, seq))) {
        receive_into_queue(tool);
    }
    memcpy(&error, reply->data, sizeof(error));
    rest = reply->header.size - sizeof(error);

    g_assert_cmpuint(reply->header.id, ==, id);
    g_assert_cmpuint(error.padding, ==, 0);
    g_assert_cmpint(error.err, <=, 0);
    g_assert_cmpuint(rest, ==, error.err ? 0 : size);
    if (rest) {
        g_assert_nonnull(data);
        memcpy(data, reply->data + sizeof(error), rest);
    }
    return error.err;
}

/* Which command the next reply is for.  The reply stays to be received. */
uint32_t tool_receive_next_reply(Tool *tool)
{
    guint before = g_queue_get_length(tool->replies);
    ToolMessage *reply;

    while (g_queue_get_length(tool->replies) == before) {
        receive_into_queue(tool);
    }
    reply = g_queue_peek_tail(tool->replies);
    return reply->header.seq;
}

int tool_call(Tool *tool, uint16_t id, const void *payload, size_t size,
              void *data, size_t data_size)
{
    uint32_t seq = tool_send(tool, id, payload, size);

    return tool_receive_reply(tool, id, seq, data, data_size);
}

/* Commands. */

void tool_get_version(Tool *tool, struct kvmi_get_version_reply *version)
{
    g_assert_cmpint(tool_call(tool, KVMI_GET_VERSION, NULL, 0,
                              version, sizeof(*version)), ==, 0);
}

int tool_get_guest_info(Tool *tool, uint16_t vcpu,
                        struct kvmi_get_guest_info_reply *info)
{
    struct kvmi_get_guest_info request = { .vcpu = vcpu };

    return tool_call(tool, KVMI_GET_GUEST_INFO, &request, sizeof(request),
                     info, sizeof(*info));
}

int tool_read_physical(Tool *tool, uint64_t gpa, uint64_t size, void *data)
{
    struct kvmi_read_physical request = { .gpa = gpa, .size = size };

    return tool_call(tool, KVMI_READ_PHYSICAL, &request, sizeof(request),
                     data, size);
}

int tool_write_physical(Tool *tool, uint64_t gpa, uint64_t size,
                        const void *data)
{
    struct kvmi_write_physical request = { .gpa = gpa, .size = size };
    g_autoptr(GByteArray) payload = g_byte_array_new();

    g_byte_array_append(payload, (uint8_t *)&request, sizeof(request));
    g_byte_array_append(payload, data, size);
    return tool_call(tool, KVMI_WRITE_PHYSICAL, payload->data, payload->len,
                     NULL, 0);
}

uint64_t tool_read_u64(Tool *tool, uint64_t gpa)
{
    uint64_t value;

    g_assert_cmpint(tool_read_physical(tool, gpa, sizeof(value), &value),
                    ==, 0);
    return value;
}

uint32_t tool_pause_all(Tool *tool)
{
    struct kvmi_pause_all_vcpus_reply reply;

    g_assert_cmpint(tool_call(tool, KVMI_PAUSE_ALL_VCPUS, NULL, 0,
                              &reply, sizeof(reply)), ==, 0);
    g_assert_cmpuint(reply.padding, ==, 0);
    return reply.vcpu_count;
}

int tool_control_vm_events(Tool *tool, uint32_t events)
{
    struct kvmi_control_vm_events request = { .events = events };

    return tool_call(tool, KVMI_CONTROL_VM_EVENTS, &request, sizeof(request),
                     NULL, 0);
}

int tool_control_events(Tool *tool, uint16_t vcpu, uint32_t events)
{
    struct kvmi_control_events request = { .vcpu = vcpu, .events = events };

    return tool_call(tool, KVMI_CONTROL_EVENTS, &request, sizeof(request),
                     NULL, 0);
}

int tool_control_cr(Tool *tool, uint16_t vcpu, uint32_t cr, bool enable)
{
    struct kvmi_control_cr request = {
        .vcpu = vcpu, .enable = enable, .cr = cr,
    };

    return tool_call(tool, KVMI_CONTROL_CR, &request, sizeof(request),
                     NULL, 0);
}

int tool_control_msr(Tool *tool, uint16_t vcpu, uint32_t msr, bool enable)
{
    struct kvmi_control_msr request = {
        .vcpu = vcpu, .enable = enable, .msr = msr,
    };

    return tool_call(tool, KVMI_CONTROL_MSR, &request, sizeof(request),
                     NULL, 0);
}

int tool_get_cpuid(Tool *tool, uint16_t vcpu, uint32_t function,
                   uint32_t index, struct kvmi_get_cpuid_reply *cpuid)
{
    struct kvmi_get_cpuid request = {
        .vcpu = vcpu, .function = function, .index = index,
    };

    return tool_call(tool, KVMI_GET_CPUID, &request, sizeof(request),
                     cpuid, sizeof(*cpuid));
}

int tool_get_xsave(Tool *tool, uint16_t vcpu, uint8_t xsave[4096])
{
    struct kvmi_get_xsave request = { .vcpu = vcpu };

    return tool_call(tool, KVMI_GET_XSAVE, &request, sizeof(request),
                     xsave, 4096);
}

GByteArray *tool_get_registers_request(uint16_t vcpu, const uint32_t *msrs,
                                       uint16_t nmsrs)
{
    struct kvmi_get_registers request = { .vcpu = vcpu, .nmsrs = nmsrs };
    GByteArray *payload = g_byte_array_new();

    g_byte_array_append(payload, (uint8_t *)&request, sizeof(request));
    if (nmsrs) {
        g_byte_array_append(payload, (const uint8_t *)msrs,
                            nmsrs * sizeof(*msrs));
    }
    return payload;
}

int tool_get_registers(Tool *tool, uint16_t vcpu, const uint32_t *msrs,
                       uint16_t nmsrs, ToolRegisters *registers)
{
    g_autoptr(GByteArray) payload = tool_get_registers_request(vcpu, msrs,
                                                               nmsrs);
    int err;

    g_assert_cmpuint(nmsrs, <=, G_N_ELEMENTS(registers->msrs));
    memset(registers, 0, sizeof(*registers));
    err = tool_call(tool, KVMI_GET_REGISTERS, payload->data, payload->len,
                    registers, sizeof(registers->common) +
                    nmsrs * sizeof(registers->msrs[0]));
    if (!err) {
        g_assert_cmpuint(registers->common.padding, ==, 0);
        g_assert_cmpuint(registers->common.msrs.nmsrs, ==, nmsrs);
        g_assert_cmpuint(registers->common.msrs.pad, ==, 0);
    }
    return err;
}

int tool_set_registers(Tool *tool, uint16_t vcpu, const struct kvm_regs *regs)
{
    struct kvmi_set_registers request = { .vcpu = vcpu, .regs = *regs };

    return tool_call(tool, KVMI_SET_REGISTERS, &request, sizeof(request),
                     NULL, 0);
}

/* Events. */

ToolEvent *tool_receive_event(Tool *tool)
{
    g_autofree ToolMessage *message = NULL;
    ToolEvent *event = g_new0(ToolEvent, 1);

    while (!(message = g_queue_pop_head(tool->events))) {
        receive_into_queue(tool);
    }
    g_assert_cmpuint(message->header.size, >=, sizeof(event->common));
    event->seq = message->header.seq;
    event->size = message->header.size - sizeof(event->common);
    g_assert_cmpuint(event->size, <=, sizeof(event->own));
    memcpy(&event->common, message->data, sizeof(event->common));
    memcpy(&event->own, message->data + sizeof(event->common), event->size);
    g_assert_cmpuint(event->common.padding, ==, 0);
    return event;
}

static size_t own_size(uint32_t event)
{
    switch (event) {
    case KVMI_EVENT_CR:
        return sizeof(struct kvmi_event_cr);
    case KVMI_EVENT_MSR:
        return sizeof(struct kvmi_event_msr);
    case KVMI_EVENT_BREAKPOINT:
        return sizeof(struct kvmi_event_breakpoint);
    case KVMI_EVENT_PF:
        return sizeof(struct kvmi_event_pf);
    case KVMI_EVENT_TRAP:
        return sizeof(struct kvmi_event_trap);
    case KVMI_EVENT_DESCRIPTOR:
        return sizeof(struct kvmi_event_descriptor);
    default:
        return 0;
    }
}

ToolEvent *tool_expect_event(Tool *tool, uint16_t vcpu, uint32_t event)
{
    ToolEvent *received = tool_receive_event(tool);

    g_assert_cmpuint(received->common.event, ==, event);
    g_assert_cmpuint(received->common.vcpu, ==, vcpu);
    g_assert_cmpuint(received->size, ==, own_size(event));
    return received;
}

/*
 * No event was sent up to now.  The engine sends in order, so what it sent
 * before the answer to a command is here when the answer is.
 */
void tool_expect_no_event(Tool *tool)
{
    struct kvmi_get_version_reply version;

    tool_get_version(tool, &version);
    g_assert_true(g_queue_is_empty(tool->events));
}

/* Whether an event was sent up to now. */
bool tool_event_waits(Tool *tool)
{
    struct kvmi_get_version_reply version;

    tool_get_version(tool, &version);
    return !g_queue_is_empty(tool->events);
}

void tool_reply(Tool *tool, const ToolEvent *event, uint32_t action,
                const void *own, size_t size)
{
    struct kvmi_event_reply reply = {
        .action = action, .event = event->common.event,
    };
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_autoptr(GByteArray) out = g_byte_array_new();

    g_byte_array_append(payload, (uint8_t *)&reply, sizeof(reply));
    if (size) {
        g_byte_array_append(payload, own, size);
    }
    tool_append(out, KVMI_EVENT_REPLY, event->seq,
                payload->data, payload->len);
    tool_send_bytes(tool, out->data, out->len);
}

/* Let the guest go on as if nobody had looked. */
void tool_continue(Tool *tool, const ToolEvent *event)
{
    switch (event->common.event) {
    case KVMI_EVENT_CR:
        tool_continue_with(tool, event, event->own.cr.new_value);
        break;
    case KVMI_EVENT_MSR:
        tool_continue_with(tool, event, event->own.msr.new_value);
        break;
    default:
        tool_reply(tool, event, KVMI_EVENT_ACTION_CONTINUE, NULL, 0);
        break;
    }
}

void tool_retry(Tool *tool, const ToolEvent *event)
{
    tool_reply(tool, event, KVMI_EVENT_ACTION_RETRY, NULL, 0);
}

/* A reply of @size bytes in all, right or wrong. */
void tool_reply_raw(Tool *tool, uint32_t seq, uint32_t event, uint32_t action,
                    size_t size)
{
    struct kvmi_event_reply reply = { .action = action, .event = event };
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint8_t payload[64] = { };

    g_assert_cmpuint(size, <=, sizeof(payload));
    memcpy(payload, &reply, sizeof(reply));
    tool_append(out, KVMI_EVENT_REPLY, seq, payload, size);
    tool_send_bytes(tool, out->data, out->len);
}

void tool_continue_with(Tool *tool, const ToolEvent *event, uint64_t new_val)
{
    tool_reply(tool, event, KVMI_EVENT_ACTION_CONTINUE,
               &new_val, sizeof(new_val));
}
