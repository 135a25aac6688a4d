/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The measuring half of 'make bench': a tool that asks QEMU for things, and
 * says how long that took.
 *
 * Usage: introspection-bench messages VM GDB ROUNDS [GDB SCRIPT]
 *        introspection-bench fill VM SIZE
 *        introspection-bench read VM SIZE
 *        introspection-bench hold VM
 *        introspection-bench restrict VM
 *
 * VM is a unix socket and GDB a TCP port, at which QEMUs with the guest of
 * tests/guest/ listen, the one for an introspection tool, the others for GDB.
 *
 * messages   times round trips of messages, each against a ping-pong of the
 *            same bytes and against QEMU's gdbstub: the first GDB gets the packets
 *            that the debugger would send, the second the debugger itself, with
 *            SCRIPT.  A line "NAME MICROSECONDS" for each, ROUNDS times all of
 *            them
 * fill       makes every page of the first SIZE bytes different from zero, and
 *            sends its vCPU to sleep
 * read       reads the guest's first SIZE bytes, one page after the other, and
 *            prints the seconds
 * hold       hooks the VM and does nothing until the end of standard input
 * restrict   reads lines "GPA PAGES ACCESS" and sets the access of so many pages,
 *            answering all events with CONTINUE.  Then says "ok" and how many
 *            events there have been since the last line
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kvmi-client.h"
#include "gdb-program.h"
#include "gdb-remote.h"
#include "ping-pong.h"
#include "../guest/guest-abi.h"

#define PATIENCE_MS 30000

/* Each of the things in each round. */
#define SLICE_US (300 * 1000)

#define MAILBOX_OF(vcpu, member) \
    (GUEST_MAILBOX(vcpu) + offsetof(struct GuestMailbox, member))
#define MAILBOX(member) MAILBOX_OF(0, member)

typedef struct Bench {
    KvmiClient *vm;
    GdbRemote *gdb;
    KvmiEvent *event;           /* the one that the vCPU waits in */
    uint64_t request;           /* the last to the vCPU */
    PingPong *ping_pong;
    uint64_t breakpoint;        /* in the guests that are debugged */

    /* GDB itself, with a guest of its own; NULL: it is not there. */
    const char *program_script;
    uint16_t program_port;
    GdbProgram *program;
} Bench;

