/*
 * Virtual machine introspection: QMP and HMP, hook and unhook
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "introspection/monitor.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-introspection.h"
#include "qobject/qdict.h"
#include "qemu/timer.h"
#include "introspection.h"
#include "lifecycle.h"

static Introspection *find_object(const char *id, Error **errp)
{
    if (!introspection) {
        error_setg(errp, "this VM has no introspection object; add one with "
                   "-object introspection,id=ID,chardev=CHARDEV");
        return NULL;
    }
    if (id && !g_str_equal(id, introspection->id)) {
        error_setg(errp, "there is no introspection object '%s': this VM's is "
                   "'%s'", id, introspection->id);
        return NULL;
    }
    return introspection;
}

/* Waits in its coroutine for a change of the object's state. */
typedef struct StateWait {
    Notifier notifier;
    QEMUTimer timer;
    Coroutine *co;
    bool woken;
    bool expired;
    bool removed;               /* the object is gone */
} StateWait;

static void state_wait_wake(StateWait *wait)
{
    /* There may be another change before the coroutine runs. */
    if (!wait->woken) {
        wait->woken = true;
        aio_co_schedule(qemu_coroutine_get_aio_context(wait->co), wait->co);
    }
}

static void state_wait_notify(Notifier *notifier, void *data)
{
    StateWait *wait = container_of(notifier, StateWait, notifier);

    wait->removed |= !data;
    state_wait_wake(wait);
}

static void state_wait_expired(void *opaque)
{
    StateWait *wait = opaque;

    wait->expired = true;
    state_wait_wake(wait);
}

static void coroutine_fn state_wait_begin(StateWait *wait, uint32_t seconds)
{
    *wait = (StateWait) {
        .notifier.notify = state_wait_notify,
        .co = qemu_coroutine_self(),
    };
    introspection_add_state_notifier(&wait->notifier);
    timer_init_ms(&wait->timer, QEMU_CLOCK_REALTIME, state_wait_expired, wait);
    timer_mod(&wait->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
              seconds * 1000LL);
    if (monitor_cur()) {
        introspection_qmp_hand_over(monitor_cur());
    }
}

/* Returns when something has happened; not at all for what is over by then. */
static void coroutine_fn state_wait(StateWait *wait)
{
    wait->woken = false;
    if (!wait->expired && !wait->removed) {
        qemu_coroutine_yield();
    }
}

static void state_wait_end(StateWait *wait)
{
    notifier_remove(&wait->notifier);
    timer_del(&wait->timer);
}

/* Ready for a tool; NULL and an error if that is not possible now. */
static Introspection *begin_hook(const char *id, Error **errp)
{
    Introspection *s = find_object(id, errp);
    const char *reason;

    if (!s) {
        return NULL;
    }
    if (s->session) {
        error_setg(errp, "a tool has hooked the VM already (introspection "
                   "object '%s' is %s)", s->id,
                   IntrospectionState_str(s->state));
        return NULL;
    }
    s->unhooked = false;
    reason = introspection_suspended_because(s);
    if (reason) {
        error_setg(errp, "no tool can hook the VM now: %s; this will be tried "
                   "when that is over", reason);
        return NULL;
    }
    g_clear_pointer(&s->failure, g_free);
    introspection_connection_resume(s);
    introspection_connection_hurry(s);
    return s;
}

void coroutine_fn qmp_introspection_hook(const char *id, bool has_timeout,
                                         uint32_t timeout, Error **errp)
{
    Introspection *s = begin_hook(id, errp);
    StateWait wait;

    if (!s) {
        return;
    }
    if (!has_timeout) {
        timeout = s->handshake_timeout;
    }
    state_wait_begin(&wait, timeout);
    do {
        state_wait(&wait);
        if (wait.removed) {
            error_setg(errp, "the introspection object was removed before a "
                       "tool had hooked the VM");
        } else if (s->session) {
            break;
        } else if (s->suspended) {
            error_setg(errp, "no tool has hooked the VM: %s",
                       introspection_suspended_because(s) ?: "suspended");
        } else if (s->failure) {
            error_setg(errp, "the tool did not hook the VM: %s", s->failure);
        } else if (wait.expired) {
            error_setg(errp, "no tool has hooked the VM within %" PRIu32 " s; "
                       "QEMU goes on trying", timeout);
        }
    } while (!*errp);
    state_wait_end(&wait);
}

