/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's engine with its threads, for ThreadSanitizer
 *
 * Usage: engine-threads SECONDS SEED
 *
 * Threads as QEMU has them: the engine's receiver, a thread for each vCPU,
 * which does its work and runs a guest that has events, and the main loop,
 * which ends sessions and looks at them.  The main thread is the tool, too: it
 * sends commands without end, answers events, and leaves at any moment.
 */
#include "qemu/osdep.h"
#include <poll.h>
#include "hw/core/cpu.h"
#include "introspection/engine.h"
#include "introspection/vcpu.h"
#include "qapi/error.h"
#include "qapi/qapi-types-introspection.h"
#include "qapi/qapi-visit-introspection.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "system/cpus.h"
#include "kvmi/accel/introspection/engine/session.h"
#include "kvmi/accel/introspection/engine/vcpu.h"
#include "engine-bh.h"
#include "engine-bql.h"
#include "engine-stubs.h"

#define VCPUS 4
#define COMMANDS_PER_SESSION 200

CPUTailQ cpus_queue = QTAILQ_HEAD_INITIALIZER(cpus_queue);

static IntrospectionEngine *engine;

void introspection_engine_register(IntrospectionEngine *e)
{
    engine = e;
}

/* vCPUs; all under the BQL */

typedef struct Work {
    run_on_cpu_func func;
    run_on_cpu_data data;
} Work;

typedef struct VCPU {
    CPUState *cpu;
    pthread_t thread;
    pthread_cond_t wake;
    GQueue work;                /* of Work */
    bool quit;
} VCPU;

static VCPU vcpus[VCPUS];
static __thread CPUState *own_cpu;

bool qemu_cpu_is_self(CPUState *cpu)
{
    return cpu == own_cpu;
}

CPUState *qemu_get_cpu(int index)
{
    return index < VCPUS ? vcpus[index].cpu : NULL;
}

void async_run_on_cpu(CPUState *cpu, run_on_cpu_func func,
                      run_on_cpu_data data)
{
    VCPU *v = &vcpus[cpu->cpu_index];
    Work *work = g_new(Work, 1);

    g_assert(bql_locked());
    *work = (Work) { .func = func, .data = data };
    g_queue_push_tail(&v->work, work);
    introspection_vcpu_kick(cpu);
    pthread_cond_signal(&v->wake);
}

static bool is_idle(const VCPU *v)
{
    return !v->quit && g_queue_is_empty((GQueue *)&v->work) &&
           (!v->cpu->introspection || introspection_vcpu_held(v->cpu));
}

bool cpu_thread_is_idle(CPUState *cpu)
{
    return is_idle(&vcpus[cpu->cpu_index]);
}

static void run_guest(CPUState *cpu, unsigned *count)
{
    IntrospectionVCPU *v = cpu->introspection;
    uint32_t events = v->events & ~KVMI_EVENT_PAUSE_VCPU_FLAG;

    introspection_vcpu_enters_guest(cpu);
    stub_rip[cpu->cpu_index]++;
    if (events && !v->verdicts.n && ++*count % 3 == 0) {
        unsigned skip = *count % ctpop32(events);

        while (skip--) {
            events &= events - 1;
        }
        v->due.event = ctz32(events);
        memset(&v->due.data, 0, sizeof(v->due.data));
        v->due.valid = true;
    }
    introspection_vcpu_left_guest(cpu);
    sched_yield();
}

static void *vcpu_thread(void *opaque)
{
    VCPU *v = opaque;
    unsigned count = 0;
    bool quit = false;

    rcu_register_thread();
    own_cpu = v->cpu;
    while (!quit) {
        bool run;
        Work *work;

        bql_lock();
        while (is_idle(v)) {
            if (!introspection_vcpu_receive(v->cpu)) {
                bql_wait(&v->wake);
            }
        }
        while ((work = g_queue_pop_head(&v->work))) {
            work->func(v->cpu, work->data);
            g_free(work);
        }
        run = v->cpu->introspection && !introspection_vcpu_held(v->cpu);
        quit = v->quit;
        bql_unlock();
        if (run) {
            run_guest(v->cpu, &count);
        }
    }
    rcu_unregister_thread();
    return NULL;
}