/* For calls with a GError: their failure ends the program. */
#define MUST(call)                                                          \
    do {                                                                    \
        GError *err = NULL;                                                 \
        if (!(call)) {                                                      \
            g_printerr("introspection-bench: %s\n", err->message);          \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

static KvmiClient *hook(const char *address)
{
    g_autofree char *full = g_strdup_printf("unix:%s", address);
    KvmiConfig config = { .reply_timeout_ms = PATIENCE_MS };
    KvmiClient *vm;

    MUST((vm = kvmi_connect(full, &config, PATIENCE_MS, &err)));
    return vm;
}

/* The guest of the introspected VM. */

static uint64_t peek(Bench *b, uint64_t gpa, size_t size)
{
    uint64_t value = 0;

    MUST(kvmi_read_physical(b->vm, gpa, &value, size, &err));
    return value;
}

static void poke(Bench *b, uint64_t gpa, uint64_t value, size_t size)
{
    MUST(kvmi_write_physical(b->vm, gpa, &value, size, &err));
}

static void wait_for_value(Bench *b, uint64_t gpa, size_t size, uint64_t value,
                           const char *what)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_MS * 1000;

    while (peek(b, gpa, size) != value) {
        if (g_get_monotonic_time() > end) {
            g_printerr("introspection-bench: waited in vain for %s\n", what);
            exit(1);
        }
        g_usleep(1000);
    }
}

static void wait_guest_up(Bench *b)
{
    wait_for_value(b, MAILBOX(magic), 4, GUEST_MAGIC, "the guest to be up");
    b->request = peek(b, MAILBOX(request), 8);
}

/*
 * What a vCPU does that is at work: 1: incq counter; jmp 1b
 *
 * While it has no request it executes PAUSE, by which it leaves TCG's code each
 * time, and takes the BQL.
 */
#define WORK_PAGE (GUEST_SCRATCH + 0x100000)

typedef struct Work {
    uint8_t inc[4];
    uint32_t counter;
    uint8_t jmp[2];
} __attribute__((packed)) Work;

static const Work work = {
    .inc = { 0x48, 0xff, 0x04, 0x25 },
    .counter = MAILBOX_OF(1, counter),
    .jmp = { 0xeb, 0xf6 },
};

static void begin_op(Bench *b, enum GuestOp op, uint64_t arg0, uint64_t arg1,
                     uint64_t arg2)
{
    poke(b, MAILBOX(op), op, 4);
    poke(b, MAILBOX(arg[0]), arg0, 8);
    poke(b, MAILBOX(arg[1]), arg1, 8);
    poke(b, MAILBOX(arg[2]), arg2, 8);
    poke(b, MAILBOX(request), ++b->request, 8);
}

static void next_event(Bench *b, uint32_t event)
{
    MUST(kvmi_next_event(b->vm, PATIENCE_MS, &b->event, &err));
    if (!b->event || b->event->common.event != event) {
        g_printerr("introspection-bench: no event '%s' came\n",
                   kvmi_event_name(event));
        exit(1);
    }
}

static void continue_event(Bench *b)
{
    MUST(kvmi_event_continue(b->vm, b->event, &err));
    kvmi_event_free(b->event);
    b->event = NULL;
}

static void retry_event(Bench *b)
{
    MUST(kvmi_event_reply(b->vm, b->event, KVMI_EVENT_ACTION_RETRY, NULL, 0,
                          &err));
    kvmi_event_free(b->event);
    b->event = NULL;
}

/* All vCPUs wait for the tool until continue_all(). */
static GPtrArray *pause_all(Bench *b)
{
    GPtrArray *events = g_ptr_array_new();
    uint32_t count;

    MUST(kvmi_pause_all_vcpus(b->vm, &count, &err));
    while (count--) {
        next_event(b, KVMI_EVENT_PAUSE_VCPU);
        g_ptr_array_add(events, b->event);
    }
    return events;
}

static void continue_all(Bench *b, GPtrArray *events)
{
    unsigned i;

    for (i = 0; i < events->len; i++) {
        b->event = g_ptr_array_index(events, i);
        continue_event(b);
    }
    g_ptr_array_free(events, TRUE);
}

static void start_second_vcpu(Bench *b)
{
    MUST(kvmi_write_physical(b->vm, WORK_PAGE, &work, sizeof(work), &err));
    begin_op(b, OP_START_VCPU, 1, 0, 0);
    wait_for_value(b, MAILBOX_OF(1, magic), 4, GUEST_MAGIC, "the second vCPU");
    poke(b, MAILBOX_OF(1, op), OP_CALL, 4);
    poke(b, MAILBOX_OF(1, arg[0]), WORK_PAGE, 8);
    poke(b, MAILBOX_OF(1, request), 1, 8);
    wait_for_value(b, MAILBOX_OF(1, started), 8, 1, "its work");
}

/* The guest changes CR3 without end, and waits in the first event of that. */
static void begin_cr_events(Bench *b)
{
    MUST(kvmi_control_cr(b->vm, 0, 3, true, &err));
    MUST(kvmi_control_events(b->vm, 0, KVMI_EVENT_CR_FLAG, &err));
    begin_op(b, OP_WRITE_CR_LOOP, 3, GUEST_PML4_B, GUEST_PML4_A);
    next_event(b, KVMI_EVENT_CR);
}

static void end_cr_events(Bench *b)
{
    MUST(kvmi_control_events(b->vm, 0, 0, &err));
    poke(b, GUEST_RELEASE, 1, 4);
    continue_event(b);
    wait_for_value(b, MAILBOX(done), 8, b->request, "the guest to be done");
    poke(b, GUEST_RELEASE, 0, 4);
}

/* The guest calls a breakpoint of ours without end, and waits in its event. */
static void begin_int3_events(Bench *b)
{
    const uint64_t int3_ret = 0xc3cc;

    poke(b, GUEST_SCRATCH, int3_ret, 2);
    MUST(kvmi_control_events(b->vm, 0, KVMI_EVENT_BREAKPOINT_FLAG, &err));
    begin_op(b, OP_CALL_LOOP, GUEST_SCRATCH, 0, 0);
    next_event(b, KVMI_EVENT_BREAKPOINT);
}

/* The guest's byte is NOP. */
static void end_int3_events(Bench *b)
{
    poke(b, GUEST_SCRATCH, 0x90, 1);
    poke(b, GUEST_RELEASE, 1, 4);
    retry_event(b);
    wait_for_value(b, MAILBOX(done), 8, b->request, "the guest to be done");
    poke(b, GUEST_RELEASE, 0, 4);
    MUST(kvmi_control_events(b->vm, 0, 0, &err));
}

/* The guest that is debugged. */

static void gdb_put(Bench *b, uint64_t gpa, uint64_t value, size_t size)
{
    gdb_write(b->gdb, gpa, &value, size);
}

static void gdb_run_until(Bench *b, uint64_t gpa, uint32_t value)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_MS * 1000;
    uint32_t have;

    while (gdb_read(b->gdb, gpa, &have, sizeof(have)), have != value) {
        if (g_get_monotonic_time() > end) {
            g_printerr("introspection-bench: waited in vain for the guest "
                       "that is debugged\n");
            exit(1);
        }
        gdb_continue(b->gdb);
        g_usleep(20000);
        gdb_interrupt(b->gdb);
    }
}

