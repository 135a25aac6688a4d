/*
 * Virtual machine introspection: the engines that this binary has
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/accel.h"
#include "introspection/engine.h"

/* Filled before main() creates anything, constant afterwards. */
static QSLIST_HEAD(, IntrospectionEngine) engines =
    QSLIST_HEAD_INITIALIZER(engines);

void introspection_engine_register(IntrospectionEngine *engine)
{
    QSLIST_INSERT_HEAD(&engines, engine, next);
}

const IntrospectionEngine *introspection_engine_find(Error **errp)
{
    const char *accel = object_get_typename(OBJECT(current_accel()));
    IntrospectionEngine *engine;

    QSLIST_FOREACH(engine, &engines, next) {
        if (g_strv_contains(engine->accels, accel)) {
            return !engine->available || engine->available(errp) ? engine
                                                                 : NULL;
        }
    }

    error_setg(errp, "no introspection engine for accelerator '%.*s' here",
               (int)strcspn(accel, "-"), accel);
    error_append_hint(errp, "Guests of %s can be introspected with "
                      "-accel tcg.\n", "qemu-system-x86_64");
    return NULL;
}