static void start_vcpus(void)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        VCPU *v = &vcpus[i];

        v->cpu = g_new0(CPUState, 1);
        v->cpu->cpu_index = i;
        v->cpu->created = true;
        QTAILQ_INSERT_TAIL(&cpus_queue, v->cpu, node);
        pthread_cond_init(&v->wake, NULL);
        g_queue_init(&v->work);
    }
    for (unsigned i = 0; i < VCPUS; i++) {
        pthread_create(&vcpus[i].thread, NULL, vcpu_thread, &vcpus[i]);
    }
}

static void stop_vcpus(void)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        bql_lock();
        vcpus[i].quit = true;
        introspection_vcpu_kick(vcpus[i].cpu);
        pthread_cond_signal(&vcpus[i].wake);
        bql_unlock();
        pthread_join(vcpus[i].thread, NULL);
        bql_lock();
        introspection_vcpu_remove(vcpus[i].cpu);
        bql_unlock();
        g_free(vcpus[i].cpu);
    }
}

/* Whoever breaks the protocol is warned of, some thousand times a second. */
void __wrap_warn_report(const char *fmt, ...);

void __wrap_warn_report(const char *fmt, ...)
{
}

/* The tool */

typedef struct Session {
    IntrospectionSession *session;      /* NULL: it has ended by itself */
    int fd;
    GByteArray *in;
    unsigned events;
    unsigned replies;
} Session;

static void closed(void *opaque, IntrospectionSession *session,
                   const char *reason)
{
    ((Session *)opaque)->session = NULL;
}

static void send_message(Session *s, uint16_t id, uint32_t seq,
                         const void *payload, size_t size)
{
    struct {
        struct kvmi_msg_hdr hdr;
        uint8_t payload[KVMI_MSG_SIZE];
    } msg = { .hdr = { .id = id, .size = size, .seq = seq } };

    if (size) {
        memcpy(msg.payload, payload, size);
    }
    /* It may be gone. */
    if (send(s->fd, &msg, sizeof(msg.hdr) + size, MSG_NOSIGNAL) < 0) {
        g_assert(errno == EPIPE || errno == ECONNRESET);
    }
}

static void answer(Session *s, const struct kvmi_msg_hdr *hdr,
                   const struct kvmi_event *event)
{
    struct {
        struct kvmi_event_reply head;
        uint8_t own[sizeof(struct kvmi_event_pf_reply)];
    } reply = { .head = { .event = event->event } };
    size_t own = 0;

    switch (event->event) {
    case KVMI_EVENT_CR:
    case KVMI_EVENT_MSR:
        own = sizeof(struct kvmi_event_cr_reply);
        break;
    case KVMI_EVENT_PF:
        own = sizeof(struct kvmi_event_pf_reply);
        break;
    }
    s->events++;
    send_message(s, KVMI_EVENT_REPLY, hdr->seq, &reply,
                 sizeof(reply.head) + own);
}