static void gdb_begin_op(Bench *b, uint64_t request, enum GuestOp op,
                         uint64_t arg0, uint64_t arg1, uint64_t arg2)
{
    gdb_put(b, MAILBOX(op), op, 4);
    gdb_put(b, MAILBOX(arg[0]), arg0, 8);
    gdb_put(b, MAILBOX(arg[1]), arg1, 8);
    gdb_put(b, MAILBOX(arg[2]), arg2, 8);
    gdb_put(b, MAILBOX(request), request, 8);
    gdb_run_until(b, MAILBOX(started), request);
}

/*
 * Its second vCPU is at work, and it changes CR3 without end; it has stopped at
 * the instruction.
 */
static void debug(Bench *b)
{
    gdb_run_until(b, MAILBOX(magic), GUEST_MAGIC);
    gdb_begin_op(b, 1, OP_START_VCPU, 1, 0, 0);
    gdb_run_until(b, MAILBOX_OF(1, magic), GUEST_MAGIC);
    gdb_write(b->gdb, WORK_PAGE, &work, sizeof(work));
    gdb_put(b, MAILBOX_OF(1, op), OP_CALL, 4);
    gdb_put(b, MAILBOX_OF(1, arg[0]), WORK_PAGE, 8);
    gdb_put(b, MAILBOX_OF(1, request), 1, 8);
    gdb_run_until(b, MAILBOX_OF(1, started), 1);
    gdb_begin_op(b, 2, OP_WRITE_CR_LOOP, 3, GUEST_PML4_B, GUEST_PML4_A);
    gdb_continue(b->gdb);
    g_usleep(20000);
    gdb_interrupt(b->gdb);
    gdb_read(b->gdb, MAILBOX(insn_rip), &b->breakpoint,
             sizeof(b->breakpoint));
    gdb_set_breakpoint(b->gdb, b->breakpoint);
    gdb_continue(b->gdb);
    gdb_wait_stop(b->gdb);
    gdb_remove_breakpoint(b->gdb, b->breakpoint);
}

/* Access to a page. */

#define CODE_PAGE   GUEST_SCRATCH
#define DATA_PAGE   (GUEST_SCRATCH + KVMI_PAGE_SIZE)
#define MANY_PAGES  200

/*
 * 1: inc %rax; mov %rax, DATA_PAGE; cmpl $0, GUEST_RELEASE; je 1b; ret
 *
 * GDB's watchpoints are for values that change.
 */
static const uint8_t store_loop[] = {
    0x48, 0xff, 0xc0,
    0x48, 0x89, 0x04, 0x25, 0x00, 0x10, 0x40, 0x00,
    0x83, 0x3c, 0x25, 0x00, 0x00, 0x3f, 0x00, 0x00,
    0x74, 0xeb,
    0xc3,
};

static void set_access(Bench *b, unsigned pages, uint8_t access)
{
    struct kvmi_page_access_entry entries[MANY_PAGES] = { 0 };
    unsigned i;

    for (i = 0; i < pages; i++) {
        entries[i].gpa = DATA_PAGE + i * KVMI_PAGE_SIZE;
        entries[i].access = access;
    }
    MUST(kvmi_set_page_access(b->vm, 0, entries, pages, &err));
}

