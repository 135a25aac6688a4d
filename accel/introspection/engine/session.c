/*
 * Virtual machine introspection, QEMU's engine: one connection to a tool
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "qapi/error.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/sockets.h"
#include "hw/core/cpu.h"
#include "page-access.h"
#include "session.h"
#include "vcpu.h"
#include "vm-events.h"
#include "../trace.h"

IntrospectionSession *session_ref(IntrospectionSession *s)
{
    qatomic_inc(&s->refs);
    return s;
}

void session_unref(IntrospectionSession *s)
{
    if (qatomic_fetch_dec(&s->refs) > 1) {
        return;
    }
    receiver_cleanup(s);
    close(s->fd);
    event_notifier_cleanup(&s->out_notifier);
    qemu_sem_destroy(&s->stopped);
    qemu_mutex_destroy(&s->out_lock);
    g_byte_array_unref(s->out);
    g_array_unref(s->removed_waits);
    g_free(s->end_reason);
    g_free(s);
}

/* Returns how many bytes the socket took; a broken one takes everything. */
static size_t send_some(IntrospectionSession *s, const void *buf, size_t size)
{
    ssize_t n = RETRY_ON_EINTR(send(s->fd, buf, size,
                                    MSG_DONTWAIT | MSG_NOSIGNAL));

    if (n >= 0) {
        return n;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return 0;
    }
    /* The receiver thread sees the hang-up and ends the session. */
    shutdown(s->fd, SHUT_RDWR);
    return size;
}

void session_send(IntrospectionSession *s, const void *msg, size_t size)
{
    size_t sent = 0;

    QEMU_LOCK_GUARD(&s->out_lock);
    if (!s->out->len) {
        sent = send_some(s, msg, size);
    }
    if (sent < size) {
        g_byte_array_append(s->out, msg + sent, size - sent);
        trace_introspection_session_backlog(s, s->out->len);
        event_notifier_set(&s->out_notifier);
    }
}

void session_reply(IntrospectionSession *s, const struct kvmi_msg_hdr *cmd,
                   int err, const void *data, size_t size)
{
    struct {
        struct kvmi_msg_hdr hdr;
        struct kvmi_error_code code;
        uint8_t data[];
    } *msg;
    g_autofree void *buf = NULL;

    if (err) {
        trace_introspection_command_error(s, cmd->id, cmd->seq, err);
        size = 0;
    }
    buf = msg = g_malloc(sizeof(*msg) + size);
    msg->hdr = (struct kvmi_msg_hdr) {
        .id = cmd->id,
        .size = sizeof(msg->code) + size,
        .seq = cmd->seq,
    };
    msg->code = (struct kvmi_error_code) { .err = err };
    if (size) {
        memcpy(msg->data, data, size);
    }
    session_send(s, msg, sizeof(*msg) + size);
}

bool session_flush(IntrospectionSession *s)
{
    /*
     * The usual case takes no lock, which a vCPU may hold that is sending just
     * now.  What it cannot send it announces with the notifier.
     */
    if (!qatomic_read(&s->out->len)) {
        return true;
    }

    QEMU_LOCK_GUARD(&s->out_lock);

    if (s->out->len) {
        g_byte_array_remove_range(s->out, 0,
                                  send_some(s, s->out->data, s->out->len));
    }
    return !s->out->len;
}

/* Main loop. */
static void session_closed_bh(void *opaque)
{
    IntrospectionSession *s = opaque;

    if (s->closed) {
        s->closed(s->opaque, s, s->end_reason);
        session_unref(s);
    }
    session_unref(s);
}

static void *session_thread(void *opaque)
{
    IntrospectionSession *s = opaque;
    Error *err = NULL;

    rcu_register_thread();

    receiver_run(s, &err);
    s->end_reason = g_strdup(error_get_pretty(err));
    error_free(err);
    trace_introspection_session_end(s, s->end_reason);

    bql_lock();
    session_detach_vcpus(s);
    bql_unlock();
    shutdown(s->fd, SHUT_RDWR);
    /* Takes over the thread's reference. */
    aio_bh_schedule_oneshot(qemu_get_aio_context(), session_closed_bh, s);

    rcu_unregister_thread();
    return NULL;
}

void session_detach_vcpus(IntrospectionSession *s)
{
    CPUState *cpu;

    if (s->dead) {
        return;
    }
    s->dead = true;
    page_access_clear();
    CPU_FOREACH(cpu) {
        introspection_vcpu_detach(cpu, s);
    }
}

static IntrospectionSession *session_hook(const IntrospectionHookParams *params,
                                          Error **errp)
{
    IntrospectionSession *s = g_new0(IntrospectionSession, 1);
    CPUState *cpu;
    int ret;

    s->refs = 1;
    s->fd = params->fd;
    s->commands = params->commands;
    s->events = params->events;
    s->closed = params->closed;
    s->opaque = params->opaque;
    s->out = g_byte_array_new();
    s->removed_waits = g_array_new(false, false, sizeof(IntrospectionWait));
    qemu_mutex_init(&s->out_lock);
    qemu_sem_init(&s->stopped, 0);
    if (!receiver_init(s, errp)) {
        session_unref(s);
        return NULL;
    }
    ret = event_notifier_init(&s->out_notifier, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "cannot create an event notifier");
        session_unref(s);
        return NULL;
    }

    /* Messages are small and answered at once; no matter if it is no TCP. */
    socket_set_nodelay(s->fd);
    CPU_FOREACH(cpu) {
        introspection_vcpu_attach(cpu, s);
    }
    trace_introspection_session_start(s, s->commands, s->events);
    session_ref(s);             /* the thread's */
    qemu_thread_create(&s->thread, "introspection", session_thread, s,
                       QEMU_THREAD_DETACHED);
    return s;
}

static void session_unhook(IntrospectionSession *s)
{
    s->closed = NULL;
    s->forced = true;
    session_detach_vcpus(s);
    shutdown(s->fd, SHUT_RDWR);
    session_unref(s);
}

static IntrospectionStats *session_stats(IntrospectionSession *s)
{
    IntrospectionStats *stats = g_new0(IntrospectionStats, 1);

    stats->commands = stat64_get(&s->n_commands);
    stats->events = stat64_get(&s->n_events);
    stats->replies = stat64_get(&s->n_replies);
    return stats;
}

static const char *const engine_accels[] = {
    "tcg-accel", "qtest-accel", NULL
};

static IntrospectionEngine qemu_engine = {
    .type = INTROSPECTION_ENGINE_TYPE_QEMU,
    .accels = engine_accels,
    .commands = ENGINE_COMMANDS,
    .events = ENGINE_EVENTS,
    .hook = session_hook,
    .request_unhook = vm_events_request_unhook,
    .unhook = session_unhook,
    .stats = session_stats,
    .waiting = introspection_vcpus_waiting,
};

static void engine_register(void)
{
    introspection_engine_register(&qemu_engine);
}

type_init(engine_register);
