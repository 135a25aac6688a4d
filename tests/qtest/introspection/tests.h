/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The conformance suite's cases, by subject.
 */
#ifndef TESTS_INTROSPECTION_TESTS_H
#define TESTS_INTROSPECTION_TESTS_H

#include "vm.h"

/* What a case needs of its engine; where that is missing, it is skipped. */
enum {
    NEEDS_RUNNING_GUEST = 1,
    NEEDS_COUNTS = 2,           /* in query-introspection */
    NEEDS_UNPLUG = 4,           /* of a vCPU */
    NEEDS_READ_ONLY_RAM = 8,    /* a read-only alias of RAM is one */
    NEEDS_TASK_SWITCHES = 16,   /* their writes to CR0 and CR3 are events */
    NEEDS_COMMAND_QUEUE = 32,   /* to a vCPU that has not answered another */
    NEEDS_MAPPING = 64,         /* of memory between VMs */
    NEEDS_NO_MAPPING = 128,
};

typedef struct TestCase {
    const char *name;
    void (*run)(TestVM *vm);
    unsigned needs;
    bool unstarted;             /* run() starts the VM, in its own way */
    const char *object;         /* properties of the object */
    const char *more;           /* on the command line */
} TestCase;

/* @needs: more than the case itself says. */
void introspection_add_case(const Engine *engine, const TestCase *test,
                            unsigned needs);

#define INTROSPECTION_ADD_CASES_NEEDING(engine, cases, needs)           \
    do {                                                                \
        for (size_t i_ = 0; i_ < G_N_ELEMENTS(cases); i_++) {           \
            introspection_add_case((engine), &(cases)[i_], (needs));    \
        }                                                               \
    } while (0)
#define INTROSPECTION_ADD_CASES(engine, cases)                          \
    INTROSPECTION_ADD_CASES_NEEDING(engine, cases, 0)

void introspection_add_guest_tests(const Engine *engine);
void introspection_add_handshake_tests(const Engine *engine);
void introspection_add_framing_tests(const Engine *engine);
void introspection_add_vm_command_tests(const Engine *engine);
void introspection_add_map_tests(const Engine *engine);
void introspection_add_vcpu_command_tests(const Engine *engine);
void introspection_add_event_tests(const Engine *engine);
void introspection_add_breakpoint_tests(const Engine *engine);
void introspection_add_hotplug_tests(const Engine *engine);
void introspection_add_inject_tests(const Engine *engine);
void introspection_add_instruction_tests(const Engine *engine);
void introspection_add_receiver_tests(const Engine *engine);
void introspection_add_page_access_tests(const Engine *engine);
void introspection_add_pf_tests(const Engine *engine);
void introspection_add_pf_insn_tests(const Engine *engine);
void introspection_add_pf_step_tests(const Engine *engine);
void introspection_add_object_tests(const Engine *engine);
void introspection_add_unhook_tests(const Engine *engine);
void introspection_add_auth_tests(const Engine *engine);
void introspection_add_lifecycle_tests(const Engine *engine);
void introspection_add_transport_tests(const Engine *engine);

#endif /* TESTS_INTROSPECTION_TESTS_H */
