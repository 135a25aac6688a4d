/*
 * Virtual machine introspection: the connection to the tool
 *
 *     disconnected -> handshaking -> hooked -> unhooking -> disconnected
 *
 * "suspended" is "disconnected" with nobody let in, because the VM is paused,
 * saved or migrated, or because its manager said so.
 *
 * The chardev connects, and connects again.  From "hooked" on the engine has
 * the socket (a duplicate of the chardev's) for itself; the chardev only
 * notices the hang-up.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "chardev/char-socket.h"
#include "hw/core/cpu.h"
#include "introspection/vcpu.h"
#include "qapi/error.h"
#include "qapi/qapi-events-introspection.h"
#include "qapi/util.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qemu/uuid.h"
#include "system/cpus.h"
#include "system/system.h"
#include "introspection.h"
#include "peer.h"
#include "trace.h"

/* Until then nobody needs to be told that the tool is not there yet. */
#define NOTICE_DELAY_MS 1000

static SocketChardev *socket_of(Introspection *s)
{
    return SOCKET_CHARDEV(qemu_chr_fe_get_driver(&s->chr));
}

/* "unix:/run/vmi.sock", also while nothing is connected */
static const char *socket_name(Introspection *s)
{
    const char *name = qemu_chr_fe_get_driver(&s->chr)->filename;

    if (!name) {
        return s->chardev;
    }
    return g_str_has_prefix(name, "disconnected:") ? strchr(name, ':') + 1
                                                   : name;
}

/* -1 while nothing is connected */
static int socket_fd(Introspection *s)
{
    return socket_of(s)->sioc ? socket_of(s)->sioc->fd : -1;
}

static bool send_part(Introspection *s, const void *part, size_t size)
{
    return qemu_chr_fe_write(&s->chr, part, size) == size;
}

/* How a tool may prove that it knows the key. */
static unsigned auth_methods(const Introspection *s)
{
    switch (s->auth) {
    case INTROSPECTION_AUTH_COOKIE:
        return INTROSPECTION_AUTH_BIT_COOKIE;
    case INTROSPECTION_AUTH_HMAC:
        return INTROSPECTION_AUTH_BIT_HMAC;
    default:
        return INTROSPECTION_AUTH_BIT_COOKIE | INTROSPECTION_AUTH_BIT_HMAC;
    }
}

/* Not while the chardev is connecting: that would upset it. */
static void disconnect(Introspection *s)
{
    if (qemu_chr_fe_backend_open(&s->chr)) {
        qemu_chr_fe_disconnect(&s->chr);
    }
}

/* Told of each change of state, and with NULL of the object's end.  BQL. */
static NotifierList state_notifiers =
    NOTIFIER_LIST_INITIALIZER(state_notifiers);

void introspection_add_state_notifier(Notifier *notifier)
{
    notifier_list_add(&state_notifiers, notifier);
}

/* Not where the chardev goes, because QEMU does. */
static void hold_chardev(Introspection *s, bool hold)
{
    Chardev *chr = qemu_chr_fe_get_driver(&s->chr);

    if (chr && OBJECT(chr)->parent) {
        qemu_chr_socket_hold(chr, hold);
    }
}

static void set_state(Introspection *s, IntrospectionState state,
                      const char *reason)
{
    trace_introspection_state(s->id,
                              IntrospectionState_str(s->state),
                              IntrospectionState_str(state), reason ?: "");
    s->state = state;
    s->since = g_get_real_time() / G_USEC_PER_SEC;
    qapi_event_send_introspection_state_change(s->id, state, reason);
    notifier_list_notify(&state_notifiers, s);
}

/* There is no tool any more. */
static void set_away(Introspection *s, const char *reason)
{
    set_state(s, s->suspended ? INTROSPECTION_STATE_SUSPENDED
                              : INTROSPECTION_STATE_DISCONNECTED, reason);
}

static void release_guest(void)
{
    CPUState *cpu;

    if (!introspection_guest_held) {
        return;
    }
    qatomic_set(&introspection_guest_held, false);
    CPU_FOREACH(cpu) {
        qemu_cpu_kick(cpu);
    }
}

