/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU's engine finds around it when it is fuzzed: two vCPUs, RAM and a
 * tool, all in one thread
 *
 * The receiver "thread" is a call.  Where it waits, in poll(), everything else
 * gets its turn: the tool reads, vCPUs do their work and run the guest, which
 * has an event whenever one is on.
 */
#include "qemu/osdep.h"
#include <poll.h>
#include "hw/core/cpu.h"
#include "introspection/vcpu.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/sockets.h"
#include "qemu/units.h"
#include "system/cpus.h"
#include "kvmi/accel/introspection/engine/session.h"
#include "kvmi/accel/introspection/engine/vcpu.h"
#include "engine-bh.h"
#include "engine-stubs.h"
#include "fuzz-engine-world.h"

#define VCPUS 2

typedef struct Work {
    CPUState *cpu;
    run_on_cpu_func func;
    run_on_cpu_data data;
} Work;

static struct {
    WorldPlan plan;
    unsigned polls;
    int tool_fd;
    GByteArray *output;
    GQueue work;                    /* of Work */
    CPUState *cpus[VCPUS];
    unsigned guest_events;
} world;

IntrospectionEngine *world_engine;
CPUTailQ cpus_queue = QTAILQ_HEAD_INITIALIZER(cpus_queue);

void introspection_engine_register(IntrospectionEngine *engine)
{
    world_engine = engine;
}

/* vCPUs */

CPUState *qemu_get_cpu(int index)
{
    return index < VCPUS ? world.cpus[index] : NULL;
}

void async_run_on_cpu(CPUState *cpu, run_on_cpu_func func,
                      run_on_cpu_data data)
{
    Work *work = g_new(Work, 1);

    *work = (Work) { .cpu = cpu, .func = func, .data = data };
    g_queue_push_tail(&world.work, work);
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

static void do_work(void)
{
    Work *work;

    while ((work = g_queue_pop_head(&world.work))) {
        bql_lock();
        work->func(work->cpu, work->data);
        bql_unlock();
        g_free(work);
    }
}

/* The guest's next instruction is one that has an event, if any does. */
static void run_guest(CPUState *cpu)
{
    IntrospectionVCPU *v = cpu->introspection;
    uint32_t events = v->events & ~KVMI_EVENT_PAUSE_VCPU_FLAG;

    introspection_vcpu_enters_guest(cpu);
    if (v->verdicts.n) {
        /* carries out what the tool has answered */
        stub_rip[cpu->cpu_index]++;
    } else if (events) {
        unsigned skip = world.guest_events++ % ctpop32(events);

        while (skip--) {
            events &= events - 1;
        }
        v->due.event = ctz32(events);
        memset(&v->due.data, 0, sizeof(v->due.data));
        v->due.valid = true;
    }
    introspection_vcpu_left_guest(cpu);
}

static void run_vcpus(void)
{
    do_work();
    for (unsigned i = 0; i < VCPUS; i++) {
        CPUState *cpu = world.cpus[i];

        if (cpu->introspection && !introspection_vcpu_held(cpu)) {
            run_guest(cpu);
        }
    }
}

static void add_vcpu(unsigned index)
{
    CPUState *cpu = g_new0(CPUState, 1);

    cpu->cpu_index = index;
    cpu->created = true;
    world.cpus[index] = cpu;
    QTAILQ_INSERT_TAIL(&cpus_queue, cpu, node);
}

static void remove_vcpu(unsigned index)
{
    CPUState *cpu = world.cpus[index];
    IntrospectionVCPU *v = cpu->introspection;

    if (v) {
        g_assert(!cpu->introspection_blocked);
        g_assert(!v->session);
        g_assert(!v->detaching);
        g_assert(!v->events);
        g_assert(!v->due.valid);
        g_assert(g_queue_is_empty(&v->inbox));
        bql_lock();
        introspection_vcpu_remove(cpu);
        bql_unlock();
    }
    QTAILQ_REMOVE(&cpus_queue, cpu, node);
    g_free(cpu);
    world.cpus[index] = NULL;
}

/* The manager wants introspection to end: it asks, or it just ends it. */
static void unhook(bool force)
{
    IntrospectionSession *session = NULL;
    CPUState *cpu;

    bql_lock();
    CPU_FOREACH(cpu) {
        IntrospectionVCPU *v = cpu->introspection;

        session = v && v->session ? v->session : session;
    }
    if (session && force) {
        world_engine->unhook(session);
    } else if (session) {
        world_engine->request_unhook(session);
    }
    bql_unlock();
}

/* The tool reads all that there is. */
static void drain(void)
{
    uint8_t buf[16 * KiB];
    ssize_t n;

    while ((n = read(world.tool_fd, buf, sizeof(buf))) > 0) {
        g_byte_array_append(world.output, buf, n);
    }
}

/* What the linker puts in the place of the functions of these names */

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __real_recv(int fd, void *buf, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags);
void __real_qemu_sem_wait(QemuSemaphore *sem);
void __wrap_qemu_sem_wait(QemuSemaphore *sem);
void __real_qemu_thread_create(QemuThread *thread, const char *name,
                               void *(*start)(void *), void *arg, int mode);
void __wrap_qemu_thread_create(QemuThread *thread, const char *name,
                               void *(*start)(void *), void *arg, int mode);

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    unsigned number = world.polls++;

    g_assert(!bql_locked());
    drain();
    if (!(world.plan.lazy & (1u << number % 8))) {
        run_vcpus();
    }
    if (world.plan.unhook_at && number == world.plan.unhook_at / 2) {
        unhook(false);
    }
    if (world.plan.unhook_at && number == world.plan.unhook_at) {
        unhook(true);
    }
    drain();
    return __real_poll(fds, n, timeout);
}

ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags)
{
    return __real_recv(fd, buf,
                       world.plan.piece ? MIN(size, world.plan.piece) : size,
                       flags);
}

