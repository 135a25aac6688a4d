/*
 * Virtual machine introspection: the VM's life, and when a tool may be there
 *
 * What the manager does to the VM is announced by a hold, as
 * introspection/hold.h says.  Apart from that, whether a tool is let in follows
 * from the state that the VM is in, looked at again whenever it changes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "introspection/hold.h"
#include "migration/misc.h"
#include "qemu/main-loop.h"
#include "system/runstate-action.h"
#include "system/runstate.h"
#include "introspection.h"
#include "lifecycle.h"
#include "trace.h"

/* Waits for the tool to be gone. */
typedef struct Waiter {
    QTAILQ_ENTRY(Waiter) next;
    Coroutine *co;
} Waiter;

/* BQL. */
static unsigned holds;
static const char *hold_reason;                 /* of the last one */
static QTAILQ_HEAD(, Waiter) waiters = QTAILQ_HEAD_INITIALIZER(waiters);
static Notifier state_notifier;
static bool ending;                             /* QEMU is */

const char *introspection_suspended_because(const Introspection *s)
{
    if (holds) {
        return hold_reason;
    }
    if (s->unhooked) {
        return "introspection-unhook, until introspection-hook";
    }
    if (migration_is_running()) {
        return "the VM is being migrated";
    }
    switch (runstate_get()) {
    case RUN_STATE_PAUSED:
        return "the VM is paused";
    case RUN_STATE_INMIGRATE:
        return "the VM waits for an incoming migration";
    case RUN_STATE_FINISH_MIGRATE:
    case RUN_STATE_POSTMIGRATE:
    case RUN_STATE_COLO:
        return "the VM has been migrated";
    case RUN_STATE_SAVE_VM:
        return "the VM is being saved";
    case RUN_STATE_RESTORE_VM:
        return "the VM is being restored";
    default:
        return NULL;
    }
}

bool introspection_ending(void)
{
    return ending;
}

void introspection_reconsider(void)
{
    const char *reason;

    /* Where QEMU ends, what the reasons are looked up in is gone. */
    if (!introspection || ending) {
        return;
    }
    reason = introspection_suspended_because(introspection);
    if (reason) {
        introspection_connection_suspend(introspection, reason);
    } else {
        introspection_connection_resume(introspection);
    }
}

static void reconsider_bh(void *opaque)
{
    introspection_reconsider();
}

/* Any thread that has the BQL. */
static void reconsider_soon(void)
{
    aio_bh_schedule_oneshot(qemu_get_aio_context(), reconsider_bh, NULL);
}

static void wake_waiters(Notifier *notifier, void *data)
{
    Introspection *s = data;
    Waiter *waiter, *next;

    if (s && s->session) {
        return;
    }
    QTAILQ_FOREACH_SAFE(waiter, &waiters, next, next) {
        QTAILQ_REMOVE(&waiters, waiter, next);
        aio_co_schedule(qemu_coroutine_get_aio_context(waiter->co),
                        waiter->co);
    }
}

/* Returns whether @waiter has to wait. */
static bool take_hold(const char *reason, Waiter *waiter)
{
    Introspection *s = introspection;

    trace_introspection_hold(reason);
    holds++;
    hold_reason = reason;
    if (!s) {
        return false;
    }
    introspection_connection_suspend(s, reason);
    if (s->session) {
        introspection_connection_end(s, reason);
    }
    if (!s->session) {
        return false;
    }
    if (!state_notifier.notify) {
        state_notifier.notify = wake_waiters;
        introspection_add_state_notifier(&state_notifier);
    }
    QTAILQ_INSERT_TAIL(&waiters, waiter, next);
    trace_introspection_hold_waits(reason);
    return true;
}

bool coroutine_fn introspection_hold_co(const char *reason)
{
    Waiter waiter = { .co = qemu_coroutine_self() };

    if (take_hold(reason, &waiter)) {
        qemu_coroutine_yield();
    }
    return !ending;
}

void introspection_release(void)
{
    assert(holds);
    holds--;
    trace_introspection_release(holds);
    introspection_reconsider();
}

/*
 * Something saves the guest's memory that took no hold.  The tool cannot be
 * asked any more, but what it does from now on is not in there.
 */
static void cut_for_saving(void)
{
    if (introspection && introspection->session) {
        trace_introspection_saved_unasked();
        introspection_connection_cut(introspection,
                                     "the VM is being saved or migrated");
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    if (state == RUN_STATE_SAVE_VM && qemu_in_main_thread()) {
        cut_for_saving();
    }
    if (state == RUN_STATE_RESTORE_VM && introspection) {
        introspection_note_start_time(introspection);
    }
    reconsider_soon();
}

static int migration_event(NotifierWithReturn *notifier, MigrationEvent *event,
                           Error **errp)
{
    if (event->type == MIG_EVENT_PRECOPY_SETUP) {
        cut_for_saving();
    }
    reconsider_soon();
    return 0;
}

/* There is no memory to be saved: the tool is told, and not waited for. */
static void shutting_down(Notifier *notifier, void *data)
{
    Introspection *s = introspection;

    if (shutdown_action == SHUTDOWN_ACTION_PAUSE) {
        return;
    }
    ending = true;
    if (s && s->session) {
        s->engine->request_unhook(s->session);
        introspection_connection_cut(s, "QEMU ends");
    }
}

static VMChangeStateEntry *vm_state_entry;
static NotifierWithReturn migration_notifiers[MIG_MODE__MAX];
static Notifier shutdown_notifier;

void introspection_lifecycle_start(void)
{
    vm_state_entry = qemu_add_vm_change_state_handler(vm_state_changed, NULL);
    for (int mode = 0; mode < MIG_MODE__MAX; mode++) {
        migration_add_notifier_mode(&migration_notifiers[mode],
                                    migration_event, mode);
    }
    if (!shutdown_notifier.notify) {
        shutdown_notifier.notify = shutting_down;
        qemu_register_shutdown_notifier(&shutdown_notifier);
    }
}

void introspection_lifecycle_stop(void)
{
    qemu_del_vm_change_state_handler(vm_state_entry);
    for (int mode = 0; mode < MIG_MODE__MAX; mode++) {
        migration_remove_notifier(&migration_notifiers[mode]);
    }
}
