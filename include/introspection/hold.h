/*
 * Virtual machine introspection: doing without a tool for a while
 *
 * Who saves the guest's memory, or stops the VM on behalf of its manager, takes
 * a hold first: the tool is asked to let go, and cut off when it has not after
 * its unhook-timeout.  While there is a hold no tool is let in.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_HOLD_H
#define INTROSPECTION_HOLD_H

#include "monitor/monitor.h"
#include "qobject/qdict.h"

/* All of these are for the main loop's thread, with the BQL. */

/*
 * Waits until there is no tool.  False when QEMU is about to end; the hold is
 * taken then, too.  @reason is a constant.
 */
bool coroutine_fn introspection_hold_co(const char *reason);
/* Gives the hold back. */
void introspection_release(void);

/* Does QMP's @request need a hold while it is carried out? */
bool introspection_qmp_needs_hold(const QObject *request);
/* Takes it.  False when @request must not be carried out any more. */
bool coroutine_fn introspection_qmp_hold(Monitor *mon, const QObject *request);

/*
 * True if @cmdline, of an interactive monitor, needs a hold: then @run is
 * called later, and before that @mon must not take more input.
 */
bool introspection_hmp_delay(Monitor *mon, const char *cmdline,
                             void (*run)(Monitor *mon, const char *cmdline));

#endif
