/*
 * Virtual machine introspection: the handshake with the tool
 *
 * QEMU sends a hello, the tool sends an answer.  See docs/interop/kvmi.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_HANDSHAKE_H
#define ACCEL_INTROSPECTION_HANDSHAKE_H

#include "qemu/uuid.h"

/* What QEMU sends, in the host's byte order. */
typedef struct IntrospectionHello {
    uint32_t struct_size;
    uint8_t uuid[16];           /* in the order of its text form */
    uint32_t padding;
    int64_t start_time;         /* seconds since the epoch */
    char name[64];              /* NUL-terminated */
} IntrospectionHello;

QEMU_BUILD_BUG_ON(sizeof(IntrospectionHello) != 96);

#define INTROSPECTION_ANSWER_MAX (1 * MiB)

/* The tool's answer while it arrives; all zeros is the beginning. */
typedef struct IntrospectionAnswer {
    uint32_t size;              /* struct_size; valid from received >= 4 on */
    uint32_t received;
    GByteArray *bytes;          /* what was received, or NULL */
} IntrospectionAnswer;

/* @name may be NULL; what does not fit is cut off. */
void introspection_hello_init(IntrospectionHello *hello, const QemuUUID *uuid,
                              int64_t start_time, const char *name);

/*
 * How many bytes belong to the answer for sure, beyond those received; 0 when
 * it is complete.  Not one byte more may be read from the socket: what comes
 * behind the answer is the engine's.
 */
uint32_t introspection_answer_missing(const IntrospectionAnswer *answer);

/*
 * Takes @len bytes, at most introspection_answer_missing().  False and an
 * error when they cannot be a tool's answer.
 */
bool introspection_answer_feed(IntrospectionAnswer *answer, const uint8_t *buf,
                               uint32_t len, Error **errp);

/* Back to the beginning. */
void introspection_answer_clear(IntrospectionAnswer *answer);

#endif
