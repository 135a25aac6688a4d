/*
 * Virtual machine introspection: the object
 *
 * object.c has its properties, connection.c its state machine, lifecycle.c
 * what the life of the VM means for it, monitor.c shows it to QMP and HMP.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_INTROSPECTION_H
#define ACCEL_INTROSPECTION_INTROSPECTION_H

#include "chardev/char-fe.h"
#include "introspection/engine.h"
#include "qemu/notify.h"
#include "qom/object.h"
#include "auth.h"
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
    char *key_id;                       /* of the secret, or NULL */
    GBytes *key;                        /* the secret */
    IntrospectionAuth auth;
    bool has_auth;
    uint32_t commands;                  /* allowed and implemented */
    uint32_t events;

    CharBackend chr;
    const IntrospectionEngine *engine;
    int64_t start_time;                 /* of the guest, s since the epoch */
    bool unreset;                       /* the machine is still being made */

    /* connection.c */
    IntrospectionState state;
    int64_t since;                      /* s since the epoch */
    IntrospectionAuthHello hello;       /* as it was sent */
    IntrospectionAnswer answer;
    unsigned auth_method;               /* that the tool has used, or 0 */
    bool suspended;                     /* nobody is let in */
    QEMUTimer *handshake_timer;
    QEMUTimer *unhook_timer;            /* pending: cut off when it expires */
    QEMUTimer *notice_timer;
    bool notice_given;                  /* since the VM was hooked last */
    char *failure;                      /* of the last handshake, or NULL */
    char *reported_failure;             /* since the VM was hooked last */
    bool cut;                           /* the last session, by QEMU */
    IntrospectionSession *session;      /* set: hooked or unhooking */
    bool next_tool;                     /* is there before that has ended */

    /* lifecycle.c */
    bool unhooked;                      /* by introspection-unhook */
};

/* The VM's only object, or NULL. */
extern Introspection *introspection;

/* The guest begins, or is another one. */
void introspection_note_start_time(Introspection *s);

/* connection.c.  All of them are for the main loop's thread, with the BQL. */

/*
 * Start looking for a tool, on a chardev that passed the checks, or once
 * introspection_connection_resume() is called where @suspended says why not.
 */
void introspection_connection_start(Introspection *s, const char *suspended);
/* Let go of the tool, if there is one, and of the chardev. */
void introspection_connection_stop(Introspection *s);
/* Where a client waits for its next attempt, make that now. */
void introspection_connection_hurry(Introspection *s);
/* Let go of the tool, if there is one, without asking. */
void introspection_connection_cut(Introspection *s, const char *reason);
/*
 * Ask the tool to let go, which must be there.  False and an error where it
 * cannot be asked.
 */
bool introspection_connection_ask(Introspection *s, const char *reason,
                                  Error **errp);
/* Who asked does not wait any longer. */
void introspection_connection_ask_no_more(Introspection *s);
/* Ask the tool to let go, and cut it off after the unhook-timeout. */
void introspection_connection_end(Introspection *s, const char *reason);
/* From now on, until resume(), nobody is let in.  A tool that is there stays */
void introspection_connection_suspend(Introspection *s, const char *reason);
void introspection_connection_resume(Introspection *s);

/*
 * @notifier is called with the Introspection after each change of its state,
 * and with NULL when it goes.  Remove it with notifier_remove().
 */
void introspection_add_state_notifier(Notifier *notifier);

#endif
