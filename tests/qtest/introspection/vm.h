/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine with the guest of tests/guest/, for the conformance
 * suite: starting it, and asking its guest to do things.
 */
#ifndef TESTS_INTROSPECTION_VM_H
#define TESTS_INTROSPECTION_VM_H

#include "tests/qtest/libqtest.h"
#include "../../guest/guest-abi.h"
#include "tool.h"

#define VM_NAME         "conformance"
#define VM_UUID         "00112233-4455-6677-8899-aabbccddeeff"
#define VM_UUID_BYTES   { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, \
                          0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff }
#define VM_IDENTITY     "-name guest=" VM_NAME " -uuid " VM_UUID
#define VM_VCPUS        2
#define VM_RAM_MIB      64

/* An accelerator, as far as the cases must know what it can do. */
typedef struct Engine {
    const char *name;           /* in the names of the cases */
    const char *available;      /* accelerator that QEMU must have */
    const char *accel;          /* -accel */
    const char *cpu;            /* -cpu */
    bool runs;                  /* it executes guest code */
    bool one_thread;            /* that is all vCPUs' */
    bool in_kernel;             /* QEMU doesn't see what it does */
    bool on_request;            /* takes more than this machine has */
} Engine;

typedef struct TestVM {
    const Engine *engine;
    char *dir;                  /* temporary, for this case */
    char *socket;               /* between QEMU and the tool */
    char *log;                  /* QEMU's stderr, where it goes to a file */
    QTestState *qts;            /* NULL until vm_start() */
    Tool *tool;
    const char *identity;       /* -name and -uuid */
    uint64_t request[GUEST_MAX_VCPUS];
} TestVM;

/* Life. */
char *vm_guest_image(void);
TestVM *vm_new(const Engine *engine);
void vm_free(TestVM *vm);
char *vm_command_line(TestVM *vm, const char *chardev, const char *object,
                      const char *more);
void vm_start_with(TestVM *vm, const char *chardev, const char *object,
                   const char *more);
void vm_start(TestVM *vm, const char *object, const char *more);
void vm_start_hooked(TestVM *vm, const char *object, const char *more);
void vm_rehook(TestVM *vm);
void vm_expect_close_and_rehook(TestVM *vm);
void vm_control_events(TestVM *vm, unsigned vcpu, uint32_t events);
void vm_watch_cr(TestVM *vm, unsigned vcpu, uint32_t cr);
char *vm_read_log(TestVM *vm);

/* The guest, through QEMU's own access to its memory. */
#define VM_MAILBOX(vcpu, member) \
    (GUEST_MAILBOX(vcpu) + offsetof(struct GuestMailbox, member))
#define vm_guest_get(vm, vcpu, member) \
    vm_guest_read((vm), VM_MAILBOX(vcpu, member), \
                  sizeof(((struct GuestMailbox *)0)->member))

uint64_t vm_guest_read(TestVM *vm, uint64_t gpa, size_t size);
bool vm_guest_is_up(TestVM *vm, unsigned vcpu);
void vm_guest_wait_up(TestVM *vm, unsigned vcpu);
void vm_guest_start_vcpu(TestVM *vm, unsigned vcpu);
void vm_guest_begin(TestVM *vm, unsigned vcpu, enum GuestOp op,
                    uint64_t arg0, uint64_t arg1);
const char *vm_guest_mode_name(unsigned mode);
uint64_t vm_guest_code_gpa(unsigned mode);
uint64_t vm_guest_code_rip(unsigned mode);
void vm_guest_begin_code(TestVM *vm, unsigned vcpu, unsigned mode,
                         const void *code, size_t size);
bool vm_guest_is_done(TestVM *vm, unsigned vcpu);
void vm_guest_wait_started(TestVM *vm, unsigned vcpu);
enum GuestStatus vm_guest_finish(TestVM *vm, unsigned vcpu);
enum GuestStatus vm_guest_do(TestVM *vm, unsigned vcpu, enum GuestOp op,
                             uint64_t arg0, uint64_t arg1);
uint64_t vm_guest_result(TestVM *vm, unsigned vcpu, enum GuestOp op,
                         uint64_t arg0, uint64_t arg1);
void vm_guest_release(TestVM *vm);
void vm_guest_wait_counting(TestVM *vm, unsigned vcpu);
bool vm_guest_stands_still(TestVM *vm, unsigned vcpu);
void vm_guest_expect_exception_at(TestVM *vm, unsigned vcpu, unsigned vector,
                                  uint64_t rip);
void vm_guest_expect_exception(TestVM *vm, unsigned vcpu, unsigned vector);

void vm_expect_panicked(TestVM *vm);

/* Wait for @condition, which must become true. */
#define VM_WAIT_UNTIL(condition)                                            \
    do {                                                                    \
        int64_t end_ = g_get_monotonic_time() + TOOL_LIMIT_MS * 1000;       \
        while (!(condition)) {                                              \
            if (g_get_monotonic_time() > end_) {                            \
                g_error("%s:%d: never came true: %s",                       \
                        __func__, __LINE__, #condition);                    \
            }                                                               \
            g_usleep(200);                                                  \
        }                                                                   \
    } while (0)

/* The main loop of QEMU, held with the BQL taken until it is let go. */
void vm_block_main_loop(TestVM *vm);
void vm_unblock_main_loop(TestVM *vm);

/* A second QMP monitor, by its socket. */
char *vm_second_monitor(TestVM *vm, char **path);
int vm_monitor_connect(const char *path);
void vm_monitor_receive(int fd);
void vm_monitor_command(int fd, const char *command);

/* QMP. */
QDict *vm_query_introspection(TestVM *vm);
void vm_wait_state(TestVM *vm, const char *state);
void vm_wait_state_event(TestVM *vm, const char *state);
unsigned vm_waiting_vcpus(TestVM *vm);
void vm_expect_waiting_vcpus(TestVM *vm, unsigned n);

#endif /* TESTS_INTROSPECTION_VM_H */
