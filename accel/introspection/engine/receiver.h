/*
 * Virtual machine introspection, QEMU's engine: who reads the tool's messages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_ENGINE_RECEIVER_H
#define ACCEL_INTROSPECTION_ENGINE_RECEIVER_H

#include "qemu/event_notifier.h"
#include "qemu/thread.h"

/*
 * One thread at a time reads the socket, and acts on what it finds: the
 * session's own, or a vCPU's that waits for the tool anyway.  The reply that
 * this one waits for then wakes nobody else.
 */
typedef struct Receiver {
    /*
     * Who has decremented this reads the socket, acts on what it finds, and
     * owns what follows.  Waited for before the BQL is taken.  With the BQL held
     * it is only tried: who does not get it is not needed.  No mutex: what a
     * vCPU has begun is ended for it where its thread ends.
     */
    QemuSemaphore reader;

    uint8_t *buf;
    size_t pos;                     /* of the first message in @buf */
    size_t len;
    Error *broken;                  /* the tool broke the protocol */

    /* Readable when the session's thread is to read the socket. */
    int turn;

    /*
     * Only the session's thread may go on: it takes more than a vCPU can do.
     * Set by the reader, read by anybody.
     */
    bool handed_on;
} Receiver;

/* What ends a vCPU's turn: something else to do. */
typedef struct ReceiverKick {
    EventNotifier notifier;
    bool listening;                 /* atomic */
    bool kicked;                    /* atomic */
} ReceiverKick;

bool receiver_init(IntrospectionSession *s, Error **errp);
void receiver_cleanup(IntrospectionSession *s);

/*
 * The session's thread: returns when the connection is over, with the reason in
 * @errp.
 */
void receiver_run(IntrospectionSession *s, Error **errp);

/*
 * A vCPU's thread: begin, false if somebody reads already; read until there is
 * a kick, BQL not held, as often as it likes (false: only the session's thread
 * can go on); and end.
 */
bool receiver_begin_turn(IntrospectionSession *s);
bool receiver_take_turn(IntrospectionSession *s, ReceiverKick *kick);
void receiver_end_turn(IntrospectionSession *s);

#endif