/* Says once what is missing; the chardev goes on trying quietly. */
static void notice_cb(void *opaque)
{
    Introspection *s = opaque;
    const char *held = introspection_guest_held ?
        "; the guest is held until then (wait=on)" : "";

    if (s->state != INTROSPECTION_STATE_DISCONNECTED || s->notice_given ||
        s->reported_failure) {
        return;
    }
    s->notice_given = true;
    if (socket_of(s)->is_listen) {
        info_report("introspection object '%s': waiting for an introspection "
                    "tool to connect to %s, for example 'kvmi info'%s",
                    s->id, socket_name(s), held);
    } else {
        info_report("introspection object '%s': nothing answers at %s yet, "
                    "where an introspection tool has to listen, for example "
                    "'kvmi info'; trying again every %" PRId64 " ms%s",
                    s->id, socket_name(s),
                    socket_of(s)->reconnect_time_ms, held);
    }
}

/* Not again what was said last. */
static bool is_new_failure(Introspection *s, const char *why)
{
    if (g_strcmp0(s->reported_failure, why) == 0) {
        return false;
    }
    g_free(s->reported_failure);
    s->reported_failure = g_strdup(why);
    return true;
}

/* It is tried again, with the chardev's back-off. */
static void handshake_ended(Introspection *s, const char *why)
{
    trace_introspection_handshake_failed(s->id, why);
    timer_del(s->handshake_timer);
    g_free(s->failure);
    s->failure = g_strdup(why);
    set_away(s, why);
    disconnect(s);
}

/* The peer is no tool. */
static void handshake_failed(Introspection *s, const char *why)
{
    if (is_new_failure(s, why)) {
        g_autofree char *peer = introspection_peer_in_words(socket_fd(s));

        warn_report("introspection object '%s': the peer at %s%s is no "
                    "introspection tool: %s. Expected is a tool that answers "
                    "QEMU's %" PRIu32 " bytes with its KVMI handshake "
                    "structure%s", s->id, socket_name(s), peer, why,
                    s->hello.base.struct_size,
                    introspection_guest_held ?
                    "; the guest is held until then (wait=on)" : "");
    }
    handshake_ended(s, why);
}

/* The peer is a tool that has not proved that it knows the key. */
static void tool_refused(Introspection *s, const char *why)
{
    g_autofree char *reason = g_strdup_printf("the tool was refused: %s", why);

    if (is_new_failure(s, reason)) {
        g_autofree char *peer = introspection_peer_in_words(socket_fd(s));

        warn_report("introspection object '%s': the tool at %s%s was refused: "
                    "%s", s->id, socket_name(s), peer, why);
    }
    handshake_ended(s, reason);
}

static void handshake_timeout_cb(void *opaque)
{
    Introspection *s = opaque;
    g_autofree char *why =
        g_strdup_printf("it has not answered within %" PRIu32 " s "
                        "(handshake-timeout)", s->handshake_timeout);

    handshake_failed(s, why);
}

/* Say hello. */
static void begin_handshake(Introspection *s)
{
    Error *err = NULL;

    g_clear_pointer(&s->failure, g_free);
    introspection_answer_clear(&s->answer);
    s->auth_method = 0;
    set_state(s, INTROSPECTION_STATE_HANDSHAKING, NULL);
    timer_mod(s->handshake_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
              s->handshake_timeout * 1000LL);

    introspection_hello_init(&s->hello.base, &qemu_uuid, s->start_time,
                             qemu_get_vm_name());
    /* To tools that send a cookie it is what it always was. */
    if (s->key && s->auth != INTROSPECTION_AUTH_COOKIE &&
        !introspection_auth_hello(&s->hello, auth_methods(s), &err)) {
        handshake_ended(s, error_get_pretty(err));
        error_report_err(err);
        return;
    }
    if (!send_part(s, &s->hello, s->hello.base.struct_size)) {
        handshake_failed(s, "it did not take QEMU's part of the handshake");
    }
}

/* The engine's session has ended by itself. */
static void session_closed(void *opaque, IntrospectionSession *session,
                           const char *reason)
{
    Introspection *s = opaque;

    if (session != s->session) {
        return;
    }
    s->session = NULL;
    s->cut = false;
    timer_del(s->unhook_timer);
    set_away(s, reason);
    if (s->next_tool && !s->suspended) {
        s->next_tool = false;
        begin_handshake(s);
    } else {
        disconnect(s);
    }
}

static void unhook(Introspection *s, const char *reason)
{
    IntrospectionSession *session = g_steal_pointer(&s->session);

    s->engine->unhook(session);
    s->cut = true;
    timer_del(s->unhook_timer);
    set_away(s, reason);
}

