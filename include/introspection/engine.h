/*
 * Virtual machine introspection: what an engine is
 *
 * An engine answers an introspection tool on the VM's side, from the end of
 * the handshake on.  Which one a VM has follows from its accelerator.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_ENGINE_H
#define INTROSPECTION_ENGINE_H

#include "qapi/qapi-types-introspection.h"
#include "qemu/queue.h"
#include "qemu/uuid.h"

/* The connection of a hooked VM to its tool; each engine has its own kind. */
typedef struct IntrospectionSession IntrospectionSession;

/*
 * Called in the main loop, with the BQL held, once a session has ended by
 * itself: the tool went away or broke the protocol.  @reason is a sentence
 * part for people.  The engine has let go of @session.
 */
typedef void IntrospectionClosedFn(void *opaque, IntrospectionSession *session,
                                   const char *reason);

typedef struct IntrospectionHookParams {
    int fd;                 /* connected stream socket; the engine owns it */
    QemuUUID uuid;
    uint32_t commands;      /* allowed: bits 1 << KVMI_* */
    uint32_t events;        /* allowed: bits 1 << KVMI_EVENT_* */
    IntrospectionClosedFn *closed;
    void *opaque;
} IntrospectionHookParams;

typedef struct IntrospectionEngine IntrospectionEngine;

/* All functions are called with the BQL held. */
struct IntrospectionEngine {
    IntrospectionEngineType type;
    const char *const *accels;      /* QOM types, NULL at the end */

    /*
     * What is implemented, as masks; where QEMU cannot know it, all that the
     * protocol has.
     */
    uint32_t commands;
    uint32_t events;

    /* Can it be had here?  False and an error if not; NULL: always. */
    bool (*available)(Error **errp);
    /* Takes over @params->fd, also when it fails; NULL then. */
    IntrospectionSession *(*hook)(const IntrospectionHookParams *params,
                                  Error **errp);
    /*
     * Asks the tool to let go, with an UNHOOK event: introspection goes on
     * until it closes the connection, and @closed is called.  0, or -ENOENT
     * where the tool has not switched that event on or is gone.
     */
    int (*request_unhook)(IntrospectionSession *session);
    /*
     * Ends @session without asking the tool: when this returns, nothing that
     * introspection had set acts on the guest any more.  @closed is not
     * called.
     */
    void (*unhook)(IntrospectionSession *session);
    /*
     * Counts since hook(), and who waits for the tool; the caller frees.
     * NULL: QEMU cannot know it.
     */
    IntrospectionStats *(*stats)(IntrospectionSession *session);
    IntrospectionWaitingVcpuList *(*waiting)(IntrospectionSession *session);

    QSLIST_ENTRY(IntrospectionEngine) next;
};

/* For type_init() functions. */
void introspection_engine_register(IntrospectionEngine *engine);

/* The engine for the accelerator in use; NULL and an error if it has none. */
const IntrospectionEngine *introspection_engine_find(Error **errp);

#endif
