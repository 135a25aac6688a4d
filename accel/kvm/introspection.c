/*
 * Virtual machine introspection under KVM: the engine is the kernel's
 *
 * The kernel gets the socket by an ioctl, and QEMU sees nothing of what goes
 * over it.  QEMU only watches its own descriptor for the end of the connection.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include <linux/kvmi.h>
#include "introspection/engine.h"
#include "qapi/error.h"
#include "system/kvm.h"
#include "trace/trace-kvmi_accel_introspection.h"

/* BQL */
struct IntrospectionSession {
    int fd;
    GSource *hang_up;
    IntrospectionClosedFn *closed;
    void *opaque;
};

static bool kvm_introspection_available(Error **errp)
{
    int version = kvm_check_extension(kvm_state, KVM_CAP_INTROSPECTION);

    if (version == KVMI_VERSION) {
        return true;
    }
    if (version > 0) {
        error_setg(errp, "this host's KVM has version %d of introspection; "
                   "this QEMU knows version %d", version, KVMI_VERSION);
        return false;
    }
    error_setg(errp, "this host's KVM cannot be used for introspection: it "
               "has no KVM_CAP_INTROSPECTION");
    error_append_hint(errp, "It needs the patches for Linux 6.12 in "
                      "linux-headers/patches/ of this QEMU's sources: 'make "
                      "install-dkms'\nthere installs KVM with them for "
                      "Debian's kernel, 'kvmi check-host' says what is "
                      "missing.\nWhere they are, the module's parameter "
                      "kvm.introspection=0 has the same effect.\n"
                      "Or use -accel tcg.\n");
    return false;
}

static int kvm_introspection_unhook(bool force)
{
    int ret = kvm_vm_ioctl(kvm_state, KVM_INTROSPECTION_UNHOOK,
                           (unsigned long)force);

    trace_introspection_kvm_unhook(force, ret);
    return ret;
}

static void session_free(IntrospectionSession *s)
{
    g_source_destroy(s->hang_up);
    g_source_unref(s->hang_up);
    close(s->fd);
    g_free(s);
}

static void session_unhook(IntrospectionSession *s)
{
    int ret = kvm_introspection_unhook(true);

    assert(ret == 0);
    session_free(s);
}

/*
 * The tool has closed the connection, or the kernel has.  The kernel still acts
 * on what the tool sent before, and then undoes everything; until that is done
 * the tool is not gone.
 */
static gboolean session_hang_up(gint fd, GIOCondition condition, gpointer opaque)
{
    IntrospectionSession *s = opaque;
    IntrospectionClosedFn *closed = s->closed;
    void *closed_opaque = s->opaque;

    trace_introspection_kvm_hang_up(s);
    kvm_introspection_unhook(true);
    closed(closed_opaque, s, "the connection was closed");
    session_free(s);
    return G_SOURCE_REMOVE;
}

static IntrospectionSession *session_hook(const IntrospectionHookParams *params,
                                          Error **errp)
{
    struct kvm_introspection hook = {
        .fd = params->fd,
        .commands = params->commands,
        .events = params->events,
    };
    IntrospectionSession *s;
    int ret;

    memcpy(hook.uuid, &params->uuid, sizeof(hook.uuid));
    ret = kvm_vm_ioctl(kvm_state, KVM_INTROSPECTION_HOOK, &hook);
    trace_introspection_kvm_hook(hook.commands, hook.events, ret);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM_INTROSPECTION_HOOK failed");
        close(params->fd);
        return NULL;
    }

    s = g_new0(IntrospectionSession, 1);
    s->fd = params->fd;
    s->closed = params->closed;
    s->opaque = params->opaque;
    /*
     * Not for input, which is the kernel's.  A peer that has only stopped
     * sending is the kernel's, too: it shuts the socket down.
     */
    s->hang_up = g_unix_fd_source_new(s->fd, G_IO_HUP | G_IO_ERR);
    g_source_set_callback(s->hang_up, G_SOURCE_FUNC(session_hang_up), s, NULL);
    g_source_attach(s->hang_up, NULL);
    return s;
}

static int session_request_unhook(IntrospectionSession *s)
{
    return kvm_introspection_unhook(false);
}

static const char *const engine_accels[] = { "kvm-accel", NULL };

static IntrospectionEngine kvm_engine = {
    .type = INTROSPECTION_ENGINE_TYPE_KVM,
    .accels = engine_accels,
    /* The kernel cuts this to what it implements, and tells the tool. */
    .commands = KVMI_KNOWN_COMMANDS,
    .events = KVMI_KNOWN_EVENTS,
    .available = kvm_introspection_available,
    .hook = session_hook,
    .request_unhook = session_request_unhook,
    .unhook = session_unhook,
};

static void engine_register(void)
{
    introspection_engine_register(&kvm_engine);
}

type_init(engine_register);