static void unhook_timeout_cb(void *opaque)
{
    Introspection *s = opaque;
    g_autofree char *reason =
        g_strdup_printf("the tool has not let go of the VM within %" PRIu32
                        " s (unhook-timeout)", s->unhook_timeout);

    introspection_connection_cut(s, reason);
}

static void hook(Introspection *s)
{
    IntrospectionHookParams params = {
        .uuid = qemu_uuid,
        .commands = s->commands,
        .events = s->events,
        .closed = session_closed,
        .opaque = s,
    };
    Error *err = NULL;

    timer_del(s->handshake_timer);
    params.fd = qemu_dup(socket_of(s)->sioc->fd);
    if (params.fd < 0) {
        error_setg_errno(&err, errno, "cannot duplicate the socket");
    } else {
        s->session = s->engine->hook(&params, &err);
    }
    if (!s->session) {
        error_prepend(&err, "introspection object '%s': cannot hook the VM: ",
                      s->id);
        g_free(s->failure);
        s->failure = g_strdup(error_get_pretty(err));
        set_away(s, s->failure);
        if (is_new_failure(s, s->failure)) {
            warn_report_err(err);
        } else {
            error_free(err);
        }
        disconnect(s);
        return;
    }
    s->notice_given = false;
    g_clear_pointer(&s->reported_failure, g_free);
    set_state(s, INTROSPECTION_STATE_HOOKED, NULL);
    release_guest();
}

/*
 * The listening socket has a tool: whoever comes now is sent away, unless that
 * tool had gone before, which is only noticed here.
 */
static void next_client(QIONetListener *listener, QIOChannelSocket *client,
                        gpointer opaque)
{
    Introspection *s = opaque;
    int fd;

    if (!introspection_peer_has_gone(socket_fd(s))) {
        trace_introspection_second_tool_refused(s->id);
        qio_channel_close(QIO_CHANNEL(client), NULL);
        return;
    }
    disconnect(s);
    fd = qemu_dup(client->fd);
    if (fd < 0) {
        warn_report("introspection object '%s': cannot duplicate the socket: "
                    "%s", s->id, strerror(errno));
    } else if (qemu_chr_add_client(qemu_chr_fe_get_driver(&s->chr), fd) < 0) {
        close(fd);
    }
}

static void connection_opened(Introspection *s)
{
    SocketChardev *sock = socket_of(s);

    if (s->suspended) {
        trace_introspection_tool_refused(s->id);
        disconnect(s);
        return;
    }
    if (sock->is_listen) {
        qio_net_listener_set_client_func(sock->listener, next_client, s, NULL);
    }
    /* What the last tool has sent is dealt with first. */
    s->next_tool = s->session;
    if (!s->next_tool) {
        begin_handshake(s);
    }
}

static void connection_closed(Introspection *s)
{
    if (!OBJECT(qemu_chr_fe_get_driver(&s->chr))->parent) {
        /* The chardev itself goes, because QEMU does. */
        timer_del(s->handshake_timer);
        return;
    }
    s->next_tool = false;
    /* While hooked the engine sees it too, after what the tool sent last. */
    if (s->state == INTROSPECTION_STATE_HANDSHAKING) {
        handshake_failed(s, "it has closed the connection during the "
                         "handshake");
    }
}

static void chr_event(void *opaque, QEMUChrEvent event)
{
    switch (event) {
    case CHR_EVENT_OPENED:
        connection_opened(opaque);
        break;
    case CHR_EVENT_CLOSED:
        connection_closed(opaque);
        break;
    default:
        break;
    }
}

/* Is the tool, whose answer is complete, one that may hook the VM? */
static bool check_tool(Introspection *s)
{
    IntrospectionAuthProof proof;
    Error *err = NULL;

    if (!s->key) {
        return true;
    }
    s->auth_method = introspection_auth_check(s->key, auth_methods(s),
                                              &s->hello, s->answer.bytes->data,
                                              s->answer.bytes->len, &proof,
                                              &err);
    if (!s->auth_method) {
        tool_refused(s, error_get_pretty(err));
        error_free(err);
        return false;
    }
    if (s->auth_method == INTROSPECTION_AUTH_BIT_HMAC &&
        !send_part(s, &proof, sizeof(proof))) {
        handshake_failed(s, "it did not take QEMU's proof");
        return false;
    }
    return true;
}

static int chr_can_read(void *opaque)
{
    Introspection *s = opaque;

    if (s->state != INTROSPECTION_STATE_HANDSHAKING) {
        return 0;
    }
    return introspection_answer_missing(&s->answer);
}

