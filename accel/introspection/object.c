/*
 * Virtual machine introspection: the -object and its properties
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "chardev/char-socket.h"
#include "crypto/secret_common.h"
#include "hw/qdev-core.h"
#include "introspection/object.h"
#include "introspection/vcpu.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-introspection-object.h"
#include "qemu/error-report.h"
#include "qom/object_interfaces.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "introspection.h"
#include "lifecycle.h"
#include "masks.h"

Introspection *introspection;

bool introspection_guest_held;
bool introspection_present;

static bool is_fd(const SocketChardev *sock)
{
    return sock->addr && sock->addr->type == SOCKET_ADDRESS_TYPE_FD;
}

/* A chardev that connects again by itself and whose socket has plain bytes. */
static Chardev *find_chardev(const char *id, Error **errp)
{
    ERRP_GUARD();
    Chardev *chr;
    SocketChardev *sock;

    if (!id) {
        error_setg(errp, "parameter 'chardev' is missing");
        goto hint;
    }
    chr = qemu_chr_find(id);
    if (!chr) {
        error_setg(errp, "there is no chardev '%s'", id);
        goto hint;
    }
    if (!object_dynamic_cast(OBJECT(chr), TYPE_CHARDEV_SOCKET)) {
        error_setg(errp, "chardev '%s' is no socket", id);
        goto hint;
    }
    sock = SOCKET_CHARDEV(chr);
    if (sock->is_telnet || sock->is_websock || sock->tls_creds) {
        error_setg(errp, "chardev '%s' is not a plain socket: "
                   "telnet, websocket and TLS are not possible here", id);
        goto hint;
    }
    /* A file descriptor is of one connection. */
    if (!sock->is_listen && !sock->reconnect_time_ms && !is_fd(sock)) {
        error_setg(errp, "chardev '%s' would connect only once: "
                   "it needs reconnect-ms", id);
        goto hint;
    }
    return chr;

hint:
    error_append_hint(errp, "Use -chardev socket,id=%s,path=PATH,"
                      "reconnect-ms=1000 for a tool that listens, or\n"
                      "-chardev socket,id=%s,path=PATH,server=on,wait=off "
                      "for QEMU to listen.\n", id ?: "ID", id ?: "ID");
    return NULL;
}

static bool load_key(Introspection *s, Error **errp)
{
    uint8_t *data;
    size_t size;

    if (!s->key_id) {
        if (s->has_auth) {
            error_setg(errp, "'auth' says how the tool proves that it knows "
                       "the key, and needs 'key'");
            return false;
        }
        return true;
    }
    if (qcrypto_secret_lookup(s->key_id, &data, &size, errp) < 0) {
        error_prepend(errp, "key '%s': ", s->key_id);
        return false;
    }
    s->key = g_bytes_new_take(data, size);
    if (!size) {
        error_setg(errp, "key '%s' is empty", s->key_id);
        return false;
    }
    return true;
}

void introspection_note_start_time(Introspection *s)
{
    s->start_time = g_get_real_time() / G_USEC_PER_SEC;
}

static void introspection_reset(void *opaque)
{
    Introspection *s = opaque;

    introspection_note_start_time(s);
    if (s->unreset) {
        /* The first reset of all is none to a tool that is there already. */
        s->unreset = false;
        return;
    }
    introspection_connection_cut(s, "the VM was reset");
}

/* Only before the first instruction. */
static void hold_guest(Introspection *s)
{
    if (!s->wait) {
        return;
    }
    if (runstate_check(RUN_STATE_PRELAUNCH) ||
        runstate_check(RUN_STATE_INMIGRATE)) {
        qatomic_set(&introspection_guest_held, true);
    } else {
        warn_report("introspection object '%s': wait=on has no effect, "
                    "the guest has been started already", s->id);
    }
}

static void introspection_complete(UserCreatable *uc, Error **errp)
{
    Introspection *s = INTROSPECTION(uc);
    Chardev *chr;

    if (introspection) {
        error_setg(errp, "the VM has an introspection object already: '%s'; "
                   "there can be only one", introspection->id);
        return;
    }
    if (!s->handshake_timeout) {
        error_setg(errp, "'handshake-timeout' must be at least 1 second");
        return;
    }
    s->engine = introspection_engine_find(errp);
    if (!s->engine) {
        return;
    }
    if (!load_key(s, errp)) {
        return;
    }
    chr = find_chardev(s->chardev, errp);
    if (!chr || !qemu_chr_fe_init(&s->chr, chr, errp)) {
        return;
    }

    introspection = s;
    qatomic_set(&introspection_present, true);
    s->id = g_strdup(object_get_canonical_path_component(OBJECT(s)));
    if (!s->key) {
        warn_report("introspection object '%s' has no key: whoever can connect "
                    "to its chardev '%s' controls the guest", s->id,
                    s->chardev);
    }
    s->commands &= s->engine->commands;
    s->events &= s->engine->events;
    s->unreset = !phase_check(PHASE_MACHINE_READY);
    hold_guest(s);
    introspection_note_start_time(s);
    qemu_register_reset_nosnapshotload(introspection_reset, s);
    introspection_lifecycle_start();
    introspection_connection_start(s, introspection_suspended_because(s));
}

static void introspection_instance_init(Object *obj)
{
    Introspection *s = INTROSPECTION(obj);

    s->handshake_timeout = 10;
    s->unhook_timeout = 5;
    s->auth = INTROSPECTION_AUTH_HMAC;
    s->commands = UINT32_MAX;
    s->events = UINT32_MAX;
}

