/*
 * Virtual machine introspection: monitors, whose commands may have to wait for
 * the tool to let go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_MONITOR_H
#define INTROSPECTION_MONITOR_H

#include "monitor/monitor-internal.h"

/* All of these are for the main loop's thread, with the BQL. */

/*
 * For the dispatcher: has @dispatch carry out @req, with a hold where it needs
 * one (introspection/hold.h), or drops it where QEMU is about to end.
 */
void coroutine_fn introspection_qmp_dispatch(
    MonitorQMP *mon, QObject *req,
    void (*dispatch)(MonitorQMP *mon, QObject *req));

/*
 * The dispatcher's request takes long, and the monitors other than @mon shall
 * not wait for it: another coroutine becomes the dispatcher, and the calling
 * one, if it was, ends with this request.
 */
void coroutine_fn introspection_qmp_hand_over(Monitor *mon);
/* Is @mon's request with a coroutine of its own? */
bool introspection_qmp_handed_over(const MonitorQMP *mon);
bool introspection_qmp_any_handed_over(void);
/* Behind each request: true where the calling coroutine has to end. */
bool coroutine_fn introspection_qmp_done(MonitorQMP *mon);

/*
 * True if @cmdline, of an interactive monitor that is suspended, needs a hold:
 * then it is carried out later, and @mon resumed.
 */
bool introspection_hmp_delay(MonitorHMP *mon, const char *cmdline);

#endif
