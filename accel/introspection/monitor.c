/*
 * Virtual machine introspection: QMP and HMP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "introspection/vcpu.h"
#include "chardev/char-socket.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-introspection.h"
#include "introspection.h"
#include "masks.h"
#include "peer.h"

static bool is_connected(const Introspection *s)
{
    return s->state != INTROSPECTION_STATE_DISCONNECTED &&
           s->state != INTROSPECTION_STATE_SUSPENDED;
}

IntrospectionInfo *qmp_query_introspection(Error **errp)
{
    Introspection *s = introspection;
    IntrospectionInfo *info;
    Chardev *chr;

    if (!s) {
        error_setg(errp, "this VM has no introspection object; add one with "
                   "-object introspection,id=ID,chardev=CHARDEV");
        return NULL;
    }

    chr = qemu_chr_fe_get_driver(&s->chr);
    info = g_new0(IntrospectionInfo, 1);
    info->id = g_strdup(s->id);
    info->chardev = g_strdup(s->chardev);
    info->engine = s->engine->type;
    info->state = s->state;
    info->since = s->since;
    info->guest_held = introspection_guest_held;
    if (is_connected(s)) {
        info->peer = g_strdup(chr->filename);
    }
    /* The chardev may have seen a hang-up that the engine has yet to see. */
    if (is_connected(s) && SOCKET_CHARDEV(chr)->sioc) {
        info->peer_credentials =
            introspection_peer_credentials(SOCKET_CHARDEV(chr)->sioc->fd);
    }
    if (s->session && s->auth_method) {
        info->has_auth = true;
        info->auth = s->auth_method == INTROSPECTION_AUTH_BIT_HMAC
                     ? INTROSPECTION_AUTH_HMAC : INTROSPECTION_AUTH_COOKIE;
    }
    info->commands = introspection_commands_from_mask(s->commands);
    info->events = introspection_events_from_mask(s->events);
    if (s->session && s->engine->stats) {
        info->stats = s->engine->stats(s->session);
    }
    info->has_waiting_vcpus = s->engine->waiting != NULL;
    if (s->session && s->engine->waiting) {
        info->waiting_vcpus = s->engine->waiting(s->session);
    }
    return info;
}

static void print_credentials(Monitor *mon,
                              const IntrospectionPeerCredentials *peer)
{
    if (!peer) {
        return;
    }
    if (peer->has_cid) {
        monitor_printf(mon, "  peer: vsock cid %" PRIu32 "\n", peer->cid);
    } else {
        monitor_printf(mon, "  peer: process %" PRId64 ", user %" PRId64
                       ", group %" PRId64 "\n", peer->pid, peer->uid,
                       peer->gid);
    }
}

void hmp_info_introspection(Monitor *mon, const QDict *qdict)
{
    g_autoptr(IntrospectionInfo) info = NULL;
    IntrospectionWaitingVcpuList *w;
    IntrospectionCommandList *c;
    IntrospectionEventList *e;
    Error *err = NULL;

    info = qmp_query_introspection(&err);
    if (hmp_handle_error(mon, err)) {
        return;
    }

    monitor_printf(mon, "%s: %s, engine %s, chardev %s%s%s%s%s%s\n", info->id,
                   IntrospectionState_str(info->state),
                   IntrospectionEngineType_str(info->engine), info->chardev,
                   info->peer ? ", peer " : "", info->peer ?: "",
                   info->has_auth ? ", authenticated by " : "",
                   info->has_auth ? IntrospectionAuth_str(info->auth) : "",
                   info->guest_held ? ", guest held" : "");
    print_credentials(mon, info->peer_credentials);
    monitor_printf(mon, "  commands:");
    for (c = info->commands; c; c = c->next) {
        monitor_printf(mon, " %s", IntrospectionCommand_str(c->value));
    }
    monitor_printf(mon, "\n  events:");
    for (e = info->events; e; e = e->next) {
        monitor_printf(mon, " %s", IntrospectionEvent_str(e->value));
    }
    monitor_printf(mon, "\n");
    if (info->stats) {
        monitor_printf(mon, "  %" PRIu64 " commands, %" PRIu64 " events, "
                       "%" PRIu64 " replies\n", info->stats->commands,
                       info->stats->events, info->stats->replies);
    }
    for (w = info->waiting_vcpus; w; w = w->next) {
        monitor_printf(mon, "  vCPU %" PRId64 " waits for the reply to %s, "
                       "%" PRId64 " ms\n", w->value->vcpu,
                       IntrospectionEvent_str(w->value->event),
                       w->value->waiting_ms);
    }
}
