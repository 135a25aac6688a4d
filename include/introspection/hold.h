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

#include "qemu/coroutine.h"

/* All of these are for the main loop's thread, with the BQL. */

/*
 * Waits until there is no tool.  False when QEMU is about to end; the hold is
 * taken then, too.  @reason is a constant.
 */
bool coroutine_fn introspection_hold_co(const char *reason);
/* Gives the hold back. */
void introspection_release(void);

#endif