static void chr_read(void *opaque, const uint8_t *buf, int size)
{
    Introspection *s = opaque;
    Error *err = NULL;

    if (!introspection_answer_feed(&s->answer, buf, size, &err)) {
        handshake_failed(s, error_get_pretty(err));
        error_free(err);
    } else if (!introspection_answer_missing(&s->answer) &&
               check_tool(s)) {
        hook(s);
    }
}

void introspection_connection_start(Introspection *s, const char *suspended)
{
    s->state = INTROSPECTION_STATE_DISCONNECTED;
    s->since = g_get_real_time() / G_USEC_PER_SEC;
    s->handshake_timer = timer_new_ms(QEMU_CLOCK_REALTIME,
                                      handshake_timeout_cb, s);
    s->unhook_timer = timer_new_ms(QEMU_CLOCK_REALTIME, unhook_timeout_cb, s);
    s->notice_timer = timer_new_ms(QEMU_CLOCK_REALTIME, notice_cb, s);
    timer_mod(s->notice_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
              NOTICE_DELAY_MS);
    if (suspended) {
        introspection_connection_suspend(s, suspended);
    }
    qemu_chr_fe_set_handlers(&s->chr, chr_can_read, chr_read, chr_event, NULL,
                             s, NULL, true);
}

void introspection_connection_cut(Introspection *s, const char *reason)
{
    if (s->session) {
        unhook(s, reason);
    } else if (s->state == INTROSPECTION_STATE_HANDSHAKING) {
        timer_del(s->handshake_timer);
        set_away(s, reason);
    }
    disconnect(s);
}

bool introspection_connection_ask(Introspection *s, const char *reason,
                                  Error **errp)
{
    assert(s->session);
    if (s->engine->request_unhook(s->session) < 0) {
        error_setg(errp, "the tool of introspection object '%s' cannot be "
                   "asked to let go of the VM: it has not switched on the "
                   "event KVMI_EVENT_UNHOOK", s->id);
        return false;
    }
    if (s->state == INTROSPECTION_STATE_HOOKED) {
        set_state(s, INTROSPECTION_STATE_UNHOOKING, reason);
    }
    return true;
}

void introspection_connection_ask_no_more(Introspection *s)
{
    if (s->state == INTROSPECTION_STATE_UNHOOKING &&
        !timer_pending(s->unhook_timer)) {
        set_state(s, INTROSPECTION_STATE_HOOKED,
                  "the tool has not let go of the VM in time");
    }
}

void introspection_connection_end(Introspection *s, const char *reason)
{
    if (!s->session) {
        introspection_connection_cut(s, reason);
    } else if (introspection_connection_ask(s, reason, NULL)) {
        if (!timer_pending(s->unhook_timer)) {
            timer_mod(s->unhook_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                      s->unhook_timeout * 1000LL);
        }
    } else {
        g_autofree char *why =
            g_strdup_printf("%s, and the tool has not switched on the event "
                            "KVMI_EVENT_UNHOOK", reason);

        introspection_connection_cut(s, why);
    }
}

void introspection_connection_suspend(Introspection *s, const char *reason)
{
    if (s->suspended) {
        return;
    }
    s->suspended = true;
    hold_chardev(s, true);
    if (s->state == INTROSPECTION_STATE_HANDSHAKING) {
        introspection_connection_cut(s, reason);
    } else if (s->state == INTROSPECTION_STATE_DISCONNECTED) {
        set_state(s, INTROSPECTION_STATE_SUSPENDED, reason);
    }
}

void introspection_connection_resume(Introspection *s)
{
    if (!s->suspended) {
        return;
    }
    s->suspended = false;
    if (s->state == INTROSPECTION_STATE_SUSPENDED) {
        set_state(s, INTROSPECTION_STATE_DISCONNECTED, NULL);
    }
    hold_chardev(s, false);
}

void introspection_connection_hurry(Introspection *s)
{
    hold_chardev(s, s->suspended);
}

void introspection_connection_stop(Introspection *s)
{
    introspection_connection_cut(s, "the introspection object was removed");
    hold_chardev(s, false);
    notifier_list_notify(&state_notifiers, NULL);
    timer_free(s->handshake_timer);
    timer_free(s->unhook_timer);
    timer_free(s->notice_timer);
    qemu_chr_fe_deinit(&s->chr, false);
    release_guest();
}
