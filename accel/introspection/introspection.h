/*
 * Virtual machine introspection: the object
 *
 * object.c has its properties, connection.c its state machine, monitor.c
 * shows it to QMP and HMP.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_INTROSPECTION_H
#define ACCEL_INTROSPECTION_INTROSPECTION_H

#include "chardev/char-fe.h"
#include "introspection/engine.h"
#include "qom/object.h"
#include "handshake.h"

#define TYPE_INTROSPECTION "introspection"
OBJECT_DECLARE_SIMPLE_TYPE(Introspection, INTROSPECTION)

/* Everything is protected by the BQL. */
struct Introspection {
    Object parent;

    /* Constant once the object is complete. */
    char *id;
    char *chardev;
    bool wait;
    uint32_t handshake_timeout;         /* seconds */
    uint32_t unhook_timeout;            /* seconds */
    uint32_t commands;                  /* allowed and implemented */
    uint32_t events;

    CharBackend chr;
    const IntrospectionEngine *engine;
    int64_t start_time;                 /* of the guest, s since the epoch */

    /* connection.c */
    IntrospectionState state;
    int64_t since;                      /* s since the epoch */
    IntrospectionAnswer answer;
    QEMUTimer *handshake_timer;
    QEMUTimer *notice_timer;
    bool failure_reported;              /* since the VM was hooked last */
    IntrospectionSession *session;      /* set: hooked */
};

/* The VM's only object, or NULL. */
extern Introspection *introspection;

/* Start looking for a tool, on a chardev that passed the checks. */
void introspection_connection_start(Introspection *s);
/* Let go of the tool, if there is one, and of the chardev. */
void introspection_connection_stop(Introspection *s);
/* Let go of the tool, if there is one, and look for it again. */
void introspection_connection_restart(Introspection *s, const char *reason);

#endif
