/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite of virtual machine introspection.
 *
 * Each case starts a VM with the guest of tests/guest/, is the introspection
 * tool itself, and checks one thing that docs/interop/kvmi.rst says.  All
 * cases are run with each engine; where one cannot have a case, the case is
 * skipped with the reason.
 *
 * QTEST_INTROSPECTION_GUEST names the guest's image, if it isn't where the
 * build puts it; QTEST_INTROSPECTION_ENGINE names one engine, if not all are
 * to be tested.
 */
#include "qemu/osdep.h"
#include "introspection/tests.h"

/* Longer than any case, even on a busy machine under a sanitizer. */
#define CASE_LIMIT_S 180

typedef struct BoundCase {
    const Engine *engine;
    const TestCase *test;
    unsigned needs;
} BoundCase;

static const Engine engines[] = {
    {
        .name = "tcg-multi",
        .available = "tcg",
        .accel = "tcg,thread=multi",
        .cpu = "max",
        .runs = true,
    }, {
        .name = "tcg-single",
        .available = "tcg",
        .accel = "tcg,thread=single",
        .one_thread = true,
        .cpu = "max",
        .runs = true,
    }, {
        .name = "tcg-icount",
        .available = "tcg",
        .accel = "tcg,thread=single -icount shift=auto",
        .one_thread = true,
        .cpu = "max",
        .runs = true,
    }, {
        .name = "qtest",
        .available = "qtest",
        .accel = "qtest",
        .cpu = "qemu64",
    }, {
        .name = "kvm",
        .available = "kvm",
        .accel = "kvm",
        .cpu = "max",
        .runs = true,
        .in_kernel = true,
        .on_request = true,
    },
};

static const char *missing(const Engine *engine, unsigned needs)
{
    if ((needs & NEEDS_RUNNING_GUEST) && !engine->runs) {
        return "this accelerator executes no guest code";
    }
    if ((needs & NEEDS_UNPLUG) && engine->one_thread) {
        return "QEMU waits for the thread of the vCPU, which is everyone's";
    }
    if ((needs & NEEDS_COUNTS) && engine->in_kernel) {
        return "QEMU does not see what the kernel's engine does";
    }
    if ((needs & NEEDS_READ_ONLY_RAM) && engine->in_kernel) {
        return "QEMU maps read-only aliases of RAM writable for KVM";
    }
    if ((needs & NEEDS_COMMAND_QUEUE) && engine->in_kernel) {
        return "the kernel's engine takes one command to a vCPU at a time";
    }
    if ((needs & NEEDS_MAPPING) && !engine->in_kernel) {
        return "QEMU's engine does not map memory between VMs";
    }
    if ((needs & NEEDS_NO_MAPPING) && engine->in_kernel) {
        return "the kernel's engine implements all commands";
    }
    if ((needs & NEEDS_TASK_SWITCHES) && engine->in_kernel) {
        return "the kernel's engine does not report task switches yet";
    }
    return NULL;
}

static void case_too_slow(int signum)
{
    static const char message[] = "Bail out! the case takes too long\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof(message) - 1);

    (void)ignored;
    abort();
}

static void run_case(const void *opaque)
{
    const BoundCase *bound = opaque;
    const TestCase *test = bound->test;
    const char *reason = missing(bound->engine, bound->needs);
    TestVM *vm;

    if (reason) {
        g_test_skip(reason);
        return;
    }

    alarm(CASE_LIMIT_S);
    vm = vm_new(bound->engine);
    if (!test->unstarted) {
        vm_start_hooked(vm, test->object ?: "", test->more);
    }
    test->run(vm);
    vm_free(vm);
    alarm(0);
}

void introspection_add_case(const Engine *engine, const TestCase *test,
                            unsigned needs)
{
    g_autofree char *path = g_strdup_printf("introspection/%s/%s",
                                            engine->name, test->name);
    BoundCase *bound = g_new0(BoundCase, 1);

    bound->engine = engine;
    bound->test = test;
    bound->needs = test->needs | needs;
    qtest_add_data_func_full(path, bound, run_case, g_free);
}

int main(int argc, char **argv)
{
    struct sigaction too_slow = { .sa_handler = case_too_slow };

    const char *only = g_getenv("QTEST_INTROSPECTION_ENGINE");

    g_test_init(&argc, &argv, NULL);
    sigaction(SIGALRM, &too_slow, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(engines); i++) {
        const Engine *engine = &engines[i];

        if (only ? !g_str_equal(only, engine->name) : engine->on_request) {
            continue;
        }
        /* To ask takes a QEMU of its own; who names one knows that it is. */
        if (!only && !qtest_has_accel(engine->available)) {
            g_test_message("no %s in this QEMU", engine->available);
            continue;
        }
        introspection_add_guest_tests(engine);
        introspection_add_handshake_tests(engine);
        introspection_add_framing_tests(engine);
        introspection_add_vm_command_tests(engine);
        introspection_add_map_tests(engine);
        introspection_add_vcpu_command_tests(engine);
        introspection_add_event_tests(engine);
        introspection_add_breakpoint_tests(engine);
        introspection_add_receiver_tests(engine);
        introspection_add_hotplug_tests(engine);
        introspection_add_inject_tests(engine);
        introspection_add_instruction_tests(engine);
        introspection_add_page_access_tests(engine);
        introspection_add_pf_tests(engine);
        introspection_add_pf_insn_tests(engine);
        introspection_add_pf_step_tests(engine);
        introspection_add_object_tests(engine);
        introspection_add_unhook_tests(engine);
        introspection_add_auth_tests(engine);
        introspection_add_lifecycle_tests(engine);
        introspection_add_transport_tests(engine);
    }
    return g_test_run();
}
