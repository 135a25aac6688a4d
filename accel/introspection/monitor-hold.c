/*
 * Virtual machine introspection: monitor commands that need a hold
 *
 * A command that stops, saves or migrates the VM is not begun before the tool
 * is gone.  All monitors share one QMP dispatcher, which must not wait for that:
 * it hands the request over.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "introspection/hold.h"
#include "introspection/monitor.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "system/runstate.h"
#include "introspection.h"
#include "lifecycle.h"

static const struct {
    const char *qmp, *hmp;      /* names, separated by '|' */
    const char *reason;
    bool only_running;
} commands[] = {
    { "stop", "stop|s", "the VM is about to be stopped", true },
    { "migrate", "migrate", "the VM is about to be migrated" },
    { "dump-guest-memory", "dump-guest-memory",
      "the VM's memory is about to be saved" },
    /* snapshot-save and snapshot-load are jobs, which take a hold themselves */
    { "", "savevm", "the VM is about to be saved" },
    { "", "loadvm", "the VM is about to be restored" },
};

static const char *find_hold(const char *name, bool hmp)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        const char *names = hmp ? commands[i].hmp : commands[i].qmp;
        g_auto(GStrv) list = g_strsplit(names, "|", 0);

        if (g_strv_contains((const char *const *)list, name) &&
            (!commands[i].only_running || runstate_is_running())) {
            return commands[i].reason;
        }
    }
    return NULL;
}

static const char *hold_for_hmp(const char *cmdline)
{
    g_autofree char *name = NULL;

    cmdline += strspn(cmdline, " \t");
    name = g_strndup(cmdline, strcspn(cmdline, " \t/"));
    return find_hold(name, true);
}

static const char *hold_for_request(const QObject *request)
{
    const QDict *dict = qobject_to(QDict, request);
    const char *name = dict ? qdict_get_try_str(dict, "execute") : NULL;
    const QDict *args;
    const char *cmdline;

    if (!name || !g_str_equal(name, "human-monitor-command")) {
        return name ? find_hold(name, false) : NULL;
    }
    args = qobject_to(QDict, qdict_get(dict, "arguments"));
    cmdline = args ? qdict_get_try_str(args, "command-line") : NULL;
    return cmdline ? hold_for_hmp(cmdline) : NULL;
}

/* Handing over.  Monitors whose request is with a coroutine of its own: BQL. */
static GSList *handed_over;

void coroutine_fn introspection_qmp_hand_over(Monitor *mon)
{
    if (qemu_coroutine_self() != qmp_dispatcher_co) {
        return;
    }
    handed_over = g_slist_prepend(handed_over,
                                  container_of(mon, MonitorQMP, common));
    qatomic_set(&qmp_dispatcher_co,
                qemu_coroutine_create(monitor_qmp_dispatcher_co, NULL));
    aio_co_schedule(iohandler_get_aio_context(), qmp_dispatcher_co);
}

bool introspection_qmp_handed_over(const MonitorQMP *mon)
{
    return g_slist_find(handed_over, mon);
}

bool introspection_qmp_any_handed_over(void)
{
    return handed_over;
}

bool coroutine_fn introspection_qmp_done(MonitorQMP *mon)
{
    if (qemu_coroutine_self() == qmp_dispatcher_co) {
        return false;
    }
    handed_over = g_slist_remove(handed_over, mon);
    if (qatomic_read(&qmp_dispatcher_co)) {
        qmp_dispatcher_co_wake();
    }
    aio_wait_kick();
    return true;
}

void coroutine_fn introspection_qmp_dispatch(
    MonitorQMP *mon, QObject *req,
    void (*dispatch)(MonitorQMP *mon, QObject *req))
{
    const char *reason = mon->commands == &qmp_commands ? hold_for_request(req)
                                                        : NULL;

    if (!reason) {
        dispatch(mon, req);
        return;
    }
    if (introspection && introspection->session) {
        introspection_qmp_hand_over(&mon->common);
    }
    if (introspection_hold_co(reason)) {
        dispatch(mon, req);
    }
    introspection_release();
}

/* Interactive monitors */

typedef struct DelayedHMP {
    MonitorHMP *mon;
    char *cmdline;
    const char *reason;
} DelayedHMP;

static void hmp_run_bh(void *opaque)
{
    DelayedHMP *delayed = opaque;

    if (!introspection_ending()) {
        handle_hmp_command(delayed->mon, delayed->cmdline);
        monitor_resume(&delayed->mon->common);
    }
    introspection_release();
    g_free(delayed->cmdline);
    g_free(delayed);
}

static void coroutine_fn hmp_delayed_co(void *opaque)
{
    DelayedHMP *delayed = opaque;

    introspection_hold_co(delayed->reason);
    /* Not in a nested event loop, as monitors don't run there either. */
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), hmp_run_bh, delayed);
}

bool introspection_hmp_delay(MonitorHMP *mon, const char *cmdline)
{
    const char *reason = hold_for_hmp(cmdline);
    DelayedHMP *delayed;

    if (!reason || !introspection) {
        return false;
    }
    delayed = g_new(DelayedHMP, 1);
    *delayed = (DelayedHMP) {
        .mon = mon,
        .cmdline = g_strdup(cmdline),
        .reason = reason,
    };
    qemu_coroutine_enter(qemu_coroutine_create(hmp_delayed_co, delayed));
    return true;
}