/* All that has come. */
static void receive(Session *s)
{
    uint8_t buf[65536];
    struct kvmi_msg_hdr hdr;
    ssize_t n;

    while ((n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        g_byte_array_append(s->in, buf, n);
    }
    while (s->in->len >= sizeof(hdr)) {
        memcpy(&hdr, s->in->data, sizeof(hdr));
        if (s->in->len < sizeof(hdr) + hdr.size) {
            break;
        }
        if (hdr.id == KVMI_EVENT) {
            answer(s, &hdr, (void *)(s->in->data + sizeof(hdr)));
        } else {
            s->replies++;
        }
        g_byte_array_remove_range(s->in, 0, sizeof(hdr) + hdr.size);
    }
}

static void send_command(Session *s, GRand *rand, uint32_t seq)
{
    static const struct {
        uint16_t id;
        uint16_t size;
    } commands[] = {
        { KVMI_GET_VERSION, 0 },
        { KVMI_GET_GUEST_INFO, 8 },
        { KVMI_GET_REGISTERS, 8 },
        { KVMI_SET_REGISTERS, 152 },
        { KVMI_GET_PAGE_ACCESS, 16 },
        { KVMI_SET_PAGE_ACCESS, 24 },
        { KVMI_READ_PHYSICAL, 16 },
        { KVMI_WRITE_PHYSICAL, 24 },
        { KVMI_CONTROL_EVENTS, 8 },
        { KVMI_CONTROL_CR, 8 },
        { KVMI_CONTROL_MSR, 8 },
        { KVMI_GET_CPUID, 16 },
        { KVMI_GET_XSAVE, 8 },
        { KVMI_PAUSE_ALL_VCPUS, 0 },
        { KVMI_CONTROL_VM_EVENTS, 8 },
        { KVMI_INJECT_EXCEPTION, 16 },
    };
    unsigned i = g_rand_int_range(rand, 0, ARRAY_SIZE(commands));
    uint16_t payload[KVMI_MSG_SIZE / 2] = { };
    uint32_t events = engine->events & KVMI_KNOWN_VCPU_EVENTS;

    if (commands[i].id != KVMI_GET_GUEST_INFO) {
        payload[0] = g_rand_int_range(rand, 0, VCPUS);
    }
    switch (commands[i].id) {
    case KVMI_GET_PAGE_ACCESS:
    case KVMI_SET_PAGE_ACCESS:
        payload[1] = 1;
        payload[4] = g_rand_int_range(rand, 0, 16) << 12;
        if (commands[i].id == KVMI_SET_PAGE_ACCESS) {
            payload[8] = g_rand_int_range(rand, 0, 8);
        }
        break;
    case KVMI_READ_PHYSICAL:
    case KVMI_WRITE_PHYSICAL:
        payload[0] = 0;
        payload[4] = 8;
        break;
    case KVMI_CONTROL_EVENTS:
        payload[2] = g_rand_int(rand) & events;
        break;
    case KVMI_CONTROL_CR:
        payload[1] = 1;
        payload[2] = 3;
        break;
    case KVMI_CONTROL_VM_EVENTS:
        payload[0] = KVMI_EVENT_UNHOOK_FLAG;
        break;
    }
    send_message(s, commands[i].id, seq, payload, commands[i].size);
}

/* What the manager may do, or ask, at any time */
static void manage(Session *s, GRand *rand)
{
    unsigned what = g_rand_int_range(rand, 0, 400);

    bql_lock();
    if (s->session) {
        switch (what) {
        case 0:
            engine->unhook(s->session);
            s->session = NULL;
            break;
        case 1 ... 4:
            engine->request_unhook(s->session);
            break;
        case 5 ... 40:
            qapi_free_IntrospectionWaitingVcpuList(
                engine->waiting(s->session));
            qapi_free_IntrospectionStats(engine->stats(s->session));
            break;
        }
    }
    bql_unlock();
}

static void run_session(GRand *rand, unsigned totals[2])
{
    Session s = { .in = g_byte_array_new() };
    IntrospectionHookParams params = {
        .commands = engine->commands,
        .events = engine->events,
        .closed = closed,
        .opaque = &s,
    };
    int fds[2];

    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    s.fd = fds[0];
    params.fd = fds[1];
    bql_lock();
    s.session = engine->hook(&params, &error_abort);
    bql_unlock();

    for (unsigned i = 0; s.session && i < COMMANDS_PER_SESSION; i++) {
        struct pollfd pollfd = { .fd = s.fd, .events = POLLIN };

        send_command(&s, rand, i);
        if (g_rand_int_range(rand, 0, 4) == 0) {
            poll(&pollfd, 1, 1);
        }
        receive(&s);
        manage(&s, rand);
        bh_run();
        if (g_rand_int_range(rand, 0, 2 * COMMANDS_PER_SESSION) == 0) {
            break;
        }
    }
    close(s.fd);
    while (s.session) {
        bh_run();
        sched_yield();
    }
    totals[0] += s.events;
    totals[1] += s.replies;
    g_byte_array_unref(s.in);
}

int main(int argc, char **argv)
{
    gint64 end;
    GRand *rand;
    unsigned sessions = 0, totals[2] = { };

    g_assert(argc == 3);
    rand = g_rand_new_with_seed(strtoul(argv[2], NULL, 10));
    module_call_init(MODULE_INIT_QOM);
    start_vcpus();
    end = g_get_monotonic_time() + atoi(argv[1]) * G_USEC_PER_SEC;
    do {
        run_session(rand, totals);
        sessions++;
    } while (g_get_monotonic_time() < end);
    stop_vcpus();
    printf("%u sessions, %u events, %u replies\n", sessions, totals[0],
           totals[1]);
    g_rand_free(rand);
    return totals[0] && totals[1] ? 0 : 1;
}
