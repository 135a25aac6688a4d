/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's engine: a vCPU that is there, and whose thread has not started.  In
 * QEMU nobody sees one, because it starts with the BQL held.
 */
#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "introspection/engine.h"
#include "introspection/vcpu.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "system/cpus.h"
#include "kvmi/accel/introspection/engine/session.h"
#include "kvmi/accel/introspection/engine/vcpu.h"
#include "../fuzz/engine-bh.h"

#define STARTED 0
#define NOT_STARTED 1
#define VCPUS 2

/* Nothing here takes long: a test that hangs is to fail. */
#define HANG_SECONDS 60

CPUTailQ cpus_queue = QTAILQ_HEAD_INITIALIZER(cpus_queue);

static IntrospectionEngine *engine;

void introspection_engine_register(IntrospectionEngine *e)
{
    engine = e;
}

/* vCPUs, whose work one thread does */

typedef struct Work {
    CPUState *cpu;
    run_on_cpu_func func;       /* NULL: the thread ends */
    run_on_cpu_data data;
} Work;

static CPUState *cpus[VCPUS];
static GAsyncQueue *works;

CPUState *qemu_get_cpu(int index)
{
    return index < VCPUS ? cpus[index] : NULL;
}

/* No vCPU here has a thread that could wait. */
bool cpu_thread_is_idle(CPUState *cpu)
{
    g_assert_not_reached();
}

bool qemu_cpu_is_self(CPUState *cpu)
{
    g_assert_not_reached();
}

void async_run_on_cpu(CPUState *cpu, run_on_cpu_func func,
                      run_on_cpu_data data)
{
    Work *work = g_new(Work, 1);

    *work = (Work) { .cpu = cpu, .func = func, .data = data };
    g_async_queue_push(works, work);
}

static void *vcpu_thread(void *opaque)
{
    for (;;) {
        g_autofree Work *work = g_async_queue_pop(works);

        if (!work->func) {
            return NULL;
        }
        bql_lock();
        work->func(work->cpu, work->data);
        bql_unlock();
    }
}

static void closed(void *opaque, IntrospectionSession *session,
                   const char *reason)
{
    *(bool *)opaque = true;
}

/* The tool */

static int command(int fd, uint16_t id, const void *payload, size_t size)
{
    static uint32_t seq;
    struct kvmi_msg_hdr hdr = { .id = id, .size = size, .seq = ++seq };
    g_autofree uint8_t *out = g_malloc(sizeof(hdr) + size);
    g_autofree uint8_t *rest = NULL;
    struct kvmi_error_code code;

    memcpy(out, &hdr, sizeof(hdr));
    memcpy(out + sizeof(hdr), payload, size);
    g_assert_cmpint(send(fd, out, sizeof(hdr) + size, 0), ==,
                    sizeof(hdr) + size);
    g_assert_cmpint(recv(fd, &hdr, sizeof(hdr), MSG_WAITALL), ==, sizeof(hdr));
    g_assert_cmpuint(hdr.id, ==, id);
    g_assert_cmpuint(hdr.seq, ==, seq);
    g_assert_cmpuint(hdr.size, >=, sizeof(code));
    rest = g_malloc(hdr.size);
    g_assert_cmpint(recv(fd, rest, hdr.size, MSG_WAITALL), ==, hdr.size);
    memcpy(&code, rest, sizeof(code));
    return code.err;
}

static int get_xsave(int fd, uint16_t vcpu)
{
    struct kvmi_get_xsave cmd = { .vcpu = vcpu };

    return command(fd, KVMI_GET_XSAVE, &cmd, sizeof(cmd));
}

static int get_page_access(int fd, uint16_t vcpu)
{
    struct kvmi_get_page_access none = { .vcpu = vcpu };

    return command(fd, KVMI_GET_PAGE_ACCESS, &none, sizeof(none));
}

static void test_not_started(void)
{
    bool over = false;
    IntrospectionHookParams params = {
        .commands = engine->commands,
        .events = engine->events,
        .closed = closed,
        .opaque = &over,
    };
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds),
                    ==, 0);
    params.fd = fds[1];
    bql_lock();
    g_assert_nonnull(engine->hook(&params, &error_abort));
    bql_unlock();

    g_assert_cmpint(get_xsave(fds[0], STARTED), ==, 0);
    g_assert_cmpint(get_xsave(fds[0], NOT_STARTED), ==, -KVM_EAGAIN);
    g_assert_cmpint(get_page_access(fds[0], NOT_STARTED), ==, -KVM_EAGAIN);
    g_assert_cmpint(get_xsave(fds[0], VCPUS), ==, -KVM_EINVAL);

    /* the tool may try again, and is not told that a command is queued */
    bql_lock();
    cpus[NOT_STARTED]->created = true;
    bql_unlock();
    g_assert_cmpint(get_xsave(fds[0], NOT_STARTED), ==, 0);
    g_assert_cmpint(get_page_access(fds[0], NOT_STARTED), ==, 0);

    close(fds[0]);
    bh_wait();
    g_assert_true(over);
}

static void add_vcpu(unsigned index)
{
    CPUState *cpu = g_new0(CPUState, 1);

    cpu->cpu_index = index;
    cpu->created = index == STARTED;
    cpus[index] = cpu;
    QTAILQ_INSERT_TAIL(&cpus_queue, cpu, node);
}

int main(int argc, char **argv)
{
    GThread *thread;
    int ret;

    g_test_init(&argc, &argv, NULL);
    alarm(HANG_SECONDS);
    module_call_init(MODULE_INIT_QOM);
    works = g_async_queue_new();
    for (unsigned i = 0; i < VCPUS; i++) {
        add_vcpu(i);
    }
    thread = g_thread_new("vcpus", vcpu_thread, NULL);
    g_test_add_func("/introspection/vcpu/not-started", test_not_started);
    ret = g_test_run();
    g_async_queue_push(works, g_new0(Work, 1));
    g_thread_join(thread);
    return ret;
}