static void introspection_finalize(Object *obj)
{
    Introspection *s = INTROSPECTION(obj);

    if (introspection == s) {
        introspection_lifecycle_stop();
        introspection_connection_stop(s);
        qemu_unregister_reset(introspection_reset, s);
        introspection = NULL;
        qatomic_set(&introspection_present, false);
    }
    introspection_answer_clear(&s->answer);
    g_clear_pointer(&s->key, g_bytes_unref);
    g_free(s->key_id);
    g_free(s->reported_failure);
    g_free(s->failure);
    g_free(s->id);
    g_free(s->chardev);
}

static void append_names(GString *s, const char *list,
                         const QEnumLookup *lookup)
{
    int i;

    g_string_append_printf(s, "%s can be", list);
    for (i = 0; i < lookup->size; i++) {
        g_string_append_printf(s, "%s %s", i ? "," : "", lookup->array[i]);
    }
    g_string_append(s, ".\n");
}

ObjectOptions *introspection_object_parse(const char *str, Error **errp)
{
    ERRP_GUARD();
    ObjectOptions *options = user_creatable_parse_str(str, errp);

    if (*errp) {
        g_autoptr(GString) names = g_string_new(NULL);

        append_names(names, "commands.N", &IntrospectionCommand_lookup);
        append_names(names, "events.N", &IntrospectionEvent_lookup);
        error_append_hint(errp, "%s", names->str);
    }
    return options;
}

static bool prop_settable(Introspection *s, const char *name, Error **errp)
{
    if (s->engine) {
        error_setg(errp, "'%s' cannot be changed once the object exists", name);
        return false;
    }
    return true;
}

static char *get_chardev(Object *obj, Error **errp)
{
    return g_strdup(INTROSPECTION(obj)->chardev);
}

static void set_chardev(Object *obj, const char *value, Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    if (prop_settable(s, "chardev", errp)) {
        g_free(s->chardev);
        s->chardev = g_strdup(value);
    }
}

static char *get_key(Object *obj, Error **errp)
{
    return g_strdup(INTROSPECTION(obj)->key_id);
}

static void set_key(Object *obj, const char *value, Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    if (prop_settable(s, "key", errp)) {
        g_free(s->key_id);
        s->key_id = g_strdup(value);
    }
}

static int get_auth(Object *obj, Error **errp)
{
    return INTROSPECTION(obj)->auth;
}

static void set_auth(Object *obj, int value, Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    if (prop_settable(s, "auth", errp)) {
        s->auth = value;
        s->has_auth = true;
    }
}

static bool get_wait(Object *obj, Error **errp)
{
    return INTROSPECTION(obj)->wait;
}

static void set_wait(Object *obj, bool value, Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    if (prop_settable(s, "wait", errp)) {
        s->wait = value;
    }
}

/* @opaque is the offset of the property's uint32_t. */
static void get_seconds(Object *obj, Visitor *v, const char *name, void *opaque,
                        Error **errp)
{
    visit_type_uint32(v, name, (void *)obj + (uintptr_t)opaque, errp);
}

static void set_seconds(Object *obj, Visitor *v, const char *name, void *opaque,
                        Error **errp)
{
    uint32_t *seconds = (void *)obj + (uintptr_t)opaque;
    uint32_t value;

    if (prop_settable(INTROSPECTION(obj), name, errp) &&
        visit_type_uint32(v, name, &value, errp)) {
        *seconds = value;
    }
}

static void get_commands(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    g_autoptr(IntrospectionCommandList) list =
        introspection_commands_from_mask(INTROSPECTION(obj)->commands);

    visit_type_IntrospectionCommandList(v, name, &list, errp);
}

static void set_commands(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    g_autoptr(IntrospectionCommandList) list = NULL;
    Introspection *s = INTROSPECTION(obj);

    if (prop_settable(s, name, errp) &&
        visit_type_IntrospectionCommandList(v, name, &list, errp)) {
        s->commands = introspection_commands_to_mask(list);
    }
}

static void get_events(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    g_autoptr(IntrospectionEventList) list =
        introspection_events_from_mask(INTROSPECTION(obj)->events);

    visit_type_IntrospectionEventList(v, name, &list, errp);
}

static void set_events(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    g_autoptr(IntrospectionEventList) list = NULL;
    Introspection *s = INTROSPECTION(obj);

    if (prop_settable(s, name, errp) &&
        visit_type_IntrospectionEventList(v, name, &list, errp)) {
        s->events = introspection_events_to_mask(list);
    }
}

static void introspection_class_init(ObjectClass *oc, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = introspection_complete;

    object_class_property_add_str(oc, "chardev", get_chardev, set_chardev);
    object_class_property_add_bool(oc, "wait", get_wait, set_wait);
    object_class_property_add_str(oc, "key", get_key, set_key);
    object_class_property_add_enum(oc, "auth", "IntrospectionAuth",
                                   &IntrospectionAuth_lookup,
                                   get_auth, set_auth);
    object_class_property_add(oc, "handshake-timeout", "uint32",
                              get_seconds, set_seconds, NULL,
                              (void *)offsetof(Introspection,
                                               handshake_timeout));
    object_class_property_add(oc, "unhook-timeout", "uint32",
                              get_seconds, set_seconds, NULL,
                              (void *)offsetof(Introspection, unhook_timeout));
    object_class_property_add(oc, "commands", "IntrospectionCommandList",
                              get_commands, set_commands, NULL, NULL);
    object_class_property_add(oc, "events", "IntrospectionEventList",
                              get_events, set_events, NULL, NULL);
}

static const TypeInfo introspection_info = {
    .name = TYPE_INTROSPECTION,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(Introspection),
    .instance_init = introspection_instance_init,
    .instance_finalize = introspection_finalize,
    .class_init = introspection_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    }
};

static void introspection_register_types(void)
{
    type_register_static(&introspection_info);
}

type_init(introspection_register_types);