/* The guest writes to a page without end, and waits in the first event. */
static void begin_pf_events(Bench *b)
{
    MUST(kvmi_write_physical(b->vm, CODE_PAGE, store_loop, sizeof(store_loop),
                             &err));
    set_access(b, 1, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X);
    MUST(kvmi_control_events(b->vm, 0, KVMI_EVENT_PF_FLAG, &err));
    begin_op(b, OP_CALL, CODE_PAGE, 0, 0);
    next_event(b, KVMI_EVENT_PF);
}

static void step_pf_event(Bench *b)
{
    struct kvmi_event_pf_reply reply = { .singlestep = 1 };

    MUST(kvmi_event_reply(b->vm, b->event, KVMI_EVENT_ACTION_RETRY,
                          &reply, sizeof(reply), &err));
    kvmi_event_free(b->event);
    b->event = NULL;
}

static void end_pf_events(Bench *b)
{
    poke(b, GUEST_RELEASE, 1, 4);
    step_pf_event(b);
    wait_for_value(b, MAILBOX(done), 8, b->request, "the guest to be done");
    poke(b, GUEST_RELEASE, 0, 4);
    set_access(b, 1, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W |
               KVMI_PAGE_ACCESS_X);
    MUST(kvmi_control_events(b->vm, 0, 0, &err));
}

/* What is measured. */

static void once_ping_pong(Bench *b)
{
    ping_pong(b->ping_pong);
}

static void once_read_physical(Bench *b)
{
    uint8_t page[KVMI_PAGE_SIZE];

    MUST(kvmi_read_physical(b->vm, GUEST_SCRATCH, page, sizeof(page), &err));
}

static void once_get_registers(Bench *b)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    uint32_t mode;

    MUST(kvmi_get_registers(b->vm, 0, NULL, 0, &mode, &regs, &sregs, NULL,
                            &err));
}

static void once_cr_event(Bench *b)
{
    continue_event(b);
    next_event(b, KVMI_EVENT_CR);
}

static void once_pf_event(Bench *b)
{
    step_pf_event(b);
    next_event(b, KVMI_EVENT_PF);
}

/* Twice, so that access is taken away once. */
static void once_set_access(Bench *b)
{
    set_access(b, 1, KVMI_PAGE_ACCESS_R);
    set_access(b, 1, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X);
}

static void once_set_access_many(Bench *b)
{
    set_access(b, MANY_PAGES, KVMI_PAGE_ACCESS_R);
    set_access(b, MANY_PAGES, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X);
}

/* The guest comes to the same INT3 again at once. */
static void once_int3_event(Bench *b)
{
    retry_event(b);
    next_event(b, KVMI_EVENT_BREAKPOINT);
}

/*
 * As a tool uses it: the tool does what the instruction does.  The command and
 * the answer to the event go together.
 */
static void once_int3_skipped(Bench *b)
{
    struct kvmi_set_registers msg = { .regs = b->event->common.regs };
    KvmiRequest *request;

    msg.regs.rip++;
    MUST((request = kvmi_submit(b->vm, KVMI_SET_REGISTERS, &msg, sizeof(msg),
                                NULL, 0, true, &err)));
    retry_event(b);
    MUST(kvmi_request_finish(b->vm, request, 0, NULL, NULL, &err));
    next_event(b, KVMI_EVENT_BREAKPOINT);
}

static void once_gdb_read(Bench *b)
{
    uint8_t page[KVMI_PAGE_SIZE];
    size_t i;

    for (i = 0; i < sizeof(page); i += GDB_MAX_READ) {
        gdb_read(b->gdb, GUEST_SCRATCH + i, page + i, GDB_MAX_READ);
    }
}

/* GDB can look into a guest only while that stands still. */
static void once_gdb_read_running(Bench *b)
{
    gdb_interrupt(b->gdb);
    gdb_get_registers(b->gdb);
    gdb_list_threads(b->gdb);
    once_gdb_read(b);
    gdb_continue(b->gdb);
}

/* As GDB goes on from a breakpoint with "ignore": from one stop to the next. */
static void once_gdb_breakpoint(Bench *b)
{
    gdb_step(b->gdb);
    gdb_get_registers(b->gdb);
    gdb_set_breakpoint(b->gdb, b->breakpoint);
    gdb_continue(b->gdb);
    gdb_wait_stop(b->gdb);
    gdb_get_registers(b->gdb);
    gdb_remove_breakpoint(b->gdb, b->breakpoint);
}

