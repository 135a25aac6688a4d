/*
 * Virtual machine introspection: programs that have a monitor and no VM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "introspection/hold.h"

bool introspection_qmp_needs_hold(const QObject *request)
{
    return false;
}

/* Reached only where one is needed. */
bool coroutine_fn introspection_qmp_hold(Monitor *mon, const QObject *request)
{
    g_assert_not_reached();
}

void introspection_release(void)
{
    g_assert_not_reached();
}
