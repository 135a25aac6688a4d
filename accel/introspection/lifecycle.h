/*
 * Virtual machine introspection: the VM's life, and when a tool may be there
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_LIFECYCLE_H
#define ACCEL_INTROSPECTION_LIFECYCLE_H

#include "introspection.h"

/* Why no tool may be there now; NULL if one may. */
const char *introspection_suspended_because(const Introspection *s);
/* Something has changed that this depends on.  Main loop. */
void introspection_reconsider(void);

/* QEMU is about to end: nothing is begun any more.  Main loop. */
bool introspection_ending(void);

/* While there is an object. */
void introspection_lifecycle_start(void);
void introspection_lifecycle_stop(void);

#endif
