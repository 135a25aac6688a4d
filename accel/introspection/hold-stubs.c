/*
 * Virtual machine introspection: programs that have a monitor and no VM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "introspection/monitor.h"

void coroutine_fn introspection_qmp_dispatch(
    MonitorQMP *mon, QObject *req,
    void (*dispatch)(MonitorQMP *mon, QObject *req))
{
    dispatch(mon, req);
}

bool introspection_qmp_handed_over(const MonitorQMP *mon)
{
    return false;
}

bool introspection_qmp_any_handed_over(void)
{
    return false;
}

bool coroutine_fn introspection_qmp_done(MonitorQMP *mon)
{
    return false;
}