static IntrospectionUnhookInfo *unhook_info(IntrospectionUnhookOutcome outcome)
{
    IntrospectionUnhookInfo *info = g_new0(IntrospectionUnhookInfo, 1);

    info->outcome = outcome;
    return info;
}

static IntrospectionUnhookInfo *unhook_by_force(Introspection *s)
{
    bool was_hooked = s->session;

    introspection_connection_suspend(s, "introspection-unhook");
    introspection_connection_cut(s, "introspection-unhook by force");
    return unhook_info(was_hooked ? INTROSPECTION_UNHOOK_OUTCOME_FORCED
                                  : INTROSPECTION_UNHOOK_OUTCOME_NOT_HOOKED);
}

/* Asks the tool, if there is one.  False and an error if it cannot be asked. */
static bool begin_unhook(Introspection *s, Error **errp)
{
    ERRP_GUARD();

    if (s->unhooked && !s->session) {
        error_setg(errp, "the VM was unhooked with introspection-unhook "
                   "before; introspection-hook lets a tool hook it again");
        return false;
    }
    if (s->session &&
        !introspection_connection_ask(s, "introspection-unhook", errp)) {
        error_append_hint(errp, "Use force to cut it off.\n");
        return false;
    }
    s->unhooked = true;
    introspection_connection_suspend(s, "introspection-unhook");
    return true;
}

IntrospectionUnhookInfo *coroutine_fn
qmp_introspection_unhook(const char *id, bool has_timeout, uint32_t timeout,
                         bool has_force, bool force, Error **errp)
{
    ERRP_GUARD();
    Introspection *s = find_object(id, errp);
    IntrospectionUnhookInfo *info = NULL;
    StateWait wait;

    if (!s) {
        return NULL;
    }
    if (has_force && force) {
        if (has_timeout) {
            error_setg(errp, "'timeout' and 'force' exclude each other: by "
                       "force nothing is waited for");
            return NULL;
        }
        s->unhooked = true;
        return unhook_by_force(s);
    }
    if (!begin_unhook(s, errp)) {
        return NULL;
    }
    if (!s->session) {
        return unhook_info(INTROSPECTION_UNHOOK_OUTCOME_NOT_HOOKED);
    }

    if (!has_timeout) {
        timeout = s->unhook_timeout;
    }
    state_wait_begin(&wait, timeout);
    while (!info && !*errp) {
        state_wait(&wait);
        if (wait.removed) {
            info = unhook_info(INTROSPECTION_UNHOOK_OUTCOME_FORCED);
        } else if (!s->session) {
            info = unhook_info(s->cut ? INTROSPECTION_UNHOOK_OUTCOME_FORCED
                                      : INTROSPECTION_UNHOOK_OUTCOME_LET_GO);
        } else if (wait.expired) {
            error_setg(errp, "the tool has not let go of the VM within %"
                       PRIu32 " s and keeps it; 'force' cuts it off", timeout);
        }
    }
    state_wait_end(&wait);
    if (*errp) {
        s->unhooked = false;
        introspection_connection_ask_no_more(s);
        introspection_reconsider();
    }
    return info;
}

/* HMP does not wait: "info introspection" shows what came of it. */

void hmp_introspection_hook(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;

    if (begin_hook(NULL, &err)) {
        monitor_printf(mon, "a tool may hook the VM now; see "
                       "'info introspection'\n");
    }
    hmp_handle_error(mon, err);
}

void hmp_introspection_unhook(Monitor *mon, const QDict *qdict)
{
    bool force = qdict_get_try_bool(qdict, "force", false);
    g_autofree IntrospectionUnhookInfo *info = NULL;
    Error *err = NULL;
    Introspection *s = find_object(NULL, &err);

    if (s && force) {
        s->unhooked = true;
        info = unhook_by_force(s);
    } else if (s && begin_unhook(s, &err) && s->session) {
        monitor_printf(mon, "the tool was asked to let go of the VM; see "
                       "'info introspection'\n");
    }
    hmp_handle_error(mon, err);
}