void __wrap_qemu_sem_wait(QemuSemaphore *sem)
{
    g_assert(!bql_locked());
    do_work();
    __real_qemu_sem_wait(sem);
}

void __wrap_qemu_thread_create(QemuThread *thread, const char *name,
                               void *(*start)(void *), void *arg, int mode)
{
    if (strcmp(name, "introspection")) {
        __real_qemu_thread_create(thread, name, start, arg, mode);
        return;
    }
    /* It is started with the BQL held, and does not have it itself. */
    bql_unlock();
    start(arg);
    bql_lock();
}

/* The only thread is registered already. */
void __wrap_rcu_register_thread(void);
void __wrap_rcu_unregister_thread(void);

void __wrap_rcu_register_thread(void)
{
}

void __wrap_rcu_unregister_thread(void)
{
}

/* "The tool broke the protocol", some thousand times a second */
void __wrap_warn_report(const char *fmt, ...);

void __wrap_warn_report(const char *fmt, ...)
{
}

/* Beginning and end */

int world_begin(const WorldPlan *plan, const void *stream, size_t size)
{
    int fds[2];

    memset(&world, 0, sizeof(world));
    memset(stub_rip, 0, sizeof(stub_rip));
    world.plan = *plan;
    world.output = g_byte_array_new();
    g_queue_init(&world.work);
    for (unsigned i = 0; i < VCPUS; i++) {
        add_vcpu(i);
    }
    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    world.tool_fd = fds[0];
    qemu_socket_set_nonblock(world.tool_fd);
    g_assert(!size || send(world.tool_fd, stream, size, 0) == size);
    shutdown(world.tool_fd, SHUT_WR);
    return fds[1];
}

void world_end(void)
{
    run_vcpus();
    bh_run();
    do_work();
    drain();
    for (unsigned i = 0; i < VCPUS; i++) {
        remove_vcpu(i);
    }
    g_assert(g_queue_is_empty(&world.work));
    g_assert(!bh_run());
    g_byte_array_unref(world.output);
    close(world.tool_fd);
}

GByteArray *world_output(void)
{
    drain();
    return world.output;
}