/* The same for a write to memory, which it reads three times. */
static void once_gdb_watchpoint(Bench *b)
{
    uint64_t value;
    int i;

    gdb_continue(b->gdb);
    gdb_wait_stop(b->gdb);
    gdb_get_registers(b->gdb);
    for (i = 0; i < 3; i++) {
        gdb_read(b->gdb, DATA_PAGE, &value, sizeof(value));
    }
}

static void measure(Bench *b, const char *name, void (*once)(Bench *b))
{
    gint64 start, now, n = 0;
    int i;

    for (i = 0; i < 5; i++) {
        once(b);
    }
    start = g_get_monotonic_time();
    do {
        once(b);
        n++;
        now = g_get_monotonic_time();
    } while (now - start < SLICE_US);
    printf("%s %.3f\n", name, (double)(now - start) / n);
    fflush(stdout);
}

/* Bytes on the wire. */
#define COMMAND_SIZE(type) (sizeof(struct kvmi_msg_hdr) + sizeof(type))
#define REPLY_SIZE(data) \
    (sizeof(struct kvmi_msg_hdr) + sizeof(struct kvmi_error_code) + (data))

static void measure_ping_pong(Bench *b, const char *name, PingPong *p)
{
    b->ping_pong = p;
    measure(b, name, once_ping_pong);
}

/* The same in GDB itself, by a function of its script's. */
static void measure_program(Bench *b, const char *name, const char *function,
                            uint64_t address, uint64_t counter)
{
    if (b->program) {
        printf("%s %.3f\n", name,
               gdb_program_call(b->program, function, address, counter));
        fflush(stdout);
    }
}

/* Prepare the guest that is for GDB itself, and have GDB take it over. */
static void start_program(Bench *b, void (*prepare)(Bench *b))
{
    GdbRemote *gdb = b->gdb;

    if (!b->program_script) {
        return;
    }
    b->gdb = gdb_connect(b->program_port);
    prepare(b);
    gdb_free(b->gdb);
    b->gdb = gdb;
    b->program = gdb_program_new(b->program_script, b->program_port,
                                 MAILBOX_OF(1, counter));
}

static void stop_program(Bench *b)
{
    if (b->program) {
        gdb_program_free(b->program);
        b->program = NULL;
    }
}

/* The guest that is debugged goes over to writing to memory without end. */
static void debug_stores(Bench *b)
{
    gdb_put(b, GUEST_RELEASE, 1, 4);
    gdb_run_until(b, MAILBOX(done), 2);
    gdb_put(b, GUEST_RELEASE, 0, 4);
    gdb_write(b->gdb, CODE_PAGE, store_loop, sizeof(store_loop));
    gdb_begin_op(b, 3, OP_CALL, CODE_PAGE, 0, 0);
}

static void measure_watchpoint(Bench *b, int rounds)
{
    int i;

    debug_stores(b);
    start_program(b, debug_stores);
    gdb_set_watchpoint(b->gdb, DATA_PAGE);
    for (i = 0; i < rounds; i++) {
        GPtrArray *events = pause_all(b);

        measure(b, "gdb-watchpoint", once_gdb_watchpoint);
        measure_program(b, "gdb-program-watchpoint", "watchpoint_told",
                        DATA_PAGE, DATA_PAGE);
        measure_program(b, "gdb-program-watchpoint-ignored",
                        "watchpoint_ignored", DATA_PAGE, DATA_PAGE);
        continue_all(b, events);
    }
    stop_program(b);
}

