/*
 * Virtual machine introspection: the handshake with the tool
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "handshake.h"

#define SIZE_FIELD  sizeof(uint32_t)

void introspection_hello_init(IntrospectionHello *hello, const QemuUUID *uuid,
                              int64_t start_time, const char *name)
{
    memset(hello, 0, sizeof(*hello));
    hello->struct_size = sizeof(*hello);
    memcpy(hello->uuid, uuid->data, sizeof(hello->uuid));
    hello->start_time = start_time;
    pstrcpy(hello->name, sizeof(hello->name), name ?: "");
}

uint32_t introspection_answer_missing(const IntrospectionAnswer *answer)
{
    if (answer->received < SIZE_FIELD) {
        return SIZE_FIELD - answer->received;
    }
    return answer->size - answer->received;
}

bool introspection_answer_feed(IntrospectionAnswer *answer, const uint8_t *buf,
                               uint32_t len, Error **errp)
{
    uint32_t n;

    assert(len <= introspection_answer_missing(answer));

    if (answer->received < SIZE_FIELD) {
        n = MIN(len, SIZE_FIELD - answer->received);
        memcpy((uint8_t *)&answer->size + answer->received, buf, n);
        if (answer->received + n == SIZE_FIELD &&
            (answer->size < SIZE_FIELD ||
             answer->size > INTROSPECTION_ANSWER_MAX)) {
            error_setg(errp, "it began with %" PRIu32 " where the size of its "
                       "handshake structure belongs, 4 to %u",
                       answer->size, (unsigned)INTROSPECTION_ANSWER_MAX);
            return false;
        }
    }
    if (!answer->bytes) {
        answer->bytes = g_byte_array_new();
    }
    g_byte_array_append(answer->bytes, buf, len);
    answer->received += len;
    return true;
}

void introspection_answer_clear(IntrospectionAnswer *answer)
{
    g_clear_pointer(&answer->bytes, g_byte_array_unref);
    *answer = (IntrospectionAnswer) { };
}