static void messages(Bench *b, int rounds)
{
    PingPong *read = ping_pong_new(COMMAND_SIZE(struct kvmi_read_physical),
                                   REPLY_SIZE(KVMI_PAGE_SIZE));
    PingPong *regs = ping_pong_new(
        COMMAND_SIZE(struct kvmi_get_registers),
        REPLY_SIZE(sizeof(struct kvmi_get_registers_reply)));
    PingPong *cr = ping_pong_new(
        COMMAND_SIZE(struct kvmi_event_reply) +
        sizeof(struct kvmi_event_cr_reply),
        COMMAND_SIZE(struct kvmi_event) + sizeof(struct kvmi_event_cr));
    PingPong *pf = ping_pong_new(
        COMMAND_SIZE(struct kvmi_event_reply) +
        sizeof(struct kvmi_event_pf_reply),
        COMMAND_SIZE(struct kvmi_event) + sizeof(struct kvmi_event_pf));
    PingPong *int3 = ping_pong_new(
        COMMAND_SIZE(struct kvmi_event_reply),
        COMMAND_SIZE(struct kvmi_event) +
        sizeof(struct kvmi_event_breakpoint));
    GPtrArray *events;
    int i;

    wait_guest_up(b);
    debug(b);
    start_program(b, debug);

    for (i = 0; i < rounds; i++) {
        /* both guests stand still */
        events = pause_all(b);
        measure(b, "read-physical", once_read_physical);
        measure_ping_pong(b, "read-physical-ping-pong", read);
        measure(b, "gdb-read", once_gdb_read);
        measure_program(b, "gdb-program-read", "reads", GUEST_SCRATCH, 0);

        /* one of them spins */
        continue_all(b, events);
        measure(b, "get-registers", once_get_registers);
        measure_ping_pong(b, "get-registers-ping-pong", regs);

        /* it waits in an event most of the time, and then all of it */
        begin_cr_events(b);
        measure(b, "cr-event", once_cr_event);
        measure_ping_pong(b, "cr-event-ping-pong", cr);
        end_cr_events(b);

        begin_pf_events(b);
        measure(b, "pf-event", once_pf_event);
        measure_ping_pong(b, "pf-event-ping-pong", pf);
        end_pf_events(b);

        measure(b, "set-page-access", once_set_access);
        measure(b, "set-page-access-many", once_set_access_many);
        set_access(b, MANY_PAGES, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W |
                   KVMI_PAGE_ACCESS_X);
        begin_int3_events(b);
        measure(b, "int3-event", once_int3_event);
        measure_ping_pong(b, "int3-event-ping-pong", int3);
        end_int3_events(b);
    }

    /*
     * What GDB has to stop, and start again, is a VM; one that is at work, as
     * those are that somebody looks into.
     */
    start_second_vcpu(b);
    for (i = 0; i < rounds; i++) {
        begin_cr_events(b);
        measure(b, "cr-event-at-work", once_cr_event);
        end_cr_events(b);
        begin_int3_events(b);
        measure(b, "int3-event-at-work", once_int3_skipped);
        end_int3_events(b);
        measure(b, "read-physical-at-work", once_read_physical);
        begin_pf_events(b);
        measure(b, "pf-event-at-work", once_pf_event);
        end_pf_events(b);

        events = pause_all(b);
        measure(b, "gdb-breakpoint", once_gdb_breakpoint);
        gdb_continue(b->gdb);
        measure(b, "gdb-read-at-work", once_gdb_read_running);
        gdb_interrupt(b->gdb);
        measure_program(b, "gdb-program-breakpoint", "breakpoint_told",
                        b->breakpoint, MAILBOX(counter));
        measure_program(b, "gdb-program-breakpoint-ignored",
                        "breakpoint_ignored", b->breakpoint, MAILBOX(counter));
        measure_program(b, "gdb-program-read-at-work", "reads_running",
                        GUEST_SCRATCH, 0);
        continue_all(b, events);
    }
    stop_program(b);
    measure_watchpoint(b, rounds);

    ping_pong_free(read);
    ping_pong_free(regs);
    ping_pong_free(cr);
    ping_pong_free(pf);
    ping_pong_free(int3);
}

/* All of RAM, for a dump that finds something. */

#define IN_FLIGHT 64

/* One write in each page that there is; the others are refused. */
static void fill(Bench *b, uint64_t size)
{
    /* struct kvmi_write_physical: gpa, size, data */
    uint64_t write[] = { 0, sizeof(uint64_t), 1 };
    KvmiRequest *requests[IN_FLIGHT];
    uint64_t gpa = GUEST_SCRATCH;
    int i, engine_err;

    while (gpa < size) {
        for (i = 0; i < IN_FLIGHT; i++) {
            write[0] = gpa;
            MUST((requests[i] = kvmi_submit(b->vm, KVMI_WRITE_PHYSICAL, write,
                                            sizeof(write), NULL, 0, true,
                                            &err)));
            gpa += KVMI_PAGE_SIZE;
        }
        for (i = 0; i < IN_FLIGHT; i++) {
            MUST(kvmi_request_finish(b->vm, requests[i], 0, NULL, &engine_err,
                                     &err));
        }
    }
}

static void read_pages(Bench *b, uint64_t size)
{
    gint64 start = g_get_monotonic_time();
    uint8_t page[KVMI_PAGE_SIZE];
    uint64_t gpa;

    for (gpa = 0; gpa < size; gpa += sizeof(page)) {
        struct kvmi_read_physical msg = { .gpa = gpa, .size = sizeof(page) };
        KvmiRequest *request;
        int engine_err;

        MUST((request = kvmi_submit(b->vm, KVMI_READ_PHYSICAL, &msg,
                                    sizeof(msg), page, sizeof(page), false,
                                    &err)));
        /* where there is no RAM, it says so */
        MUST(kvmi_request_finish(b->vm, request, 0, NULL, &engine_err, &err));
    }
    printf("%.6f\n", (g_get_monotonic_time() - start) / 1e6);
}

static void hold(void)
{
    printf("hooked\n");
    fflush(stdout);
    while (getchar() != EOF) {
        /* nothing */
    }
}

static guint events_answered;

static gpointer answer_all(gpointer opaque)
{
    KvmiClient *vm = opaque;
    struct kvmi_event_pf_reply reply = { 0 };
    KvmiEvent *event;

    while (kvmi_next_event(vm, -1, &event, NULL) && event) {
        g_atomic_int_inc(&events_answered);
        MUST(kvmi_event_reply(vm, event, KVMI_EVENT_ACTION_CONTINUE, &reply,
                              sizeof(reply), &err));
        kvmi_event_free(event);
    }
    return NULL;
}

static void restrict_pages(KvmiClient *vm)
{
    uint64_t gpa;
    unsigned pages, access, i;

    printf("hooked\n");
    fflush(stdout);
    g_thread_unref(g_thread_new("events", answer_all, vm));
    for (i = 0; i < 2; i++) {
        MUST(kvmi_control_events(vm, i, KVMI_EVENT_PF_FLAG, &err));
    }
    while (scanf("%" SCNx64 " %u %u", &gpa, &pages, &access) == 3) {
        while (pages) {
            struct kvmi_page_access_entry entries[MANY_PAGES] = { 0 };
            unsigned n = MIN(pages, MANY_PAGES);

            for (i = 0; i < n; i++) {
                entries[i].gpa = gpa + i * KVMI_PAGE_SIZE;
                entries[i].access = access;
            }
            MUST(kvmi_set_page_access(vm, 0, entries, n, &err));
            gpa += n * KVMI_PAGE_SIZE;
            pages -= n;
        }
        printf("ok %d\n", g_atomic_int_and(&events_answered, 0));
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    Bench b = { 0 };

    if (!strcmp(mode, "messages") && (argc == 5 || argc == 7)) {
        b.vm = hook(argv[2]);
        b.gdb = gdb_connect(atoi(argv[3]));
        if (argc == 7) {
            b.program_port = atoi(argv[5]);
            b.program_script = argv[6];
        }
        messages(&b, atoi(argv[4]));
        gdb_free(b.gdb);
    } else if (!strcmp(mode, "fill") && argc == 4) {
        b.vm = hook(argv[2]);
        wait_guest_up(&b);
        fill(&b, g_ascii_strtoull(argv[3], NULL, 0));
        begin_op(&b, OP_HALT, 0, 0, 0);
    } else if (!strcmp(mode, "read") && argc == 4) {
        b.vm = hook(argv[2]);
        read_pages(&b, g_ascii_strtoull(argv[3], NULL, 0));
    } else if (!strcmp(mode, "hold") && argc == 3) {
        b.vm = hook(argv[2]);
        hold();
    } else if (!strcmp(mode, "restrict") && argc == 3) {
        b.vm = hook(argv[2]);
        /* The thread that answers goes with the process. */
        restrict_pages(b.vm);
        return 0;
    } else {
        fprintf(stderr, "usage: introspection-bench messages VM GDB ROUNDS "
                "[GDB SCRIPT] | fill VM SIZE | read VM SIZE | hold VM | restrict VM\n");
        return 2;
    }
    kvmi_client_free(b.vm);
    return 0;
}
